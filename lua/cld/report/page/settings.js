// The runs' facts and settings: a list for one run, for several a table in which the rows that differ come first.

const pairs = (items) => el("dl", { class: "pairs" }, items.map(([name, value]) =>
  el("div", {}, el("dt", {}, text(name)), el("dd", {}, text(value)))));

function table(head, rows) {
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, text(h))))),
    el("tbody", {}, rows.map((row) => el("tr", {},
      el("th", { scope: "row" }, text(row.name)), row.values.map((v) => el("td", {}, v === false ? "–" : text(v))))))));
}

// A table of the facts that at least one of the runs has.
function factRows() {
  const names = [...new Set(runs.flatMap((run) => list(run.facts).map((f) => f[0])))];
  return names.map((name) => ({ name, values: runs.map((run) => (list(run.facts).find((f) => f[0] === name) || [])[1] ?? false) }));
}

function startSettings() {
  const rows = list(report.settings.rows), body = byId("settings-body");
  byId("settings").hidden = false;
  if (runs.length === 1) {
    add(body, [el("h3", {}, "The run"), table(["", runs[0].name], factRows()),
      el("h3", {}, "Its options"), pairs(rows.map((row) => [row.name, row.values[0]]))]);
    return;
  }
  const head = ["", ...runs.map((run) => run.name)], differing = rows.filter((r) => r.differs), same = rows.filter((r) => !r.differs);
  add(body, [el("h3", {}, differing.length > 0 ? "What differs" : "No option differs"),
    differing.length > 0 ? table(head, differing) : null,
    el("h3", {}, "The runs"), table(head, factRows()),
    el("details", {}, el("summary", {}, `${same.length} options that all runs share`), pairs(same.map((row) => [row.name, row.values[0]])))]);
}
