// Two mechanisms, or two sweeps, side by side.

const SWEEPS = reader(CONTENT.sweeps.rows);

function select(label, id, options, value, onchange) {
  const box = element("select", { id, onchange: (event) => onchange(event.target.value) });
  for (const [key, words] of options) box.append(element("option", { value: key, selected: key === value }, words));
  return element("label", {}, label, " ", box);
}

/** How likely the first of two names is ahead in a group, in words; by resampled rounds or seeds. */
function aheadWords(group, first, second) {
  if (!group.wins) return "";
  const { names, ahead } = group.wins;
  const [i, j] = [names.indexOf(first), names.indexOf(second)];
  if (i < 0 || j < 0 || i === j) return "";
  const [low, high] = [Math.min(i, j), Math.max(i, j)];
  let at = 0;
  for (let row = 0; row < low; row++) at += names.length - 1 - row;
  const share = ahead[at + high - low - 1];
  return `${i < j ? share : 100 - share} %`;
}

/** Groups that both chosen names are in, with the row of each. */
function sharedGroups() {
  const byGroup = new Map();
  for (const side of ["a", "b"]) {
    for (let row = 0; row < ROWS.count; row++) {
      if (ROWS.word("name", row) !== state[side]) continue;
      const g = ROWS.number("group", row);
      byGroup.set(g, { ...byGroup.get(g), [side]: row });
    }
  }
  return [...byGroup].filter(([, { a, b }]) => a !== undefined && b !== undefined).sort(([g], [h]) => g - h);
}

function mechanismsTable(both) {
  const rows = [];
  const timed = both.map(([g]) => g).filter((g) => GROUPS[g].kind === state.kind && state.kind !== "task");
  const words = differenceOf(timed);
  for (const [g, { a, b }] of both) {
    const group = GROUPS[g];
    if (!timed.includes(g) && group.kind !== "task") continue;
    const setting = group.kind === "task" ? group.words : words(g);
    const names = group.kind === "task" ? ["accuracy", "span", "bits_per_byte"] : ["speedup_over", "latency_s", "peak_memory_bytes", "state_bytes", "flops"];
    for (const metric of names.map((name) => METRIC.get(name)).filter(Boolean)) {
      const [left, right] = [a, b].map((row) => ROWS.number(metric.name, row));
      if (left === null && right === null) continue;
      const isKnown = left && right && ![[left, a], [right, b]].some(([value, row]) => beyond(metric.name, value, row));
      const ratio = isKnown ? `${shortNumber(left / right)}x` : "";
      const words = (row) => told(metric.name, row) || statusWords(ROWS.word("status", row));
      const isRanked = ["speedup_over", "accuracy", "span", "bits_per_byte"].includes(metric.name);
      rows.push([setting, titleOf(metric, [g]), words(a), words(b), ratio, isRanked ? aheadWords(group, state.a, state.b) : ""]);
    }
  }
  if (!rows.length) return element("p", {}, "No setting has both.");
  const like = timed.length ? `, in settings such as ${GROUPS[timed[0]].words}` : "";
  return plainTable(`${state.a} and ${state.b}${like}`, ["setting", "metric", state.a, state.b, "first / second", "first is ahead"], rows);
}

function sweepsTable() {
  const byKey = new Map();
  for (let row = 0; row < SWEEPS.count; row++) {
    const sweep = SWEEPS.word("sweep", row);
    const side = sweep === state.before ? "before" : sweep === state.after ? "after" : null;
    if (side) byKey.set(SWEEPS.word("key", row), { ...byKey.get(SWEEPS.word("key", row)), [side]: row });
  }
  const latency = METRIC.get("latency_s");
  const rows = [];
  for (const { before, after } of byKey.values()) {
    if (before === undefined || after === undefined) continue;
    const name = [before, after].some((row) => SWEEPS.number("value", row) !== null) ? "value" : "score";
    const [old, now] = [before, after].map((row) => SWEEPS.number(name, row));
    const words = (row) => {
      const value = SWEEPS.number(name, row);
      if (value === null) return statusWords(SWEEPS.word("status", row));
      if (name === "score") return shortNumber(value);
      const unit = unitFor(latency, [value]);
      return `${inUnit(value, unit)} ${unit[1]}`;
    };
    rows.push([SWEEPS.word("cell", before), words(before), words(after), old && now ? `${shortNumber(now / old)}x` : ""]);
  }
  if (!rows.length) return element("p", {}, "No cell is in both.");
  return plainTable(
    "Latency or score in two sweeps. They ran at different times: attnbench regress decides what changed.",
    ["cell", state.before, state.after, "second / first"],
    rows,
  );
}

function showCompare() {
  const names = [...new Set(CONTENT.rows.words.name ? CONTENT.rows.words.name.vocabulary.slice(1) : [])].sort();
  const choose = (side) => (value) => { state[side] = value; writeFragment(); keepingFocus(showCompare); };
  const options = [["", "choose"], ...names.map((name) => [name, name])];
  const place = document.getElementById("compare");
  const parts = [element("p", { class: "pair" }, select("Mechanism", "compare-a", options, state.a, choose("a")), select("and", "compare-b", options, state.b, choose("b")))];
  if (state.a && state.b) {
    const both = sharedGroups();
    parts.push(mechanismsTable(both), ...both.map(([g, { a, b }]) => answersPart(g, a, b)).filter(Boolean));
  }
  const { names: sweeps, commits, days } = CONTENT.sweeps;
  if (sweeps.length > 1) {
    const said = [["", "choose"], ...sweeps.map((sweep) => [sweep, `${sweep} (${days[sweep].replace("T", " ")}, ${commits[sweep]})`])];
    parts.push(element("p", { class: "pair" }, select("Sweep", "compare-before", said, state.before, choose("before")), select("and", "compare-after", said, state.after, choose("after"))));
    if (state.before && state.after) parts.push(sweepsTable());
    if (CONTENT.sweeps.num_left_out) parts.push(element("p", { class: "fine" }, `Of cells that several sweeps have, ${CONTENT.sweeps.num_left_out.toLocaleString("en-US")} records are not on this page; they are in table.csv.`));
  }
  place.replaceChildren(...parts);
}
