"use strict";
// Chooses rows of tables and of charts by the filters. All figures were worked out before: none is made here.
let page;
let chosenTimes = 0;
const filters = [...document.querySelectorAll("#filters select")];
const tables = {};
const views = {};

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
function rowsOf(name) {
  const { columns, rows } = page.tables[name];
  tables[name] ??= rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]])));
  return tables[name];
}
function field(value) {
  let text = String(value ?? "");
  // Keep a spreadsheet from taking a run's name for a formula.
  if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
function download(name) {
  const { columns, rows } = page.tables[name];
  const text = [columns, ...rows].map((row) => row.map(field).join(",") + "\r\n").join("");
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
function chosen() {
  return Object.fromEntries(filters.map((select) => [select.name, select.value]));
}
function agrees(row, values, single) {
  return Object.entries(values).every(([name, value]) => {
    if (row[name] === undefined || row[name] === null) return true;
    if (name === "seed" && single) return row.seed === (value || "all");
    return !value || String(row[name]) === value;
  });
}
function apply() {
  const values = chosen();
  chosenTimes += 1;
  for (const lines of document.querySelectorAll("tbody[data-row]")) {
    lines.hidden = !agrees(JSON.parse(lines.dataset.row), values, true);
  }
  for (const part of document.querySelectorAll("[data-shown]")) {
    part.hidden = !agrees(JSON.parse(part.dataset.shown), values, false);
  }
  try { sessionStorage.setItem("filters", JSON.stringify(values)); } catch (error) { /* not from a file */ }
  return Promise.all(page.charts.map((chart) => {
    const element = document.getElementById(chart.id);
    if (!chart.late) return show(chart);
    element.parentElement.hidden = false; // if it is in sight now, it is watched and will be shown
    return views[chart.id] && element.clientWidth ? show(chart) : null;
  }));
}
async function show(chart) {
  const values = chosen(), element = document.getElementById(chart.id);
  const all = rowsOf(chart.table).filter((row) => Object.entries(chart.where).every(
    ([name, is]) => (Array.isArray(is) ? is.includes(row[name]) : row[name] === is)));
  const datasets = { rows: all.filter((row) => agrees(row, values, true)) };
  if (chart.singles) datasets.singles = all.filter((row) => row.seed !== "all" && agrees(row, values, false));
  chart.chosenTimes = chosenTimes;
  element.parentElement.hidden = !datasets.rows.length; // none of its lines is chosen
  if (!datasets.rows.length) return;
  if (!views[chart.id]) {
    views[chart.id] = draw(chart.spec, element, datasets);
    await views[chart.id];
    return;
  }
  const view = await views[chart.id];
  for (const [name, rows] of Object.entries(datasets)) view.data(name, rows);
  await view.resize().runAsync();
}
async function draw(spec, element, datasets) {
  if (element.clientWidth < 480) {
    const legend = { ...spec.config.legend, columns: 1, layout: { bottom: { direction: "vertical" } } };
    spec = { ...spec, config: { ...spec.config, legend } };
  }
  const options = { mode: "vega-lite", actions: false, renderer: "svg", ast: true };
  return (await vegaEmbed(element, { ...spec, datasets }, options)).view;
}
async function start() {
  page = await unpacked(document.getElementById("page-data").textContent);
  for (const button of document.querySelectorAll("[data-csv]")) {
    button.addEventListener("click", () => download(button.dataset.csv));
  }
  try {
    const before = JSON.parse(sessionStorage.getItem("filters") || "{}");
    for (const select of filters) {
      if ([...select.options].some((option) => option.value === before[select.name])) select.value = before[select.name];
    }
  } catch (error) { /* nothing was stored */ }
  for (const select of filters) select.addEventListener("change", apply);
  document.getElementById("reset").addEventListener("click", () => {
    for (const select of filters) select.selectedIndex = 0;
    apply();
  });
  document.getElementById("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
  const late = new Map(page.charts.filter((chart) => chart.late).map((chart) => [chart.id, chart]));
  const watcher = new IntersectionObserver((entries) => {
    for (const chart of entries.filter((entry) => entry.isIntersecting).map((entry) => late.get(entry.target.id))) {
      if (chart.chosenTimes !== chosenTimes) show(chart);
    }
  }, { rootMargin: "200px" });
  for (const id of late.keys()) watcher.observe(document.getElementById(id));
  await apply();
  document.documentElement.dataset.ready = "1";
  if (page.follow) setTimeout(follow, page.follow);
}
async function follow() {
  try {
    const answer = await fetch("version");
    if (answer.ok && (await answer.text()) !== page.version) return location.reload();
  } catch (error) { /* the server has ended; the page stays as it is */ }
  setTimeout(follow, page.follow);
}
start();
