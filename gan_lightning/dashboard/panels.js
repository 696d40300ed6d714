// Makes the charts' content from the page's data: which figures of which groups of runs, where, and in which colour.
const RANDOM = " · random weights";

// Returns a figure's series, where random weights share the colour of the trained network.
function seriesOf(figures) {
  const isControl = (name) => ["pixels", "chance"].includes(name);
  const bases = [...new Set(figures.map((i) => data.figures[i].series.replace(RANDOM, "")))]
    .sort((a, b) => isControl(a) - isControl(b) || a.localeCompare(b, undefined, { numeric: true }));
  return figures.map((i) => {
    const name = data.figures[i].series, open = data.figures[i].weights === "random";
    return { name, figure: i, open, dashed: open, series: bases.indexOf(name.replace(RANDOM, "")) };
  }).sort((a, b) => a.series - b.series || a.open - b.open);
}
function variantOf(group) {
  return data.varying.filter((name) => name !== state.x).map((name) => `${name} = ${digits(group.values[name])}`).join(", ");
}
function labelOf(group) {
  const own = data.varying.map((name) => `${name} = ${digits(group.values[name])}`).join(", ");
  return own || "all runs";
}
function interval(low, high) { return isNumber(low) ? ` [${digits(low)}, ${digits(high)}]` : ""; }

// Returns the chart of a panel's figures against the chosen setting: means with intervals, seeds, and the paper's.
function againstSetting(panel) {
  let shown = panel.figures.filter((i) => protocolShown(data.figures[i]) && !data.figures[i].axis);
  if (shown.every((i) => data.figures[i].subject === "chance")) shown = []; // its probe was not chosen
  const entries = seriesOf(shown), of = new Map(entries.map((entry, i) => [entry.figure, { ...entry, i }]));
  const seeds = state.filters.seed, byLine = new Map(), marks = [], rows = [];
  let means = data.means.filter(([figure, group]) => of.has(figure) && groupShown(data.groups[group]));
  const far = farBelow(means), note = far.size ? `Below the scale: ${[...far].map(([i, value]) => `${data.figures[i].series} ${digits(value)}`).join(", ")}.` : "";
  means = means.filter(([figure]) => !far.has(figure));
  const drawn = new Set(means.map(([figure]) => figure)), present = entries.map((entry) => entry.figure).filter((i) => drawn.has(i)), places = new Map(present.map((figure, i) => [figure, i]));
  for (const [figure, place, mean, low, high, n, paper, values] of means) {
    const group = data.groups[place], entry = of.get(figure), x = group.values[state.x], variant = variantOf(group);
    const single = group.runs.map((run, i) => [data.runs[run].seed, values[i]]).filter(([seed, value]) => isNumber(value) && (!seeds?.size || seeds.has(seed)));
    const look = { x, series: entry.series, open: entry.open, dodge: places.get(figure), dodges: present.length };
    const where = `${state.x} = ${digits(x)}${variant ? `, ${variant}` : ""}`, name = entry.name;
    const row = { figure: data.figures[figure].figure, [state.x]: x, ...group.values };
    if (seeds?.size) {
      for (const [seed, value] of single) {
        marks.push({ ...look, y: value, text: `${name}: ${digits(value)}, seed ${seed}, ${where}` });
        rows.push({ ...row, seed, mean: value, low: null, high: null, n: 1, paper });
      }
      continue;
    }
    const printed = isNumber(paper) ? `; the paper has ${digits(paper)}` : "";
    marks.push({ ...look, y: mean, low, high, paper, seeds: n > 1 ? single.map(([, value]) => value) : [],
      text: `${name}: ${digits(mean)}${interval(low, high)}, n = ${n}, ${where}${printed}` });
    rows.push({ ...row, seed: "all", mean, low, high, n, paper });
    for (const [seed, value] of single) rows.push({ ...row, seed, mean: value, low: null, high: null, n: 1, paper });
    const key = `${figure}|${variant}`;
    if (!byLine.has(key)) byLine.set(key, { ...look, name, dashed: entry.dashed, silent: true, points: [] });
    byLine.get(key).points.push({ x, y: mean });
  }
  const all = data.groups.filter(groupShown).map((group) => group.values[state.x]);
  const distinct = new Set(all), ordered = [...distinct].every(isNumber), few = distinct.size <= 12;
  const joined = ordered && few && byLine.size <= 3 * COLOURS && !seeds?.size ? [...byLine.values()].filter((line) => new Set(line.points.map((p) => p.x)).size > 1) : [];
  for (const line of joined) line.points.sort((a, b) => a.x - b.x);
  return { title: panel.title, note, zero: data.figures[panel.figures[0]].metric === "difference", marks, rows, lines: joined, series: entries.filter((entry) => present.includes(entry.figure)),
    x: { of: all, label: state.x, dodged: few }, y: { label: data.figures[panel.figures[0]].metric, share: panelIsShare(panel) } };
}
// Returns controls so far below the other figures that these would be a line on one scale, with their lowest values.
function farBelow(means) {
  const found = new Map(), of = new Map(), groups = new Set(means.map(([, group]) => group)).size;
  for (const [figure, , mean] of means) of.set(figure, [...(of.get(figure) ?? []), mean]);
  const isChance = (figure) => data.figures[figure].subject === "chance";
  const controls = [...of.keys()].filter((figure) => data.figures[figure].weights !== "trained" && (isChance(figure) || groups > MANY));
  for (const figure of controls.sort((a, b) => isChance(a) - isChance(b))) {
    const others = [...of].filter(([other]) => other !== figure && !found.has(other) && (isChance(figure) || data.figures[other].weights === "trained")).flatMap(([, own]) => own);
    const spread = Math.max(...others) - Math.min(...others);
    if (others.length && Math.min(...others) - Math.max(...of.get(figure)) > (isChance(figure) ? 1 : 2) * spread) found.set(figure, Math.min(...of.get(figure)));
  }
  return found;
}
function panelIsShare(panel) { return panel.figures.every((i) => data.figures[i].share); }

