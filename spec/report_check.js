// What a person does with a report, done in the page itself by spec/report_check.lua, which puts this behind the page's own
// scripts: everything is pointed at, switched and reached by keyboard. What went wrong goes to the page around, as JSON.
const found = [];
const expect = (holds, what) => { if (!holds) found.push(what); };
const tipText = () => (tip.hidden ? "" : tip.textContent);

function pointAt(element, x, y) {
  const box = element.getBoundingClientRect();
  element.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
}

const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const choose = (name, value) => document.querySelector(`input[name="${name}"][value="${value}"]`).click();
const wide = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth;

function checkCurves() {
  for (const panel of panels) {
    const shown = panel.lines.flat().filter((p) => p);
    if (shown.length === 0) continue;
    const last = panel.lines.find((points) => points.some((p) => p)), point = last.filter((p) => p).at(-1);
    panel.plot.scrollIntoView();
    pointAt(panel.plot, panel.scale.x(point[0]), 50);
    expect(tipText().includes(figure(point[1], panel.unit)), `${panel.name}: pointing at its end shows '${tipText()}', not ${figure(point[1], panel.unit)}`);
    expect(/epoch|step/.test(tipText()), `${panel.name}: the read-out names no epoch and no step`);
    panel.leave();
    press(panel.plot, "ArrowRight");
    expect(tipText() !== "", `${panel.name}: the arrow keys show nothing`);
    press(panel.plot, "Escape");
    expect(tipText() === "", `${panel.name}: Escape does not end the read-out`);
  }
  for (const x of ["step", "seconds", "epoch"]) { choose("along", x); expect(panels.some((p) => p.scale), `no curve along ${x}`); }
  choose("scale", "log");
  expect(panels.some((p) => p.scale), "no curve on a log scale");
  choose("scale", "linear");
}

function checkMap(run) {
  byId("map").scrollIntoView();
  for (const kind of ["tsne", "pca"]) {
    if (!document.querySelector(`input[name="kind"][value="${kind}"]`)) continue;
    choose("kind", kind);
    const [x, y] = featureMap.place(3);
    pointAt(featureMap.canvas, x, y);
    expect(featureMap.at !== undefined && !tip.hidden, `${kind}: pointing at an image shows nothing`);
    const canvas = tip.querySelector("canvas"), pixels = canvas && canvas.getContext("2d").getImageData(0, 0, 64, 64).data;
    expect(pixels && pixels.some((v, i) => i % 4 !== 3 && v > 0), `${kind}: the image under the pointer is empty`);
    const before = featureMap.at;
    press(featureMap.canvas, "ArrowRight");
    press(featureMap.canvas, "ArrowLeft");
    press(featureMap.canvas, "ArrowUp");
    expect(featureMap.at !== undefined && before !== undefined, `${kind}: the arrow keys go nowhere`);
    featureMap.leave();
  }
  const key = byId("map-legend").querySelector("button");
  if (key) { key.click(); expect(mapState.selected.size === 1, "a class cannot be seen alone"); }
  if (run.map.predicted) { choose("by", "right"); choose("by", "class"); }
}

function checkRun(run) {
  const parts = { views: run.views, neighbours: run.gallery, map: run.map, groups: run.groups, confusion: run.confusion };
  for (const [id, data] of Object.entries(parts)) expect(byId(id).hidden === !data, `${run.name}: the section '${id}' is ${data ? "hidden" : "shown"}`);
  for (const note of document.querySelectorAll("#notes .note")) expect(runs.length === 1 || note.textContent.startsWith(run.name + ": "), `${run.name}: a note of its does not name it`);
  for (const head of document.querySelectorAll(".of-run h2")) expect(runs.length === 1 || head.dataset.run === run.name, `${run.name}: '${head.textContent}' does not name it`);
  if (run.map) checkMap(run);
  for (const canvas of document.querySelectorAll("#gallery canvas, #views canvas, #groups canvas")) {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    if (!data.some((v, i) => i % 4 === 3 && v > 0)) { found.push(`${run.name}: a picture is empty`); break; }
  }
  const cell = document.querySelector("#groups .hit");
  if (cell) { cell.dispatchEvent(new PointerEvent("pointerenter")); expect(/images/.test(tipText()), "a group's size is not shown"); }
}

function check() {
  try {
    for (const image of document.images) expect(image.complete && image.naturalWidth > 0, `the picture '${image.id}' did not load`);
    expect(document.title.includes(runs[0].name), "the title does not name the run");
    expect(performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length === 0, "something was fetched");
    if (panels.length > 0) checkCurves();
    runs.forEach((run, i) => {
      if (i > 0) { byId("run").value = i; byId("run").dispatchEvent(new Event("change")); }
      checkRun(run);
    });
    expect(wide(), "the page is wider than the window");
    for (const control of document.querySelectorAll("button, select, input, a, .panel svg, .map-plot canvas")) {
      if (!control.closest("[hidden]")) expect(control.tabIndex >= 0, `${control.tagName} cannot be reached by keyboard`);
    }
  } catch (problem) {
    found.push(`${problem} ${problem.stack}`);
  }
  for (const problem of window.problems) found.push(problem);
  const result = { runs: runs.length, panels: panels.length, pictures: document.images.length, width: window.innerWidth, found: [...new Set(found)] };
  parent.postMessage(JSON.stringify(result), "*");
}

if (document.readyState === "complete") check(); else window.addEventListener("load", check);
