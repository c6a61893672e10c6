// Which of the first test examples two trained models solve, and McNemar's numbers. Nothing here ranks.

const ANSWERED = CONTENT.answered;

/** How many answers of each of the first examples a row has right; of one whose rows are `found`. */
function rightOf(found, row) {
  const digits = [...found.bits[found.rows.indexOf(row)]].map((digit) => parseInt(digit, 16));
  let at = 0;
  return found.asked.map((count) => {
    let right = 0;
    for (const end = at + count; at < end; at++) right += (digits[at >> 2] >> (3 - (at & 3))) & 1;
    return right;
  });
}

/** McNemar's numbers of two rows, in words that speak of trained models alone. */
function twoModelsWords(found, first, second) {
  const [i, j] = [found.rows.indexOf(first), found.rows.indexOf(second)];
  const [low, high] = [Math.min(i, j), Math.max(i, j)];
  const before = (low * (2 * found.rows.length - low - 1)) / 2; // pairs of the rows above
  const [onlyLow, onlyHigh, p] = found.pairs[before + high - low - 1];
  const numbers = { only_first: i < j ? onlyLow : onlyHigh, only_second: i < j ? onlyHigh : onlyLow, p_value: p };
  return ANSWERED.words.replace(/\{(\w+)\}/g, (_, name) => numbers[name]);
}

/** What became of an example: who solved it, as a class, a sign and words. */
function outcomeOf(isFirst, isSecond, first, second) {
  if (isFirst && isSecond) return ["both", "=", "both"];
  if (isFirst) return ["first", "1", `only ${first}`];
  return isSecond ? ["second", "2", `only ${second}`] : ["neither", "·", "neither"];
}

/** The examples of a task that two rows solve; null where there are no answers of both. */
function answersPart(g, first, second) {
  const found = ANSWERED.groups[g];
  if (!found || first === second || ![first, second].every((row) => found.rows.includes(row))) return null;
  const names = [first, second].map((row) => ROWS.word("name", row));
  const sides = [first, second].map((row) => rightOf(found, row));
  const outcomes = found.asked.map((count, i) => outcomeOf(...sides.map((right) => right[i] === count), ...names));
  const number = (kind) => outcomes.filter(([one]) => one === kind).length;
  const counts = `both solve ${number("both")}, only ${names[0]} ${number("first")}, only ${names[1]} ${number("second")}, neither ${number("neither")}`;
  const shown = outcomes.length ? `of the first ${outcomes.length} test examples ${counts}` : "which answers are of which example is not known";
  const test = `${capitalised(twoModelsWords(found, first, second))}, over all ${found.num_answers.toLocaleString("en-US")} answers.`;
  const limits = `It says nothing about the mechanisms, whose seeds differ more, and ranks nothing${found.is_clustered ? "; it takes several answers of one example for independent" : ""}.`;
  const lines = ANSWERED.examples[found.test_set];
  const right = (i) => sides.map((side) => `${side[i]} of ${found.asked[i]}`);
  const squares = outcomes.map(([kind, sign, words], i) =>
    element("span", { class: kind, title: `example ${i + 1}: ${words}; ${names[0]} ${right(i)[0]}, ${names[1]} ${right(i)[1]}` }, sign),
  );
  const header = ["example", ...(lines ? ["tokens", "answer"] : []), ...names, "solved by"];
  const rows = outcomes.map(([, , words], i) => [String(i + 1), ...(lines ? lines[i] : []), ...right(i), words]);
  return element(
    "details",
    { class: "answers", "data-group": g },
    element("summary", {}, `${GROUPS[g].words}, seed ${found.seed}: ${shown}`),
    element("div", { class: "solved", role: "img", "aria-label": capitalised(shown) }, ...squares),
    element("p", {}, `${test} ${limits} First is ${names[0]}, second ${names[1]}, both with seed ${found.seed}.`),
    element("p", { class: "fine" }, `Test set ${found.test_set}; an example is solved if all of its answers are right.${lines ? "" : ` Its examples are not in this store as examples/${found.test_set}.json.`}`),
    rows.length ? plainTable("Test examples, and how many answers to each are right", header, rows) : null,
  );
}
