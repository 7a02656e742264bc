// Reads the curves out where the pointer is, or step by step with the arrow keys.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("curve-data").textContent);
  if (!data) return;
  const readout = document.getElementById("readout");
  const panels = [...document.querySelectorAll(".panel")];
  const last = data.x.length - 1;
  let place = last;

  function show(point) {
    place = Math.min(last, Math.max(0, point));
    const parts = Object.keys(data.equity).map((name) => {
      const [equity, fall] = [data.equity[name][place], data.drawdown[name][place]];
      const fallen = (100 * fall).toFixed(1).replace(/^-(?=0\.0$)/, "");
      return equity === null ? `${name} –` : `${name} ${equity.toFixed(3)} (${fallen}%)`;
    });
    readout.textContent = `${data.x[place]}: ${parts.join(", ")}`;
    for (const panel of panels) {
      const cursor = panel.querySelector(".cursor");
      cursor.hidden = false;
      cursor.style.left = `${(100 * place) / Math.max(last, 1)}%`;
    }
  }

  for (const panel of panels) {
    panel.tabIndex = 0;
    panel.addEventListener("pointermove", (event) => {
      const box = panel.getBoundingClientRect();
      show(Math.round(((event.clientX - box.left) / box.width) * last));
    });
    panel.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      show(place + step);
    });
  }
})();
