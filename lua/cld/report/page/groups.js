// Sizes of the groups, the largest first, and some images of the largest.

function groupText(run, group) {
  return [`${group.size} images`, group.label !== undefined && group.label >= 0 ? `${group.share} of them ${className(run, group.label)}` : ""];
}

function groupBars(run, groups) {
  const width = byId("groups-body").clientWidth || 1000, height = 220, left = 48, bottom = 16, top = 14;
  const step = (width - left - 14) / groups.length, most = groups[0].size;
  const plot = svg("svg", { class: "bars", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Sizes of the groups" });
  const y = (v) => height - bottom - v / most * (height - bottom - top);
  for (const v of ticks(0, most, 4).filter(Number.isInteger)) {
    add(plot, [svg("line", { class: "grid", x1: left, x2: width - 14, y1: y(v), y2: y(v) }),
      svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, v)]);
  }
  groups.forEach((group, i) => {
    const x = left + i * step, bar = Math.max(step * 0.82, 0.8), own = group.share || 0, [size, majority] = groupText(run, group);
    add(plot, [svg("rect", { class: "rest", x, y: y(group.size), width: bar, height: y(0) - y(group.size) }),
      svg("rect", { x, y: y(own), width: bar, height: y(0) - y(own) })]);
    const hit = svg("rect", { class: "hit", x, y: top, width: step, height: height - bottom - top, tabindex: i < 60 ? 0 : null, role: "img",
      "aria-label": `group ${i + 1}: ${size} ${majority}` });
    const show = () => {
      const box = hit.getBoundingClientRect();
      showTip(box.left + box.width / 2, box.top + 20, el("b", {}, size), majority ? el("div", {}, text(majority)) : null);
    };
    hit.addEventListener("pointerenter", show);
    hit.addEventListener("focus", show);
    hit.addEventListener("pointerleave", hideTip);
    hit.addEventListener("blur", hideTip);
    add(plot, [hit]);
  });
  return plot;
}

function drawGroups(run) {
  const data = run.groups, groups = data ? list(data.groups) : [];
  byId("groups").hidden = groups.length === 0;
  byId("groups-body").replaceChildren();
  if (groups.length === 0) return;
  const hasClasses = groups.some((g) => g.label !== undefined && g.label >= 0);
  byId("groups-lead").textContent = `What k-means makes of ${data.rows.toLocaleString("en")} training images by ${data.by}: ${groups.length} groups, ` +
    `the largest of ${groups[0].size} images and the smallest of ${groups[groups.length - 1].size}` +
    (data.empty > 0 ? `, and ${data.empty} without one. ` : ". ") + (hasClasses ? "The full part of a bar is the group's commonest class." : "");
  const pictured = groups.filter((g) => list(g.slots).length > 0);
  add(byId("groups-body"), [groupBars(run, groups), el("div", { class: "group-list" }, pictured.map((group) => el("figure", {},
    el("figcaption", {}, text(groupText(run, group).filter((t) => t).join(", "))),
    el("div", { class: "strip" }, list(group.slots).map((slot) => thumbnail(run, slot, null, pictureName(run, slot)))))))]);
}
