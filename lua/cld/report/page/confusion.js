// The confusion matrix: a table of numbers for few classes, a picture for many; and the pairs that are confused most.

const mostCells = 30;

const shade = (share) => `rgba(${variable("--shade")}, ${(0.06 + 0.74 * share).toFixed(3)})`;

function confusionTable(run, data, rows, totals) {
  const classes = [...Array(data.classes).keys()];
  return el("div", { class: "scroll" }, el("table", { class: "confusion" },
    el("thead", {}, el("tr", {}, el("td", {}), classes.map((c) => el("th", { scope: "col" }, text(className(run, c)))))),
    el("tbody", {}, classes.map((c) => el("tr", {}, el("th", { scope: "row", title: className(run, c) }, text(className(run, c))),
      classes.map((p) => {
        const count = rows[c].get(p) || 0, share = totals[c] ? count / totals[c] : 0;
        return el("td", { class: c === p ? "diagonal" : null, style: count ? { background: shade(share), color: share > 0.6 ? "var(--card)" : null } : null,
          title: `${count} of ${totals[c]} ${className(run, c)} taken for ${className(run, p)}` }, count || "");
      }))))));
}

function confusionPicture(run, data, rows, totals) {
  const n = data.classes, canvas = el("canvas", { class: "heat", width: n, height: n, role: "img", "aria-label": `Confusion of ${n} classes` });
  const context = canvas.getContext("2d");
  for (let c = 0; c < n; c++) {
    for (const [p, count] of rows[c]) {
      context.fillStyle = shade(count / totals[c]);
      context.fillRect(p, c, 1, 1);
    }
  }
  canvas.addEventListener("pointermove", (e) => {
    const box = canvas.getBoundingClientRect(), p = Math.floor((e.clientX - box.left) / box.width * n), c = Math.floor((e.clientY - box.top) / box.height * n);
    if (!rows[c] || p < 0 || p >= n) return hideTip();
    showTip(e.clientX, e.clientY, el("div", {}, el("b", {}, String(rows[c].get(p) || 0)), ` of ${totals[c]}`), el("div", {}, text(className(run, c))),
      el("div", { class: "where" }, "taken for ", text(className(run, p))));
  });
  canvas.addEventListener("pointerleave", hideTip);
  return canvas;
}

function drawConfusion(run) {
  const data = run.confusion, body = byId("confusion-body");
  byId("confusion").hidden = !data;
  body.replaceChildren();
  if (!data) return;
  const rows = [...Array(data.classes)].map(() => new Map()), totals = Array(data.classes).fill(0), wrong = [];
  for (const [c, p, count] of list(data.cells)) {
    rows[c].set(p, count);
    totals[c] += count;
    if (c !== p) wrong.push([c, p, count]);
  }
  byId("confusion-lead").textContent = `Of ${data.images.toLocaleString("en")} test images ${data.right.toLocaleString("en")} ` +
    `(${(100 * data.right / data.images).toFixed(2)} %) are given their own class by their ${data.k} nearest among ${data.memory.toLocaleString("en")} training images. ` +
    "A row is a class, a column what its images are taken for.";
  wrong.sort((a, b) => b[2] / totals[b[0]] - a[2] / totals[a[0]] || b[2] - a[2]);
  add(body, [data.classes <= mostCells ? confusionTable(run, data, rows, totals) : confusionPicture(run, data, rows, totals),
    wrong.length > 0 ? [el("h3", {}, "Most often confused"), el("dl", { class: "pairs" }, wrong.slice(0, 12).map(([c, p, count]) =>
      el("div", {}, el("dt", {}, text(className(run, c)), " taken for ", text(className(run, p))), el("dd", {}, `${count} of ${totals[c]}`))))] : null]);
}
