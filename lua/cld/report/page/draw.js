// What all parts of the page share: elements, numbers, colours, axes, thumbnails, the tooltip under the pointer. Text
// from the data only ever becomes text nodes.

const report = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// An empty Lua table is an object in JSON.
const list = (value) => (Array.isArray(value) ? value : []);
const runs = list(report.runs);

function add(parent, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

const el = (tag, attributes, ...children) => add(set(document.createElement(tag), attributes), children);
const svg = (tag, attributes, ...children) =>
  add(set(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes), children);
const text = (value) => el("span", { class: "text" }, value);

// ---- numbers ------------------------------------------------------------------------------------

function figure(value, unit) {
  if (value === null || value === undefined) return "not finite";
  if (unit === "share") return (100 * value).toFixed(2) + " %";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(3).replace("e+", "e");
  return String(Number(value.toPrecision(5)));
}

function duration(seconds) {
  const s = Math.round(seconds), two = (x) => String(x).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
}

// Round numbers from low to high, about as many as wanted and no fewer than three.
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(wanted, 1), power = 10 ** Math.floor(Math.log10(rough));
  let found = [];
  for (const m of [10, 5, 2, 1, 0.5]) {
    const step = m * power;
    found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
    if (found.length >= Math.max(3, wanted - 1)) break;
  }
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
    for (const m of [1, 2, 5]) if (m * 10 ** p >= low * 0.999 && m * 10 ** p <= high * 1.001) found.push(m * 10 ** p);
  }
  return found.length > 6 ? found.filter((x) => Math.abs(Math.log10(x) % 1) < 1e-9) : found;
}

// ---- colours ------------------------------------------------------------------------------------

const colours = 8;
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (i) => `var(--c${i % colours})`;
const dashes = ["", "7 4", "2 4", "9 3 2 3"]; // for lines of the same colour

// Classes beyond the eighth repeat the colours, with other shapes.
const shapes = ["circle", "ring", "triangle", "cross", "diamond"];
const shapeOf = (label) => shapes[Math.floor(label / colours) % shapes.length];

const corners = {
  triangle: [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
  diamond: [[0, -1.35], [1.1, 0], [0, 1.35], [-1.1, 0]],
  cross: [[-.4, -1.2], [.4, -1.2], [.4, -.4], [1.2, -.4], [1.2, .4], [.4, .4], [.4, 1.2], [-.4, 1.2], [-.4, .4], [-1.2, .4], [-1.2, -.4], [-.4, -.4]],
};

// Draws a mark of the shape in the context's fillStyle.
function mark(context, shape, x, y, r) {
  context.beginPath();
  if (shape === "ring") {
    context.arc(x, y, r * 0.85, 0, 2 * Math.PI);
    context.strokeStyle = context.fillStyle;
    context.lineWidth = r * 0.5;
    context.stroke();
    return;
  }
  if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
  else corners[shape].forEach(([dx, dy], i) => (i ? context.lineTo(x + dx * r, y + dy * r) : context.moveTo(x + dx * r, y + dy * r)));
  context.fill();
}

// ---- thumbnails ---------------------------------------------------------------------------------

const side = 32;

// Draws a thumbnail of the run into a canvas element that is `pixels` wide.
function thumbnail(run, slot, pixels, label) {
  const pictures = run.pictures, canvas = el("canvas", { width: side * 2, height: side * 2, role: "img", "aria-label": label || "" });
  if (pixels) set(canvas, { style: { width: pixels + "px", height: pixels + "px" } });
  const image = pictures.id && byId(pictures.id), context = canvas.getContext("2d");
  if (!image || slot >= pictures.count) return canvas;
  const put = () => image.naturalWidth > 0 && context.drawImage(image, (slot % pictures.columns) * side, Math.floor(slot / pictures.columns) * side, side, side,
    0, 0, side * 2, side * 2);
  if (image.complete) put(); else image.addEventListener("load", put);
  return canvas;
}

const className = (run, label) => (label >= 0 ? list(run.classes)[label] ?? `class ${label}` : "no class");

function pictureName(run, slot) {
  const pictures = run.pictures;
  return list(pictures.name)[slot] || `${list(pictures.sets)[pictures.set[slot]]}, image ${pictures.row[slot]}`;
}

// ---- the tooltip --------------------------------------------------------------------------------

const tip = byId("tip");

function showTip(x, y, ...children) {
  tip.replaceChildren();
  add(tip, children);
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), room = document.documentElement.clientWidth;
  let left = x + 16, top = y + 16;
  if (left + box.width > room - 8) left = x - box.width - 16;
  if (left < 8) left = Math.max(8, Math.min(room - box.width - 8, x - box.width / 2));
  if (top + box.height > window.innerHeight - 8) top = y - box.height - 16;
  set(tip, { style: { left: left + "px", top: Math.max(8, top) + "px" } });
}

const hideTip = () => { tip.hidden = true; };

// ---- switches -----------------------------------------------------------------------------------

// A row of choices, one of which is selected; changed(value) is called when the selection changes.
function segments(legend, name, choices, chosen, changed) {
  return el("fieldset", {}, el("legend", {}, legend), el("div", { class: "segments" }, choices.map(([value, shown]) =>
    el("label", {}, el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => changed(value) }),
      el("span", {}, shown)))));
}
