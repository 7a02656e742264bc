// Two parameters at a time: the mean, the best or the worst run of each pair of values.

const AGGREGATES = [["mean", "mean of the runs"], ["best", "best run"], ["worst", "worst run"],
  ["count", "number of runs"]];
const CELLS_WITH_TEXT = 225;
const SCENARIOS_LISTED = 200;

const severalValues = data.runs.params.filter((param) => param.varies);

function pairsOf(params) {
  const position = (name) => data.importance[data.rankBy[0]]?.findIndex((row) => row.term === name) ?? -1;
  const place = (param) => position(param.name) < 0 ? Infinity : position(param.name);
  // Decisions before conditions, the important first: the first pair is the one to look at.
  const ordered = [...params].sort((a, b) => a.scenario - b.scenario || place(a) - place(b) || 0);
  return ordered.flatMap((one, i) => ordered.slice(i + 1).map((other) => [one, other]));
}

function aggregateCells(across, down, metric, how, scenario) {
  const cells = down.cells.map(() => across.cells.map(() => ({ count: 0, sum: 0, best: null, worst: null })));
  metric.values.forEach((value, run) => {
    if (value === null) return;
    if (scenario !== "" && data.runs.scenarios.codes[run] !== Number(scenario)) return;
    const cell = cells[down.cellOf[down.codes[run]]][across.cellOf[across.codes[run]]];
    cell.count += 1;
    cell.sum += value;
    if (cell.best === null || better(metric, value, cell.best)) cell.best = value;
    if (cell.worst === null || better(metric, cell.worst, value)) cell.worst = value;
  });
  const shown = { mean: (cell) => cell.sum / cell.count, best: (cell) => cell.best,
    worst: (cell) => cell.worst, count: (cell) => cell.count };
  return cells.map((row) => row.map((cell) => cell.count ? shown[how](cell) : null));
}

function registerHeatmap() {
  const pairs = pairsOf(severalValues);
  if (!pairs.length) return;

  function prepare(figure) {
    fill(figure.control("pair"), pairs.map(([one, other], i) => [String(i), `${one.name} × ${other.name}`]));
    fillMetrics(figure.control("metric"), data.runs.metrics.map((metric) => metric.name));
    fill(figure.control("aggregate"), AGGREGATES);
    const { labels } = data.runs.scenarios;
    const listed = labels.length > 1 && labels.length <= SCENARIOS_LISTED ? labels : [];
    fill(figure.control("scenario"), [["", "all"], ...listed.map((label, i) => [String(i), label])]);
  }

  function draw(figure) {
    const [one, other] = pairs[Number(figure.control("pair").value)];
    // The longer axis lies across, except on a phone, where it has no room.
    const [across, down] = (one.cells.length >= other.cells.length) !== narrow ? [one, other] : [other, one];
    const metric = metricsByName.get(figure.control("metric").value);
    const how = figure.control("aggregate").value;
    const z = aggregateCells(across, down, metric, how, figure.control("scenario").value);
    const text = z.map((row) => row.map((value) =>
      value === null ? "" : how === "count" ? grouped(value) : metricText(metric.name, value)));
    const withText = across.cells.length * down.cells.length <= CELLS_WITH_TEXT
      && across.cells.length <= (narrow ? 5 : 15);
    const what = how === "count" ? "number of runs" : `${metric.name}, ${how}`;
    const [x, y] = [distinctLabels(across.cells), distinctLabels(down.cells)];
    const shapes = [];
    if (bestRun >= 0) {
      const [column, row] = [across.cellOf[across.codes[bestRun]], down.cellOf[down.codes[bestRun]]];
      shapes.push({ type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5,
        line: { color: "#e5484d", width: 3 } });
    }
    const parts = [across, down].filter((param) => param.grouped).map((param) =>
      `${param.name} has ${param.levels.length} values, put into ${param.cells.length} groups.`);
    const category = (title, labels) => axis(title, { type: "category", categoryorder: "array",
      categoryarray: labels, showgrid: false, tickmode: "array", tickvals: labels.map((_, i) => i),
      ticktext: labels.map(plotText) });
    return {
      label: `${what}, by ${across.name} across and ${down.name} down.`,
      note: parts.join(" "),
      traces: [{
        type: "heatmap", z, x: x.map((_, i) => i), y: y.map((_, i) => i), text,
        texttemplate: withText ? "%{text}" : "", colorscale: SCALE,
        reversescale: how !== "count" && metric.direction < 0, xgap: 2, ygap: 2, textfont: { size: 13 }, hoverongaps: false,
        customdata: z.map((row, i) => row.map((_, j) => `${plotText(across.name)} ${plotText(across.cells[j])}<br>` +
          `${plotText(down.name)} ${plotText(down.cells[i])}`)),
        hovertemplate: `%{customdata}<br>${plotText(what)} %{text}<extra></extra>`,
        colorbar: { title: { text: plotText(narrow ? "" : what), side: "right" }, thickness: 10, outlinewidth: 0,
          tickformat: metric.form === "percent" && how !== "count" ? ".2~%" : undefined },
      }],
      layout: {
        height: Math.min(640, Math.max(260, 110 + 44 * down.cells.length)),
        xaxis: { ...category(across.name, x), type: "linear" },
        yaxis: { ...category(down.name, y), type: "linear" },
        shapes,
      },
      table: {
        head: [`${down.name} \\ ${across.name}`, ...across.cells],
        rows: down.cells.map((label, i) => [label, ...text[i]]),
      },
    };
  }

  registerFigure("heatmap", prepare, draw);
}
