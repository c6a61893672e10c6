// Charts of what was looked at besides speed and scores: token filters, and attention weights.

const LOOKED = { accuracy: 2, latency: 3, FLOPs: 4 }; // places in a row of CONTENT.filtered
const WHOLE = "whole model";
const DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [1, 3]];

/** Accuracy, or a cost beside the whole model's, against the share of tokens that a filter keeps. */
function filteredChart(g, what) {
  const group = GROUPS[g];
  const rows = rowsOf([g]).filter((row) => CONTENT.filtered[row]);
  const at = LOOKED[what];
  const filters = [...new Set(rows.flatMap((row) => CONTENT.filtered[row].map(([name]) => name)))].filter((name) => name !== WHOLE);
  const lines = [];
  const whole = [];
  for (const row of rows) {
    const entry = ROWS.word("name", row);
    for (const filter of filters) {
      const own = CONTENT.filtered[row].filter((one) => one[0] === filter && one[at] !== null);
      const name = `${entry}, ${filter}`;
      const dash = DASHES[filters.indexOf(filter) % DASHES.length];
      if (own.length) lines.push(own.map((one) => ({ name, run: name, x: 100 * one[1], y: 100 * one[at], ...look(entry), dash })));
    }
    for (const one of CONTENT.filtered[row]) {
      if (one[0] === WHOLE) whole.push({ dash: [4, 4], y: 100 * one[at], tip: `${entry}, ${WHOLE}: ${shortNumber(100 * one[at])} %` });
    }
  }
  const isCost = what !== "accuracy";
  const words = isCost ? `${what} (% of the whole model's)` : "accuracy (%)";
  const title = `${capitalised(what)} with fewer tokens: ${group.axes.task}`;
  return plainChart(lines.slice(0, MAX_LINES), whole, {
    id: `filtered-${what}`,
    title,
    note: `Trained models that get a share of their tokens, without fine-tuning. Dashed: the whole model. ${group.words}`,
    x: { title: "tokens kept (%)", kind: "linear", domain: [0, 100] },
    y: { title: words, least: isCost ? 0 : null },
  });
}

/** Entropy of attention weights against the norm of the queries, as `bench.diagnose` swept it. */
function entropyChart() {
  const lines = Object.entries(CONTENT.entropy).map(([name, points]) => points.map(([x, y]) => ({ name, run: name, x, y, ...look(name) })));
  const norms = lines.flat().map(({ x }) => x);
  return plainChart(lines.slice(0, MAX_LINES), [], {
    id: "entropy",
    title: "Entropy of attention against the query norm",
    note: "Random keys, queries with fixed directions and the norm shown. From attnbench diagnose; not affected by the filters above",
    x: { title: "norm of the queries", kind: "log", domain: [Math.min(...norms), Math.max(...norms)] },
    y: { title: "entropy / ln N", least: 0 },
  });
}
