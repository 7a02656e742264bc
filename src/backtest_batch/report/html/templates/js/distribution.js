// Histograms: of a metric over the runs, and of the samples behind the verdict.

function binned(values, weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  if (low === high) return [{ from: low, to: high, count: total }];
  const bins = Math.min(40, Math.max(6, Math.ceil(Math.sqrt(total))));
  const width = (high - low) / bins;
  const counts = Array.from({ length: bins }, (_, i) => ({ from: low + i * width, to: low + (i + 1) * width, count: 0 }));
  values.forEach((value, i) => {
    counts[Math.min(bins - 1, Math.floor((value - low) / width))].count += weights[i];
  });
  return counts;
}

// `lines`: [value, text] drawn as vertical lines.
function histogram({ values, weights, text, title, countTitle, lines, tickformat }) {
  const bins = binned(values, weights);
  const middle = (bin) => (bin.from + bin.to) / 2;
  const width = bins.length > 1 ? bins[0].to - bins[0].from : Math.abs(bins[0].from) / 10 || 1;
  const shown = lines.filter(([value]) => value !== null && value !== undefined);
  return {
    traces: [{ type: "bar", x: bins.map(middle), y: bins.map((bin) => bin.count), width: width * 0.94,
      marker: { color: COLOURS[0] }, hoverinfo: "text", textposition: "none",
      hovertext: bins.map((bin) => `${text(bin.from)} to ${text(bin.to)}: ${grouped(bin.count)}`) }],
    layout: {
      height: 320,
      bargap: 0,
      margin: { l: narrow ? 44 : 60, r: 20, t: 24 + 16 * shown.length, b: 48 },
      xaxis: axis(title, { tickformat, showgrid: false }),
      yaxis: axis(countTitle, { rangemode: "tozero" }),
      shapes: shown.map(([value, , dash], i) => ({ type: "line", x0: value, x1: value, yref: "paper", y0: 0,
        y1: 1, line: { color: i === 0 ? "#e5484d" : GREY, width: 2, dash } })),
      annotations: shown.map(([value, label], i) => ({ x: value, yref: "paper", y: 1, yanchor: "bottom",
        yshift: 2 + 16 * i, showarrow: false, text: plotText(`${label} ${text(value)}`), font: { size: 11.5 },
        xanchor: side(value, bins) })),
    },
    table: {
      head: ["from", "to", "count"],
      rows: bins.map((bin) => [text(bin.from), text(bin.to), grouped(bin.count)]),
    },
  };
}

// Texts at the ends of the axis are set inwards, so that nothing cuts them.
function side(value, bins) {
  const [low, high] = [bins[0].from, bins[bins.length - 1].to];
  const place = (value - low) / (high - low || 1);
  return place < 0.3 ? "left" : place > 0.7 ? "right" : "center";
}

function registerDistribution() {
  const names = data.runs.metrics.map((metric) => metric.name);

  function draw(figure) {
    const metric = metricsByName.get(figure.control("metric").value);
    const values = metric.values.filter((value) => value !== null);
    const sorted = [...values].sort((a, b) => a - b);
    const median = quantile(sorted, 0.5);
    const best = bestRun < 0 ? null : metric.values[bestRun];
    const drawn = histogram({
      values,
      weights: values.map(() => 1),
      text: (value) => metricText(metric.name, value),
      title: metric.name,
      countTitle: "runs",
      tickformat: metric.form === "percent" ? ".2~%" : undefined,
      lines: [[best, "best run", "solid"], [data.benchmark[metric.name], "benchmark", "dash"],
        [median, "median", "dot"]],
    });
    const above = best === null ? null : values.filter((value) => better(metric, value, best)).length;
    return {
      ...drawn,
      label: `Distribution of ${metric.name} over ${values.length} runs; median ${metricText(metric.name, median)}.`,
      note: above === null || !metric.direction ? ""
        : above === 0 ? `No run is better than the best run in ${metric.name}.`
          : `${above} of ${values.length} runs are better than the best run in ${metric.name}.`,
    };
  }

  registerFigure("histogram", (figure) => fillMetrics(figure.control("metric"), names), draw);
}

function registerSelection() {
  const { logits, nullMaxima, statistic } = data.selection;
  const text = (value) => value.toFixed(3);
  if (nullMaxima.length) {
    registerFigure("null-maxima", () => {}, () => ({
      ...histogram({ values: nullMaxima, weights: nullMaxima.map(() => 1), text,
        title: "largest Sharpe ratio a bar", countTitle: "resampled histories", lines: [[statistic, "this sweep", "solid"]] }),
      label: `Largest Sharpe ratios without skill; this sweep has ${statistic === null ? "none" : text(statistic)}.`,
    }));
  }
  if (logits.length) {
    const total = logits.reduce((sum, [, count]) => sum + count, 0);
    const below = logits.filter(([value]) => value <= 0).reduce((sum, [, count]) => sum + count, 0);
    registerFigure("logits", () => {}, () => ({
      ...histogram({ values: logits.map(([value]) => value), weights: logits.map(([, count]) => count), text,
        title: "logit of the out-of-sample rank", countTitle: "splits", lines: [[0, "median rank", "dash"]] }),
      label: `In ${percentText(below / total)} of ${total} splits the in-sample best is at or below the median.`,
      note: `${percentText(below / total)} of ${grouped(total)} splits lie at zero or below.`,
    }));
  }
}
