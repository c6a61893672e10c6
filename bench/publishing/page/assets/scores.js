// Charts of training: scores with a dot a seed, and how they were learned; and the roofline.

/** Groups of tasks to draw: those that the filters leave, or the task beside the timed rows. */
function taskGroups() {
  if (state.kind === "task") return groupsLeft().slice(0, 8);
  const { device } = state.filters;
  return GROUPS.map((group, g) => g)
    .filter((g) => GROUPS[g].kind === "task" && GROUPS[g].axes.task === state.scoreTask)
    .filter((g) => device === ALL || String(GROUPS[g].axes.device) === device)
    .slice(0, 1);
}

/** Scores of a task, a row an entry; null with fewer than two. */
function scoreChart(g, isFirst = false) {
  const group = GROUPS[g];
  const isSpan = Boolean(group.rungs);
  const isShare = !group.unit && !isSpan;
  const metric = METRIC.get(isSpan ? "span" : isShare ? "accuracy" : "bits_per_byte");
  const rows = rowsOf([g]).filter((row) => CONTENT.curves[row]);
  if (!metric || rows.length < 2) return null;
  const score = (row) => ROWS.number(metric.name, row);
  rows.sort((a, b) => (metric.better === "higher" ? score(b) - score(a) : score(a) - score(b)));
  const ends = (row) => endsOf(metric, row);
  const runs = rows.flatMap((row) => CONTENT.curves[row].map((run) => ({ row, ...run })));
  const axis = scoreAxis("x", isShare, runs.map((run) => run.score));
  const clip = (value) => Math.min(Math.max(...axis.domain), Math.max(Math.min(...axis.domain), axis.toAxis(value)));
  const words = (score, row) => (isShare ? `${shortNumber(100 * score)} %` : beyond(metric.name, score, row) || shortNumber(score));
  const points = runs.map((run) => ({
    name: ROWS.word("name", run.row),
    x: axis.toAxis(run.score),
    tip: `${ROWS.word("name", run.row)}, seed ${run.seed}: ${words(run.score, run.row)}`,
    ...look(ROWS.word("name", run.row)),
  }));
  const means = rows.map((row) => ({
    name: ROWS.word("name", row),
    x: axis.toAxis(score(row)),
    low: ends(row) ? clip(ends(row)[0]) : null,
    high: ends(row) ? clip(ends(row)[1]) : null,
    tip: `${ROWS.word("name", row)}: ${told(metric.name, row)} over ${ROWS.number("num_seeds", row)} seeds`,
    ...look(ROWS.word("name", row)),
  }));
  const chances = isSpan ? [] : rows.map((row) => ROWS.number("chance", row)).filter((value) => value !== null);
  const names = rows.map((row) => ROWS.word("name", row));
  const inside = chances.length > 0 && clip(chances[0]) === axis.toAxis(chances[0]);
  const room = roomFor([], isFirst);
  return {
    kind: "scores",
    values: {
      width: Math.max(120, room.width - Math.min(180, Math.max(...names.map(textWidth))) - 40),
      height: Math.max(120, 24 * rows.length),
      order: names,
      x_title: isShare ? "accuracy on unseen examples (%)" : isSpan ? `${metric.title} (${group.rung_of})` : group.unit,
      ...axis.holes,
    },
    data: { points, means, bars: means.filter(({ low }) => low !== null), rules: inside ? [{ dash: [4, 4], x: axis.toAxis(chances[0]), tip: `chance: ${words(chances[0])}` }] : [] },
    words: {
      id: "scores",
      title: `${capitalised(metric.title)}: ${group.axes.task}`,
      note: `Each dot is a seed, the bar their mean with the 95 % interval of a typical seed, or their median without one where some failed${inside ? ", the dashed line chance" : ""}.${isFirst ? "" : ` ${group.words}`}`,
    },
    numbers: {
      header: ["row", "score", "seeds"],
      rows: rows.map((row) => [ROWS.word("name", row), told(metric.name, row), CONTENT.curves[row].map((run) => words(run.score, row)).join(", ")]),
    },
  };
}

