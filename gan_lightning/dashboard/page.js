"use strict";
// Chooses rows of tables and of charts by the filters. All figures were worked out before: none is made here.
let page;
const filters = [...document.querySelectorAll("#filters select")];
const views = {};

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
function rowsOf(table) {
  return table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
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
    if (row[name] === undefined) return true;
    if (name === "seed" && single) return row.seed === (value || "all");
    return !value || String(row[name]) === value;
  });
}
function apply() {
  const values = chosen();
  for (const lines of document.querySelectorAll("tbody[data-row]")) {
    lines.hidden = !agrees(JSON.parse(lines.dataset.row), values, true);
  }
  for (const part of document.querySelectorAll("[data-shown]")) {
    part.hidden = !agrees(JSON.parse(part.dataset.shown), values, false);
  }
  for (const { view, chart } of Object.values(views)) {
    const keep = { rows: chart.rows.filter((row) => agrees(row, values, true)),
                   points: chart.points.filter((row) => agrees(row, values, false)) };
    if (!keep.rows.length) continue; // none of its lines is chosen, and its box is hidden
    for (const name of ["rows", "points"]) {
      if (chart.points.length || name === "rows") {
        view.data(name, keep[name]);
      }
    }
    view.resize().runAsync();
  }
  try { sessionStorage.setItem("filters", JSON.stringify(values)); } catch (error) { /* not from a file */ }
}
async function draw(chart) {
  const element = document.getElementById(chart.id);
  chart = { ...chart, rows: rowsOf(chart.rows), points: chart.points ? rowsOf(chart.points) : [] };
  const rows = chart.rows.filter((row) => agrees(row, chosen(), true));
  const datasets = { rows: rows.length ? rows : chart.rows }; // where none is chosen, its box is hidden
  if (chart.points.length) datasets.points = chart.points.filter((row) => agrees(row, chosen(), false));
  if (element.clientWidth < 480) {
    const legend = { ...chart.spec.config.legend, columns: 1, layout: { bottom: { direction: "vertical" } } };
    chart.spec = { ...chart.spec, config: { ...chart.spec.config, legend } };
  }
  const options = { actions: false, renderer: "svg", ast: true };
  const spec = { ...chart.spec, datasets: { ...chart.spec.datasets, ...datasets } };
  const result = await vegaEmbed(element, spec, options);
  views[chart.id] = { view: result.view, chart };
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
  const late = new Set();
  for (const details of document.querySelectorAll("details[data-chart]")) {
    late.add(details.dataset.chart);
    details.addEventListener("toggle", () => {
      if (details.open && !views[details.dataset.chart]) draw(page.charts.find((c) => c.id === details.dataset.chart));
    });
  }
  await Promise.all(page.charts.filter((chart) => !late.has(chart.id)).map(draw));
  apply();
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
