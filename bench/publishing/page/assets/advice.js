// "Which one for me?": the rows that reach a score, and the fastest of them, as they are ranked. Nothing is ranked anew.

const LEAST = ["99", "95", "90", "80", "50"]; // percent

/** The ends of the ladder of the task whose scores are shown; null for one that is scored in percent. */
function ladderAsked() {
  return GROUPS.find((group) => group.axes.task === state.scoreTask)?.rungs || null;
}

/** The percentage that is asked for; empty for any score, and on a ladder, which has spans. */
function leastAsked() {
  return ladderAsked() ? "" : state.least;
}

/** Whether a timed row reaches the score that is asked for, in words; empty where nothing is known of it. */
function reaches(row) {
  if (!leastAsked()) return "yes";
  const score = scoreRow(row);
  const value = score === null ? null : ROWS.number("accuracy", score);
  if (value === null) return "";
  const [low, high] = ["accuracy_low", "accuracy_high"].map((name) => ROWS.number(name, score) ?? null);
  const least = leastAsked() / 100;
  if (ROWS.number("is_unranked", score)) return "marked, so not ranked";
  if (low !== null && low >= least) return "yes";
  return (high ?? value) >= least ? "not settled" : "falls short";
}

/** Rows of a group that a reader may take, fastest first, with what they reach. */
function candidates(g) {
  return rowsOf([g])
    .filter((row) => !isControl(row) && !ROWS.number("is_unranked", row) && ROWS.number("latency_s", row) !== null)
    .map((row) => ({ row, said: reaches(row) }))
    .sort((a, b) => ROWS.number("latency_s", a.row) - ROWS.number("latency_s", b.row));
}

function namesTogether(names) {
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
}

/** The first place that a row may have; null for a row without a rank. */
function firstPlace({ row }) {
  return ROWS.number("rank_first", row);
}

/** The answer as a sentence, and the rows that it names. */
function answerOf(g, rows) {
  const settled = rows.filter(({ said }) => said === "yes");
  const fit = settled.length ? settled : rows.filter(({ said }) => said === "not settled");
  const goal = leastAsked() ? `reach ${leastAsked()} % on ${state.scoreTask}` : "were timed";
  const { length, mode } = GROUPS[g].axes;
  const place = `at ${length.toLocaleString("en-US")} ${state.kind === "model" ? "pixels" : "tokens"}, ${mode.replaceAll("_", " and ")}`;
  if (!fit.length) return { words: `No row that was timed ${place} is known to ${goal}.`, first: [] };
  const ranked = fit.filter((one) => firstPlace(one) !== null);
  if (!ranked.length || rows.filter((one) => firstPlace(one) !== null).length < 2) return { words: `Nothing is ranked ${place}.`, first: [] };
  const best = Math.min(...ranked.map(firstPlace));
  const lead = ROWS.word("name", ranked.find((one) => firstPlace(one) === best).row);
  const groups = GROUPS[g].ties.filter((names) => names.includes(lead));
  const first = ranked.filter((one) => firstPlace(one) === best || groups.some((names) => names.includes(ROWS.word("name", one.row))));
  const names = namesTogether(first.map(({ row }) => ROWS.word("name", row)));
  const found = first.length > 1 ? `${names} cannot be told apart as the fastest` : `${names} is the fastest`;
  const how = leastAsked() && settled.length ? " with their whole 95 % interval" : "";
  const doubt = settled.length ? "" : " Too few seeds were trained to settle that they reach it.";
  const those = ranked.length < fit.length ? "ranked rows" : "rows";
  return { words: `Of the ${those} that ${goal}${how}, ${found} ${place}.${doubt}`, first };
}

/** The command that answers from the records, with what is proven of each row. */
function adviceCommand(g) {
  const { axes } = GROUPS[g];
  const words = ["dtype", "batch_size", "causal"].filter((name) => axes[name] !== undefined).map((name) => `${name}=${axes[name]}`);
  const ladder = ladderAsked();
  const goal = ladder ? `holds=${Math.round(Math.sqrt(ladder[0] * ladder[1]))}` : leastAsked() && `score=${leastAsked()}`;
  const score = goal ? [`task=${state.scoreTask.split(" ")[0]}`, goal] : [];
  return ["attnbench advise", `seq_len=${axes.length}`, `mode=${axes.mode}`, ...words, ...score].map((word, i) => (i ? shellWord(word) : word)).join(" ");
}

/** A choice that the whole page follows, like its filter. */
function adviceChoice(axis) {
  const values = [...new Set(groupsLeft(axis).map((g) => axisValue(GROUPS[g], axis)))].filter((value) => value !== null);
  return select(axisTitle(axis), `advice-${axis}`, values.map((value) => [value, valueWords(axis, value)]), state.filters[axis], (value) => setFilter(axis, value));
}

function showAdvice() {
  const place = document.getElementById("advice");
  const g = state.kind === "task" ? undefined : groupsLeft()[0];
  place.parentElement.hidden = g === undefined;
  if (g === undefined) return;
  const rows = candidates(g);
  const { words, first } = answerOf(g, rows);
  const change = (name) => (value) => { state[name] = value; show(); };
  const scores = [["", "any score"], ...(ladderAsked() ? [] : LEAST.map((least) => [least, `${least} %`]))];
  const choices = [
    ...["mode", "length"].filter((axis) => axis in state.filters && state.filters[axis] !== ALL).map(adviceChoice),
    ...(TASKS.length ? [select("Task", "advice-task", TASKS.map((task) => [task, task]), state.scoreTask, change("scoreTask")), select("At least", "advice-least", scores, leastAsked(), change("least"))] : []),
  ];
  const slower = (one) => (firstPlace(one) === null || !first.length ? "yes, not ranked" : "yes, but slower");
  const answer = (one) => (one.said !== "yes" ? one.said || "no score" : first.includes(one) ? "yes" : slower(one));
  const numbers = ["latency_s", "peak_memory_bytes"].filter((name) => METRIC.has(name));
  place.replaceChildren(
    element("p", { class: "pair" }, ...choices),
    element("p", { class: "answer" }, words),
    plainTable("Rows, fastest first", ["row", "answer", ...(leastAsked() ? [state.scoreTask] : []), ...numbers.map((name) => METRIC.get(name).title)], rows.map((one) => [
      ROWS.word("name", one.row),
      answer(one),
      ...(leastAsked() ? [scoreRow(one.row) === null ? "" : told("accuracy", scoreRow(one.row))] : []),
      ...numbers.map((name) => told(name, one.row)),
    ])),
    state.kind === "speed" ? element("p", { class: "fine" }, "A recurrent row's time is that of this implementation; rows named *_ort and *_fla compute the same by other packages. Small tasks show what a mechanism cannot do, not how good a large model will be. With what is proven of each row, and the experiment that would say more: ", element("code", {}, adviceCommand(g))) : null,
  );
}