function curveChart(g) {
  const group = GROUPS[g];
  const factor = group.unit ? 1 : 0.01;
  const rows = rowsOf([g]).filter((row) => CONTENT.curves[row]).slice(0, MAX_LINES);
  const line = (name, run) => run.steps.map((step, i) => ({ name, run: `${name} ${run.seed}`, x: step, y: run.validation[i] / factor, ...look(name) }));
  const lines = rows
    .flatMap((row) => CONTENT.curves[row].map((run) => line(ROWS.word("name", row), run).filter(({ x }) => x > 0)))
    .filter((points) => points.length > 1);
  const steps = lines.flat().map(({ x }) => x);
  return plainChart(lines, [], {
    id: "curves",
    title: `Learning curves: ${group.axes.task}`,
    note: `Each line is a seed. ${group.words}`,
    x: { title: "training steps", kind: "log", domain: [Math.min(...steps), Math.max(...steps)] },
    y: { title: group.unit || "validation accuracy (%)", least: group.unit ? null : 0 },
    numbers: {
      header: ["row and seed", "steps", "last validation score"],
      rows: lines.map((points) => [points[0].run, String(points.at(-1).x), shortNumber(points.at(-1).y)]),
    },
  });
}

function rooflineChart() {
  const group = groupsLeft()[0];
  const roof = group === undefined ? null : GROUPS[group].roof;
  if (!roof) return null;
  const rows = rowsOf([group]).filter((row) => ROWS.number("flops_per_s", row) > 0 && ROWS.number("arithmetic_intensity", row) > 0);
  if (!rows.length) return null;
  const metric = METRIC.get("flops_per_s");
  const [factor, unit] = unitFor(metric, rows.map((row) => ROWS.number("flops_per_s", row)));
  const points = rows.map((row) => ({
    name: ROWS.word("name", row),
    row,
    x: ROWS.number("arithmetic_intensity", row),
    y: ROWS.number("flops_per_s", row) / factor,
    tip: `${ROWS.word("name", row)}: ${told("flops_per_s", row)}, ${told("roofline_fraction", row)} of the roof`,
    ...look(ROWS.word("name", row)),
  }));
  const peak = roof.flops_per_s / factor;
  const xDomain = logDomain([...points.map((p) => p.x), ...roof.bytes_per_s.map(([, rate]) => roof.flops_per_s / rate)], 2);
  const yDomain = [Math.min(...points.map((p) => p.y)) / 2, peak * 2];
  const room = roomFor([]);
  const { height } = room;
  const x = scaleOf("log", xDomain, 0, room.plain);
  const y = scaleOf("log", yDomain, height, 0);
  const roofs = roof.bytes_per_s.flatMap(([words, rate]) => {
    const knee = roof.flops_per_s / rate;
    const tip = `${words}: ${shortNumber(rate / 1e9)} GB/s`;
    return [[xDomain[0], (xDomain[0] * rate) / factor], [knee, peak], [xDomain[1], peak]].map(([at, height_]) => ({ roof: words, x: at, y: height_, tip }));
  });
  const roofNames = roof.bytes_per_s.map(([words, rate]) => {
    const at = Math.max(xDomain[0], (yDomain[0] * factor) / rate) * 1.15;
    return { name: words, x: at, y: (at * rate) / factor };
  });
  const top = `products: ${shortNumber(peak)} ${unit}`;
  roofNames.push({ name: top, x: x.value(room.plain - textWidth(top)), y: peak });
  const written = roofNames.map((one) => textBox(one.name, x.pixel(one.x), y.pixel(one.y) - 7)); // 7 above its roof
  const places = spots(points.map((p) => [x.pixel(p.x), y.pixel(p.y)]), points.map((p) => p.name), room.plain, height, written);
  const labels = points.map((p, i) => ({ ...p, label_x: x.value(places[i].x), label_y: y.value(places[i].y), side: places[i].side }));
  return {
    kind: "roofline",
    values: {
      width: room.plain,
      height,
      x_type: "log",
      x_title: "FLOPs per byte that must be moved",
      x_domain: xDomain,
      x_ticks: logTicks(...xDomain),
      x_format: ",~r",
      y_type: "log",
      y_title: `${metric.title} (${unit})`,
      y_domain: yDomain,
      y_ticks: logTicks(...yDomain),
      y_format: ",~r",
    },
    data: { points, labels, roofs, roof_names: roofNames },
    words: { id: "roofline", title: "Roofline", note: `Peak rates of this machine, measured by attnbench calibrate. ${GROUPS[group].words}, ${GROUPS[group].axes.length.toLocaleString("en-US")}` },
    numbers: { header: ["row", "FLOPs per byte", metric.title, "of the roof"], rows: points.map((p) => [p.name, shortNumber(p.x), told("flops_per_s", p.row), told("roofline_fraction", p.row)]) },
  };
}

