// The picture: click, drag, zoom; rows, chips and marks show each other.
// `element` and `trigger` are gr.HTML's. It is kept for the whole life of the page.
// correct.js follows in the same scope.
let start = null;
let zoom = 0;
let rubber = null;

const canvas = () => element.querySelector("svg.mm-canvas");
const at = (event) => {
  const svg = canvas();
  const p = new DOMPoint(event.clientX, event.clientY);
  const q = p.matrixTransform(svg.getScreenCTM().inverse());
  return [q.x, q.y];
};
const magnify = () => {
  const svg = canvas();
  if (!svg) return;
  svg.style.width = zoom ? `${100 * (1 + zoom / 2)}%` : "";
  svg.style.maxHeight = zoom ? "none" : "";
};
const light = (k) => {
  document.querySelectorAll("#mm-app [data-k]").forEach((node) => {
    node.classList.toggle("mm-hot", k !== null && node.dataset.k === k);
  });
};
const numbered = (event) => event.target.closest?.("[data-k]");

// A finger draws, except where boxes are two clicks: then it scrolls the page. Two
// fingers always zoom (touch-action in page.css says the same to the browser).
const draws = (event) => event.pointerType !== "touch"
  || !document.querySelector('#mm-mode input[value^="Box"]:checked');
const drop = () => {
  start = null;
  rubber?.remove();
  rubber = null;
};
const stretch = (event, from) => {
  if (!rubber) {
    rubber = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rubber.setAttribute("class", "mm-region");
    canvas().append(rubber);
    canvas().setPointerCapture(event.pointerId);
  }
  const [x, y] = at(event);
  const box = {
    x: Math.min(x, from[0]), y: Math.min(y, from[1]),
    width: Math.abs(x - from[0]), height: Math.abs(y - from[1]),
  };
  for (const name in box) rubber.setAttribute(name, box[name]);
};
const far = (event, from) => Math.hypot(event.clientX - from.x, event.clientY - from.y)
  >= (event.pointerType === "touch" ? 8 : 5);

element.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary) {
    drop();
    letGo();
    return;
  }
  if (event.button || !event.target.closest("svg.mm-canvas")) return;
  if (correcting()) {
    take(event);
    return;
  }
  start = { px: at(event), x: event.clientX, y: event.clientY, draws: draws(event) };
});
element.addEventListener("pointermove", (event) => {
  if (!start?.draws || !event.isPrimary) return;
  if (!rubber && !far(event, start)) return;
  event.preventDefault();
  stretch(event, start.px);
});
element.addEventListener("pointerup", (event) => {
  if (!start || !event.isPrimary) return;
  const { px } = start;
  const drawn = rubber !== null;
  drop();
  if (drawn) {
    trigger("region", { px: [...px, ...at(event)] });
    return;
  }
  const mark = event.target.closest("g.mm-mark");
  if (mark) trigger("pick", { k: Number(mark.dataset.k) });
  else if (event.target.closest("svg.mm-canvas")) trigger("region", { px });
});
element.addEventListener("pointercancel", drop);
element.addEventListener("dragstart", (event) => event.preventDefault());
element.addEventListener("keydown", (event) => {
  const mark = event.target.closest?.("g.mm-mark");
  if (mark && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    trigger("pick", { k: Number(mark.dataset.k) });
  }
});
element.addEventListener("click", (event) => {
  const pick = event.target.closest("[data-pick]");
  const step = event.target.closest("[data-zoom]");
  if (pick) trigger("pick", { k: Number(pick.dataset.pick) });
  if (step) {
    zoom = Math.min(6, Math.max(0, zoom + Number(step.dataset.zoom)));
    magnify();
    redraw();
  }
});
element.addEventListener("change", (event) => {
  if (event.target.dataset.filter === undefined) return;
  const kind = event.target.value;
  const hidden = (node) => kind && node.dataset.kind !== kind;
  element.querySelectorAll("tr[data-k]").forEach((row) => {
    row.hidden = hidden(row);
    const mark = element.querySelector(`g.mm-mark[data-k="${row.dataset.k}"]`);
    mark.style.display = row.hidden ? "none" : "";
  });
});
watch("value", () => {
  magnify();
  redraw();
});

// For the whole page: chips of the answer are in another element.
const over = (event) => light(numbered(event)?.dataset.k ?? null);
document.addEventListener("pointerover", over);
document.addEventListener("focusin", over);
document.addEventListener("click", (event) => {
  const chip = event.target.closest?.(".mm-chip");
  if (!chip) return;
  light(chip.dataset.k);
  canvas()?.scrollIntoView({ block: "nearest", behavior: "smooth" });
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  const input = document.querySelector("#mm-drop input[type=file]");
  if (!files.length || !input) return;
  event.preventDefault();
  const held = new DataTransfer();
  files.forEach((file) => held.items.add(file));
  input.files = held.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
