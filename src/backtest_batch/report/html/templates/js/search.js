// How a search went: the best so far, and which values were tried.

function registerSearch() {
  const { ids, trials, params, metrics, scenarios } = data.runs;
  if (!trials.length) return;
  const names = metrics.filter((metric) => metric.direction).map((metric) => metric.name);
  const searched = severalValues.filter((param) => !param.scenario);

  // Runs of one scenario that have the metric, in the order of asking.
  function asked(figure) {
    const metric = metricsByName.get(figure.control("metric").value);
    const scenario = Number(figure.control("scenario").value);
    const runs = ids.map((_, run) => run).filter((run) =>
      trials[run] !== null && metric.values[run] !== null && scenarios.codes[run] === scenario);
    return { metric, runs: runs.sort((a, b) => trials[a] - trials[b]) };
  }

  function prepare(figure) {
    fillMetrics(figure.control("metric"), names);
    const first = bestRun < 0 ? 0 : scenarios.codes[bestRun];
    fill(figure.control("scenario"), scenarios.labels.map((label, code) => [String(code), label]), String(first));
  }

  const hover = (run, metric) => `${plotText(brief(ids[run], 60))}<br>trial ${trials[run]}, ` +
    `${metric.name} ${metricText(metric.name, metric.values[run])}`;

  function progress(figure) {
    const { metric, runs } = asked(figure);
    const best = [];
    const gains = [];
    for (const run of runs) {
      const value = metric.values[run];
      if (!best.length || better(metric, value, best[best.length - 1])) {
        gains.push(run);
        best.push(value);
      } else best.push(best[best.length - 1]);
    }
    const x = runs.map((run) => trials[run]);
    const last = gains[gains.length - 1];
    return {
      empty: runs.length === 0,
      label: `${metric.name} of ${runs.length} trials in the order of asking.`,
      note: last === undefined ? "" : `The best ${metric.name}, ${metricText(metric.name, metric.values[last])}, ` +
        `was found in trial ${trials[last]} of ${Math.max(...x)}.`,
      traces: [
        { type: "scatter", mode: "markers", x, y: runs.map((run) => metric.values[run]), hoverinfo: "text",
          text: runs.map((run) => hover(run, metric)), marker: { size: 6, color: COLOURS[0], opacity: 0.6 } },
        { type: "scatter", mode: "lines", x, y: best, hoverinfo: "skip", line: { color: "#e5484d", width: 2, shape: "hv" } },
      ],
      layout: { height: 340, xaxis: axis("trial"), yaxis: metricAxis(metric.name) },
      table: {
        head: ["run with a new best", "trial", metric.name],
        rows: gains.map((run) => [ids[run], String(trials[run]), metricText(metric.name, metric.values[run])]),
      },
    };
  }

  function slices(figure) {
    const { metric, runs } = asked(figure);
    const columns = narrow ? 1 : Math.min(searched.length, 3);
    const rows = Math.max(1, Math.ceil(searched.length / columns));
    const [traces, layout] = [[], {}];
    searched.forEach((param, i) => {
      const suffix = i ? String(i + 1) : "";
      const numeric = param.numeric && param.numbers.every((value) => value !== null);
      const at = (run) => numeric ? param.numbers[param.codes[run]] : param.cellOf[param.codes[run]];
      traces.push({ type: "scatter", mode: "markers", x: runs.map(at), y: runs.map((run) => metric.values[run]),
        xaxis: `x${suffix}`, yaxis: `y${suffix}`, hoverinfo: "text",
        text: runs.map((run) => `${hover(run, metric)}<br>${plotText(param.name)} ${plotText(param.levels[param.codes[run]])}`),
        marker: { size: 6, color: runs.map((run) => trials[run]), colorscale: SCALE, line: { width: 0.5, color: GREY } } });
      const [column, row] = [i % columns, Math.floor(i / columns)];
      const gap = columns > 1 ? 0.07 : 0;
      const width = (1 - gap * (columns - 1)) / columns;
      const rowGap = rows > 1 ? 0.34 / rows : 0;
      const height = (1 - rowGap * (rows - 1)) / rows;
      const bottom = 1 - row * (height + rowGap) - height;
      const labels = numeric ? {} : { tickmode: "array", tickvals: param.cells.map((_, cell) => cell),
        ticktext: param.cells.map((text) => plotText(brief(text, 12))), range: [-0.5, param.cells.length - 0.5] };
      layout[`xaxis${suffix}`] = axis(param.name, { ...labels, anchor: `y${suffix}`,
        domain: [column * (width + gap), column * (width + gap) + width] });
      layout[`yaxis${suffix}`] = metricAxis(column ? "" : metric.name, { domain: [bottom, bottom + height],
        anchor: `x${suffix}`, ...(i && { matches: "y" }), showticklabels: column === 0 });
    });
    return {
      empty: runs.length === 0 || searched.length === 0,
      label: `${metric.name} by value of ${searched.map((param) => param.name).join(", ")}.`,
      note: `${runs.length} trials.`,
      traces,
      layout: { height: Math.max(300, rows * (narrow ? 250 : 280)), ...layout },
    };
  }

  registerFigure("progress", prepare, progress);
  registerFigure("slices", prepare, slices);
}
