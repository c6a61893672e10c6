// The table: rows that the filters leave, few columns at first, all by choice.

const NARROW = 600; // pixels
const NARROW_COLUMNS = ["speedup_over", "accuracy", "span", "bits_per_byte"];
const MAX_WHOLE = 300; // rows that are all in the document, so that all are printed; of more, those in sight
const RANKED_BY = ["speedup_over", "accuracy", "span", "bits_per_byte"]; // the first of these has bars

let table = null;
let shownRows = [];

/** Letters of the ties that a row is in: rows that share one cannot be told apart. */
function tiesOf(row) {
  const { ties } = GROUPS[ROWS.number("group", row)];
  const name = ROWS.word("name", row);
  return ties.map((names, i) => (names.includes(name) ? String.fromCharCode(97 + (i % 26)) : "")).join("");
}

/** The row of the chosen task that has the name of a timed row, measured on the same device. */
function scoreRow(row) {
  const group = GROUPS[ROWS.number("group", row)];
  const place = `${group.axes.device} ${ROWS.word("name", row)}`;
  return scoresByPlace().get(place) ?? null;
}

let scoresFor = null;
let scores = new Map();

function scoresByPlace() {
  if (scoresFor === state.scoreTask) return scores;
  scoresFor = state.scoreTask;
  scores = new Map();
  const seen = new Set();
  GROUPS.forEach((group, g) => {
    if (group.kind !== "task" || group.axes.task !== state.scoreTask) return;
    const place = group.axes.device;
    if (seen.has(place)) return; // other settings of the task; charts draw the first as well
    seen.add(place);
    for (let row = SPANS[g][0]; row < SPANS[g][1]; row++) scores.set(`${place} ${ROWS.word("name", row)}`, row);
  });
  return scores;
}

/** The row whose numbers a metric is read from: scores of a timed row are those of a task. */
function sourceOf(name, row) {
  const isScore = name === "accuracy" || name === "span" || name === "bits_per_byte" || name === "num_seeds";
  return isScore && state.kind !== "task" ? scoreRow(row) : row;
}

function valueOf(name, row) {
  const source = sourceOf(name, row);
  return source === null ? null : ROWS.number(name, source);
}

/** Metrics that the rows of this kind have. */
function metricsHere() {
  const rows = rowsOf(groupsLeft());
  return METRICS.filter(({ name }) => rows.some((row) => valueOf(name, row) !== null));
}

/** Columns of the state; at first the usual ones, on a phone only what rows are ranked by and score. */
function columnsShown(metrics) {
  if (state.columns) return metrics.filter(({ name }) => state.columns.includes(name));
  return metrics.filter(({ name, is_usual }) => {
    if (innerWidth < NARROW) return NARROW_COLUMNS.includes(name);
    return is_usual && !(name === "num_seeds" && state.kind !== "task");
  });
}

/** Nulls last whichever way a column is sorted. */
function comparing(value) {
  return (a, b, rowA, rowB, column, dir) => {
    const [left, right] = [value(rowA.getData().i), value(rowB.getData().i)];
    const last = dir === "asc" ? 1 : -1;
    if (left === null || left === "") return right === null || right === "" ? 0 : last;
    if (right === null || right === "") return -last;
    return typeof left === "string" ? left.localeCompare(right) : left - right;
  };
}

function formatting(make) {
  return (cell) => make(cell.getData().i);
}

/** Title as text, whatever a plugin's metric is called. */
function titled(title, meaning) {
  return () => element("span", { title: meaning || null }, title);
}

function textColumn(field, title, value, more = {}) {
  return {
    field,
    title,
    titleFormatter: titled(title, more.meaning),
    formatter: formatting((row) => element("span", {}, value(row))),
    sorter: comparing(value),
    ...more.column,
  };
}

function nameColumn() {
  const make = (row) => {
    const name = ROWS.word("name", row);
    const [colour] = CONTENT.styles[name] || ["#888888"];
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = inTheme(colour);
    const open = () => openDrawer(row);
    return element("button", { type: "button", class: "name", onclick: open }, swatch, name);
  };
  return {
    field: "name",
    titleFormatter: titled("Mechanism"),
    title: "Mechanism",
    frozen: true,
    widthGrow: 1.4,
    minWidth: Math.min(220, 36 + Math.max(80, ...shownRows.slice(0, 500).map((row) => 8 * ROWS.word("name", row).length))),
    formatter: formatting(make),
    sorter: comparing((row) => ROWS.word("name", row)),
  };
}

function rankColumn() {
  const make = (row) => {
    const letters = tiesOf(row);
    const tie = letters ? element("span", { class: "tie", title: "cannot be told apart from rows with the same letter" }, letters) : null;
    return element("span", { class: isControl(row) ? "fine" : null }, isControl(row) ? "control" : rankWords(row), tie);
  };
  return {
    field: "rank",
    title: "Rank",
    frozen: true,
    width: innerWidth < NARROW ? 62 : 84,
    titleFormatter: titled("Rank", "Places within one setting that are left open at 95 %, pair by pair, uncorrected for their number"),
    hozAlign: "center",
    formatter: formatting(make),
    sorter: comparing((row) => ROWS.number("rank_first", row)),
  };
}

