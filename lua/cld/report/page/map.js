// The map of the features: a canvas of points, each of which knows its image.

const mapState = { kind: "tsne", by: "class", selected: new Set() };
const mapSpan = 4095; // coordinates are integers from 0 to that
const mostColours = colours * shapes.length; // classes that look different

class FeatureMap {
  constructor(run) {
    this.run = run;
    this.map = run.map;
    this.canvas = el("canvas", { tabindex: 0, role: "application", "aria-label": "Map of the features. The arrow keys go from image to image." });
    this.canvas.addEventListener("pointermove", (e) => this.point(e));
    this.canvas.addEventListener("pointerdown", (e) => this.point(e));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
    this.canvas.addEventListener("keydown", (e) => this.key(e));
    byId("map-plot").replaceChildren(this.canvas);
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(byId("map-plot"));
  }

  get places() { return this.map[mapState.kind] || this.map.tsne || this.map.pca; }
  get count() { return list(this.map.slots).length; }

  // Where point i lies on the canvas, in its pixels.
  place(i) {
    const { width, height } = this.size, air = 22, side = Math.min(width, height) - 2 * air;
    return [(width - side) / 2 + this.places.x[i] / mapSpan * side, (height - side) / 2 + (1 - this.places.y[i] / mapSpan) * side];
  }

  isFaded(i) {
    return mapState.selected.size > 0 && !mapState.selected.has(this.map.labels[i]);
  }

  // The colour's number and the shape of point i.
  look(i) {
    const label = this.map.labels[i];
    if (mapState.by === "right" && this.map.predicted) return label === this.map.predicted[i] ? [0, "circle"] : [5, "cross"];
    if (label < 0) return [0, "circle"];
    if (list(this.run.classes).length > mostColours) return [mapState.selected.has(label) ? 5 : 0, "circle"];
    return [label % colours, shapeOf(label)];
  }

