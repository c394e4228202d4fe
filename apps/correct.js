// Putting the answer's places right: corners, edges and whole boxes are dragged, a drag
// elsewhere draws the chosen one anew, arrow keys move it. Follows viewer.js.
const SVG_GRIP = 4; // half a handle's side, in CSS pixels
let held = null; // what the pointer has
let chosen = -1; // the place that a new box replaces
let focused = -1; // the place that has the focus, to give it back after a redraw
let typed = null; // moved by keys and not sent yet

const correcting = () => canvas()?.dataset.edits !== undefined;
const edits = () => [...element.querySelectorAll("g.mm-edit")];
const edit = (k) => element.querySelector(`g.mm-edit[data-edit="${k}"]`);
const numbers = (g) => g.dataset.px.split(",").map(Number);
const between = (v, least, most) => Math.min(Math.max(v, least), most);
const sides = () => [Number(canvas().dataset.width), Number(canvas().dataset.height)];
const pixel = () => 1 / canvas().getScreenCTM().a; // of the screen, in the picture's

const put = (g, px) => {
  g.dataset.px = px.join(",");
  const set = (shape, values) => {
    for (const name in values) shape.setAttribute(name, values[name]);
  };
  if (px.length === 2) {
    set(g.querySelector("circle"), { cx: px[0], cy: px[1] });
    return;
  }
  const [x1, y1, x2, y2] = px;
  g.querySelectorAll("rect").forEach((rect) => {
    set(rect, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
  });
  const s = SVG_GRIP * pixel();
  const square = ([x, y]) => `M${x - s} ${y - s}h${2 * s}v${2 * s}h${-2 * s}z`;
  const corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]];
  set(g.querySelector("path"), { d: corners.map(square).join("") });
};
const redraw = () => {
  if (!correcting()) {
    chosen = focused = -1;
    return;
  }
  for (const g of edits()) {
    const mine = typed && typed.k === Number(g.dataset.edit);
    put(g, mine ? typed.px : numbers(g));
  }
  if (focused >= 0 && document.activeElement === document.body) {
    edit(focused)?.focus({ preventScroll: true });
  }
};

// Which part of a place lies at x, y: n, s, w, e or two of them, m for all of it.
const gripAt = (px, x, y, near) => {
  const [x1, y1, x2, y2] = px.length === 2 ? [...px, ...px] : px;
  if (x < x1 - near || x > x2 + near || y < y1 - near || y > y2 + near) return "";
  if (px.length === 2) return "m";
  const wide = Math.min(near, (x2 - x1) / 3); // so that the middle stays one
  const tall = Math.min(near, (y2 - y1) / 3);
  const down = y < y1 + tall ? "n" : y > y2 - tall ? "s" : "";
  const across = x < x1 + wide ? "w" : x > x2 - wide ? "e" : "";
  return down + across || "m";
};
const under = (event) => {
  const [x, y] = at(event);
  const near = (event.pointerType === "touch" ? 20 : 9) * pixel();
  const size = ([x1, y1, x2, y2]) => (x2 === undefined ? 0 : (x2 - x1) * (y2 - y1));
  const first = (a, b) => (b.k === chosen) - (a.k === chosen) || size(a.px) - size(b.px);
  return edits()
    .map((g) => ({ k: Number(g.dataset.edit), px: numbers(g) }))
    .map((one) => ({ ...one, grip: gripAt(one.px, x, y, near) }))
    .filter((one) => one.grip)
    .sort(first)[0];
};
const take = (event) => {
  send();
  const found = under(event) ?? { k: -1, px: [], grip: "" };
  held = { ...found, from: at(event), x: event.clientX, y: event.clientY, moved: false };
  if (found.k < 0) return;
  chosen = found.k;
  edit(chosen).focus({ preventScroll: true });
  event.preventDefault();
};
const dragged = (px, grip, dx, dy) => {
  const [width, height] = sides();
  if (grip === "m") {
    const [x2, y2] = px.length === 2 ? px : px.slice(2);
    const right = between(dx, -px[0], width - x2);
    const down = between(dy, -px[1], height - y2);
    return px.map((v, i) => v + (i % 2 ? down : right));
  }
  const [x1, y1, x2, y2] = px;
  return ordered([
    x1 + (grip.includes("w") ? dx : 0), y1 + (grip.includes("n") ? dy : 0),
    x2 + (grip.includes("e") ? dx : 0), y2 + (grip.includes("s") ? dy : 0),
  ]);
};
// Whole pixels within the picture, at least one wide and one high.
const ordered = ([x1, y1, x2, y2]) => {
  const span = (a, b, most) => {
    const [low, high] = [a, b].map((v) => between(Math.round(v), 0, most)).sort(
      (p, q) => p - q
    );
    return low < high ? [low, high] : low < most ? [low, low + 1] : [low - 1, low];
  };
  const [width, height] = sides();
  const [[left, right], [top, bottom]] = [span(x1, x2, width), span(y1, y2, height)];
  return [left, top, right, bottom];
};
const letGo = () => {
  if (held?.moved && held.grip) put(edit(held.k), held.px);
  held = null;
};
const send = () => {
  if (!typed) return;
  clearTimeout(typed.timer);
  const { k, px } = typed;
  typed = null;
  trigger("correct", { k, px });
};

element.addEventListener("pointermove", (event) => {
  if (!correcting() || !event.isPrimary) return;
  if (!held) {
    const grip = event.target.closest("svg.mm-canvas") ? under(event)?.grip : "";
    canvas().style.cursor = grip === "m" ? "move" : grip ? `${grip}-resize` : "";
    return;
  }
  if (!held.moved && !far(event, held)) return;
  held.moved = true;
  event.preventDefault();
  if (!held.grip) {
    stretch(event, held.from);
    return;
  }
  canvas().setPointerCapture(event.pointerId);
  const [x, y] = at(event);
  const moved = dragged(held.px, held.grip, x - held.from[0], y - held.from[1]);
  put(edit(held.k), moved.map(Math.round));
});
element.addEventListener("pointerup", (event) => {
  if (!held || !event.isPrimary) return;
  const { k, grip, from, moved } = held;
  held = null;
  drop();
  const count = Number(canvas()?.dataset.edits);
  const one = edit(chosen) ?? edits()[0];
  const target = one ? Number(one.dataset.edit) : count;
  if (grip && moved) trigger("correct", { k, px: numbers(edit(k)) });
  else if (moved) trigger("correct", { k: target, px: ordered([...from, ...at(event)]) });
  else if (!grip && one && numbers(one).length === 2) {
    trigger("correct", { k: target, px: from.map(Math.round) });
  }
});
element.addEventListener("pointercancel", letGo);
element.addEventListener("focusin", (event) => {
  const g = event.target.closest?.("g.mm-edit");
  focused = g ? Number(g.dataset.edit) : -1;
  if (g) chosen = focused;
});
document.addEventListener("pointerdown", (event) => {
  if (!element.contains(event.target)) focused = -1;
});
element.addEventListener("keydown", (event) => {
  const g = event.target.closest?.("g.mm-edit");
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
    ArrowDown: [0, 1] }[event.key];
  if (!g || !step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const k = Number(g.dataset.edit);
  const grip = event.shiftKey && numbers(g).length === 4 ? "se" : "m";
  const [dx, dy] = step.map((v) => v * (event.repeat ? 5 : 1)); // held down: faster
  put(g, dragged(numbers(g), grip, dx, dy));
  if (typed?.k !== k) send();
  clearTimeout(typed?.timer);
  typed = { k, px: numbers(g), timer: setTimeout(send, 300) };
});
redraw();