// Words that rows may have beside their numbers; the first is there at once.
const TEXTS = [
  { name: "crossover", title: "Overtakes its reference at (tokens)", meaning: "Tokens from which it is faster than its reference, with a 95 % interval" },
  { name: "crossover_flops", title: "Overtakes it in FLOPs at (tokens)", meaning: "Tokens from which it needs fewer FLOPs" },
  { name: "growth", title: "Time grows as", meaning: "Power of the number of tokens, with a 95 % interval" },
  { name: "bound", title: "Bound by", meaning: "Which side of the roofline is the limit" },
  { name: "fvcore_verdict", title: "fvcore's verdict", meaning: "Whether fvcore's count of FLOPs agrees and, if not, why" },
  { name: "hyperparameters", title: "Hyperparameters", meaning: "All hyperparameters, including defaults" },
  { name: "day", title: "Measured on", meaning: "Day on which it was started, UTC" },
  { name: "commit", title: "Commit", meaning: "Commit that measured; * with uncommitted changes" },
  { name: "sweep", title: "Sweep", meaning: "Its id, as in records/" },
];

function textsHere(rows) {
  return TEXTS.filter(({ name }) => rows.some((row) => ROWS.word(name, row) !== ""));
}

function textsShown(texts) {
  return texts.filter(({ name }) => (state.columns ? state.columns.includes(name) : name === "crossover" && innerWidth >= NARROW));
}

function metricTitle(metric) {
  const ofTask = state.kind !== "task" && ["accuracy", "span", "bits_per_byte"].includes(metric.name);
  return capitalised(ofTask ? `${metric.title} on ${state.scoreTask}` : titleOf(metric, groupsLeft()));
}

function metricColumn(metric, rows) {
  const values = rows.map((row) => valueOf(metric.name, row));
  const unit = unitFor(metric, values);
  const title = metricTitle(metric);
  // A control does nothing, so quickly that all other bars would vanish beside its own.
  const ranked = values.filter((_, i) => !isControl(rows[i]));
  const largest = (ranked.length ? ranked : values).reduce((most, value) => (value > most ? value : most), 0);
  const hasBar = metric.name === RANKED_BY.find((name) => METRIC.has(name) && (name === "speedup_over") === (state.kind !== "task")) && largest > 0;
  const interval = (row) => {
    const source = sourceOf(metric.name, row);
    const ends = source === null ? null : endsOf(metric, source);
    return ends ? `[${ends.map((end) => beyond(metric.name, end, source) || shortNumber(end / unit[0])).join(", ")}]` : "";
  };
  const written = (row) => (state.intervals ? interval(row) : "");
  const longest = Math.max(...rows.slice(0, 500).map((row, i) => 8 * inUnit(values[i], unit).length + 7 * written(row).length));
  const make = (row) => {
    const value = valueOf(metric.name, row);
    if (value === null) return ROWS.word("status", row) === "ok" ? element("span", {}) : element("span", { class: "fine", title: ROWS.word("reason", row) }, "–");
    const bar = hasBar ? element("span", { class: "bar", "aria-hidden": "true" }) : null;
    if (bar) bar.style.width = `${Math.min(100, Math.max(1, (100 * value) / largest)).toFixed(1)}%`;
    const ends = interval(row);
    return element("span", { class: "value", title: ends ? `95 % interval ${ends}` : null }, beyond(metric.name, value, sourceOf(metric.name, row)) || inUnit(value, unit), written(row) ? element("small", {}, ends) : null, bar);
  };
  return {
    field: metric.name,
    title: unit[1] && unit[1] !== "x" ? `${title} (${unit[1]})` : title,
    titleFormatter: titled(unit[1] && unit[1] !== "x" ? `${title} (${unit[1]})` : title, metric.meaning),
    hozAlign: "right",
    headerHozAlign: "right",
    minWidth: Math.max(innerWidth < NARROW ? 84 : 110, longest + 28),
    formatter: formatting(make),
    headerSortStartingDir: metric.better === "higher" ? "desc" : "asc",
    sorter: comparing((row) => valueOf(metric.name, row)),
  };
}

function columnsFor(rows) {
  const columns = [rankColumn(), nameColumn()];
  const groups = [...new Set(rows.map((row) => ROWS.number("group", row)))];
  if (groups.length > 1) {
    const words = differenceOf(groups);
    const column = textColumn("setting", "Setting", (row) => words(ROWS.number("group", row)), { column: { minWidth: 200, cssClass: "words" } });
    column.sorter = comparing((row) => ROWS.number("group", row));
    columns.push(column);
  }
  columns.push(...columnsShown(metricsHere()).map((metric) => metricColumn(metric, rows)));
  for (const { name, title, meaning } of textsShown(textsHere(rows))) {
    const brief = (words) => (state.intervals || !["crossover", "growth"].includes(name) ? words : words.replace(/ \[[^\]]*\]/g, ""));
    columns.push(textColumn(name, title, (row) => brief(ROWS.word(name, row)), { meaning, column: { cssClass: "words", minWidth: 142 } }));
  }
  if (innerWidth >= NARROW && rows.some((row) => marksOf(row).length)) {
    columns.push(textColumn("marks", "Marks", (row) => marksOf(row).join("; "), { column: { minWidth: 190, cssClass: "wrap" } }));
  }
  return columns;
}

