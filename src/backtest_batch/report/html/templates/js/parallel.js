// All parameters at once: a line a run. Drawn as plain lines, because a plot that needs WebGL
// stays empty in remote desktops and in print.

const BANDS = 8;
const MAX_CATEGORY_TICKS = 8;
const NULL_SPACE = 0.2;

function parameterAxis(param) {
  if (!param.numeric) {
    const last = Math.max(param.cells.length - 1, 1);
    const ticks = param.cells.map((label, i) => [i / last, label]);
    const step = Math.ceil(ticks.length / MAX_CATEGORY_TICKS);
    return { name: param.name, at: (run) => param.cellOf[param.codes[run]] / last,
      text: (run) => param.levels[param.codes[run]], ticks: ticks.filter((_, i) => i % step === 0),
      value: (height) => param.cells[Math.round(height * last)] };
  }
  const numbers = param.numbers.filter((value) => value !== null);
  const scaled = scaleOf(Math.min(...numbers), Math.max(...numbers));
  const few = param.numbers.length <= MAX_CATEGORY_TICKS;
  // A value that is no number (null) has a place of its own, below the numbers.
  const without = param.numbers.indexOf(null);
  const floor = without < 0 ? 0 : NULL_SPACE;
  const raised = (height) => floor + (1 - floor) * height;
  const place = (value) => value === null ? 0 : raised(scaled.at(value));
  const ticks = few ? param.levels.map((text, level) => [place(param.numbers[level]), text])
    : scaled.ticks(String).map(([height, text]) => [raised(height), text]);
  if (!few && without >= 0) ticks.unshift([0, param.levels[without]]);
  return { name: param.name, ticks,
    value: (height) => scaled.value(Math.max(0, (height - floor) / (1 - floor))),
    at: (run) => place(param.numbers[param.codes[run]]),
    text: (run) => param.levels[param.codes[run]] };
}

function metricAsAxis(metric) {
  const present = metric.values.filter((value) => value !== null);
  const scaled = scaleOf(Math.min(...present), Math.max(...present));
  return { name: metric.name, value: scaled.value,
    at: (run) => metric.values[run] === null ? null : scaled.at(metric.values[run]),
    text: (run) => metricText(metric.name, metric.values[run]),
    ticks: scaled.ticks((value) => metricText(metric.name, value)) };
}

function scaleOf(low, high) {
  const span = high - low || 1;
  return {
    at: (value) => high === low ? 0.5 : (value - low) / span,
    value: (height) => Number((low + height * span).toPrecision(5)),
    ticks: (text) => high === low ? [[0.5, text(low)]]
      : [0, 0.25, 0.5, 0.75, 1].map((share) => [share, text(rounded(low + share * span, span / 500))]),
  };
}

// To a power of ten, so that round ends of an axis stay as they are.
function rounded(value, step) {
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  return Number(value.toFixed(Math.min(decimals, 12)));
}

// The runs drawn: evenly by rank, so that good and bad ones are seen.
function evenly(count, limit) {
  if (count <= limit) return Array.from({ length: count }, (_, i) => i);
  const step = (count - 1) / (limit - 1);
  return [...new Set(Array.from({ length: limit }, (_, i) => Math.round(i * step)))];
}

