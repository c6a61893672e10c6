// The charts of the rows that the filters leave. Python wrote the specifications; here they get
// numbers, axes and places for names.

const MAX_LINES = 28; // as many as colours and dashes tell apart
const ERROR_CONSTANT = 0.5; // percent of errors below which an axis of scores is linear, as in charts/accuracy_axis.py
let drawing = 0;

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function isDark() {
  return css("--is-dark") === "1";
}

/** A colour of the static pictures, light enough for a dark page. */
function inTheme(colour) {
  if (!isDark()) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const light = (0.3 * parts[0] + 0.6 * parts[1] + 0.1 * parts[2]) / 255;
  const mix = light < 0.1 ? 0.95 : light < 0.45 ? 0.42 : 0;
  return `#${parts.map((p) => Math.round(p + (255 - p) * mix).toString(16).padStart(2, "0")).join("")}`;
}

function look(name) {
  const [colour, dash, thickness, shape] = CONTENT.styles[name] || ["#888888", [1, 0], 1.8, "circle"];
  return { colour: inTheme(colour), dash, thickness, shape };
}

/** A specification with its holes filled, strings that begin with a dollar sign: `filled` of charts/pictures.py. */
function filled(part, values, data) {
  if (typeof part === "string") return part.startsWith("$") ? values[part.slice(1)] : part;
  if (Array.isArray(part)) return part.filter((one) => !one?.data || data[one.data.name]?.length).map((one) => filled(one, values, data));
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, one]) => [key, filled(one, values, data)]).filter(([, one]) => one !== undefined));
}

/** Colours of the page, for the holes that every specification has. */
function theme() {
  const colours = ["ink", "paper", "faint", "soft", "grid", "font"].map((name) => [name, css(`--${name}`)]);
  return { background: "transparent", ...Object.fromEntries(colours) };
}

/** Points along a logarithmic or linear axis to pixels. */
function scaleOf(kind, [low, high], from, to) {
  const ways = {
    log: [Math.log, Math.exp],
    linear: [(value) => value, (value) => value],
    symlog: [(value) => Math.sign(value) * Math.log1p(Math.abs(value) / ERROR_CONSTANT), (value) => Math.sign(value) * ERROR_CONSTANT * Math.expm1(Math.abs(value))],
  };
  const [at, back] = ways[kind];
  const share = (value) => (at(value) - at(low)) / (at(high) - at(low) || 1);
  const pixel = (value) => from + share(value) * (to - from);
  const value = (place) => back(at(low) + ((place - from) / (to - from)) * (at(high) - at(low)));
  return { pixel, value };
}

function logDomain(values, by = 1.25) {
  return [Math.min(...values) / by, Math.max(...values) * by];
}

/** Room for a chart: in the picture at the top of the page, which has no axis titles, or below it. */
function roomFor(names, isFirst) {
  const whole = Math.min(document.getElementById(isFirst ? "picture" : "charts").clientWidth, 1240);
  const width = isFirst ? whole : (whole > 900 ? (whole - 28) / 2 : whole) - 28;
  const label = Math.max(0, ...names.map(textWidth)) + 22;
  const axis = isFirst ? 48 : 74;
  return { width, plot: Math.max(120, width - axis - label), plain: Math.max(120, width - axis - 10), height: isFirst ? (whole > 600 ? 364 : 214) : 300 };
}

/** Draw a chart into a place: a figure with a caption, and its numbers as a table. */
async function drawFigure(place, { kind, values, data, words, numbers }) {
  const isFirst = place.id === "picture";
  const plot = element("div");
  const note = element("span", { class: "fine" }, words.note);
  const box = element(
    "figure",
    { "data-chart": words.id },
    isFirst ? null : element("figcaption", {}, element("strong", {}, words.title), note),
    element("div", { class: "plot", role: "img", "aria-label": `${words.title}. ${words.note}. The numbers are in the table below.` }, plot),
    element("details", {}, element("summary", {}, "The numbers ", isFirst ? note : null), plainTable(words.title, numbers.header, numbers.rows)),
  );
  place.append(box);
  const bare = isFirst ? { y_title: null } : {};
  const spec = filled(SPECIFICATIONS[kind], { ...theme(), ...values, ...bare }, data);
  spec.datasets = data;
  // The interpreter (`ast`) computes expressions without eval, which the policy forbids.
  await vegaEmbed(plot, spec, { ast: true, actions: false, renderer: "svg" });
}

