"use strict";
// Draws charts as SVG. All figures were worked out before; here they get their places on the screen.
const NS = "http://www.w3.org/2000/svg";
const COLOURS = 6, HEIGHT = 300, LETTER = 7.2, DODGE = 9;
const SHAPES = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4,-4h8v8h-8z", "M0,-5L5,4H-5z", "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
  "M-5,-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z", "M0,5L5,-4H-5z"];

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}
function svg(name, attributes = {}, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function digits(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value ?? "-");
}
function cut(text, most) { return text.length > most ? `${text.slice(0, most - 1)}…` : text; }
function colour(series) { return `var(--c${series % COLOURS})`; }
function isNumber(value) { return typeof value === "number"; }

function ticksOf(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((each) => each >= rough * 0.999) ?? rough;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && found.length < 50; i++) found.push(i * step);
  return found;
}
function linear(low, high, from, to, count) {
  const shrink = Number.isFinite(high - low) ? 1 : 0.25; // beyond the largest number
  const [a, b] = [low * shrink, high * shrink];
  return {
    place: (value) => from + ((value * shrink - a) / (b - a)) * (to - from),
    ticks: ticksOf(a, b, count).map((at) => [from + ((at - a) / (b - a)) * (to - from), digits(at / shrink)]),
  };
}
function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to, 5), ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const by of high / low > 1000 ? [1] : [1, 2, 5]) {
      const at = by * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) ticks.push([inner.place(Math.log10(at)), digits(at)]);
    }
  }
  return { place: (value) => inner.place(Math.log10(value)), ticks };
}
function band(values, from, to) {
  const step = (to - from) / values.length, index = new Map(values.map((value, i) => [value, i]));
  return { step, place: (value) => from + step * (index.get(value) + 0.5), ticks: values.map((value, i) => [from + step * (i + 0.5), String(value)]) };
}
// Returns the scale of numbers or of texts; numbers over many powers of ten are on a logarithmic one.
function scaleOf(values, from, to, room) {
  const all = [...new Set(values)];
  if (!all.length || !all.every(isNumber)) return { ...band(all, from, to), texts: true };
  const low = Math.min(...all), high = Math.max(...all), few = all.length <= 12;
  if (low > 0 && high / low > 50) return logarithmic(low / 1.15, high * 1.15, from, to);
  const pad = (high - low) * (few ? 0.5 / all.length : 0.03) * room || Math.abs(high) * 0.1 || 1;
  const scale = linear(low - pad, high + pad, from, to, 6);
  if (few) scale.ticks = all.sort((a, b) => a - b).map((value) => [scale.place(value), digits(value)]);
  return scale;
}
function rangeOf(numbers, share) {
  let low = Math.min(...numbers), high = Math.max(...numbers);
  const pad = high > low ? 0.06 * high - 0.06 * low : Math.abs(high) * 0.1 || 1;
  if (Number.isFinite(low - pad)) low -= pad;
  if (Number.isFinite(high + pad)) high += pad;
  return share ? [Math.max(low, 0), Math.min(high, 1)] : [low, high];
}
// Draws marks with intervals, and lines with bands. `chart.x.of` are all values on the x axis.
function draw(box, chart) {
  const width = Math.max(box.clientWidth, 240), left = 58, right = width - 10, top = 8;
  const marks = [...chart.marks].filter((mark) => isNumber(mark.y));
  const points = chart.lines.flatMap((line) => line.points);
  const ends = [...marks, ...points].flatMap((each) => [each.y, each.low, each.high, each.paper].filter(isNumber));
  if (chart.zero) ends.push(0);
  const x = scaleOf(chart.x.of, left, right, chart.hover === "all" ? 0 : 1);
  const widest = Math.max(...x.ticks.map(([, label]) => Math.min(label.length, 26)), 1) * LETTER;
  const steep = x.ticks.length > 1 && widest > (right - left) / x.ticks.length - 4;
  const below = (steep ? Math.min(widest * 0.62, 110) : 14) + 26;
  const legend = legendOf(chart.series, left, right), bottom = top + HEIGHT - 60;
  const height = bottom + below + legend.height + 6;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0, "font-size": 12,
    "font-family": "system-ui, sans-serif", "aria-label": `${chart.title}: ${marks.length + points.length} figures; arrow keys read them` });
  const y = linear(...rangeOf(ends.length ? ends : [0, 1], chart.y.share), bottom, top, 5);
  for (const [at, label] of y.ticks) {
    root.append(svg("line", { x1: left, x2: right, y1: at, y2: at, stroke: "currentColor", opacity: 0.13 }));
    root.append(svg("text", { x: left - 6, y: at + 4, "text-anchor": "end", fill: "currentColor", class: "ytick" }, label));
  }
  if (chart.zero && y.place(0) > top && y.place(0) < bottom) {
    root.append(svg("line", { x1: left, x2: right, y1: y.place(0), y2: y.place(0), stroke: "currentColor", "stroke-dasharray": "4 4", class: "zero" }));
  }
  const every = steep ? Math.ceil((x.ticks.length * 15) / (right - left)) : 1;
  x.ticks.forEach(([at, label], i) => {
    root.append(svg("line", { x1: at, x2: at, y1: bottom, y2: bottom + 4, stroke: "currentColor" }));
    if (i % every) return;
    const turned = steep ? { transform: `rotate(-38 ${at} ${bottom + 14})`, "text-anchor": "end" } : { "text-anchor": "middle" };
    const text = svg("text", { x: at, y: bottom + 16, fill: "currentColor", class: "xtick", ...turned }, cut(label, 26));
    text.append(svg("title", {}, label));
    root.append(text);
  });
  root.append(svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, stroke: "currentColor" }));
  root.append(svg("text", { x: (left + right) / 2, y: bottom + below - 4, "text-anchor": "middle", fill: "currentColor" }, cut(chart.x.label, 60)));
  root.append(svg("text", { x: 12, y: (top + bottom) / 2, "text-anchor": "middle", fill: "currentColor", transform: `rotate(-90 12 ${(top + bottom) / 2})` }, cut(chart.y.label, 40)));
  const inside = (value) => Math.min(Math.max(y.place(value), top), bottom), hits = [];
  const shift = ({ dodge, dodges }) => (chart.x.dodged ? Math.min(DODGE, x.step ? (x.step * 0.7) / dodges : DODGE) * (dodge - (dodges - 1) / 2) : 0);
  for (const line of chart.lines) drawLine(root, line, (value) => x.place(value) + shift(line), inside, hits);
  for (const mark of marks) {
    const at = x.place(mark.x) + shift(mark), look = colour(mark.series), place = y.place(mark.y);
    if (isNumber(mark.low)) {
      root.append(svg("line", { class: "interval", x1: at, x2: at, y1: inside(mark.low), y2: inside(mark.high), stroke: look, "stroke-width": 2 }));
    }
    for (const seed of mark.seeds ?? []) {
      if (isNumber(seed)) root.append(svg("line", { class: "seed", x1: at - 5, x2: at + 5, y1: inside(seed), y2: inside(seed), stroke: look, opacity: 0.55 }));
    }
    if (isNumber(mark.paper)) {
      root.append(svg("path", { class: "paper", d: "M-6,-6L6,6M-6,6L6,-6", transform: `translate(${at} ${inside(mark.paper)})`, stroke: look, "stroke-width": 1.5, fill: "none" }));
    }
    root.append(svg("path", { class: "mark", d: SHAPES[mark.series % COLOURS], transform: `translate(${at} ${place})`, fill: mark.open ? "var(--paper)" : look,
      stroke: look, "stroke-width": 1.5, opacity: mark.faint ? 0.75 : 1, "data-text": mark.text }));
    hits.push({ at, place, text: mark.text });
  }
  root.append(legend.drawn(bottom + below + 4));
  box.replaceChildren(root);
  follow(root, hits, chart.hover === "all");
  return root;
}
function drawLine(root, line, across, inside, hits) {
  const points = line.points.filter((point) => isNumber(point.y)), look = colour(line.series);
  const banded = points.filter((point) => isNumber(point.low));
  if (line.band && banded.length > 1) {
    const edge = [...banded.map((p) => [p.x, p.high]), ...banded.map((p) => [p.x, p.low]).reverse()];
    root.append(svg("path", { class: "band", d: `M${edge.map(([a, b]) => `${across(a).toFixed(1)},${inside(b).toFixed(1)}`).join("L")}Z`, fill: look, opacity: 0.16 }));
  }
  const path = points.map((p) => `${across(p.x).toFixed(1)},${inside(p.y).toFixed(1)}`).join("L");
  if (points.length) {
    root.append(svg("path", { class: "line", d: `M${path}`, fill: "none", stroke: look, "stroke-width": line.thin ? 1.2 : 2, opacity: line.thin ? 0.8 : 0.9,
      "stroke-dasharray": line.dashed ? "6 4" : "none", "data-name": line.name }));
  }
  if (!line.silent) for (const p of points) hits.push({ at: across(p.x), place: inside(p.y), text: p.text, line });
}
function legendOf(series, left, right) {
  let x = left, row = 0;
  const placed = series.map((entry) => {
    const text = cut(entry.name, 44), size = text.length * LETTER + 34;
    if (x + size > right && x > left) { x = left; row += 1; }
    const made = { ...entry, text, x, row };
    x += size;
    return made;
  });
  const drawn = (top) => {
    const group = svg("g", { class: "legend" });
    for (const { text, x: at, row: line, series: own, open, dashed, name } of placed) {
      const y = top + line * 18 + 8, look = colour(own);
      group.append(svg("line", { x1: at, x2: at + 20, y1: y, y2: y, stroke: look, "stroke-width": 1.5, "stroke-dasharray": dashed ? "6 4" : "none" }));
      group.append(svg("path", { d: SHAPES[own % COLOURS], transform: `translate(${at + 10} ${y})`, fill: open ? "var(--paper)" : look, stroke: look, "stroke-width": 1.5 }));
      const label = svg("text", { x: at + 26, y: y + 4, fill: "currentColor" }, text);
      label.append(svg("title", {}, name));
      group.append(label);
    }
    return group;
  };
  return { height: placed.length ? (row + 1) * 18 + 6 : 0, drawn };
}
// Says the figure nearest to the pointer, or the next one by the arrow keys; on lines, all at that place.
function follow(root, hits, several) {
  const tip = document.getElementById("tip"), rule = svg("line", { stroke: "currentColor", opacity: 0.5, visibility: "hidden" });
  const ordered = [...hits].sort((a, b) => a.at - b.at || a.place - b.place);
  let active = -1;
  root.append(rule);
  const say = (hit) => {
    const frame = root.getBoundingClientRect(), by = frame.width / root.viewBox.baseVal.width;
    const own = several && hit.line ? nearestOf(hits, hit.at) : [hit];
    const near = [...own].sort((a, b) => Math.abs(a.place - hit.place) - Math.abs(b.place - hit.place)).slice(0, 12);
    tip.textContent = near.sort((a, b) => a.place - b.place).map((each) => each.text).join("\n");
    for (const [key, value] of Object.entries({ x1: hit.at, x2: hit.at, y1: 8, y2: HEIGHT - 52, visibility: several ? "visible" : "hidden" })) rule.setAttribute(key, value);
    tip.hidden = false;
    const x = frame.left + hit.at * by, fits = x + tip.offsetWidth + 20 < document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, (fits ? x + 12 : x - tip.offsetWidth - 12)) + scrollX}px`;
    tip.style.top = `${frame.top + hit.place * by + scrollY - tip.offsetHeight / 2}px`;
  };
  const hide = () => { tip.hidden = true; rule.setAttribute("visibility", "hidden"); };
  root.addEventListener("pointermove", (event) => {
    const frame = root.getBoundingClientRect(), by = root.viewBox.baseVal.width / frame.width;
    const [px, py] = [(event.clientX - frame.left) * by, (event.clientY - frame.top) * by];
    let best = null, least = several ? 1e9 : 900;
    for (const hit of hits) {
      const away = (hit.at - px) ** 2 + (several ? 0.05 : 1) * (hit.place - py) ** 2;
      if (away < least) [best, least] = [hit, away];
    }
    if (best) say(best); else hide();
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!by || !ordered.length) return;
    event.preventDefault();
    active = (active + by + ordered.length) % ordered.length;
    say(ordered[active]);
  });
}
function nearestOf(hits, at) {
  const best = new Map();
  for (const hit of hits) {
    if (hit.line && !(Math.abs(best.get(hit.line)?.at - at) <= Math.abs(hit.at - at))) best.set(hit.line, hit);
  }
  return [...best.values()];
}
function plainSvg(root) {
  const copy = root.cloneNode(true), style = getComputedStyle(root);
  const resolved = (text) => text.replace(/var\((--\w+)\)/g, (_, name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  for (const each of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["fill", "stroke"]) if (each.hasAttribute(name)) each.setAttribute(name, resolved(each.getAttribute(name)));
    each.removeAttribute("data-text");
  }
  copy.setAttribute("xmlns", NS);
  copy.setAttribute("style", `color: ${style.color}; background: ${getComputedStyle(document.body).backgroundColor}`);
  return new XMLSerializer().serializeToString(copy);
}
function save(name, content, type) {
  const link = html("a", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
async function savePng(root, name) {
  const image = new Image(), { width, height } = root.viewBox.baseVal, canvas = html("canvas", { width: 2 * width, height: 2 * height });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(plainSvg(root))}`;
  await image.decode();
  const paper = canvas.getContext("2d");
  paper.fillStyle = getComputedStyle(document.body).backgroundColor;
  paper.fillRect(0, 0, 2 * width, 2 * height);
  paper.drawImage(image, 0, 0, 2 * width, 2 * height);
  canvas.toBlob((blob) => save(name, blob, "image/png"));
}
function csvOf(rows) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const cell = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`; // no spreadsheet takes it for a formula
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((line) => line.map(cell).join(",") + "\r\n").join("");
}
