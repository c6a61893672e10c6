// All that is known of one row, beside the page: its record first, then what is known of its
// mechanism. A dialog keeps the focus and gives it back.

const MAX_RECORDS = 60;

/** A word that a shell takes as it is. */
function shellWord(text) {
  return /^[\w=.,/:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that measures a row's cell again; null for a training that no YAML plans, and for a mean over tasks. */
function commandFor(row) {
  const group = GROUPS[ROWS.number("group", row)];
  const axes = group.axes;
  const entry = ROWS.word("entry", row);
  const words = [`attention=[${entry}]`, ...ROWS.word("overrides", row).split("\n").filter(Boolean)];
  if (group.kind === "task") {
    if (!words.some((word) => word.startsWith("task=["))) return null;
    const seeds = (CONTENT.curves[row] || []).map((run) => run.seed);
    words.push("seq_len=[]", `seed=[${seeds.length ? seeds : 0}]`, `device=${axes.device}`, `num_threads=${axes.num_threads}`);
  } else {
    const usual = { task: "[]", ...axes, compile: ROWS.word("compile", row), reference: ROWS.word("reference", row) || "softmax" };
    usual[group.kind === "model" ? "image_size" : "seq_len"] = axes.length;
    const left = ["machine", "method_version", "length"];
    for (const [name, value] of Object.entries(usual)) {
      if (!left.includes(name) && value !== null) words.push(`${name}=${value}`);
    }
  }
  return `attnbench sweep ${[...words, "force=true"].map(shellWord).join(" ")}`;
}

/** A source with each arXiv number as a link to the paper. */
function withPapers(source) {
  return source.split(/(arXiv:\d{4}\.\d{4,5})/).map((part) => (part.startsWith("arXiv:") ? element("a", { href: `https://arxiv.org/abs/${part.slice(6)}` }, part) : part));
}

/** Links to a mechanism's page and file, where the board knows the addresses; a plugin has none. */
function linksTo({ page, file }) {
  const { docs, source } = CONTENT.links;
  const found = file ? [[docs, page, "documentation"], [source, file, "source"]].filter(([address]) => address) : [];
  return found.flatMap(([address, path, words]) => [" ", element("a", { href: `${address}/${path}` }, words)]);
}

function list(items) {
  return element("ul", {}, ...items.map((item) => element("li", {}, item)));
}

function section(title, ...children) {
  return element("section", {}, element("h3", {}, title), ...children);
}

/** Goldens, badges, and which state of the source they are of. */
function testedPart({ badges, tested }) {
  return section(
    "Tested",
    ...tested.map((line) => element("p", {}, `${capitalised(line)}.`)),
    element("ul", { class: "badges" }, ...badges.map(({ claim, status, reason }) =>
      element("li", { class: `badge ${status}`, title: reason || null }, `${claim}: ${statusWords(status)}${reason && status === "failed" ? `, ${reason}` : ""}`))),
  );
}

/** The mechanism in words, tests apart. */
function factsPart(name, facts) {
  if (!facts.title) return [element("p", {}, "No source here describes this mechanism; it may come from a plugin.")];
  const claims = facts.claims.length ? facts.claims.join(", ") : "bidirectional";
  const parts = [
    section(
      "Formula",
      element("p", { class: "source" }, ...withPapers(facts.source), ...linksTo(facts)),
      element("p", {}, facts.summary),
      ...facts.body.map(({ text, is_formula }) => element(is_formula ? "pre" : "p", {}, text)),
    ),
    section("Capabilities", element("p", {}, `${facts.family}: ${facts.family_words}. ${facts.kind === "layer" ? "A layer" : "A core"}; ${claims}.`)),
  ];
  if (facts.hyperparameters.length) {
    parts.push(section("Hyperparameters", plainTable(`Hyperparameters of ${name}`, ["name", "default", "meaning"], facts.hyperparameters)));
  }
  if (facts.hazards.length) parts.push(section("Hazards", list(facts.hazards)));
  if (facts.differences.length) parts.push(section("Differences between paper, official code and this implementation", list(facts.differences)));
  return parts;
}

/** What `bench.diagnose` found of a row, and what token filters cost it. */
function diagnosticsPart(name, row) {
  const found = CONTENT.diagnostics[name] || [];
  const percent = (share) => (share === null ? "" : shortNumber(100 * share));
  const filters = (CONTENT.filtered[row] || []).map(([filter, ...shares]) => [filter, ...shares.map(percent)]);
  if (!found.length && !filters.length) return null;
  return section(
    "Diagnostics",
    found.length ? plainTable("By attnbench diagnose", ["number", "value", "inputs"], found) : null,
    filters.length ? plainTable("Token filters, without fine-tuning; costs in percent of the whole model's", ["filter", "kept (%)", "accuracy (%)", "latency", "FLOPs"], filters) : null,
  );
}

/** Raw samples of a row, or where on the disk they are. */
function samplesPart(row) {
  const { values, files, places } = CONTENT.samples;
  if (values) {
    return values[row].filter((one) => one.length).map((one) => element("pre", { class: "samples" }, one.join(" ")));
  }
  return places[row].filter(Boolean).map(([file, line]) => element("p", {}, `records/${files[file]}, line ${line}`));
}

/** A record: marks, numbers with their intervals, the command that measures it again, samples. */
function recordPart(row, isOpen = false) {
  const g = ROWS.number("group", row);
  const group = GROUPS[g];
  const numbers = METRICS.filter(({ name }) => ROWS.number(name, row) !== null).map((metric) => [titleOf(metric, [g]), told(metric.name, row), metric.is_usual]);
  const score = group.kind === "task" ? null : scoreRow(row);
  if (score !== null) numbers.unshift([`score on ${state.scoreTask}`, told("accuracy", score) || told("span", score) || told("bits_per_byte", score), true]);
  const plain = (rows) => rows.map(([title, value]) => [title, value]);
  const size = group.axes.length ? `${group.axes.length.toLocaleString("en-US")} · ` : "";
  const status = ROWS.word("status", row);
  const checked = ROWS.number("checked_len", row);
  const command = commandFor(row);
  const rank = rankWords(row);
  const said = [isControl(row) ? "control" : rank && `rank ${rank}`, status === "ok" ? "" : statusWords(status), ROWS.word("reason", row), ROWS.word("marks", row)].filter(Boolean);
  if (checked !== null) said.push(`checked at ${checked.toLocaleString("en-US")}`);
  if (ROWS.word("fvcore_verdict", row)) said.push(`FLOPs by fvcore: ${ROWS.word("fvcore_verdict", row)}`);
  const when = `${ROWS.word("day", row)}, commit ${ROWS.word("commit", row) || "unknown"}, sweep ${ROWS.word("sweep", row)}`;
  return element(
    "details",
    { class: "record", open: isOpen },
    element("summary", {}, `${size}${group.words}`, element("small", {}, ` ${told("latency_s", row) || told("accuracy", row) || told("span", row) || statusWords(status)}`)),
    said.length ? element("p", { class: "marks" }, `${capitalised(said.join("; "))}.`) : null,
    plainTable("Brackets are 95 % intervals", ["metric", "value"], plain(numbers.filter(([, , isUsual]) => isUsual))),
    command && element("p", {}, "Measure it again:"),
    command && element("pre", { class: "command" }, command),
    element("p", { class: "fine" }, `${when}. Hyperparameters: ${ROWS.word("hyperparameters", row)}`),
    element("details", {}, element("summary", {}, "All numbers"), plainTable("Brackets are 95 % intervals", ["metric", "value"], plain(numbers))),
    element("details", {}, element("summary", {}, group.kind === "task" ? "Training losses, a block a seed" : "Samples, seconds per call"), ...samplesPart(row)),
  );
}

function openDrawer(row) {
  showDrawer(ROWS.word("name", row), row);
}

/** Show what is known of a row's name, this row first, then those of the view. */
function showDrawer(name, row) {
  const mine = [];
  for (let i = 0; i < ROWS.count; i++) if (ROWS.word("name", i) === name) mine.push(i);
  if (!mine.length) return;
  state.open = name;
  writeFragment();
  const inView = new Set(shownRows);
  mine.sort((a, b) => (b === row) - (a === row) || inView.has(b) - inView.has(a) || a - b);
  const facts = mechanismOf(mine[0]);
  const drawer = document.getElementById("drawer");
  const close = element("button", { type: "button", "aria-label": "Close", class: "close", onclick: () => drawer.close() }, "✕");
  const compare = element("button", { type: "button", onclick: () => { drawer.close(); state.a = name; showCompare(); document.getElementById("compare").scrollIntoView(); } }, "Compare with another");
  const [first, ...others] = mine;
  const more = others.length - MAX_RECORDS;
  const parts = [
    element("header", {}, element("h2", { id: "drawer-title", tabindex: "-1" }, name, element("small", {}, ` ${facts.title || ""}`)), close),
    recordPart(first, true),
    facts.title ? testedPart(facts) : null,
    diagnosticsPart(name, first),
    ...factsPart(name, facts),
    others.length ? section(`Other records (${others.length})`, ...others.slice(0, MAX_RECORDS).map((one) => recordPart(one)), more > 0 ? element("p", {}, `${more} more are in table.csv; the filters choose which come first.`) : null) : null,
    compare,
  ];
  drawer.replaceChildren(...parts.filter(Boolean));
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
  document.getElementById("drawer-title").focus();
}

function drawerClosed() {
  state.open = "";
  writeFragment();
}