/** Lines of which one hides the other, in groups, the longest first: they are named together. */
function together(lines, y) {
  const groups = [];
  const hides = (long, short) => short.length > 1 && short.every((p) => long.some((q) => q.x === p.x && Math.abs(y.pixel(q.y) - y.pixel(p.y)) < 1.5));
  for (const line of [...lines].sort((a, b) => b.length - a.length)) {
    const over = groups.find(([long]) => hides(long, line));
    if (over) over.push(line);
    else groups.push([line]);
  }
  return groups.map((own) => own[0].map((point) => ({ ...point, name: own.map(([{ name }]) => name).join(", ") })));
}

/** Names at the right of lines' ends, no two in one place; of lines that end early, off the others. */
function endLabels(lines, x, y, height, plot) {
  const ends = lines.map((line) => line[line.length - 1]).sort((a, b) => y.pixel(a.y) - y.pixel(b.y));
  const late = ends.filter((end) => x.pixel(end.x) > plot - 4);
  const early = ends.filter((end) => !late.includes(end));
  const places = spread(late.map((end) => y.pixel(end.y)), LINE_HEIGHT, 0, height);
  const corners = lines.map((line) => line.map((p) => [x.pixel(p.x), y.pixel(p.y)]));
  const spotsOfEarly = early.map((end) => ({ x: x.pixel(end.x) + 10, y: y.pixel(end.y), name: end.name }));
  const heights = offTheLines(spotsOfEarly, corners, height, late.map((end, i) => textBox(end.name, plot + 16, places[i])));
  const placed = (end, px, py) => ({ ...end, label_x: x.value(px), label_y: y.value(py), side: "right" });
  return [
    ...late.map((end, i) => placed(end, plot + 16, places[i])),
    ...early.map((end, i) => placed(end, spotsOfEarly[i].x, heights[i])),
  ];
}

/** How scores run along an axis: shares by what is missing to all, in percent; others plainly. */
function scoreAxis(letter, isShare, values) {
  const slack = (Math.max(...values) - Math.min(...values)) * 0.06 || 0.5;
  const axis = (scale, domain, ticks, labels, more) => ({
    toAxis: (score) => (isShare ? 100 - 100 * score : score),
    kind: scale,
    domain,
    holes: Object.fromEntries(Object.entries({ type: scale, domain, ticks, labels, format: "~r", ...more }).map(([name, value]) => [`${letter}_${name}`, value])),
  });
  if (!isShare) {
    const domain = [Math.min(...values) - slack, Math.max(...values) + slack];
    return axis("linear", domain, linearTicks(...domain), "datum.label", { zero: false });
  }
  const missing = values.map((score) => 100 - 100 * score);
  const domain = [Math.min(100, Math.max(...missing) * 1.1 + 0.1), Math.max(-0.1, Math.min(...missing) * 0.85 - 0.1)];
  return axis("symlog", domain, missingTicks(domain[1], domain[0]), "format(100 - datum.value, '~r')", { constant: ERROR_CONSTANT });
}

/** Of each group, everything that it was measured at but the length. */
const SETTINGS = GROUPS.map(({ axes }) => JSON.stringify({ ...axes, length: 0 }));

/** Groups that differ in their length only, of the setting that comes first. */
function oneSetting(groups) {
  return groups.filter((g) => SETTINGS[g] === SETTINGS[groups[0]]);
}

function noteFor(groups, more = "") {
  const others = new Set(groupsLeft("length").map((g) => SETTINGS[g])).size - 1;
  const rest = others > 0 ? `; ${others} more settings pass the filters and are not drawn` : "";
  return `${GROUPS[groups[0]].words}${more}${rest}`;
}