  draw() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    if (box.width < 10) return;
    this.size = { width: box.width, height: box.height };
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    const context = this.canvas.getContext("2d"), inks = [...Array(colours).keys()].map((c) => variable(`--c${c}`));
    context.scale(ratio, ratio);
    const small = Math.min(box.width, box.height) < 420 ? 0.75 : 1;
    this.radius = small * (this.count > 4000 ? 2.3 : this.count > 1200 ? 3 : 4.2);
    for (const faded of [true, false]) {
      for (let i = 0; i < this.count; i++) {
        if (this.isFaded(i) !== faded) continue;
        const [ink, shape] = this.look(i), [x, y] = this.place(i);
        context.globalAlpha = faded ? 0.12 : 0.82;
        context.fillStyle = inks[ink];
        mark(context, shape, x, y, this.radius);
      }
    }
    if (this.at !== undefined) {
      const [x, y] = this.place(this.at);
      context.globalAlpha = 1;
      context.lineWidth = 2;
      context.strokeStyle = variable("--ink");
      context.beginPath();
      context.arc(x, y, this.radius + 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  nearest(x, y, within, fits) {
    let best, least = within * within;
    for (let i = 0; i < this.count; i++) {
      if (this.isFaded(i)) continue;
      const [px, py] = this.place(i), d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least && (!fits || fits(px - x, py - y))) { best = i; least = d; }
    }
    return best;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const found = this.nearest(event.clientX - box.left, event.clientY - box.top, 20);
    if (found === undefined) this.leave(); else this.show(found);
  }

  show(i) {
    const run = this.run, map = this.map, slot = map.slots[i], box = this.canvas.getBoundingClientRect(), [x, y] = this.place(i);
    if (this.at !== i) { this.at = i; this.draw(); }
    const lines = [];
    if (map.labels[i] >= 0) lines.push(el("div", {}, el("b", { class: "text" }, className(run, map.labels[i]))));
    if (map.predicted && map.predicted[i] !== map.labels[i]) {
      lines.push(el("div", {}, "taken for ", text(className(run, map.predicted[i]))));
    }
    showTip(box.left + x, box.top + y, thumbnail(run, slot, 96, ""), lines, el("div", { class: "where" }, text(pictureName(run, slot))));
  }

  key(event) {
    if (event.key === "Escape") return this.leave();
    const fits = { ArrowLeft: (dx, dy) => dx < -0.5 && Math.abs(dy) < -1.5 * dx, ArrowRight: (dx, dy) => dx > 0.5 && Math.abs(dy) < 1.5 * dx,
      ArrowUp: (dx, dy) => dy < -0.5 && Math.abs(dx) < -1.5 * dy, ArrowDown: (dx, dy) => dy > 0.5 && Math.abs(dx) < 1.5 * dy }[event.key];
    if (!fits) return;
    event.preventDefault();
    const from = this.at === undefined ? [this.size.width / 2, this.size.height / 2] : this.place(this.at);
    const found = this.nearest(from[0], from[1], 1e4, this.at === undefined ? null : fits);
    if (found !== undefined) this.show(found);
  }

  leave() {
    hideTip();
    if (this.at !== undefined) { this.at = undefined; this.draw(); }
  }
}

let featureMap;

// A mark as on the map, for the legend.
function markOf(ink, shape) {
  const canvas = el("canvas", { width: 28, height: 28, "aria-hidden": "true", style: { width: "14px", height: "14px" } });
  const context = canvas.getContext("2d");
  context.fillStyle = variable(`--c${ink}`);
  mark(context, shape, 14, 14, 9);
  return canvas;
}

function mapLegend(run) {
  const classes = list(run.classes), counts = new Map();
  for (const label of list(run.map.labels)) counts.set(label, (counts.get(label) || 0) + 1);
  if (mapState.by === "right") return [[0, "circle", "right"], [5, "cross", "wrong"]].map(([ink, shape, what]) => el("span", { class: "key" }, markOf(ink, shape), what));
  return [...counts.keys()].filter((label) => label >= 0).sort((a, b) => a - b).map((label) =>
    el("button", { class: "key", type: "button", "aria-pressed": mapState.selected.size === 0 ? "mixed" : String(mapState.selected.has(label)),
      onclick: () => {
        if (!mapState.selected.delete(label)) mapState.selected.add(label);
        byId("map-legend").replaceChildren(...mapLegend(run));
        featureMap.draw();
      } }, classes.length > mostColours ? null : markOf(label % colours, shapeOf(label)), text(className(run, label)),
      el("span", { class: "muted" }, " " + counts.get(label))));
}

function mapLead(run) {
  const map = run.map, places = featureMap.places, shown = featureMap.count.toLocaleString("en");
  const what = `Each point is a ${map.is_test ? "test" : "training"} image; ${shown} of ${map.of.toLocaleString("en")} are here. `;
  const how = places === map.tsne
    ? `t-SNE keeps together what is near (perplexity ${map.tsne.perplexity}, divergence ${map.tsne.kl}); distances between clumps, and their sizes, mean little.`
    : "The two directions in which the features vary most.";
  byId("map-lead").textContent = what + how + (mapState.by === "class" && list(run.classes).length > 0 ? " Press a class to see it alone." : "");
}

function drawMap(run) {
  byId("map").hidden = !run.map;
  if (featureMap) { featureMap.watch.disconnect(); featureMap = undefined; }
  mapState.selected.clear();
  if (!run.map) return;
  featureMap = new FeatureMap(run);
  if (!run.map.predicted) mapState.by = "class";
  const again = () => { mapLead(run); byId("map-legend").replaceChildren(...mapLegend(run)); featureMap.leave(); featureMap.draw(); };
  const controls = [];
  if (run.map.pca && run.map.tsne) {
    controls.push(segments("By", "kind", [["tsne", "t-SNE"], ["pca", "principal components"]], mapState.kind, (v) => { mapState.kind = v; again(); }));
  }
  if (run.map.predicted) {
    controls.push(segments("Coloured by", "by", [["class", "class"], ["right", "right or wrong"]], mapState.by, (v) => { mapState.by = v; mapState.selected.clear(); again(); }));
  }
  byId("map-controls").replaceChildren(...controls);
  again();
}
