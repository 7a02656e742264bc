// Equity with the drawdown below it; the legend is a list of check boxes, which a keyboard reaches.

const LINES_SHOWN = 5;

function lineStyle(curves, position) {
  if (curves[position].benchmark) return { color: GREY, dash: "dash", width: 2 };
  return {
    color: COLOURS[position % COLOURS.length],
    dash: DASHES[Math.floor(position / COLOURS.length) % DASHES.length],
    width: position === 0 ? 2.5 : 1.6,
  };
}

function lineSample(style) {
  const dashes = { solid: "none", dash: "6 3", dot: "2 3", dashdot: "6 3 2 3" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const attributes = { x1: 0, y1: 5, x2: 24, y2: 5, stroke: style.color,
    "stroke-width": style.width, "stroke-dasharray": dashes[style.dash] };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  svg.setAttribute("width", 24);
  svg.setAttribute("height", 10);
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

function registerCurves(id, payload) {
  if (!payload) return;
  const { x, curves, periods } = payload;

  function prepare(figure) {
    const boxes = curves.map((curve, position) => {
      const box = element("input", { type: "checkbox" });
      box.checked = curve.benchmark || position < LINES_SHOWN;
      return element("label", {}, box, lineSample(lineStyle(curves, position)), curve.name);
    });
    figure.node.querySelector("[data-lines]").replaceChildren(...boxes);
    const finals = curves.map((curve) => curve.final).filter((value) => value > 0);
    figure.control("log").checked = Math.max(...finals) > 4;
  }

  // Between 1, 2 and 5 there is room on a logarithmic axis of a few decades only.
  function growthAxis(figure, shown) {
    const common = { domain: [0.36, 1], tickformat: ".3~r" };
    if (!figure.control("log").checked) return axis("growth of 1", common);
    const values = shown.flatMap((position) => curves[position].equity).filter((value) => value > 0);
    const [low, high] = [values.reduce((a, b) => Math.min(a, b), 1), values.reduce((a, b) => Math.max(a, b), 1)];
    return axis("growth of 1", { ...common, type: "log", dtick: high / low > 300 ? 1 : "D2" });
  }

  function draw(figure) {
    const boxes = [...figure.node.querySelectorAll("[data-lines] input")];
    const shown = curves.map((_, position) => position).filter((position) => boxes[position].checked);
    const traces = shown.flatMap((position) => {
      const curve = curves[position];
      const common = { x, type: "scatter", mode: "lines", name: plotText(curve.name),
        line: lineStyle(curves, position) };
      return [
        { ...common, y: curve.equity, hovertemplate: "%{y:.3f}" },
        { ...common, y: curve.drawdown, yaxis: "y2", hovertemplate: "%{y:.1%}",
          line: { ...common.line, width: 1.2 } },
      ];
    });
    const lead = curves[0];
    return {
      label: `${figure.title}. ${lead.name} grows to ${lead.final.toFixed(2)} with a deepest ` +
        `drawdown of ${percentText(lead.worst)}.`,
      traces,
      layout: {
        height: narrow ? 420 : 520,
        margin: { l: narrow ? 44 : 60, r: narrow ? 8 : 20, t: 12, b: 28 },
        hovermode: narrow ? "closest" : "x unified",
        xaxis: axis("", { anchor: "y2", hoverformat: "%Y-%m-%d" }),
        yaxis: growthAxis(figure, shown),
        yaxis2: axis("drawdown", { domain: [0, 0.3], tickformat: ".0%" }),
      },
      table: {
        head: ["curve", "growth of 1", "deepest drawdown", ...periods],
        rows: shown.map((position) => [curves[position].name, curves[position].final.toFixed(3),
          percentText(curves[position].worst), ...curves[position].calendar.map(percentText)]),
      },
    };
  }

  registerFigure(id, prepare, draw);
}