/** A metric against length, a line a row; null where fewer than two lengths are left. */
function lineChart(metricName, id, isFirst = false) {
  const groups = oneSetting(groupsLeft("length"));
  const metric = METRIC.get(metricName);
  if (groups.length < 2 || !metric) return null;
  const isSpeedup = metricName === "speedup_over";
  if (isSpeedup && new Set(groups.flatMap((g) => GROUPS[g].references)).size !== 1) return null; // they do not compare
  const lines = new Map();
  for (const row of rowsOf(groups)) {
    const value = ROWS.number(metricName, row);
    if (!(value > 0)) continue; // a logarithmic axis has no zero
    if (isSpeedup && (isControl(row) || ROWS.number("is_unranked", row))) continue;
    const name = ROWS.word("name", row);
    if (!lines.has(name)) lines.set(name, []);
    lines.get(name).push({ row, x: GROUPS[ROWS.number("group", row)].axes.length, value, ends: endsOf(metric, row) });
  }
  const order = isSpeedup ? -1 : 1; // the fastest first
  const kept = [...lines].sort((a, b) => order * (a[1].at(-1).value - b[1].at(-1).value)).slice(0, MAX_LINES);
  const all = kept.flatMap(([, points]) => points);
  const lengths = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);
  if (lengths.length < 2) return null;
  const [factor, unit] = unitFor(metric, all.map(({ value }) => value));
  const points = kept.map(([name, line]) =>
    line.sort((a, b) => a.x - b.x).map(({ row, x, value, ends }) => ({
      name,
      run: name,
      x,
      y: value / factor,
      low: ends ? ends[0] / factor : null,
      high: ends ? ends[1] / factor : null,
      tip: `${name}, ${x.toLocaleString("en-US")}: ${told(metricName, row)}`,
      ...look(name),
    })),
  );
  const xDomain = [lengths[0], lengths.at(-1)];
  const ends = points.flat().flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
  const hasFoot = isSpeedup && GROUPS[groups[0]].crossings.length > 0; // room for lengths below all lines
  const yDomain = logDomain(isSpeedup ? [1, ...ends, ...(hasFoot ? [Math.min(1, ...ends) / 1.4] : [])] : ends);
  const height = Math.max(roomFor([], isFirst).height, (LINE_HEIGHT + 1) * kept.length);
  const y = scaleOf("log", yDomain, height, 0);
  const named = together(points, y);
  const room = roomFor(named.map(([{ name }]) => name), isFirst);
  const x = scaleOf("log", xDomain, 0, room.plot);
  const left = lines.size - kept.length;
  const isModel = state.kind === "model";
  const crossings = isSpeedup ? crossingsOf(groups, points, x, yDomain[0]) : [];
  const words = titleOf(metric, groups);
  return {
    kind: "lines",
    values: {
      width: room.plot,
      height,
      x_type: "log",
      x_base: 2,
      x_title: isModel ? "Image size (pixels)" : "Sequence length (tokens)",
      x_domain: xDomain,
      x_ticks: lengths,
      x_format: ",d",
      y_type: "log",
      y_title: isSpeedup ? capitalised(words) : `${words} (${unit})`,
      y_domain: yDomain,
      y_ticks: logTicks(...yDomain),
      y_format: ",~r",
      y_labels: isSpeedup ? "datum.label + 'x'" : "datum.label",
    },
    data: {
      corners: points.flat(),
      points: points.flat(),
      bands: points.flat().filter(({ low }) => low !== null),
      labels: endLabels(named, x, y, height, room.plot),
      crossings,
      rules: isSpeedup && yDomain[0] <= 1 && yDomain[1] >= 1 ? [{ y: 1, dash: [1, 0] }] : [],
    },
    words: {
      id,
      title: [`${capitalised(words)} against ${isModel ? "image size" : "sequence length"}`, directionOf(GROUPS[groups[0]])].filter(Boolean).join(", "),
      note: isFirst
        ? [crossings.length ? `Diamonds mark from which length on a row is faster than ${GROUPS[groups[0]].references[0]}.` : "", left ? `The first ${kept.length} of ${lines.size}.` : ""].join(" ")
        : noteFor(groups, left ? `; the first ${kept.length} of ${lines.size}` : ""),
    },
    numbers: {
      header: ["row", ...lengths.map((length) => length.toLocaleString("en-US"))],
      rows: kept.map(([name, line]) => [name, ...lengths.map((l) => { const p = line.find(({ x }) => x === l); return p ? told(metricName, p.row) : ""; })]),
    },
  };
}