function registerParallel() {
  const { ids, ranks, params, metrics } = data.runs;
  const wanted = [...data.rankBy, "sharpe", "max_drawdown", "turnover_annual"];
  const chosen = [...new Set(wanted)].map((name) => metricsByName.get(name)).filter(Boolean);
  const axes = [...severalValues.map(parameterAxis), ...chosen.slice(0, 4).map(metricAsAxis)];
  const allNames = axes.map((item) => item.name);
  const titles = narrow ? shortNames(allNames) : allNames;
  const drawnRuns = evenly(ids.length, data.maxLines);
  const columns = ["run_id", "rank", ...params.map((param) => param.name), ...metrics.map((metric) => metric.name)];

  function textOf(run, column) {
    if (column === "run_id") return ids[run];
    if (column === "rank") return ranks[run] === null ? "" : String(ranks[run]);
    const param = paramsByName.get(column);
    if (param) return param.levels[param.codes[run]];
    const value = metricsByName.get(column).values[run];
    return value === null ? "" : String(value);
  }

  function line(runs, style, name, hover) {
    const [x, y, text] = [[], [], []];
    for (const run of runs) {
      axes.forEach((item, i) => {
        x.push(i);
        y.push(item.at(run));
        text.push(hover ? `${plotText(brief(ids[run], 60))}<br>${plotText(item.name)} ${plotText(brief(item.text(run), 60))}` : "");
      });
      x.push(null);
      y.push(null);
      text.push("");
    }
    return { type: "scatter", mode: "lines", x, y, text, line: style, name,
      hoverinfo: hover ? "text" : "skip", connectgaps: false };
  }

  function bands(runs, metric) {
    const known = runs.filter((run) => metric.values[run] !== null);
    const sorted = known.map((run) => metric.values[run]).sort((a, b) => a - b);
    const groups = Array.from({ length: BANDS }, () => []);
    for (const run of known) {
      let low = 0;
      while (low < BANDS - 1 && metric.values[run] > quantile(sorted, (low + 1) / BANDS)) low += 1;
      groups[metric.direction < 0 ? BANDS - 1 - low : low].push(run);
    }
    return groups;
  }

  function prepare(figure) {
    fillMetrics(figure.control("metric"), metrics.map((metric) => metric.name));
    if (!figure.plot) return;
    figure.plot.addEventListener("dblclick", () => {
      figure.control("filter").value = "";
      update(figure);
    });
    figure.node.addEventListener("boxdrawn", (event) => {
      const input = figure.control("filter");
      input.value = [input.value.trim(), ...event.detail].filter(Boolean).join(" ");
      update(figure);
    });
  }

  function draw(figure) {
    const metric = metricsByName.get(figure.control("metric").value);
    const terms = parseFilter(figure.control("filter").value, columns);
    const rowText = (run) => columns.slice(0, 2 + params.length).map((column) => textOf(run, column)).join(" ");
    const all = terms.length ? ids.map((_, run) => run) : drawnRuns;
    const held = all.filter((run) => matches(terms, (column) => textOf(run, column), () => rowText(run)));
    const lit = held.length > data.maxLines ? evenly(held.length, data.maxLines).map((i) => held[i]) : held;
    const litSet = new Set(lit);
    const dim = terms.length ? drawnRuns.filter((run) => !litSet.has(run)) : [];
    const width = lit.length > 300 ? 0.7 : 1.3;
    const opacity = lit.length > 300 ? 0.55 : 0.85;
    const traces = [line(dim, { color: GREY, width: 0.5 }, "others", false)];
    traces[0].opacity = 0.3;
    bands(lit, metric).forEach((runs, band) => {
      const trace = line(runs, { color: bandColour(band), width }, `band ${band}`, true);
      traces.push({ ...trace, opacity });
    });
    if (bestRun >= 0) {
      traces.push(line([bestRun], { color: "#e5484d", width: 3 }, "best run", true));
    }
    // plotly draws selection boxes only where there are points to select.
    traces.push({ type: "scatter", mode: "markers", x: [0], y: [0], marker: { opacity: 0 }, hoverinfo: "skip" });
    const annotations = axes.flatMap((item, i) => item.ticks.map(([height, text]) => ({
      x: i, y: height, text: plotText(brief(text, narrow ? 7 : 12)), showarrow: false, xanchor: "right",
      xshift: -3, font: { size: narrow ? 9 : 11 }, bgcolor: "#ffffff", borderpad: 1,
    })));
    const tilted = narrow || axes.length > 7;
    return {
      label: `Parallel coordinates of ${held.length} runs over ${axes.map((item) => item.name).join(", ")}.`,
      note: (terms.length ? `${held.length} of ${ids.length} runs are highlighted. ` : "") +
        `Brighter is better in ${metric.name}${metric.direction ? "" : " (more, as it has no better direction)"}; ` +
        "the thick line is the best run.",
      traces,
      layout: {
        height: narrow ? 360 : 440,
        dragmode: touch ? false : "select",
        // Tilted titles reach beyond the last axis.
        margin: { l: narrow ? 40 : 64, r: narrow ? 58 : tilted ? 130 : 56, t: tilted && !narrow ? 96 : 64, b: 16 },
        xaxis: axis("", { range: [-0.15, axes.length - 0.85], side: "top", tickmode: "array", showgrid: true,
          tickvals: axes.map((_, i) => i), ticktext: titles.map((title) => plotText(brief(title, narrow ? 10 : 22))),
          tickangle: tilted ? -30 : 0, fixedrange: true }),
        yaxis: axis("", { range: [-0.04, 1.04], visible: false, fixedrange: true }),
        annotations,
      },
    };
  }

  registerFigure("parallel", prepare, draw);

  return (figure) => figure.plot.on("plotly_selected", (event) => {
    const box = event?.range;
    if (!box?.x) return;
    const [left, right] = [Math.min(...box.x), Math.max(...box.x)];
    const [low, high] = [Math.max(0, Math.min(...box.y)), Math.min(1, Math.max(...box.y))];
    const crossed = axes.filter((_, i) => i >= left && i <= right);
    const detail = crossed.flatMap((item) => {
      const [from, to] = [item.value(low), item.value(high)];
      return typeof from === "number" ? [`${item.name}>=${from}`, `${item.name}<=${to}`] : [`${item.name}=${from}`];
    });
    figure.node.dispatchEvent(new CustomEvent("boxdrawn", { detail }));
  });
}

// Colours of the bands: the middle of the scale, seen on light and on dark paper alike.
function bandColour(band) {
  const colours = ["#35508f", "#4b6294", "#667595", "#808793", "#998f80", "#b19a68", "#cba849", "#e8b820"];
  return colours[band];
}
