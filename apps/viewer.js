// The picture: click, drag, keys, zoom; rows, chips and marks show each other.
// `element` and `trigger` are gr.HTML's. It is kept for the whole life of the page.
// correct.js follows in the same scope.
let start = null;
let zoom = 0;
let rubber = null;
let kind = ""; // the only type that is shown

const canvas = () => element.querySelector("svg.mm-canvas");
const app = element.closest("#mm-app") ?? document.body;
const draw = (shape, name, values) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", shape);
  made.setAttribute("class", name);
  for (const key in values) made.setAttribute(key, values[key]);
  canvas().append(made);
  return made;
};
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

// --- words and marks -----------------------------------------------------------
// Two lights: `hot` is under the pointer or has the focus, `picked` was clicked and
// stays until another one is. Each is a number that chip, mark and row share.
let hot = null;
let picked = null;
let awaited = null; // to be picked when its picture is shown
let marked = ""; // what the marks are, to see when they change
let follow = null; // what to scroll to, and until when: the answer may be drawn anew

const twins = (k) => [...app.querySelectorAll(`[data-k="${k}"]`)];
const shine = () => {
  app.querySelectorAll("[data-k]").forEach((node) => {
    const mine = node.dataset.k === picked;
    node.classList.toggle("mm-hot", node.dataset.k === hot);
    node.classList.toggle("mm-picked", mine);
    if (mine && !node.matches("tr")) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
  });
};
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const reveal = (k, where) => {
  const behavior = calm.matches ? "auto" : "smooth";
  for (const node of twins(k)) {
    if (node.matches(where)) node.scrollIntoView({ block: "nearest", behavior });
    if (!node.matches("tr")) continue;
    const list = node.closest(".mm-scroll"); // not the page: the picture is looked at
    const above = node.offsetTop - list.scrollTop;
    const top = node.offsetTop - list.clientHeight / 2;
    if (above < 0 || above + node.offsetHeight > list.clientHeight) {
      list.scrollTo({ top, behavior });
    }
  }
};
const pick = (k, where) => {
  picked = k;
  following = false;
  shine();
  reveal(k, where);
  follow = { k, where, until: performance.now() + 1500 };
};
// An answer's last line stays in sight as it grows, until one scrolls up from there.
// (Gradio's own autoscroll loses it where an update brings more than 100 px.)
let following = false;
let reached = 0; // the conversation's scrollTop, when last looked at
const keepUp = (scrolled = null) => {
  const frame = app.querySelector("#mm-talk .mm-talk")?.parentElement.parentElement;
  if (!frame) return;
  const end = frame.scrollHeight - frame.clientHeight - frame.scrollTop < 2;
  if (end) following ||= scrolled === frame;
  else following &&= frame.scrollTop >= reached;
  if (following) frame.scrollTop = frame.scrollHeight;
  reached = frame.scrollTop;
};
app.addEventListener("scroll", (event) => keepUp(event.target), true);
// What is new is brought into sight, wherever one was: a question, a mistake, and among
// the thumbnails the chosen one.
let questions = 0;
let mistake = "";
let thumbnail = null; // a new one after every redraw of the strip
const attend = () => {
  const talk = app.querySelector("#mm-talk");
  const count = talk?.querySelectorAll("article").length ?? 0;
  if (count > questions) {
    following = true;
    reached = 0;
    keepUp();
    talk.scrollIntoView({ block: "nearest" });
  }
  questions = count;
  const alert = app.querySelector("#mm-status [role=alert]");
  const told = alert?.textContent ?? "";
  if (told && told !== mistake) alert.scrollIntoView({ block: "nearest" });
  mistake = told;
  const shown = app.querySelector("[data-show][aria-pressed=true]");
  if (shown && shown !== thumbnail) {
    const strip = shown.parentElement; // it alone is scrolled, not the page
    const [mine, whole] = [shown, strip].map((node) => node.getBoundingClientRect());
    const beyond = Math.max(mine.right - whole.right, 0);
    strip.scrollLeft += beyond || Math.min(mine.left - whole.left, 0);
  }
  thumbnail = shown;
};
// After a redraw: the same lights, the same focus.
let focus = null; // the selector of what had it
const names = ["data-k", "data-pick", "data-turn", "data-later", "data-show",
  "data-zoom", "data-filter"];
const remember = (target) => {
  const own = names.filter((name) => target.hasAttribute?.(name));
  const same = own.map((name) => `[${name}="${target.getAttribute(name)}"]`).join("");
  if (target === canvas()) focus = "svg.mm-canvas";
  else focus = same && `${target.tagName.toLowerCase()}${same}`;
};
const settle = () => {
  const titles = [...element.querySelectorAll("g.mm-mark title")];
  const now = titles.map((title) => title.textContent).join("\n");
  if (now !== marked) {
    marked = now;
    picked = awaited;
    awaited = null;
    if (picked !== null) pick(picked, "g.mm-mark");
  }
  // Gradio names this button otherwise than it reads; who speaks to it says what he reads.
  app.querySelector("#mm-drop button[aria-label]")?.removeAttribute("aria-label");
  shine();
  attend();
  if (follow && performance.now() < follow.until) reveal(follow.k, follow.where);
  if (focus && document.activeElement === document.body) {
    app.querySelector(focus)?.focus({ preventScroll: true });
  }
};
new MutationObserver(settle).observe(app, { childList: true, subtree: true });
const written = { childList: true, characterData: true, subtree: true };
new MutationObserver(() => keepUp()).observe(app, written);
settle();