/** Lines of points in rising order, several to a name perhaps; nothing where none has two points. */
function plainChart(lines, rules, { id, title, note, x, y, numbers }) {
  if (!lines.some((line) => line.length > 1)) return null;
  const all = lines.flat();
  const names = [...new Set(lines.map((line) => line[0].name))];
  const longest = names.map((name) => lines.filter((line) => line[0].name === name).sort((a, b) => b.at(-1).x - a.at(-1).x)[0]);
  const room = roomFor(names);
  const height = Math.max(300, (LINE_HEIGHT + 1) * names.length);
  const ys = [...all.map((point) => point.y), ...rules.map((rule) => rule.y)];
  const slack = 0.05 * (Math.max(...ys) - Math.min(...ys)) || 1;
  const yDomain = [Math.min(y.least ?? Infinity, Math.min(...ys) - (y.least === null ? slack : 0)), Math.max(...ys) + slack];
  const places = endLabels(longest, scaleOf(x.kind, x.domain, 0, room.plot), scaleOf("linear", yDomain, height, 0), height, room.plot);
  const shown = [...new Set(all.map((point) => point.x))].sort((a, b) => a - b);
  return {
    kind: "lines",
    values: {
      width: room.plot,
      height,
      x_title: x.title,
      x_type: x.kind,
      ...(x.kind === "linear" ? { x_zero: false } : {}),
      x_domain: x.domain,
      x_ticks: x.kind === "log" ? logTicks(...x.domain) : linearTicks(...x.domain),
      x_format: ",~r",
      y_type: "linear",
      y_zero: false,
      line_opacity: 0.8,
      y_title: y.title,
      y_domain: yDomain,
      y_ticks: linearTicks(...yDomain),
      y_format: "~r",
    },
    data: { corners: all, labels: places, rules },
    words: { id, title, note },
    numbers: numbers || {
      header: ["row", ...shown.map(shortNumber)],
      rows: lines.map((line) => [line[0].name, ...shown.map((at) => { const p = line.find((point) => point.x === at); return p ? shortNumber(p.y) : ""; })]),
    },
  };
}

/** Where rows overtake the reference, as Python concluded it; a length is written where there is room. */
function crossingsOf(groups, lines, x, foot) {
  const drawn = new Set(lines.map(([{ name }]) => name));
  const found = GROUPS[groups[0]].crossings.filter(({ name }) => drawn.has(name)).sort((a, b) => a.length - b.length);
  let free = -Infinity;
  return found.map(({ name, length, words }) => {
    const label = Math.round(length).toLocaleString("en-US");
    const half = textWidth(label) / 2;
    const fits = x.pixel(length) - half >= free;
    if (fits) free = x.pixel(length) + half;
    return { x: length, y: 1, foot, above: foot, label: fits ? label : "", tip: `${name} overtakes the reference at ${words} tokens`, ...look(name) };
  });
}

/** Points of which every cheaper one is behind, and none that costs as much is ahead: cheapest first. */
function paretoFront(points, isAhead) {
  const isOn = (point) => points.every((other) => (other.x < point.x ? isAhead(point, other) : other.x > point.x || !isAhead(other, point)));
  return points.filter(isOn).sort((a, b) => a.x - b.x || a.y - b.y);
}

