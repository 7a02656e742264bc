// A figure: its controls, its plot and the same as a table.

const figures = [];

const COLOURS = ["#2f81d0", "#c8691c", "#2a9461", "#9467bd", "#d1495b", "#1b93a5", "#c65fa8",
  "#8a8a1f", "#a9714b", "#6c72d9"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const GREY = "#7d8590";
// Cividis: read alike with and without colour vision, and on paper without colour.
const SCALE = [[0, "#00224e"], [0.25, "#35456c"], [0.5, "#7c7b78"], [0.75, "#b8a65c"], [1, "#fee838"]];

const FONT = '-apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif';

// `draw(figure)` returns {label, note, traces, layout, table: {head, rows}, empty}.
function registerFigure(id, prepare, draw) {
  const node = document.getElementById(id);
  if (!node) return;
  figures.push({
    node,
    prepare,
    draw,
    title: node.querySelector("h3").textContent,
    plot: node.querySelector(".plot"),
    note: node.querySelector(".note"),
    details: node.querySelector("details"),
    control: (name) => node.querySelector(`[data-control="${name}"]`),
  });
}

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  if (chosen !== undefined) select.value = chosen;
  // A choice of one is none.
  select.closest("label").hidden = entries.length < 2;
}

function fillMetrics(select, names, first = []) {
  const wanted = data.rankBy.find((name) => names.includes(name)) ?? names[0];
  fill(select, [...first, ...names.map((name) => [name, name])], first.length ? first[0][0] : wanted);
}

function axis(title, more = {}) {
  const fixed = touch ? { fixedrange: true } : {};
  return { title: { text: plotText(title), standoff: 12 }, automargin: true, zeroline: false,
    ticks: "", ...fixed, ...more };
}

function metricAxis(name, more = {}) {
  const percent = metricsByName.get(name)?.form === "percent";
  return axis(name, percent ? { tickformat: ".2~%", ...more } : more);
}

function showPlot(figure, drawn) {
  const layout = {
    font: { family: FONT, size: narrow ? 11 : 12.5 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: narrow ? 44 : 60, r: narrow ? 8 : 20, t: 12, b: 48 },
    height: 400,
    showlegend: false,
    hovermode: "closest",
    dragmode: touch ? false : "zoom",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: GREY, activecolor: COLOURS[0] },
    hoverlabel: { bgcolor: "#24292f", bordercolor: "#24292f", font: { color: "#ffffff", family: FONT },
      namelength: -1 },
    ...drawn.layout,
  };
  const config = {
    responsive: true,
    displaylogo: false,
    // Without a pointer to hover with, the library would show its tools all the time.
    displayModeBar: window.matchMedia("(hover: hover)").matches ? "hover" : false,
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  if (drawn.label) figure.plot.setAttribute("aria-label", drawn.label);
  return window.Plotly.react(figure.plot, drawn.traces, layout, config);
}

function showTable(figure) {
  if (!figure.details?.open || !figure.drawn.table) return;
  const { head, rows } = figure.drawn.table;
  figure.details.querySelector(".scroll").replaceChildren(tableOf(figure.title, head, rows));
}

function update(figure) {
  figure.drawn = figure.draw(figure);
  figure.note.textContent = figure.drawn.note ?? "";
  showTable(figure);
  if (figure.plot) figure.plot.hidden = Boolean(figure.drawn.empty);
  return window.Plotly && figure.plot && !figure.drawn.empty ? showPlot(figure, figure.drawn) : undefined;
}

function startFigure(figure) {
  figure.prepare(figure);
  for (const control of figure.node.querySelectorAll("[data-control], [data-lines] input")) {
    control.addEventListener("change", () => update(figure));
    if (control.type === "search") control.addEventListener("input", () => update(figure));
  }
  figure.details?.addEventListener("toggle", () => showTable(figure));
  return update(figure);
}
