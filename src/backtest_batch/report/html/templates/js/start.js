// The page's start: tables at once, then the plotting library, then one figure after the other.

async function unpackedLibrary() {
  const packed = document.getElementById("plotly-packed");
  if (!packed) return;
  try {
    const text = atob(packed.textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = element("script", {}, await new Response(stream).text());
    document.head.append(script);
    script.remove();
    packed.remove();
  } catch (error) {
    document.getElementById("no-unpacking").hidden = false;
  }
}

const pause = () => new Promise((resolve) => { setTimeout(resolve); });

function showTablesInstead() {
  for (const figure of figures) {
    if (figure.plot) figure.plot.remove();
    figure.plot = null;
    if (figure.details) figure.details.open = true;
    else figure.node.hidden = true;
  }
}

// Paper has its own width: plots follow it and come back afterwards.
function followPaper() {
  const resize = (width) => {
    for (const { plot } of figures) {
      if (plot?.layout) window.Plotly.relayout(plot, width ? { width } : { width: null, autosize: true });
    }
  };
  window.addEventListener("beforeprint", () => resize(Math.min(680, document.body.clientWidth)));
  window.addEventListener("afterprint", () => resize(null));
}

async function start() {
  startLeaderboard();
  registerSelection();
  registerCurves("equity", data.curves);
  registerCurves("stitched", data.walkForward);
  registerSearch();
  registerHeatmap();
  const listenToBoxes = registerParallel();
  registerSensitivity();
  registerImportance();
  registerCosts();
  registerDistribution();
  await pause();
  await unpackedLibrary();
  if (!window.Plotly) showTablesInstead();
  for (const figure of figures) {
    await startFigure(figure);
    if (figure.node.id === "parallel" && figure.plot) listenToBoxes(figure);
    await pause();
  }
  if (window.Plotly) followPaper();
  performance.mark("figures-drawn");
  document.documentElement.dataset.ready = "true";
}

start();
