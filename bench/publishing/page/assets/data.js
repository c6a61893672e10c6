// What the page knows, and how it is written: rows by column, units, words. Nothing here draws.

const CONTENT = JSON.parse(document.getElementById("content").textContent);
const SPECIFICATIONS = JSON.parse(document.getElementById("specifications").textContent);
const GROUPS = CONTENT.groups;
const METRICS = CONTENT.metrics;
const METRIC = new Map(METRICS.map((metric) => [metric.name, metric]));

/** Reads rows by number from columns of words and numbers. */
function reader(rows) {
  return {
    count: rows.num_rows,
    /** A word of a row; empty where it has none. */
    word(name, row) {
      const column = rows.words[name];
      return column ? column.vocabulary[column.ids[row]] : "";
    },
    /** A number of a row; null where it has none. */
    number(name, row) {
      const column = rows.numbers[name];
      return column ? column[row] : null;
    },
  };
}

const ROWS = reader(CONTENT.rows);

function isControl(row) {
  return ROWS.number("is_control", row) === true;
}

/** "2", or "2-4" where the order within is not settled; empty without a rank. */
function rankWords(row) {
  const [first, last] = ["rank_first", "rank_last"].map((name) => ROWS.number(name, row));
  return first === null ? "" : first === last ? String(first) : `${first}-${last}`;
}

/** First row and end of each group; rows of one group lie together. */
const SPANS = GROUPS.map(() => [Infinity, 0]);
for (let row = 0; row < ROWS.count; row++) {
  const span = SPANS[ROWS.number("group", row)];
  span[0] = Math.min(span[0], row);
  span[1] = row + 1;
}

/** What is known of a row's mechanism; empty of one that no source describes. */
function mechanismOf(row) {
  return CONTENT.mechanisms[ROWS.word("mechanism", row)] || { claims: [], family: "" };
}

/** Three significant digits, or all of them before the point, with thousands apart. */
function shortNumber(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 999.5 || value === 0 || (Number.isInteger(value) && size < 1000)) {
    return Math.round(value).toLocaleString("en-US");
  }
  const text = value.toPrecision(3);
  return text.includes("e") ? Number(text).toExponential(2) : text;
}

/** The unit, a factor and a name, in which the median of values is easy to read. */
function unitFor(metric, values) {
  const known = values.filter((value) => value).map(Math.abs).sort((a, b) => a - b);
  const middle = known.length ? known[Math.floor(known.length / 2)] : 0;
  const scales = metric.scales;
  return scales.find(([factor]) => middle >= factor) || scales[scales.length - 1];
}

/** A value in a unit, without the unit's name but with a short sign such as x. */
function inUnit(value, [factor, unit]) {
  if (value === null || value === undefined) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (factor > 1 && value > 0 && value / factor < 0.001) return "<0.001";
  const scaled = value / factor;
  const isWhole = Number.isInteger(scaled) && scaled && scaled < 1000 && unit; // 4.00 MiB, and 4 seeds
  return (isWhole ? scaled.toPrecision(3) : shortNumber(scaled)) + (unit === "x" ? "x" : "");
}

/** The ends of a metric's interval in a row; null where it has none. */
function endsOf(metric, row) {
  if (!metric.ends) return null;
  const [low, high] = metric.ends.map((name) => ROWS.number(name, row));
  return low === null || high === null || low === high ? null : [low, high];
}

/** An end of a ladder, beyond which a span lies, in words; empty for any other value. */
function beyond(name, value, row) {
  const [low, high] = (name === "span" && GROUPS[ROWS.number("group", row)].rungs) || [];
  return value === low ? `under ${low}` : value === high ? `over ${high}` : "";
}

/** Value, interval and unit as one text, for charts and for those who cannot see them. */
function told(name, row) {
  const metric = METRIC.get(name);
  const value = metric ? ROWS.number(name, row) : null;
  if (value === null) return "";
  const unit = unitFor(metric, [value]);
  const ends = endsOf(metric, row);
  const interval = ends ? ` [${ends.map((end) => beyond(name, end, row) || shortNumber(end / unit[0])).join(", ")}]` : "";
  return `${beyond(name, value, row) || inUnit(value, unit)}${unit[1] === "x" ? "" : ` ${unit[1]}`}${interval}`.trim();
}

function capitalised(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** A metric's title; of a speed-up with what it is over, which groups may differ in. */
function titleOf(metric, groups) {
  if (metric.name !== "speedup_over") return metric.title;
  const references = new Set(groups.flatMap((g) => GROUPS[g].references || []));
  return `${metric.title} ${references.size === 1 ? [...references][0] : "its reference"}`;
}

/** A status as words. */
function statusWords(status) {
  return status.replaceAll("_", " ");
}

/** An element with attributes, and with children that are elements or, as text, anything else. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "onchange") made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Draw controls anew, and give the focus back to the one that had it, by its id. */
function keepingFocus(draw) {
  const focused = document.activeElement?.id;
  draw();
  if (focused) document.getElementById(focused)?.focus();
}

/** A table of text under a header, whose first cell in a row names it. */
function plainTable(caption, header, rows) {
  const cells = (row) =>
    row.map((cell, i) => element(i ? "td" : "th", i ? {} : { scope: "row" }, cell ?? ""));
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...header.map((h) => element("th", { scope: "col" }, h)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row)))),
    ),
  );
}
