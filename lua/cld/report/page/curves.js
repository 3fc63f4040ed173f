// A panel for each name that was logged, with the curves of all runs. The values at the pointer are shown, also by
// keyboard.

const curveState = { x: "epoch", log: false, hidden: new Set() };
const panelHeight = 180;

// The points of one run's curve: [x, value, index], those that can be shown.
function pointsOf(run, name) {
  const curve = run.curves[name], points = [];
  if (!curve) return points;
  list(curve.value).forEach((value, i) => {
    const x = list(curve[curveState.x])[i];
    points.push(x === null || x === undefined || value === null || (curveState.log && value <= 0) ? null : [x, value, i]);
  });
  return points;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  return [low, high];
}

function nearest(points, x) {
  let best = null;
  for (const p of points) if (p && (!best || Math.abs(p[0] - x) < Math.abs(best[0] - x))) best = p;
  return best;
}

const shownX = (x) => (curveState.x === "seconds" ? duration(x) : figure(x));

function scaleOf(all, width, unit) {
  const isLog = curveState.log, map = (v) => (isLog ? Math.log10(v) : v);
  let [x0, x1] = extent(all.map((p) => p[0])), [y0, y1] = extent(all.map((p) => p[1]));
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  const marks = isLog ? logTicks(y0, y1) : y0 === y1 ? [y0] : ticks(y0, y1, 4);
  let low = map(y0), high = map(y1);
  const air = high > low ? 0.06 * (high - low) : Math.max(Math.abs(low) * 0.1, 0.5);
  low -= air; high += air;
  const label = Math.max(...marks.map((m) => axisNumber(m, unit).length), 1) * 6.4 + 10;
  const box = { left: label, right: width - 8, top: 8, bottom: panelHeight - 24 };
  return {
    box, marks, xmarks: curveState.x === "seconds" ? timeTicks(x0, x1) : ticks(x0, x1, Math.max(2, (box.right - box.left) / 80)),
    x: (v) => box.left + (v - x0) / (x1 - x0) * (box.right - box.left),
    y: (v) => box.bottom - (map(v) - low) / (high - low) * (box.bottom - box.top),
    back: (px) => x0 + (px - box.left) / (box.right - box.left) * (x1 - x0),
  };
}

function axisNumber(v, unit) {
  if (unit === "share") return Number((100 * v).toPrecision(4)) + " %";
  const size = Math.abs(v);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? v.toExponential().replace("e+", "e") : String(Number(v.toPrecision(6)));
}

function timeTicks(low, high) {
  const steps = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];
  const step = steps.find((s) => (high - low) / s <= 5) || Math.ceil((high - low) / 5 / 86400) * 86400, found = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  return found;
}

class Panel {
  constructor(name) {
    const about = report.curves.texts[name] || {};
    this.name = name;
    this.unit = about.unit;
    this.last = el("span", { class: "last" });
    this.plot = svg("svg", { tabindex: 0, role: "img" });
    this.element = el("figure", { class: "panel", "data-curve": name },
      el("figcaption", {}, el("span", { class: "what" }, text(name)), this.last), el("p", { class: "about" }, about.text || ""), this.plot);
    this.plot.addEventListener("pointermove", (e) => this.point(e.clientX, e.clientY));
    this.plot.addEventListener("pointerdown", (e) => this.point(e.clientX, e.clientY));
    this.plot.addEventListener("pointerleave", () => this.leave());
    this.plot.addEventListener("blur", () => this.leave());
    this.plot.addEventListener("keydown", (e) => this.key(e));
  }

  draw() {
    const width = this.plot.clientWidth || 320;
    this.plot.replaceChildren();
    this.plot.setAttribute("viewBox", `0 0 ${width} ${panelHeight}`);
    this.lines = runs.map((run, i) => (curveState.hidden.has(i) ? [] : pointsOf(run, this.name)));
    const all = this.lines.flat().filter((p) => p);
    this.scale = null;
    this.last.textContent = runs.length === 1 ? this.lastText() : "";
    this.plot.setAttribute("aria-label", `${this.name}: ${all.length} points. ${this.lastText()}`);
    if (all.length === 0) {
      add(this.plot, [svg("text", { x: width / 2, y: panelHeight / 2, "text-anchor": "middle" },
        curveState.log ? "nothing above zero to show" : "nothing to show")]);
      return;
    }
    const s = this.scale = scaleOf(all, width, this.unit), b = s.box;
    for (const m of s.marks) {
      add(this.plot, [svg("line", { class: "grid", x1: b.left, x2: b.right, y1: s.y(m), y2: s.y(m) }),
        svg("text", { x: b.left - 6, y: s.y(m) + 4, "text-anchor": "end" }, axisNumber(m, this.unit))]);
    }
    add(this.plot, [svg("line", { class: "axis", x1: b.left, x2: b.right, y1: b.bottom, y2: b.bottom })]);
    for (const m of s.xmarks) {
      add(this.plot, [svg("text", { x: s.x(m), y: b.bottom + 17, "text-anchor": "middle" },
        curveState.x === "seconds" ? duration(m) : axisNumber(m))]);
    }
    this.lines.forEach((points, i) => this.line(points, i));
    this.cross = svg("g", {});
    add(this.plot, [this.cross]);
  }

