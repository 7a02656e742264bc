// Data of the page and what everything else uses: elements, tables and numbers as text.

const data = JSON.parse(document.getElementById("report-data").textContent);
const metricsByName = new Map(data.runs.metrics.map((metric) => [metric.name, metric]));
const paramsByName = new Map(data.runs.params.map((param) => [param.name, param]));
// Runs stand in order of rank.
const bestRun = data.ranked ? 0 : -1;
const narrow = window.matchMedia("(max-width: 40rem)").matches;
const touch = narrow || window.matchMedia("(pointer: coarse)").matches;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// No minus before a zero: -0.00001 is 0.00 with two decimals.
function unsignedZero(text) {
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}

function grouped(value, decimals = 0) {
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return unsignedZero(value.toLocaleString("en-US", options));
}

// The same rules as for the tables that were written into the page.
function metricText(name, value) {
  if (value === null || value === undefined) return "";
  const form = metricsByName.get(name)?.form;
  if (form === "whole") return grouped(value);
  if (form === "percent") return `${unsignedZero((100 * value).toFixed(2))}%`;
  if (Math.abs(value) >= 10000) return grouped(value);
  return Math.abs(value) >= 0.0005 || value === 0 ? value.toFixed(3) : value.toPrecision(2);
}

function percentText(value) {
  return value === null ? "" : `${unsignedZero((100 * value).toFixed(1))}%`;
}

function brief(text, limit = narrow ? 14 : 24) {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}

// Labels along a category axis must differ, or their cells would fall together.
function distinctLabels(texts, limit) {
  const seen = new Map();
  return texts.map((text) => {
    const label = brief(text, limit);
    const count = seen.get(label) ?? 0;
    seen.set(label, count + 1);
    return count ? `${label} (${count + 1})` : label;
  });
}

// Names without what stands before their last dot, where that leaves them different.
function shortNames(names) {
  const ends = names.map((name) => name.slice(name.lastIndexOf(".") + 1));
  return names.map((name, i) => ends.filter((end) => end === ends[i]).length > 1 ? name : ends[i]);
}

// plotly reads a few tags and entities in its texts.
function plotText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function tableOf(caption, head, rows) {
  const numeric = head.map((_, column) => column > 0);
  const headCells = head.map((title, column) =>
    element("th", numeric[column] ? { scope: "col", class: "num" } : { scope: "col" }, title));
  const bodyRows = rows.map((row) => element("tr", {}, ...row.map((cell, column) =>
    column === 0 ? element("th", { scope: "row" }, cell) : element("td", { class: "num" }, cell))));
  return element("table", {},
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...headCells)),
    element("tbody", {}, ...bodyRows));
}

function better(metric, a, b) {
  return metric.direction < 0 ? a < b : a > b;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.ceil(place);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}
