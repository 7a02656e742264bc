// The best run at other costs, and where its mean net return is zero.

const MEAN = "mean net return a year";

function registerCosts() {
  const costs = data.costs;
  if (!costs) return;
  const { ids, means, metrics } = costs.runs;
  const known = costs.breakeven !== null && costs.turnover !== null;
  const highest = costs.runs.costs.reduce((a, b) => Math.max(a, b), 0);

  function prepare(figure) {
    const several = ids.length > 1 ? Object.keys(metrics).filter((name) => metricsByName.has(name)) : [];
    fillMetrics(figure.control("metric"), several, known ? [[MEAN, MEAN]] : []);
  }

  function draw(figure) {
    const name = figure.control("metric").value;
    const mean = name === MEAN;
    const values = mean ? means : metrics[name];
    const text = (value) => mean ? (value === null ? "" : `${unsignedZero((100 * value).toFixed(2))}%`) : metricText(name, value);
    const own = costs.runs.best;
    const traces = [];
    const end = mean ? Math.max(highest, 1.15 * costs.breakeven, 10) : highest || 1;
    if (mean) {
      const at = (cost) => (costs.breakeven - cost) * 1e-4 * costs.turnover;
      traces.push({ type: "scatter", mode: "lines", x: [0, end], y: [at(0), at(end)], hoverinfo: "skip",
        line: { color: COLOURS[0], width: 2 } });
    }
    traces.push({ type: "scatter", mode: mean ? "markers" : "lines+markers", x: costs.runs.costs, y: values,
      hoverinfo: "text", text: ids.map((id, i) => `${plotText(id)}<br>${costs.runs.costs[i]} bps: ${text(values[i])}`),
      line: { color: COLOURS[0], width: 2 }, marker: { size: 9, color: COLOURS[1] } });
    if (own >= 0) {
      traces.push({ type: "scatter", mode: "markers", x: [costs.runs.costs[own]], y: [values[own]], hoverinfo: "skip",
        marker: { size: 17, symbol: "circle-open", color: "#e5484d", line: { width: 2.5 } } });
    }
    const marked = mean && costs.breakeven >= 0;
    return {
      label: `${name} of the best run by cost per traded value` +
        (known ? `; break-even at ${costs.breakeven} bps.` : "."),
      note: own >= 0 ? "The ring is the best run." : "",
      traces,
      layout: {
        height: 340,
        xaxis: axis("cost per traded value (bps)", { range: [-0.03 * end, end * 1.03] }),
        yaxis: mean ? axis(MEAN, { tickformat: ".2~%", zeroline: true }) : metricAxis(name),
        shapes: marked ? [{ type: "line", x0: costs.breakeven, x1: costs.breakeven, yref: "paper", y0: 0, y1: 1,
          line: { color: GREY, width: 2, dash: "dash" } }] : [],
        annotations: marked ? [{ x: costs.breakeven, yref: "paper", y: 1, xanchor: "right", xshift: -6,
          showarrow: false, text: `break-even ${grouped(costs.breakeven, 1)} bps` }] : [],
      },
      table: {
        head: ["run_id", "cost (bps)", name],
        rows: ids.map((id, i) => [id, String(costs.runs.costs[i]), text(values[i])]),
      },
    };
  }

  registerFigure("cost-curve", prepare, draw);
}