  line(points, i) {
    const s = this.scale, style = { stroke: colour(i), strokeDasharray: dashes[Math.floor(i / colours) % dashes.length] };
    let path = "", pen = false, count = 0;
    for (const p of points) {
      if (p) { path += `${pen ? "L" : "M"}${s.x(p[0]).toFixed(1)} ${s.y(p[1]).toFixed(1)}`; count++; }
      pen = Boolean(p);
    }
    add(this.plot, [svg("path", { class: "curve", d: path, style })]);
    if (count <= 40) {
      for (const p of points) {
        if (p) add(this.plot, [svg("circle", { cx: s.x(p[0]), cy: s.y(p[1]), r: 2.2, style: { fill: colour(i) } })]);
      }
    }
  }

  lastText() {
    return runs.map((run, i) => {
      const curve = run.curves[this.name], values = curve ? list(curve.value) : [];
      if (values.length === 0) return "";
      return (runs.length > 1 ? run.name + " " : "") + figure(values[values.length - 1], this.unit);
    }).filter((x) => x).join(", ");
  }

  // Shows the values of the points nearest to a place on the screen.
  point(clientX, clientY) {
    if (!this.scale) return;
    const frame = this.plot.getBoundingClientRect();
    this.show(this.scale.back(clientX - frame.left), clientX, clientY);
  }

  show(x, clientX, clientY) {
    const found = this.lines.map((points, i) => ({ i, p: nearest(points, x) })).filter((f) => f.p);
    if (found.length === 0) return;
    found.sort((a, b) => Math.abs(a.p[0] - x) - Math.abs(b.p[0] - x) || a.i - b.i);
    const at = found[0].p[0], first = runs[found[0].i].curves[this.name], s = this.scale;
    this.at = at;
    this.cross.replaceChildren();
    add(this.cross, [svg("line", { class: "cross", x1: s.x(at), x2: s.x(at), y1: s.box.top, y2: s.box.bottom })]);
    for (const f of found) {
      add(this.cross, [svg("circle", { cx: s.x(f.p[0]), cy: s.y(f.p[1]), r: 4, style: { fill: colour(f.i), stroke: "var(--card)" } })]);
    }
    const n = found[0].p[2], step = list(first.step)[n], epoch = list(first.epoch)[n], seconds = list(first.seconds)[n];
    const where = [epoch != null ? `epoch ${figure(epoch)}` : "", step != null ? `step ${figure(step)}` : "", seconds != null ? duration(seconds) : ""];
    const rows = found.sort((a, b) => a.i - b.i).map((f) => el("div", { class: "row" },
      el("span", { class: "swatch", style: { background: colour(f.i) } }),
      el("span", { class: "text" }, runs.length > 1 ? runs[f.i].name : this.name), el("b", {}, figure(f.p[1], this.unit))));
    showTip(clientX, clientY, rows, el("div", { class: "where" }, where.filter((w) => w).join(" · ")));
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.leave();
    if (!move || !this.scale) return;
    event.preventDefault();
    const xs = [...new Set(this.lines.flat().filter((p) => p).map((p) => p[0]))].sort((a, b) => a - b);
    let i = this.at === undefined ? (move > 0 ? -1 : xs.length) : xs.indexOf(this.at);
    i = Math.max(0, Math.min(xs.length - 1, i + move));
    const frame = this.plot.getBoundingClientRect();
    this.show(xs[i], frame.left + this.scale.x(xs[i]), frame.top + panelHeight / 2);
  }

  leave() {
    hideTip();
    this.at = undefined;
    if (this.cross) this.cross.replaceChildren();
  }
}

function runKey(run, i) {
  return el("button", { class: "key", type: "button", "aria-pressed": "true", onclick: (e) => {
    if (!curveState.hidden.delete(i)) curveState.hidden.add(i);
    e.currentTarget.setAttribute("aria-pressed", String(!curveState.hidden.has(i)));
    drawCurves();
  } }, svg("svg", { width: 22, height: 8 }, svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 3,
    style: { stroke: colour(i), strokeDasharray: dashes[Math.floor(i / colours) % dashes.length] } })), text(run.name));
}

let panels = [];
const drawCurves = () => panels.forEach((p) => p.draw());

function startCurves() {
  const names = list(report.curves.names);
  if (names.length === 0) return;
  byId("curves").hidden = false;
  add(byId("curve-controls"), [
    segments("Along", "along", [["epoch", "epochs"], ["step", "steps"], ["seconds", "time"]], "epoch", (v) => { curveState.x = v; drawCurves(); }),
    segments("Scale", "scale", [["linear", "linear"], ["log", "log"]], "linear", (v) => { curveState.log = v === "log"; drawCurves(); }),
    runs.length > 1 ? runs.map(runKey) : null]);
  panels = names.map((name) => new Panel(name));
  add(byId("panels"), panels.map((p) => p.element));
  drawCurves();
  let width = 0;
  new ResizeObserver(() => {
    const now = byId("panels").clientWidth;
    if (now !== width) { width = now; drawCurves(); }
  }).observe(byId("panels"));
}
