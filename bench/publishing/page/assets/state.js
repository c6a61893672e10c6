// What the reader has chosen. It lives in the fragment of the address, so a link shows the same view.

const KINDS = { speed: "Speed and memory", task: "Task accuracy", model: "Whole models" };
// Always there, in this order; the other axes of groups follow where they have several values.
const FIRST_AXES = ["device", "dtype", "mode", "scope", "causal", "length", "task"];
const TITLES = {
  length: "Length",
  causal: "Direction",
  dtype: "Dtype",
  num_threads: "Threads",
  method_version: "Method",
  compile: "Compiler",
  batch_size: "Batch",
  num_heads: "Heads",
  head_dim: "Head dim",
};
const ALL = "*";

const WORDS = ["scoreTask", "least", "search", "picture", "intervals", "open", "a", "b", "before", "after"]; // of the state, as they are

const state = {};

/** Title of an axis. */
function axisTitle(name) {
  if (name === "length" && state.kind === "model") return "Image size";
  return TITLES[name] || capitalised(name).replaceAll("_", " ");
}

/** Words of a value on an axis. */
function valueWords(axis, value) {
  if (axis === "machine") return CONTENT.heading.machines[Number(value)];
  if (axis === "length" && value !== ALL) return Number(value).toLocaleString("en-US");
  if (axis === "causal" && value !== ALL) return value === "true" ? "causal" : "bidirectional";
  return value === "null" ? "as queries" : value;
}

/** Direction of a timed group, in words; empty for a model or a task. */
function directionOf({ axes }) {
  return "causal" in axes ? valueWords("causal", String(axes.causal)) : "";
}

/** Kinds of which there are rows. */
const KINDS_HERE = Object.keys(KINDS).filter((kind) => GROUPS.some((group) => group.kind === kind));

/** Labels of the tasks that were trained. */
const TASKS = [...new Set(GROUPS.filter((g) => g.kind === "task").map((g) => g.axes.task))];

/** A function of one word that is computed once for each. */
function remembered(make) {
  const known = new Map();
  return (word) => {
    if (!known.has(word)) known.set(word, make(word));
    return known.get(word);
  };
}

/** The value of a group on an axis, as the text that the address has. */
function axisValue(group, axis) {
  return axis in group.axes ? String(group.axes[axis]) : null;
}

/** Whether a task was trained in several ways; tasks always differ from each other. */
function hasSeveralSettings(groups) {
  const pairs = new Set(groups.map(({ axes }) => `${axes.task} ${axes.settings}`));
  return pairs.size > new Set(groups.map(({ axes }) => axes.task)).size;
}

/** Axes that groups of a kind differ in, those that are always shown first. */
const axesOf = remembered((kind) => {
  const groups = GROUPS.filter((group) => group.kind === kind);
  const names = [...new Set([...FIRST_AXES, ...groups.flatMap((group) => Object.keys(group.axes))])];
  return names.filter((name) => {
    if (name === "settings" && !hasSeveralSettings(groups)) return false;
    const values = new Set(groups.map((group) => axisValue(group, name)));
    return values.size > 1 || (FIRST_AXES.includes(name) && !values.has(null) && values.size);
  });
});

/** Words of a group, among others of its kind: what they differ in, with the axis where it needs a name. */
function differenceOf(groups) {
  const axes = groups.length ? axesOf(GROUPS[groups[0]].kind) : [];
  const varied = axes.filter((axis) => new Set(groups.map((g) => axisValue(GROUPS[g], axis))).size > 1);
  const name = (axis) => (FIRST_AXES.includes(axis) ? "" : `${axisTitle(axis).toLowerCase()} `);
  return (g) => varied.map((axis) => `${name(axis)}${valueWords(axis, axisValue(GROUPS[g], axis))}`).join(" · ") || GROUPS[g].words;
}

/** The view of a fresh page, or of another kind. */
function resetState(kind = KINDS_HERE[0]) {
  const filters = {};
  if (kind) {
    const group = GROUPS.find((one) => one.kind === kind && one.opens);
    for (const axis of axesOf(kind)) filters[axis] = axisValue(group, axis) ?? ALL;
    if ("settings" in filters) filters.settings = ALL;
  }
  Object.assign(state, {
    kind,
    filters,
    own: { family: ALL, capability: ALL, compile: ALL },
    scoreTask: TASKS[0] || "",
    least: TASKS.length ? "95" : "",
    search: "",
    picture: "",
    intervals: "",
    columns: null,
    sort: null,
    open: "",
    a: "",
    b: "",
    before: "",
    after: "",
  });
}

/** Read the fragment over the usual view; what it does not know is left out. */
function readFragment() {
  const said = new URLSearchParams(location.hash.slice(1));
  resetState(KINDS_HERE.includes(said.get("kind")) ? said.get("kind") : undefined);
  for (const [name, value] of said) {
    if (name.startsWith("f.") && name.slice(2) in state.filters) state.filters[name.slice(2)] = value;
    else if (name in state.own) state.own[name] = value;
    else if (WORDS.includes(name)) state[name] = value;
    else if (name === "columns") state.columns = value.split(" ").filter(Boolean);
    else if (name === "sort") state.sort = { column: value.split(" ")[0], dir: value.split(" ")[1] };
  }
}

/** Write what differs from the usual view into the fragment, without a step in the history. */
function writeFragment() {
  const now = JSON.parse(JSON.stringify(state));
  resetState(now.kind);
  const said = new URLSearchParams();
  if (now.kind !== KINDS_HERE[0]) said.set("kind", now.kind);
  for (const [axis, value] of Object.entries(now.filters)) {
    if (value !== state.filters[axis]) said.set(`f.${axis}`, value);
  }
  for (const [name, value] of Object.entries(now.own)) if (value !== ALL) said.set(name, value);
  for (const name of WORDS) {
    if (now[name] !== state[name]) said.set(name, now[name]);
  }
  if (now.columns) said.set("columns", now.columns.join(" "));
  if (now.sort) said.set("sort", `${now.sort.column} ${now.sort.dir}`);
  Object.assign(state, now);
  const text = said.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** Numbers of the groups that the filters leave; an axis may be left open. */
function groupsLeft(except = "") {
  const wanted = Object.entries(state.filters).filter(([axis, v]) => v !== ALL && axis !== except);
  const left = [];
  GROUPS.forEach((group, g) => {
    if (group.kind !== state.kind) return;
    if (wanted.every(([axis, value]) => axisValue(group, axis) === value)) left.push(g);
  });
  return left;
}

/** Whether a row passes the filters that rows differ in within a group. */
function rowPasses(row) {
  const { family, capability, compile } = state.own;
  if (state.search) {
    const words = `${ROWS.word("name", row)} ${mechanismOf(row).title || ""}`.toLowerCase();
    if (!words.includes(state.search.toLowerCase())) return false;
  }
  if (family !== ALL && mechanismOf(row).family !== family) return false;
  if (capability !== ALL && !mechanismOf(row).claims.includes(capability)) return false;
  return compile === ALL || ROWS.word("compile", row) === compile;
}

/** Rows of groups that pass, in the page's order. */
function rowsOf(groups) {
  const rows = [];
  for (const g of groups) {
    for (let row = SPANS[g][0]; row < SPANS[g][1]; row++) if (rowPasses(row)) rows.push(row);
  }
  return rows;
}
