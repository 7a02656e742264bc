// Sensitivity (one parameter at a time) and importance.

const BARS_SHOWN = 15;

function registerSensitivity() {
  const params = data.sensitivity;
  if (!params.length) return;
  const names = data.runs.metrics.map((metric) => metric.name)
    .filter((name) => params.some((param) => param.metrics[name]));
  const columns = narrow ? 1 : Math.min(params.length, 3);
  const rows = Math.ceil(params.length / columns);

  function draw(figure) {
    const name = figure.control("metric").value;
    const [traces, layout] = [[], { annotations: [] }];
    params.forEach((param, i) => {
      const suffix = i ? String(i + 1) : "";
      const labels = distinctLabels(param.labels, 18);
      const [means, low, high] = [1, 3, 4].map((column) => param.metrics[name].map((row) => row[column]));
      const x = labels.map((_, place) => place);
      const hover = param.metrics[name].map((row, place) => `${plotText(param.name)} ${plotText(param.labels[place])}<br>` +
        `mean ${metricText(name, row[1])}, from ${metricText(name, row[3])} to ${metricText(name, row[4])}, ${row[0]} runs`);
      traces.push({ type: "scatter", mode: "lines+markers", x, y: means, text: hover, hoverinfo: "text",
        xaxis: `x${suffix}`, yaxis: `y${suffix}`, line: { color: COLOURS[0], width: 2 },
        marker: { size: 8, color: COLOURS[0] },
        error_y: { type: "data", symmetric: false, color: GREY, thickness: 1.2, width: 4,
          array: high.map((value, place) => value === null ? 0 : value - means[place]),
          arrayminus: low.map((value, place) => value === null ? 0 : means[place] - value) } });
      if (param.best !== null) {
        traces.push({ type: "scatter", mode: "markers", x: [param.best], y: [means[param.best]], hoverinfo: "skip",
          xaxis: `x${suffix}`, yaxis: `y${suffix}`,
          marker: { size: 17, symbol: "circle-open", color: "#e5484d", line: { width: 2.5 } } });
      }
      const [column, row] = [i % columns, Math.floor(i / columns)];
      const gap = columns > 1 ? 0.07 : 0;
      const width = (1 - gap * (columns - 1)) / columns;
      const rowGap = rows > 1 ? 0.34 / rows : 0;
      const height = (1 - rowGap * (rows - 1)) / rows;
      const bottom = 1 - row * (height + rowGap) - height;
      const every = Math.max(1, Math.ceil(labels.length / (narrow ? 6 : 8)));
      const ticks = x.filter((place) => place % every === 0);
      layout[`xaxis${suffix}`] = axis(param.name, { domain: [column * (width + gap), column * (width + gap) + width],
        anchor: `y${suffix}`, tickmode: "array", tickvals: ticks, ticktext: ticks.map((place) => plotText(labels[place])),
        range: [-0.5, labels.length - 0.5], showgrid: false });
      layout[`yaxis${suffix}`] = metricAxis(column ? "" : name, { domain: [bottom, bottom + height], anchor: `x${suffix}`,
        ...(i && { matches: "y" }), showticklabels: column === 0 });
      if (column) layout[`yaxis${suffix}`].title.text = "";
    });
    const groupedParams = params.filter((param) => param.grouped).map((param) => param.name);
    return {
      label: `Mean ${name} by value of ${params.map((param) => param.name).join(", ")}.`,
      note: groupedParams.length ? `Many values are put into groups: ${groupedParams.join(", ")}.` : "",
      traces,
      layout: { height: Math.max(300, rows * (narrow ? 250 : 280)), ...layout },
      table: {
        head: ["parameter and value", "runs", "mean", "std", "min", "max"],
        rows: params.flatMap((param) => param.metrics[name].map((row, i) => [`${param.name} = ${param.labels[i]}`,
          grouped(row[0]), ...row.slice(1).map((value) => metricText(name, value))])),
      },
    };
  }

  registerFigure("sensitivity", (figure) => fillMetrics(figure.control("metric"), names), draw);
}

function registerImportance() {
  const names = Object.keys(data.importance);
  if (!names.length) return;

  function draw(figure) {
    const name = figure.control("metric").value;
    const terms = data.importance[name];
    const known = terms.filter((row) => row.share !== null);
    const shown = known.slice(0, BARS_SHOWN);
    const notes = [...new Set(terms.map((row) => row.note).filter(Boolean))];
    const unbalanced = known.some((row) => row.design === "type II");
    const labels = distinctLabels(shown.map((row) => row.term), narrow ? 26 : 52);
    return {
      empty: known.length === 0,
      label: `Importance for ${name}: ${shown.slice(0, 3).map((row) => `${row.term} ${percentText(row.share)}`).join(", ")}.`,
      note: [
        known.length > shown.length ? `The first ${shown.length} of ${known.length} terms.` : "",
        unbalanced ? "The runs are no full grid (Type II sums of squares): the shares need not sum to 100 %." : "",
        known.length ? "" : "No share is defined for this metric.",
        ...notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`),
      ].filter(Boolean).join(" "),
      traces: [false, true].map((pair) => {
        const rows = shown.map((row, i) => [row, i]).filter(([row]) => row.pair === pair);
        return { type: "bar", orientation: "h", x: rows.map(([row]) => row.share), y: rows.map(([, i]) => i),
          text: rows.map(([row]) => percentText(row.share)), textposition: "outside", cliponaxis: false,
          customdata: rows.map(([row]) => plotText(row.term)), hovertemplate: "%{customdata} %{x:.1%}<extra></extra>",
          width: 0.62, name: pair ? "pairs" : "parameters",
          marker: { color: pair ? COLOURS[1] : COLOURS[0], pattern: pair ? { shape: "/", size: 6 } : {} } };
      }),
      layout: {
        height: Math.max(180, 90 + 28 * shown.length),
        showlegend: shown.some((row) => row.pair),
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        margin: { l: 60, r: 60, t: 36, b: 24 },
        xaxis: axis("", { tickformat: ".0%", rangemode: "tozero" }),
        yaxis: axis("", { tickmode: "array", tickvals: labels.map((_, i) => i), ticktext: labels.map(plotText),
          autorange: "reversed", showgrid: false }),
      },
      table: {
        head: ["term", "share", "note"],
        rows: terms.map((row) => [row.term, percentText(row.share), row.note]),
      },
    };
  }

  registerFigure("importance", (figure) => fillMetrics(figure.control("metric"), names), draw);
}