/** A score against a cost, a row a point; null with fewer than two. */
function paretoChart(costName, id, isFirst = false) {
  const cost = METRIC.get(costName);
  const group = groupsLeft()[0];
  if (group === undefined || !cost || !state.scoreTask) return null;
  const scoreName = rowsOf([group]).some((row) => valueOf("bits_per_byte", row) !== null) ? "bits_per_byte" : "accuracy";
  const score = METRIC.get(scoreName);
  // The state that a task's models keep stands in its row.
  const costRow = (row) => (costName === "state_bytes" ? scoreRow(row) : row);
  const costOf = (row) => (costRow(row) === null ? null : ROWS.number(costName, costRow(row)));
  const isShown = (row) => !isFirst || !isControl(row);
  const rows = rowsOf([group]).filter((row) => isShown(row) && costOf(row) > 0 && valueOf(scoreName, row) !== null);
  if (!score || rows.length < 2) return null;
  const [factor, unit] = unitFor(cost, rows.map(costOf));
  const isShare = scoreName === "accuracy";
  const axis = scoreAxis("y", isShare, rows.map((row) => valueOf(scoreName, row)));
  const clip = (value) => Math.min(Math.max(...axis.domain), Math.max(Math.min(...axis.domain), axis.toAxis(value)));
  const points = rows.map((row) => {
    const ends = endsOf(score, scoreRow(row));
    const name = ROWS.word("name", row);
    return {
      name,
      row,
      x: costOf(row) / factor,
      y: axis.toAxis(valueOf(scoreName, row)),
      low: ends ? clip(ends[0]) : null,
      high: ends ? clip(ends[1]) : null,
      isApart: isControl(row) || ROWS.number("is_unranked", row) || ROWS.number("is_unranked", scoreRow(row)),
      tip: `${name}: ${told(costName, costRow(row))}, ${told(scoreName, scoreRow(row))}`,
      ...look(name),
    };
  });
  // By ranks of the scores, so that chance puts no row on the front and takes none off it.
  const settled = (point) => GROUPS[ROWS.number("group", scoreRow(point.row))].ahead?.[point.name];
  const ranked = points.filter((point) => !point.isApart && settled(point));
  const front = ranked.length > 1 ? paretoFront(ranked, (point, other) => settled(point).includes(other.name)) : [];
  const room = roomFor([], isFirst);
  const { height } = room;
  const xDomain = logDomain(points.map((p) => p.x), 1.5);
  const x = scaleOf("log", xDomain, 0, room.plain);
  const y = scaleOf(axis.kind, axis.domain, height, 0);
  const places = spots(points.map((p) => [x.pixel(p.x), y.pixel(p.y)]), points.map((p) => p.name), room.plain, height);
  const labels = points.map((p, i) => ({ ...p, label_x: x.value(places[i].x), label_y: y.value(places[i].y), side: places[i].side }));
  const { length } = GROUPS[group].axes;
  const place = costName === "state_bytes" ? "of the task's models" : `at ${length.toLocaleString("en-US")}: ${GROUPS[group].words}`;
  const [first, ...others] = front.map(({ name }) => name);
  const ahead = others.length ? "Dashed: the Pareto front, rows of which every cheaper one is behind" : `Only ${first} has every cheaper row behind it`;
  return {
    kind: "scatter",
    values: {
      width: room.plain,
      height,
      x_type: "log",
      x_title: `${cost.title} (${unit})`,
      x_domain: xDomain,
      x_ticks: logTicks(...xDomain),
      x_format: ",~r",
      y_title: `${score.title} on ${state.scoreTask} (${score.scales[0][1] || "bits"})`,
      ...axis.holes,
    },
    data: { points, bars: points.filter(({ low }) => low !== null), labels, front: front.length > 1 ? front : [] },
    words: {
      id,
      title: [`${capitalised(score.title)} on ${state.scoreTask} against ${cost.title}`, directionOf(GROUPS[group])].filter(Boolean).join(", "),
      note: isFirst
        ? `${capitalised(score.title)} on ${state.scoreTask}, in ${score.scales[0][1] || "bits"}. ${others.length ? "Every cheaper row is behind those on the dashed line." : ""}`
        : `${capitalised(cost.title)} ${place}.${first ? ` ${ahead}; controls, and rows that may not be ranked, are left out` : ""}`,
    },
    numbers: {
      header: ["row", cost.title, score.title, "on the front"],
      rows: points.map((p) => [p.name, told(costName, costRow(p.row)), told(scoreName, scoreRow(p.row)), front.includes(p) ? "yes" : ""]),
    },
  };
}
