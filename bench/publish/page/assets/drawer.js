// All that is known of one mechanism, beside the page. A dialog keeps the focus and gives it back.

const MAX_RECORDS = 60;

/** A word that a shell takes as it is. */
function shellWord(text) {
  return /^[\w=.,/:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that measures a row's cell again. */
function commandFor(row) {
  const group = GROUPS[ROWS.number("group", row)];
  const axes = group.axes;
  const entry = ROWS.word("entry", row);
  const words = [`attention=[${entry}]`, ...ROWS.word("overrides", row).split("\n").filter(Boolean)];
  if (group.kind === "task") {
    const seeds = (CONTENT.curves[row] || []).map((run) => run.seed);
    words.push("seq_len=[]", `task=[${axes.task}]`, `seed=[${seeds.length ? seeds : 0}]`, `device=${axes.device}`);
  } else {
    const usual = { task: "[]", ...axes, compile: ROWS.word("compile", row), reference: ROWS.word("reference", row) || "softmax" };
    usual[group.kind === "model" ? "image_size" : "seq_len"] = axes.length;
    const left = ["machine", "method_version", "length"];
    for (const [name, value] of Object.entries(usual)) {
      if (!left.includes(name) && value !== null) words.push(`${name}=${value}`);
    }
  }
  return `python -m bench.sweep ${[...words, "force=true"].map(shellWord).join(" ")}`;
}

function list(items) {
  return element("ul", {}, ...items.map((item) => element("li", {}, item)));
}

function section(title, ...children) {
  return element("section", {}, element("h3", {}, title), ...children);
}

/** What badges and goldens say. */
function testedPart(facts) {
  const lines = [];
  if (facts.goldens) lines.push(`${facts.goldens[0]} of ${facts.goldens[1]} cases of the authors' numbers passed`);
  else lines.push("the authors' numbers: none compared yet; python -m bench.verify does");
  if (!facts.badges.length) lines.push("claims: none tested yet; python -m bench.verify conformance=true does");
  const badges = facts.badges.map(({ claim, status, reason }) =>
    element("li", { class: `badge ${status}`, title: reason || null }, `${claim}: ${statusWords(status)}${reason && status === "failed" ? `, ${reason}` : ""}`),
  );
  return section("Tested", list(lines), element("ul", { class: "badges" }, ...badges));
}

function factsPart(name, facts) {
  if (!facts.title) return [element("p", {}, "No source here describes this mechanism; it may come from a plugin.")];
  const claims = facts.claims.length ? facts.claims.join(", ") : "bidirectional";
  const parts = [
    element("p", { class: "source" }, facts.source),
    section(
      "Formula",
      element("p", {}, facts.summary),
      ...facts.body.map(({ text, is_formula }) => element(is_formula ? "pre" : "p", {}, text)),
    ),
    section("Capabilities", element("p", {}, `${facts.family}: ${facts.family_words}. ${facts.kind === "layer" ? "A layer" : "A core"}; ${claims}.`)),
  ];
  if (facts.hyperparameters.length) {
    parts.push(section("Hyperparameters", plainTable(`Hyperparameters of ${name}`, ["name", "default", "meaning"], facts.hyperparameters)));
  }
  parts.push(testedPart(facts));
  if (facts.hazards.length) parts.push(section("Hazards", list(facts.hazards)));
  if (facts.differences.length) parts.push(section("Differences between paper, official code and this implementation", list(facts.differences)));
  return parts;
}

/** Where a row's output was compared with the oracle. */
function checkedWords(row) {
  const length = ROWS.number("checked_len", row);
  return length === null ? "" : `checked at ${length.toLocaleString("en-US")}`;
}

/** Raw samples of a row, or where on the disk they are. */
function samplesPart(row) {
  const { values, files, places } = CONTENT.samples;
  if (values) {
    return values[row].filter((one) => one.length).map((one) => element("pre", { class: "samples" }, one.join(" ")));
  }
  return places[row].filter(Boolean).map(([file, line]) => element("p", {}, `records/${files[file]}, line ${line}`));
}

function recordPart(row) {
  const g = ROWS.number("group", row);
  const group = GROUPS[g];
  const names = METRICS.filter(({ name }) => ROWS.number(name, row) !== null);
  const size = group.axes.length ? `${group.axes.length.toLocaleString("en-US")} · ` : "";
  const status = ROWS.word("status", row);
  const said = [statusWords(status), ROWS.word("reason", row), ROWS.word("marks", row), checkedWords(row)].filter(Boolean).join("; ");
  const when = `${ROWS.word("day", row)}, commit ${ROWS.word("commit", row) || "unknown"}, sweep ${ROWS.word("sweep", row)}`;
  return element(
    "details",
    { class: "record" },
    element("summary", {}, `${ROWS.word("name", row)}: ${size}${group.words}`, element("small", {}, ` ${told("latency_s", row) || told("accuracy", row) || statusWords(status)}`)),
    element("p", {}, said),
    element("p", { class: "fine" }, `${when}. Hyperparameters: ${ROWS.word("hyperparameters", row)}`),
    plainTable("Numbers", ["metric", "value"], names.map((metric) => [titleOf(metric, [g]), told(metric.name, row)])),
    element("p", {}, group.kind === "task" ? "Training losses, a block a seed:" : "Samples, seconds per call:"),
    ...samplesPart(row),
    element("p", {}, "Measure it again:"),
    element("pre", { class: "command" }, commandFor(row)),
  );
}

function openDrawer(row) {
  showDrawer(ROWS.word("name", row));
}

/** Show the mechanism of a row's name, its records of this view first. */
function showDrawer(name) {
  const mine = [];
  for (let row = 0; row < ROWS.count; row++) if (ROWS.word("name", row) === name) mine.push(row);
  if (!mine.length) return;
  state.open = name;
  writeFragment();
  const inView = new Set(shownRows);
  mine.sort((a, b) => inView.has(b) - inView.has(a) || a - b);
  const facts = mechanismOf(mine[0]);
  const drawer = document.getElementById("drawer");
  const close = element("button", { type: "button", "aria-label": "Close", class: "close", onclick: () => drawer.close() }, "✕");
  const compare = element("button", { type: "button", onclick: () => { drawer.close(); state.a = name; showCompare(); document.getElementById("compare").scrollIntoView(); } }, "Compare with another");
  const more = mine.length - MAX_RECORDS;
  drawer.replaceChildren(
    element("header", {}, element("h2", { id: "drawer-title", tabindex: "-1" }, name, element("small", {}, ` ${facts.title || ""}`)), close),
    compare,
    ...factsPart(name, facts),
    section(`Records (${mine.length})`, ...mine.slice(0, MAX_RECORDS).map(recordPart), more > 0 ? element("p", {}, `${more} more are in table.csv; the filters choose which come first.`) : null),
  );
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
  document.getElementById("drawer-title").focus();
}

function drawerClosed() {
  state.open = "";
  writeFragment();
}