/** What the picture at the top can be: a word for its button, and how its chart is made. */
function picturesHere() {
  if (state.kind === "task") return taskGroups().slice(0, 1).map((g) => ["scores", GROUPS[g].rungs ? "Spans" : "Accuracy", () => scoreChart(g, true)]);
  return [
    ["speed-up", METRIC.has("speedup_over") ? capitalised(titleOf(METRIC.get("speedup_over"), groupsLeft())) : "", () => lineChart("speedup_over", "speed-up", true)],
    ["pareto-latency_s", "Accuracy against latency", () => paretoChart("latency_s", "pareto-latency_s", true)],
  ];
}

/** The sentence of this view, and the picture above the table with the buttons that switch it. */
async function showPicture() {
  const group = GROUPS[groupsLeft()[0]];
  document.getElementById("headline").textContent = group ? group.headline : "";
  document.getElementById("setting").textContent = group ? group.words : "";
  const charts = picturesHere().map(([id, words, make]) => ({ id, words, chart: make() })).filter(({ chart }) => chart);
  const shown = charts.find(({ id }) => id === state.picture) || charts[0];
  const choose = (id) => () => { state.picture = id; writeFragment(); showCharts(); };
  const buttons = charts.map(({ id, words }) => element("button", { type: "button", id: `picture-${id}`, "aria-pressed": String(id === shown.id), onclick: choose(id) }, words));
  keepingFocus(() => document.getElementById("pictures").replaceChildren(...buttons));
  const place = document.getElementById("picture");
  place.replaceChildren();
  if (shown) await drawFigure(place, shown.chart);
}

/** Draw all that the state asks for; a newer call stops an older one. */
async function showCharts() {
  const mine = ++drawing;
  const place = document.getElementById("charts");
  await showPicture();
  if (mine !== drawing) return;
  place.replaceChildren();
  const wanted = [];
  if (state.kind !== "task") {
    wanted.push(...["latency_s", "peak_memory_bytes", "flops"].map((name) => () => lineChart(name, name)));
    wanted.push(...["peak_memory_bytes", "flops", "state_bytes"].map((cost) => () => paretoChart(cost, `pareto-${cost}`)));
    wanted.push(rooflineChart);
  }
  taskGroups().forEach((g, i) => {
    if (state.kind !== "task" || i) wanted.push(() => scoreChart(g)); // the first is the picture
    wanted.push(() => curveChart(g), ...Object.keys(LOOKED).map((what) => () => filteredChart(g, what)));
  });
  wanted.push(entropyChart);
  for (const make of wanted) {
    const chart = make();
    if (chart) await drawFigure(place, chart);
    if (mine !== drawing) return;
  }
  document.getElementById("charts-part").hidden = !place.childElementCount;
  place.dataset.drawn = String(mine);
}
