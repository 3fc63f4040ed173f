// The page as a whole: the head, the bar, the run that the lower parts show.

function headFigures() {
  const items = [];
  for (const name of ["top1", "effective_rank"]) {
    const about = report.curves.texts[name] || {};
    runs.forEach((run) => {
      const curve = run.curves[name], value = curve && list(curve.value).at(-1);
      if (value === undefined || value === null || (name !== "top1" && runs.length > 1)) return;
      items.push([(name === "top1" ? "kNN top-1" : "effective rank") + (runs.length > 1 ? `, ${run.name}` : ""), figure(value, about.unit)]);
    });
  }
  if (runs.length === 1) {
    for (const name of ["epochs", "training time"]) {
      const fact = list(runs[0].facts).find((f) => f[0] === name);
      if (fact) items.push([name, fact[1]]);
    }
  }
  return items.slice(0, 8);
}

function startHead() {
  const names = runs.map((run) => run.name), title = names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
  document.title = `${title} – cldlua report`;
  byId("title").append(text(title));
  const recipe = list(runs[0].facts).find((f) => f[0] === "recipe"), state = list(runs[0].facts).find((f) => f[0] === "state");
  add(byId("subtitle"), [runs.length > 1 ? `${runs.length} runs side by side` : text([recipe && recipe[1], state && state[1]].filter((x) => x).join(", "))]);
  add(byId("figures"), headFigures().map(([name, value]) => el("div", {}, el("dt", {}, text(name)), el("dd", {}, text(value)))));
  add(byId("foot"), [`Made ${report.made} by cldlua ${report.version}. This file holds all that it shows and asks nothing of the network.`]);
}

function drawNotes(run) {
  const notes = list(run.notes);
  byId("notes").hidden = notes.length === 0;
  byId("notes").replaceChildren(...notes.map((note) => el("p", { class: "note" }, text(runs.length > 1 ? `${run.name}: ${note}` : note))));
}

function drawNav() {
  const sections = [...document.querySelectorAll("main section")].filter((s) => !s.hidden);
  byId("nav").replaceChildren(...sections.map((s) => el("a", { href: "#" + s.id }, s.dataset.name)));
}

let chosen = 0;

function drawRun() {
  const run = runs[chosen];
  if (runs.length > 1) for (const head of document.querySelectorAll("section.of-run h2")) head.dataset.run = run.name;
  for (const part of [drawNotes, drawViews, drawGallery, drawMap, drawGroups, drawConfusion]) part(run);
  drawNav();
}

function start() {
  startHead();
  startCurves();
  startSettings();
  if (runs.length > 1) {
    byId("chooser").hidden = false;
    add(byId("run"), runs.map((run, i) => el("option", { value: i }, run.name)));
    byId("run").addEventListener("change", (e) => { chosen = Number(e.target.value); drawRun(); });
  }
  drawRun();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawRun);
  window.addEventListener("scroll", hideTip, { passive: true });
  window.addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
}

start();