function axisTitle(index) {
  const figure = data.figures[index];
  return `${[figure.metric, figure.protocol, figure.series].filter(Boolean).join(", ")} over ${figure.axis}`;
}
// Returns the chart of one figure over an axis of its own: a line with a band for each group of runs.
function overAxis(index) {
  const figure = data.figures[index], rows = [], lines = [], series = [];
  const own = data.points.filter(([i, group]) => i === index && groupShown(data.groups[group]));
  own.forEach(([, place, points], i) => {
    const name = labelOf(data.groups[place]);
    if (i < 2 * COLOURS) series.push({ name, series: i });
    lines.push({ name, series: i, band: own.length <= COLOURS, thin: own.length > COLOURS, points: points.map(([x, y, low, high, n]) => ({ x, y, low, high,
      text: `${name}: ${digits(y)}${interval(low, high)} at ${digits(x)}, n = ${n}` })) });
    for (const [at, mean, low, high, n] of points) rows.push({ figure: figure.figure, ...data.groups[place].values, [figure.axis]: at, mean, low, high, n });
  });
  return { title: axisTitle(index), marks: [], lines, rows, series: lines.length > 2 * COLOURS ? [] : series, hover: "all",
    x: { of: lines.flatMap((line) => line.points.map((p) => p.x)), label: figure.axis }, y: { label: figure.metric, share: figure.share } };
}
// Returns the chart of a logged value over the steps: a line for each run, ticked ones alone if there are any.
function overSteps(name) {
  const index = data.logged.indexOf(name), ticked = tickedRuns(), lines = [], rows = [], series = [];
  for (const [i, run, steps, values] of data.curves) {
    if (i !== index || (ticked.length ? !ticked.includes(run) : !runShown(data.runs[run]))) continue;
    const own = data.runs[run], label = runLabel(own), number = lines.length;
    if (number < 2 * COLOURS) series.push({ name: label, series: number });
    lines.push({ name: label, series: number, thin: true, points: steps.map((x, k) => ({ x, y: values[k], text: `${label}: ${digits(values[k])} at batch ${x}` })) });
    steps.forEach((step, k) => rows.push({ run: own.name, seed: own.seed, step, [name]: values[k] }));
  }
  return { title: name, marks: [], lines, rows, series: lines.length > 2 * COLOURS ? [] : series, hover: "all",
    x: { of: lines.flatMap((line) => line.points.map((p) => p.x)), label: "batch" }, y: { label: name } };
}
// Returns a colour between two of the page's: 0 is the first, 1 the second.
function mixed(first, second, share) {
  const [a, b] = [first, second].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1).match(/../g).map((pair) => parseInt(pair, 16)));
  return `rgb(${a.map((value, i) => Math.round(value + share * (b[i] - value))).join(", ")})`;
}
// Draws a line through all settings for each group of runs, coloured by a figure; the darkest end is the largest.
function parallel(box, index) {
  const names = [...data.varying], groups = data.groups.map((group, i) => ({ group, i })).filter(({ group }) => groupShown(group));
  const value = new Map(data.means.filter((row) => row[0] === index).map((row) => [row[1], row[2]]));
  const drawn = groups.filter(({ i }) => value.has(i)), numbers = drawn.map(({ i }) => value.get(i));
  const width = Math.max(box.clientWidth, names.length * 70 + 70), height = 320, top = 34, bottom = height - 34;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0, "font-size": 12, "font-family": "system-ui, sans-serif",
    "aria-label": `Parallel coordinates of ${drawn.length} settings; arrow keys read them` });
  const axes = [...names.map((name) => ({ name, of: (group) => group.values[name] })), { name: data.figures[index].figure, of: (_, i) => value.get(i) }];
  const hits = [], labels = [], low = Math.min(...numbers), high = Math.max(...numbers);
  axes.forEach((axis, k) => {
    axis.at = 50 + (k * (width - 110)) / Math.max(axes.length - 1, 1);
    const own = drawn.map(({ group, i }) => axis.of(group, i));
    axis.scale = scaleOf(own.every(isNumber) ? own : own.map(String).sort(), bottom, top, 1);
    axis.texts = axis.scale.texts;
    root.append(svg("line", { x1: axis.at, x2: axis.at, y1: top, y2: bottom, stroke: "currentColor", opacity: 0.6 }));
    const text = svg("text", { x: axis.at, y: k % 2 ? 12 : 26, "text-anchor": k === 0 ? "start" : k === axes.length - 1 ? "end" : "middle", fill: "currentColor" }, cut(axis.name, 30));
    text.append(svg("title", {}, axis.name));
    root.append(text);
    const room = Math.ceil((axis.scale.ticks.length * 13) / (bottom - top));
    axis.scale.ticks.forEach(([at, label], t) => { if (t % room === 0) labels.push(svg("text", { x: axis.at - 5, y: at + 4, "text-anchor": "end", fill: "currentColor", "font-size": 11, stroke: "var(--paper)", "stroke-width": 3, "paint-order": "stroke", class: "halo" }, cut(label, 12))); });
  });
  const rows = [];
  for (const { group, i } of [...drawn].sort((a, b) => value.get(a.i) - value.get(b.i))) {
    const share = high > low ? (value.get(i) - low) / (high - low) : 1;
    const places = axes.map((axis) => [axis.at, axis.scale.place(axis.texts ? String(axis.of(group, i)) : axis.of(group, i))]);
    const text = `${digits(value.get(i))}: ${labelOf(group)}`;
    root.append(svg("path", { class: "line", d: `M${places.map((p) => p.map((v) => v.toFixed(1)).join(",")).join("L")}`, fill: "none", "stroke-width": share === 1 ? 3 : 1.4,
      stroke: mixed("--c5", "--c1", share), opacity: 0.35 + 0.65 * share, "data-text": text }));
    for (const [at, place] of places) hits.push({ at, place, text });
    rows.push({ ...group.values, [data.figures[index].figure]: value.get(i) });
  }
  root.append(...labels);
  box.replaceChildren(root);
  follow(root, hits, false);
  return rows;
}
