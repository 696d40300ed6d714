// The page's state, its filters, its table of runs, and the charts, which are drawn when they come into sight.
let data, stamp = 0;
const state = { x: "", filters: {}, ranges: {}, y: "", curve: "", sort: "", ticked: [], picture: "", epoch: "" };
const boxes = new Map(), columns = [];
const MANY = 12;

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
// ---- State, which is in the page's address.
function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["y", "curve", "sort", "picture", "epoch"]) state[name] = given.get(name) ?? "";
  const names = settingNames();
  state.x = names.includes(given.get("x")) ? given.get("x") : data.x;
  state.ticked = given.getAll("run").filter((name) => data.runs.some((run) => run.name === name));
  state.filters = {}; state.ranges = {};
  for (const name of filterNames()) {
    const chosen = given.getAll(`f.${name}`).filter((value) => valuesOf(name).has(value));
    if (chosen.length) state.filters[name] = new Set(chosen);
    const ends = ["from", "to"].map((end) => given.get(`${end}.${name}`));
    if (ends.some((end) => end !== null)) state.ranges[name] = ends.map((end) => (end === null ? "" : end));
  }
}
function writeState() {
  const kept = new URLSearchParams();
  if (state.x !== data.x) kept.set("x", state.x);
  for (const name of ["y", "curve", "sort", "picture", "epoch"]) if (state[name]) kept.set(name, state[name]);
  for (const name of state.ticked) kept.append("run", name);
  for (const [name, values] of Object.entries(state.filters)) for (const value of values) kept.append(`f.${name}`, value);
  for (const [name, ends] of Object.entries(state.ranges)) ["from", "to"].forEach((end, i) => { if (ends[i] !== "") kept.set(`${end}.${name}`, ends[i]); });
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
}
function changed() { writeState(); refresh(); }
// ---- Runs, groups of runs, and filters.
function settingNames() { return data.varying.length ? data.varying : [data.x].filter(Boolean); }
function valueOf(run, name) {
  if (["seed", "sweep", "status"].includes(name)) return run[name];
  return run.group === null ? run.settings[name] : data.groups[run.group].values[name];
}
function valuesOf(name) {
  const found = new Map();
  const all = name === "protocol" ? data.figures.map((figure) => figure.protocol).filter(Boolean) : data.runs.map((run) => valueOf(run, name));
  for (const value of all) if (value !== undefined && value !== "") found.set(String(value), value);
  const ordered = [...found].sort(([, a], [, b]) => (isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true })));
  return new Map(ordered);
}
function filterNames() {
  return [...new Set([...data.varying, "sweep", "protocol", "seed", "status"])].filter((name) => valuesOf(name).size > 1);
}
function passes(name, value) {
  const chosen = state.filters[name], [from, to] = state.ranges[name] ?? ["", ""];
  if (chosen?.size && !chosen.has(String(value))) return false;
  return (from === "" || value >= Number(from)) && (to === "" || value <= Number(to));
}
function runShown(run) { return filterNames().every((name) => name === "protocol" || passes(name, valueOf(run, name))); }
function groupShown(group) { return group.runs.some((run) => runShown(data.runs[run])); }
function protocolShown(figure) { return !figure.protocol || passes("protocol", figure.protocol); }
function tickedRuns() { return state.ticked.map((name) => data.runs.findIndex((run) => run.name === name)); }
function runLabel(run) {
  const own = data.varying.map((name) => [name, valueOf(run, name)]).filter(([, value]) => value !== undefined);
  const words = [...own.map(([name, value]) => `${name} = ${digits(value)}`), `seed ${run.seed}`];
  if (!own.length) words.push(run.name);
  return words.join(", ") + (run.status === "finished" ? "" : ` (${run.status})`);
}
function choice(label, name, options, chosen, set) {
  const made = html("select", { name }, ...options.map(([value, text]) => html("option", value === chosen ? { value, selected: "" } : { value }, cut(text, 70))));
  made.addEventListener("change", () => { set(made.value); changed(); });
  return html("label", {}, label, made);
}
function makeFilters() {
  const form = document.getElementById("filters"), names = filterNames();
  const open = new Set([...form.querySelectorAll("details[open]")].map((each) => each.dataset.name));
  const parts = settingNames().length > 1 ? [choice("x axis", "x", settingNames().map((name) => [name, name]), state.x, (value) => { state.x = value; })] : [];
  for (const name of names) {
    const values = valuesOf(name), numbers = values.size > MANY && [...values.values()].every(isNumber);
    const chosen = state.filters[name] ?? new Set(), range = state.ranges[name] ?? ["", ""];
    const said = numbers ? (range.some(Boolean) ? range.map((end) => end || "any").join(" to ") : "all") : chosen.size ? [...chosen].map((key) => digits(values.get(key))).join(", ") : "all";
    const list = numbers ? range.map((end, i) => {
      const input = html("input", { type: "number", step: "any", value: end, "aria-label": `${name} ${["from", "to"][i]}`, placeholder: digits([...values.values()].at(i - (i ? 2 : 0))) });
      input.addEventListener("change", () => { range[i] = input.value; state.ranges[name] = range; changed(); });
      return html("label", {}, ["from ", "to "][i], input);
    }) : [...values].map(([key, value]) => {
      const input = html("input", { type: "checkbox", name, value: key });
      input.checked = chosen.has(key);
      input.addEventListener("change", () => {
        if (input.checked) chosen.add(key); else chosen.delete(key);
        if (chosen.size) state.filters[name] = chosen; else delete state.filters[name];
        changed();
      });
      return html("label", {}, input, ` ${digits(value)}`);
    });
    const made = html("details", { "data-name": name, class: "filter", open: open.has(name) ? "" : undefined }, html("summary", {}, html("span", {}, cut(name, 40)), html("b", {}, cut(said, 28))), html("div", {}, ...list));
    made.addEventListener("toggle", () => made.classList.toggle("left", made.open && made.lastChild.getBoundingClientRect().right > document.documentElement.clientWidth));
    parts.push(made);
  }
  if (Object.keys(state.filters).length + Object.keys(state.ranges).length) {
    const button = html("button", { type: "button", id: "reset" }, "Reset");
    button.addEventListener("click", () => { state.filters = {}; state.ranges = {}; changed(); });
    parts.push(button);
  }
  const focused = document.activeElement?.closest?.("#filters") ? [document.activeElement.name, document.activeElement.value] : null;
  form.replaceChildren(...parts);
  if (focused) [...form.querySelectorAll("input, select")].find((each) => each.name === focused[0] && each.value === focused[1])?.focus();
}
// ---- Charts, drawn when they come into sight.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const box = boxes.get(entry.target);
    box.seen = entry.isIntersecting;
    if (box.seen && box.stamp !== stamp) show(entry.target);
  }
}, { rootMargin: "150px" });

