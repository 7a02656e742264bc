// The filter's little language: words, and comparisons such as sharpe>=0.5 or max_drawdown>-30%.

function numberOf(text) {
  const plain = text.trim().replaceAll(",", "").replace("−", "-");
  if (plain === "") return NaN;
  return plain.endsWith("%") ? Number(plain.slice(0, -1)) / 100 : Number(plain);
}

function parseFilter(text, columns) {
  const names = new Map(columns.map((name) => [name.toLowerCase(), name]));
  return text.trim().split(/\s+/).filter(Boolean).map((term) => {
    const match = term.match(/^(.+?)(>=|<=|!=|=|>|<)(.+)$/);
    const column = match && names.get(match[1].toLowerCase());
    return column ? { column, operator: match[2], value: match[3] } : { word: term.toLowerCase() };
  });
}

function compares(operator, held, wanted) {
  switch (operator) {
    case ">": return held > wanted;
    case "<": return held < wanted;
    case ">=": return held >= wanted;
    case "<=": return held <= wanted;
    case "!=": return held !== wanted;
    default: return held === wanted;
  }
}

// `textOf(column)` is the text of a row in a column; `rowText()` all of its text.
function matches(terms, textOf, rowText) {
  return terms.every((term) => {
    if (term.word !== undefined) return rowText().toLowerCase().includes(term.word);
    const text = textOf(term.column);
    const held = numberOf(text);
    const wanted = numberOf(term.value);
    if (!Number.isNaN(held) && !Number.isNaN(wanted)) return compares(term.operator, held, wanted);
    if (term.operator === "=") return text.toLowerCase() === term.value.toLowerCase();
    return term.operator === "!=" && text.toLowerCase() !== term.value.toLowerCase();
  });
}