// --- the pointer ---------------------------------------------------------------

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
    rubber = draw("rect", "mm-region", {});
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
  if (mark) choose(mark);
  else if (event.target.closest("svg.mm-canvas")) trigger("region", { px });
});
element.addEventListener("pointercancel", drop);
element.addEventListener("dragstart", (event) => event.preventDefault());
// --- keys ----------------------------------------------------------------------
// `aim` is a cross that arrow keys move; `from` is the other corner of a box.
let aim = null;

const cross = () => {
  element.querySelectorAll(".mm-aim").forEach((shape) => shape.remove());
  if (!aim || !canvas() || correcting()) return;
  const [width, height] = sides();
  const { x, y, from } = aim;
  if (from) {
    draw("rect", "mm-aim mm-region", { x: Math.min(x, from[0]), y: Math.min(y, from[1]),
      width: Math.abs(x - from[0]), height: Math.abs(y - from[1]) });
  }
  const d = `M0 ${y}H${width}M${x} 0V${height}`;
  draw("path", "mm-aim mm-aim-edge", { d });
  draw("path", "mm-aim mm-aim-line", { d });
};
const arrow = (event) => ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1],
  ArrowDown: [0, 1] })[event.key];
const steer = (event) => {
  const [width, height] = sides();
  aim ??= { x: Math.round(width / 2), y: Math.round(height / 2), from: null };
  if (event.key === "Escape") aim = null;
  else if (arrow(event)) {
    const step = Math.max(width, height) / (event.repeat ? 50 : 200); // held: faster
    const [x, y] = arrow(event).map((v) => v * Math.max(1, Math.round(step)));
    const from = event.shiftKey ? aim.from ?? [aim.x, aim.y] : null;
    aim = { x: between(aim.x + x, 0, width), y: between(aim.y + y, 0, height), from };
  } else {
    const { x, y, from } = aim;
    const box = from && from[0] !== x && from[1] !== y;
    trigger("region", { px: box ? [...from, x, y] : [x, y] });
    aim.from = null;
  }
  cross();
};
const choose = (mark) => {
  pick(mark.dataset.k, ".mm-chip");
  trigger("pick", { k: Number(mark.dataset.k) });
};
element.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || correcting()) return;
  const enter = event.key === "Enter" || event.key === " ";
  const mark = event.target.closest?.("g.mm-mark");
  const aims = enter || arrow(event) || event.key === "Escape";
  if (mark ? !enter : event.target !== canvas() || !aims) return;
  event.preventDefault();
  if (mark) choose(mark);
  else steer(event);
});
element.addEventListener("focusin", (event) => {
  if (event.target !== canvas() || correcting()) return;
  if (canvas().matches(":focus-visible")) {
    const [width, height] = sides();
    aim ??= { x: Math.round(width / 2), y: Math.round(height / 2), from: null };
    cross();
  }
});

// --- rows, zoom and filter -------------------------------------------------------

element.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-k]");
  const asked = event.target.closest("[data-pick]");
  const step = event.target.closest("[data-zoom]");
  if (row) pick(row.dataset.k, "g.mm-mark");
  if (asked) trigger("pick", { k: Number(asked.dataset.pick) });
  if (step) {
    zoom = Math.min(6, Math.max(0, zoom + Number(step.dataset.zoom)));
    magnify();
    redraw();
  }
});
const filter = () => {
  const chooser = element.querySelector("[data-filter]");
  if (![...(chooser?.options ?? [])].some((option) => option.value === kind)) kind = "";
  if (chooser) chooser.value = kind;
  element.querySelectorAll("tr[data-k]").forEach((row) => {
    row.hidden = Boolean(kind) && row.dataset.kind !== kind;
    const mark = element.querySelector(`g.mm-mark[data-k="${row.dataset.k}"]`);
    mark.style.display = row.hidden ? "none" : "";
  });
};
element.addEventListener("change", (event) => {
  if (event.target.dataset.filter === undefined) return;
  kind = event.target.value;
  filter();
});
let pictured = ""; // which picture is shown
watch("value", () => {
  const href = canvas()?.querySelector("image").getAttribute("href") ?? "";
  if (href !== pictured) aim = null;
  pictured = href;
  magnify();
  filter();
  redraw();
  cross();
});

// --- the whole page: chips of the answer are in another element --------------------

const over = (event) => {
  hot = event.target.closest?.("[data-k]")?.dataset.k ?? null;
  shine();
};
document.addEventListener("pointerover", over);
document.addEventListener("focusin", (event) => {
  over(event);
  remember(event.target);
  if (event.target !== canvas() && aim) {
    aim = null;
    cross();
  }
});
document.addEventListener("pointerdown", () => {
  focus = follow = awaited = null;
});
document.addEventListener("wheel", () => {
  follow = null;
}, { passive: true });
document.addEventListener("click", (event) => {
  const chip = event.target.closest?.(".mm-chip");
  if (!chip) return;
  if (chip.dataset.later) awaited = chip.dataset.later; // buttons.js shows its picture
  else pick(chip.dataset.k, "g.mm-mark");
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