function addBox(parent, id, title, make) {
  const place = html("div", { class: "canvas" }), caption = html("figcaption", {}, title), name = id.replace(/\W+/g, "-").slice(0, 60);
  const note = html("p", { class: "soft note" }), buttons = html("p", { class: "save" });
  const figure = html("figure", { class: "chart", id }, caption, note, place, buttons), box = { stamp: -1, seen: false };
  for (const [label, act] of [
    ["SVG", () => save(`${name}.svg`, plainSvg(place.firstChild), "image/svg+xml")], ["PNG", () => savePng(place.firstChild, `${name}.png`)],
    ["CSV", () => save(`${name}.csv`, csvOf(box.rows), "text/csv")],
  ]) {
    const button = html("button", { type: "button", "aria-label": `${label} of ${title}` }, label);
    button.addEventListener("click", act);
    buttons.append(button);
  }
  box.show = () => {
    const chart = make(place);
    caption.textContent = chart.title ?? title;
    box.rows = chart.rows;
    figure.classList.toggle("empty", chart.rows.length === 0);
    note.textContent = chart.rows.length ? chart.note ?? "" : "Nothing to draw with these filters.";
    if (chart.lines && chart.rows.length) draw(place, chart); else if (!chart.rows.length) place.replaceChildren();
  };
  boxes.set(figure, box);
  parent.append(figure);
  watcher.observe(figure);
}
function show(figure) {
  const box = boxes.get(figure);
  box.stamp = stamp;
  box.show();
}
function makeCharts() {
  const main = document.getElementById("charts"), measurements = new Map(), live = data.runs.some((run) => run.status === "running");
  if (live) makeLogged(main); // first what is going on
  data.panels.forEach((panel, i) => {
    const name = data.figures[panel.figures[0]].measurement;
    if (!measurements.has(name)) measurements.set(name, []);
    measurements.get(name).push([panel, i]);
  });
  if (measurements.size) main.append(html("h2", {}, "Every figure against a setting"), html("p", { class: "soft" },
    "Points are means over seeds with Student's 95% intervals of the single figure; short lines are seeds, crosses the papers' values. Lines join numbers only."));
  const first = measurements.has("transfer") ? "transfer" : [...measurements.keys()][0];
  for (const [name, panels] of [...measurements].sort(([a], [b]) => (b === first) - (a === first))) {
    const grid = html("div", { class: "charts" });
    const count = new Set(panels.flatMap(([panel]) => panel.figures)).size;
    main.append(html("details", { class: "measurement", ...(name === first ? { open: "" } : {}) }, html("summary", {}, `${name}: ${count} figure${count === 1 ? "" : "s"}`), grid));
    for (const [panel, i] of panels) {
      if (!data.figures[panel.figures[0]].axis) addBox(grid, `figure-${i}`, panel.title, () => againstSetting(panel));
      else for (const index of panel.figures) addBox(grid, `curve-${index}`, axisTitle(index), () => overAxis(index));
    }
  }
  if (data.varying.length > 1 && data.means.length) {
    main.append(html("h2", {}, "All settings together"), html("p", { id: "y" }));
    addBox(main, "parallel", "Parallel coordinates; the strongest colour is the largest value", (place) => ({ rows: parallel(place, Number(chosenFigure())) }));
  }
  if (!live) makeLogged(main);
  main.append(html("h2", {}, "Runs"), html("section", { id: "runs" }), html("section", { id: "compared" }));
}
function makeLogged(main) {
  if (!data.curves.length) return;
  main.append(html("h2", {}, "Logged while training"), html("p", { id: "curve" }));
  addBox(main, "logged", "Curves", () => overSteps(chosenCurve()));
}
function singles() { return data.figures.map((figure, i) => [figure, i]).filter(([figure]) => !figure.axis); }
function mainFigures() {
  const accuracy = singles().filter(([f]) => f.measurement === "transfer" && f.metric === "accuracy" && f.weights === "trained" && !f.condition && f.subject !== "chance");
  const asked = singles().filter(([f]) => f.figure === data.figure);
  const own = [...asked, ...accuracy];
  return [...new Set((own.length ? own : singles()).map(([, i]) => i))];
}
function chosenFigure() { return singles().find(([figure]) => figure.figure === state.y)?.[1] ?? mainFigures()[0]; }
function chosenCurve() { return data.logged.includes(state.curve) ? state.curve : data.logged.find((name) => name.endsWith("_loss")) ?? data.logged[0]; }
// ---- The table of runs, and what was chosen there side by side.
function makeTable() {
  const singleOf = new Map(), several = (name) => valuesOf(name).size > 1;
  for (const [figure, place, , , , , , values] of data.means) data.groups[place].runs.forEach((run, i) => singleOf.set(`${figure}|${run}`, values[i]));
  for (const [index, run, , values] of data.curves) if (!data.runs[run].group && data.runs[run].group !== 0) singleOf.set(`${data.logged[index]}|${run}`, values.at(-1));
  const figures = [...new Set([...(state.y ? [chosenFigure()] : []), ...mainFigures().slice(0, 4)])];
  const settings = [...new Set([...data.varying, ...data.runs.filter((run) => run.group === null).flatMap((run) => Object.keys(run.settings))])];
  columns.splice(0, columns.length, ...["sweep", "status"].filter(several).map((name) => ({ name, of: (run) => run[name] })),
    ...settings.map((name) => ({ name, of: (run) => valueOf(run, name) })), { name: "seed", of: (run) => run.seed },
    ...figures.map((i) => ({ name: data.figures[i].figure, of: (run, at) => singleOf.get(`${i}|${at}`) ?? singleOf.get(`${data.figures[i].figure}|${at}`) })),
    { name: "seconds", of: (run) => run.seconds }, { name: "run", of: (run) => run.name });
}
function refreshTable() {
  const [name, down] = [state.sort.replace(/^-/, ""), state.sort.startsWith("-")], by = columns.find((column) => column.name === name);
  const rows = data.runs.map((run, at) => ({ run, at })).filter(({ run }) => runShown(run));
  if (by) {
    rows.sort((a, b) => {
      const [p, q] = [a, b].map(({ run, at }) => by.of(run, at) ?? "");
      const order = isNumber(p) && isNumber(q) ? p - q : isNumber(p) ? -1 : isNumber(q) ? 1 : String(p).localeCompare(String(q), undefined, { numeric: true });
      return down && p !== "" && q !== "" ? -order : order;
    });
  }
  const head = html("tr", {}, html("th", {}, html("span", { class: "soft" }, "compare")), ...columns.map((column) => {
    const own = column.name === name, button = html("button", { type: "button", class: "sort", title: column.name }, `${cut(column.name, 34)}${own ? (down ? " ↓" : " ↑") : ""}`);
    button.addEventListener("click", () => { state.sort = own && !down ? `-${column.name}` : column.name; changed(); });
    return html("th", { scope: "col", "aria-sort": own ? (down ? "descending" : "ascending") : "none" }, button);
  }));
  const body = rows.map(({ run, at }) => {
    const tick = html("input", { type: "checkbox", "aria-label": `compare ${run.name}` });
    tick.checked = state.ticked.includes(run.name);
    tick.addEventListener("change", () => { state.ticked = tick.checked ? [...state.ticked, run.name] : state.ticked.filter((each) => each !== run.name); changed(); });
    return html("tr", { class: run.status === "finished" ? "" : "open", title: run.reason }, html("td", {}, tick), ...columns.map((column) => {
      const value = column.of(run, at), text = digits(value);
      return html("td", { title: String(value ?? ""), "data-title": cut(column.name, 40), class: isNumber(value) ? "" : "text" }, column.name === "run" ? html("a", { href: run.folder }, cut(text, 40)) : cut(text, 40));
    }));
  });
  const csv = html("button", { type: "button", id: "runs-csv" }, "CSV");
  csv.addEventListener("click", () => save("runs.csv", csvOf(rows.map(({ run, at }) => Object.fromEntries(columns.map((column) => [column.name, column.of(run, at)])))), "text/csv"));
  const constants = Object.entries(data.constants);
  const same = constants.length ? [html("details", {}, html("summary", {}, `${constants.length} settings are the same in all`), html("p", { class: "soft" }, constants.map(([key, value]) => `${key} = ${value}`).join(", ")))] : [];
  const focus = document.activeElement?.getAttribute?.("aria-label") ?? document.activeElement?.title;
  document.getElementById("runs").replaceChildren(html("p", { class: "save" }, `${rows.length} of ${data.runs.length} runs. Tick some to compare them. `, csv),
    html("div", { class: "scroll", tabindex: 0 }, html("table", {}, html("thead", {}, head), html("tbody", {}, ...body))), ...same);
  if (focus) [...document.querySelectorAll("#runs input, #runs .sort")].find((each) => [each.getAttribute("aria-label"), each.title].includes(focus))?.focus();
}
function refreshCompared() {
  const place = document.getElementById("compared"), runs = tickedRuns().map((i) => data.runs[i]);
  if (!runs.length) { place.replaceChildren(); return; }
  const facts = (run) => ({ ...run.settings, seed: run.seed, sweep: run.sweep, status: run.status, seconds: run.seconds, commit: run.commit, command: run.command.join(" "),
    ...Object.fromEntries(Object.entries(run.passed).map(([name, why]) => [`${name}: passed over`, why])) });
  const all = runs.map(facts), names = [...new Set(all.flatMap(Object.keys))];
  const rows = names.filter((name) => runs.length === 1 || new Set(all.map((own) => String(own[name]))).size > 1);
  const head = html("tr", {}, html("th", {}, ""), ...runs.map((run) => html("th", { scope: "col" }, html("a", { href: run.folder }, cut(runLabel(run), 60)),
    ...(run.wandb ? [" ", html("a", { href: run.wandb, rel: "noreferrer" }, "W&B")] : []))));
  const body = rows.map((name) => html("tr", {}, html("th", { scope: "row", class: "text" }, name), ...all.map((own) => html("td", { class: "text" }, digits(own[name])))));
  place.replaceChildren(html("h3", {}, runs.length === 1 ? "The chosen run" : "Differences of the chosen runs"), html("div", { class: "scroll", tabindex: 0 }, html("table", { id: "diff" }, html("thead", {}, head), html("tbody", {}, ...body))), pictures(runs));
}
function pictures(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.pictures)))];
  if (!names.length) return html("p", { class: "soft" }, "These runs have no pictures.");
  const name = names.includes(state.picture) ? state.picture : names.find((each) => each.startsWith("samples")) ?? names[0];
  const last = Number.MAX_SAFE_INTEGER, epochs = [...new Set(runs.flatMap((run) => (run.pictures[name] ?? []).map(([epoch]) => epoch ?? last)))].sort((a, b) => a - b);
  const asked = state.epoch === "" ? last : Number(state.epoch), at = Math.max(0, epochs.findLastIndex((epoch) => epoch <= asked));
  const words = (epoch) => (epoch === last ? "finished" : `epoch ${epoch}`), output = html("output", {}, words(epochs[at]));
  const slider = html("input", { type: "range", id: "epoch", min: 0, max: epochs.length - 1, value: at, "aria-label": "epoch of the pictures" });
  const figures = runs.map((run) => html("figure", {}, html("img", { alt: `${name} of ${run.name}`, loading: "lazy" }), html("figcaption", {}, cut(runLabel(run), 80))));
  const choose = () => {
    const epoch = epochs[Number(slider.value)];
    output.textContent = words(epoch);
    runs.forEach((run, i) => {
      const own = (run.pictures[name] ?? []).filter(([each]) => (each ?? last) <= epoch).at(-1), image = figures[i].firstChild;
      image.hidden = !own;
      if (own) image.src = own[1];
    });
  };
  slider.addEventListener("input", () => { choose(); state.epoch = epochs[Number(slider.value)] === last ? "" : String(epochs[Number(slider.value)]); writeState(); });
  choose();
  const select = choice("picture ", "picture", names.map((each) => [each, each]), name, (value) => { state.picture = value; });
  return html("div", {}, html("p", {}, select, " ", html("label", {}, "epoch ", slider), " ", output), html("div", { class: "pictures" }, ...figures));
}
// ---- All together.
function refresh() {
  stamp += 1;
  makeFilters();
  const y = document.getElementById("y"), curve = document.getElementById("curve");
  if (y) y.replaceChildren(choice("figure ", "y", singles().map(([figure]) => [figure.figure, figure.figure]), data.figures[chosenFigure()].figure, (value) => { state.y = value; }));
  if (curve) curve.replaceChildren(choice("value ", "curve", data.logged.map((name) => [name, name]), chosenCurve(), (value) => { state.curve = value; }));
  makeTable();
  refreshTable();
  refreshCompared();
  for (const [figure, box] of boxes) if (box.seen) show(figure);
}
async function start() {
  data = await unpacked(document.getElementById("page-data").textContent);
  document.body.append(html("div", { id: "tip", role: "status", hidden: "" }));
  if (innerWidth < 600) for (const each of document.querySelectorAll(".answer > details[open]")) each.open = false;
  readState();
  makeCharts();
  refresh();
  addEventListener("hashchange", () => { readState(); refresh(); });
  let wide = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; refresh(); } });
  document.getElementById("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    refresh();
  });
  const close = (but) => { for (const each of document.querySelectorAll("details.filter[open]")) if (each !== but) each.open = false; };
  addEventListener("click", (event) => { if (event.target.isConnected) close(event.target.closest("details.filter")); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") close(null); });
  document.documentElement.dataset.ready = "1";
  if (data.follow) setTimeout(follows, data.follow);
}
async function follows() {
  try {
    const answer = await fetch("version");
    if (answer.ok && (await answer.text()) !== data.version) return location.reload();
  } catch (error) { /* the server has ended; the page stays as it is */ }
  setTimeout(follows, data.follow);
}
start();
