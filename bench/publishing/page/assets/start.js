// Controls, and what happens when one is used.

let chartTimer = 0;

function show() {
  writeFragment();
  showTable();
  keepingFocus(() => { showControls(); showAdvice(); });
  clearTimeout(chartTimer); // charts follow when the table has answered
  chartTimer = setTimeout(showCharts, 60);
}

function setFilter(axis, value) {
  state.filters[axis] = value;
  show();
}

function filterBox(label, id, options, value, onchange) {
  const box = select(label, `filter-${id}`, options, value, onchange);
  if (options.length < 2) box.querySelector("select").disabled = true;
  return box;
}

function axisBox(axis) {
  const values = new Set(groupsLeft(axis).map((g) => axisValue(GROUPS[g], axis)));
  values.delete(null);
  if (state.filters[axis] !== ALL) values.add(state.filters[axis]);
  const number = (value) => (isNaN(value) ? null : Number(value));
  const sorted = [...values].sort((a, b) => (number(a) !== null && number(b) !== null ? number(a) - number(b) : a.localeCompare(b)));
  const options = sorted.map((value) => [value, valueWords(axis, value)]);
  if (options.length > 1) options.push([ALL, "all"]);
  return filterBox(axisTitle(axis), axis, options, state.filters[axis], (value) => setFilter(axis, value));
}

function ownBox(name, values) {
  const options = [[ALL, "all"], ...values.map((value) => [value, value])];
  return filterBox(axisTitle(name), name, options, state.own[name], (value) => { state.own[name] = value; show(); });
}

function showControls() {
  document.getElementById("kinds").replaceChildren(
    ...KINDS_HERE.map((kind) =>
      element("button", { type: "button", id: `kind-${kind}`, "aria-pressed": String(kind === state.kind), onclick: () => { resetState(kind); showAll(); } }, KINDS[kind])),
  );
  const rows = rowsOf(groupsLeft());
  const all = Object.values(CONTENT.mechanisms);
  const boxes = axesOf(state.kind).map(axisBox);
  if (state.kind !== "task" && TASKS.length) {
    boxes.push(filterBox("Task: accuracy on", "score-task", TASKS.map((task) => [task, task]), state.scoreTask, (value) => { state.scoreTask = value; show(); }));
  }
  boxes.push(ownBox("family", [...new Set(all.map(({ family }) => family))].sort()));
  boxes.push(ownBox("capability", [...new Set(all.flatMap(({ claims }) => claims))].sort()));
  const compilers = new Set(rows.map((row) => ROWS.word("compile", row)).filter(Boolean));
  if (compilers.size > 1 || state.own.compile !== ALL) boxes.push(ownBox("compile", [...compilers]));
  document.getElementById("filters").replaceChildren(...boxes);
  showColumnList();
  document.getElementById("search").value = state.search;
}

function showColumnList() {
  const texts = textsHere(rowsOf(groupsLeft()));
  const metrics = [...metricsHere(), ...texts];
  const shown = new Set([...columnsShown(metricsHere()), ...textsShown(texts)].map(({ name }) => name));
  const toggle = (name) => (event) => {
    if (event.target.checked) shown.add(name);
    else shown.delete(name);
    state.columns = metrics.filter((metric) => shown.has(metric.name)).map((metric) => metric.name);
    show();
  };
  const box = (name, words, meaning, checked, onchange) =>
    element("label", { title: meaning }, element("input", { type: "checkbox", id: `column-${name}`, checked, onchange }), ` ${words}`);
  document.getElementById("column-list").replaceChildren(
    box("intervals", "95 % intervals", "Behind each number; they are also in each row's details", state.intervals !== "", (event) => { state.intervals = event.target.checked ? "yes" : ""; show(); }),
    ...metrics.map((metric) => box(metric.name, titleOf(metric, []), metric.meaning, shown.has(metric.name), toggle(metric.name))),
  );
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.getElementById("theme").textContent = dark ? "Light" : "Dark";
}

function start() {
  document.getElementById("narrow").open = innerWidth >= NARROW;
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
  document.getElementById("theme").addEventListener("click", () => { setTheme(!isDark()); show(); });
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  let typing = 0;
  document.getElementById("search").addEventListener("input", (event) => {
    state.search = event.target.value;
    clearTimeout(typing);
    typing = setTimeout(show, 120);
  });
  document.getElementById("csv").addEventListener("click", saveCsv);
  document.getElementById("reset").addEventListener("click", () => { resetState(state.kind); showAll(); });
  document.getElementById("drawer").addEventListener("close", drawerClosed);
  document.getElementById("drawer").addEventListener("click", (event) => { if (event.target.id === "drawer") event.target.close(); });
  addEventListener("hashchange", () => {
    if (location.hash && !location.hash.includes("=")) return; // a place on the page, not a view
    readFragment();
    showAll();
  });
  addEventListener("beforeprint", () => { document.querySelectorAll(".conclusions").forEach((one) => (one.open = true)); });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(chartTimer); chartTimer = setTimeout(showCharts, 200); } });
  readFragment();
  showAll();
}

function showAll() {
  if (!state.kind) {
    document.getElementById("said").textContent = "There are no records.";
    return;
  }
  const { open } = state;
  show();
  showCompare();
  if (open) showDrawer(open);
}

start();
