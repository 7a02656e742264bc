// Sorting and filtering of the leaderboard.

function startLeaderboard() {
  const board = document.getElementById("board");
  if (!board) return;
  const body = board.tBodies[0];
  const headings = [...board.tHead.rows[0].cells];
  const columns = headings.map((heading) => heading.dataset.column);
  const cellText = (cell) => cell.lastChild ? cell.lastChild.textContent : "";
  const rows = [...body.rows].map((row, place) => ({
    row, place, texts: [...row.cells].map(cellText),
  }));

  function sortBy(column) {
    const heading = headings[column];
    const numbers = heading.classList.contains("num");
    const before = heading.getAttribute("aria-sort");
    const metric = metricsByName.get(columns[column]);
    const first = metric && metric.direction >= 0 ? "descending" : "ascending";
    const other = { ascending: "descending", descending: "ascending" };
    const order = before ? other[before] : first;
    const sign = order === "ascending" ? 1 : -1;
    const key = (item) => numbers ? numberOf(item.texts[column]) : item.texts[column];
    const missing = (value) => value === "" || Number.isNaN(value);
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a.place - b.place;
      const difference = numbers ? x - y : x.localeCompare(y, "en", { numeric: true });
      return sign * difference || a.place - b.place;
    });
    headings.forEach((item) => item.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    body.append(...rows.map((item) => item.row));
  }

  headings.forEach((heading, column) =>
    heading.querySelector("button").addEventListener("click", () => sortBy(column)));

  const filter = document.getElementById("row-filter");
  const count = document.getElementById("row-count");
  function applyFilter() {
    const terms = parseFilter(filter.value, columns);
    let shown = 0;
    for (const { row, texts } of rows) {
      const textOf = (column) => texts[columns.indexOf(column)];
      row.hidden = !matches(terms, textOf, () => texts.join(" "));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length
      ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  }

  // A browser that restores or clears the field does not always tell of input.
  for (const event of ["input", "change"]) filter.addEventListener(event, applyFilter);
  applyFilter();
}
