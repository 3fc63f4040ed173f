// Views of each program, and the gallery of nearest neighbours.

// The squares of a program's page, with space between them.
function viewsCanvas(program) {
  const scale = Math.max(1, Math.floor(128 / program.side)), cell = program.side * scale, gap = Math.round(cell / 16);
  const canvas = el("canvas", { width: program.columns * (cell + gap) - gap, height: program.images * (cell + gap) - gap, role: "img",
    "aria-label": `${program.images} training images, and views of each` });
  const image = byId(program.id), context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const put = () => {
    if (image.naturalWidth === 0) return;
    for (let row = 0; row < program.images; row++) {
      for (let column = 0; column < program.columns; column++) {
        context.drawImage(image, column * program.side, row * program.side, program.side, program.side,
          column * (cell + gap), row * (cell + gap), cell, cell);
      }
    }
  };
  if (image.complete) put(); else image.addEventListener("load", put);
  return canvas;
}

function drawViews(run) {
  const programs = list(run.views), body = byId("views-body");
  byId("views").hidden = programs.length === 0;
  body.replaceChildren();
  programs.forEach((program, i) => {
    const size = list(program.size);
    add(body, [el("figure", { class: "program" },
      el("h3", {}, programs.length > 1 ? `Views of the program ${i + 1}` : "The views",
        el("span", { class: "muted" }, ` ${size[1]} × ${size[0]} pixels` + (program.patches > 1 ? `, ${program.patches} patches of each image` : ""))),
      viewsCanvas(program), el("ul", { class: "steps" }, list(program.steps).map((s) => el("li", {}, text(s)))))]);
  });
}

function nearItem(run, query, near) {
  const known = query.label >= 0 && near.label >= 0, right = near.label === query.label;
  const what = `${className(run, near.label)}, similarity ${near.similarity.toFixed(2)}, ${pictureName(run, near.slot)}`;
  const state = known ? (right ? "right" : "wrong") : null;
  return el("li", { class: state, title: what }, thumbnail(run, near.slot, null, (state ? state + ": " : "") + what),
    known ? el("span", { class: "badge", "aria-hidden": "true" }, right ? "✓" : "×") : null);
}

function drawGallery(run) {
  const gallery = run.gallery, queries = gallery ? list(gallery.queries) : [];
  byId("neighbours").hidden = queries.length === 0;
  byId("gallery").replaceChildren();
  if (queries.length === 0) return;
  const all = queries.flatMap((q) => list(q.neighbours).map((n) => [q, n])).filter(([q, n]) => q.label >= 0 && n.label >= 0);
  const right = all.filter(([q, n]) => q.label === n.label).length;
  byId("neighbours-lead").textContent = `${queries.length} images, and those among ${gallery.memory.toLocaleString("en")} training images whose ` +
    `${gallery.layer === "features" ? "pooled features" : "features"} point most nearly the same way. ` + (all.length > 0
      ? `${right} of the ${all.length} neighbours have the image's own class (✓); those of another (×) are framed with dashes.` : "");
  add(byId("gallery"), queries.map((query) => el("li", {},
    el("div", { class: "query", title: pictureName(run, query.slot) }, thumbnail(run, query.slot, 64, `query: ${className(run, query.label)}`),
      query.label >= 0 ? text(className(run, query.label)) : null),
    el("ol", { class: "near" }, list(query.neighbours).map((near) => nearItem(run, query, near))))));
}