let sharedMarks = new Set();

/** Marks of a row, without those that are said above the table; all of a control's are in its drawer. */
function marksOf(row) {
  if (isControl(row)) return [];
  return ROWS.word("marks", row).split("; ").filter((mark) => mark && !sharedMarks.has(mark));
}

/** Marks that all rows with numbers have, controls apart: said once, not in each of them. */
function marksOfAll(rows) {
  const timed = rows.filter((row) => ROWS.word("status", row) === "ok" && !isControl(row));
  const counts = new Map();
  for (const row of timed) {
    for (const mark of ROWS.word("marks", row).split("; ")) if (mark) counts.set(mark, (counts.get(mark) || 0) + 1);
  }
  return new Set([...counts].filter(([, count]) => timed.length > 2 && count === timed.length).map(([mark]) => mark));
}

/** The reason of a cell without a number, across its row. */
function addReason(row) {
  const i = row.getData().i;
  const status = ROWS.word("status", i);
  const box = row.getElement();
  if (status === "ok" || box.querySelector(".reason")) return;
  box.append(element("div", { class: "reason" }, `${statusWords(status)}: ${ROWS.word("reason", i)}`));
}

/** Show what the state says. */
function showTable() {
  shownRows = rowsOf(groupsLeft());
  sharedMarks = marksOfAll(shownRows);
  const columns = columnsFor(shownRows);
  const data = shownRows.map((i) => ({ i }));
  if (table) table.destroy();
  table = new Tabulator("#table", {
    data,
    columns,
    layout: "fitColumns",
    maxHeight: "70vh",
    renderVertical: data.length > MAX_WHOLE ? "virtual" : "basic",
    placeholder: "No row passes these filters.",
    rowFormatter: addReason,
    columnDefaults: { headerSortTristate: true, minWidth: 60 },
    initialSort: state.sort && columns.some(({ field }) => field === state.sort.column) ? [state.sort] : [],
  });
  table.on("tableBuilt", tableBuilt);
  table.on("dataSorted", (sorters) => {
    const first = sorters[0];
    state.sort = first ? { column: first.field, dir: first.dir } : null;
    writeFragment();
  });
  const num = groupsLeft().length;
  document.getElementById("said").textContent =
    `${shownRows.length.toLocaleString("en-US")} ${shownRows.length === 1 ? "row" : "rows"}${num > 1 ? ` of ${num} settings` : ""}.` +
    (sharedMarks.size ? ` All but controls: ${[...sharedMarks].join("; ")}.` : "");
}

/** Headers that sort can be reached and pressed without a mouse. */
function tableBuilt() {
  document.getElementById("table").dataset.ready = String(Number(document.getElementById("table").dataset.ready || 0) + 1);
  for (const header of document.querySelectorAll("#table .tabulator-col.tabulator-sortable")) {
    header.tabIndex = 0;
    header.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        header.querySelector(".tabulator-col-content").click();
      }
    });
  }
}

/** A field of CSV. Text that a spreadsheet would run as a formula is preceded by a quote. */
function csvField(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The view as CSV, in base units, in the order on the screen. */
function csvText() {
  const rows = table.getRows("active").map((row) => row.getData().i);
  const metrics = columnsShown(metricsHere());
  const ends = (metric) => (metric.ends || []);
  const texts = textsShown(textsHere(shownRows)).map(({ name }) => name);
  const header = ["name", "rank_first", "rank_last", "is_control", "setting", "length", "status", "reason", "marks", ...texts];
  const lines = [[...header, ...metrics.flatMap((metric) => [metric.name, ...ends(metric)])]];
  for (const row of rows) {
    const group = GROUPS[ROWS.number("group", row)];
    const rest = ["status", "reason", "marks", ...texts].map((name) => ROWS.word(name, row));
    lines.push([
      ROWS.word("name", row),
      ...["rank_first", "rank_last", "is_control"].map((name) => ROWS.number(name, row)),
      group.words,
      group.axes.length ?? null,
      ...rest,
      ...metrics.flatMap((metric) => [metric.name, ...ends(metric)].map((name) => {
        const source = sourceOf(metric.name, row);
        return source === null ? null : ROWS.number(name, source);
      })),
    ]);
  }
  return lines.map((line) => line.map(csvField).join(",")).join("\r\n") + "\r\n";
}

function saveCsv() {
  const address = URL.createObjectURL(new Blob([csvText()], { type: "text/csv" }));
  element("a", { href: address, download: "leaderboard.csv" }).click();
  URL.revokeObjectURL(address);
}
