// Geometry of a rendered page: what is drawn where, what covers it, how far ink goes.
// Everything is in CSS pixels and looks through shadow roots.
(() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const parentOf = (n) =>
    n.assignedSlot || n.parentElement || (n.getRootNode().host ?? null);
  const styleCache = new Map();
  const css = (el) => {
    let style = styleCache.get(el);
    if (!style) styleCache.set(el, (style = getComputedStyle(el)));
    return style;
  };

  // Ionic overrides childNodes on its own elements to hide what it rendered.
  const childNodes = Object.getOwnPropertyDescriptor(Node.prototype, "childNodes").get;
  function* walk(node) {
    yield node;
    if (node.shadowRoot)
      for (const c of childNodes.call(node.shadowRoot)) yield* walk(c);
    for (const c of childNodes.call(node)) yield* walk(c);
  }
  const contains = (outer, inner) => {
    for (let n = inner; n; n = parentOf(n)) if (n === outer) return true;
    return false;
  };
  const closest = (el, test) => {
    for (let n = el; n; n = parentOf(n)) if (test(n)) return n;
    return null;
  };
  const isFontIcon = (el) =>
    /f7-icons|material-icons|bi-glyph/.test(el.className || "");

  function shown(el) {
    for (let n = el; n; n = parentOf(n)) {
      const style = css(n);
      if (style.visibility === "hidden" || style.display === "none") return false;
      if (parseFloat(style.opacity) < 0.15) return false;
    }
    return true;
  }

  // The part of the viewport in which `el` may paint.
  function clipOf(el) {
    let [x1, y1, x2, y2] = [0, 0, innerWidth, innerHeight];
    let fixed = false;
    for (let n = el; n && n !== document.body && !fixed; n = parentOf(n)) {
      const style = css(n);
      if (
        n !== el &&
        (style.overflowX !== "visible" || style.overflowY !== "visible")
      ) {
        const r = n.getBoundingClientRect();
        if (style.display !== "inline" && style.display !== "contents") {
          x1 = Math.max(x1, r.left);
          y1 = Math.max(y1, r.top);
          x2 = Math.min(x2, r.right);
          y2 = Math.min(y2, r.bottom);
        }
      }
      fixed = style.position === "fixed";
    }
    return [x1, y1, x2, y2];
  }
  const intersect = (a, b) => [
    Math.max(a[0], b[0]),
    Math.max(a[1], b[1]),
    Math.min(a[2], b[2]),
    Math.min(a[3], b[3]),
  ];
  const area = (b) => Math.max(0, b[2] - b[0]) * Math.max(0, b[3] - b[1]);
  const union = (a, b) => [
    Math.min(a[0], b[0]),
    Math.min(a[1], b[1]),
    Math.max(a[2], b[2]),
    Math.max(a[3], b[3]),
  ];
  const rectOf = (r) => [r.left, r.top, r.right, r.bottom];

  // How much the topmost matter of `el` hides at (x, y): 0 nothing, 1 a veil, 2 all.
  function paint(el, x, y) {
    if (el.shadowRoot) {
      const inner = el.shadowRoot
        .elementsFromPoint(x, y)
        .filter((n) => n !== el && n.getRootNode() === el.shadowRoot);
      const level = Math.max(0, ...inner.map((n) => paint(n, x, y)));
      if (level) return level;
    }
    if (/^(img|svg|path|canvas|ion-icon)$/i.test(el.tagName)) return 2;
    const style = css(el);
    if (style.backgroundImage !== "none") return 2;
    const rgba = style.backgroundColor.match(/[\d.]+/g) || [];
    const alpha = style.backgroundColor.startsWith("rgba")
      ? Number(rgba[3])
      : /\/ *([\d.]+)/.test(style.backgroundColor)
        ? Number(RegExp.$1)
        : 1;
    const opacity = parseFloat(style.opacity);
    return alpha * opacity > 0.75 ? 2 : alpha * opacity > 0.12 ? 1 : 0;
  }

  let covers = [];
  // 0: `el` is seen at (x, y); 1: through a dimming layer; 2: something hides it.
  function hiddenAt(el, x, y) {
    for (const cover of covers) {
      const [x1, y1, x2, y2] = cover.box;
      if (x >= x1 && x < x2 && y >= y1 && y < y2 && !contains(cover.el, el)) {
        if (!cover.over.some((o) => contains(o, el))) return 2;
      }
    }
    const related = (hit) => contains(hit, el) || contains(el, hit);
    const top = document.elementFromPoint(x, y);
    if (top && related(top)) return 0;
    let level = 0;
    for (const hit of document.elementsFromPoint(x, y)) {
      if (related(hit)) return level;
      level = Math.max(level, paint(hit, x, y));
      if (level === 2) return 2;
    }
    return level;
  }
  function coverage(el, box, columns, rows) {
    let [free, dim, total] = [0, 0, 0];
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < rows; j++) {
        const x = box[0] + ((i + 0.5) / columns) * (box[2] - box[0]);
        const y = box[1] + ((j + 0.5) / rows) * (box[3] - box[1]);
        if (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight) continue;
        const level = hiddenAt(el, x, y);
        free += level < 2;
        dim += level === 1;
        total++;
      }
    }
    return total ? { free: free / total, dim: dim / total } : { free: 0, dim: 0 };
  }

  // What bars at the top and bottom leave of a box that runs under them. A bar of
  // another pane stands beside the box, not over it.
  function underBars(el, box) {
    let [x1, y1, x2, y2] = box;
    for (const cover of covers) {
      const [left, top, right, bottom] = cover.box;
      if (right <= x1 || left >= x2) continue;
      if (contains(cover.el, el) || cover.over.some((o) => contains(o, el))) continue;
      if (top <= y1 && bottom > y1) y1 = bottom;
      if (bottom >= y2 && top < y2) y2 = top;
    }
    return [x1, y1, x2, y2];
  }

  const fontOf = (style, zoom = 1) => {
    const size = zoom * parseFloat(style.fontSize);
    return `${style.fontStyle} ${style.fontWeight} ${size}px ${style.fontFamily}`;
  };
  const setFont = (style) => {
    canvas.font = fontOf(style);
    canvas.letterSpacing =
      style.letterSpacing === "normal" ? "0px" : style.letterSpacing;
  };
  // How much a transform such as a floating label's scale() enlarges `el`.
  function growth(el) {
    while (el && !el.offsetWidth) el = parentOf(el);
    const factor = el ? el.getBoundingClientRect().width / el.offsetWidth : 1;
    return Math.abs(factor - 1) > 0.05 && el.offsetWidth > 10 ? factor : 1;
  }

  // Ink of one line: characters `text`, boundaries `edges`, height of its baseline.
  function inkBox(text, edges, baseline, style, grown) {
    // Chromium rounds these measures to whole pixels, so the font is measured large.
    let zoom = 8;
    canvas.font = fontOf(style, zoom);
    canvas.letterSpacing = "0px";
    const all = canvas.measureText(text);
    const first = canvas.measureText(text[0]);
    const last = canvas.measureText(text[text.length - 1]);
    const xHeight = canvas.measureText("x").actualBoundingBoxAscent;
    zoom /= grown;
    const end = edges[edges.length - 2] + last.actualBoundingBoxRight / zoom;
    return [
      edges[0] - first.actualBoundingBoxLeft / zoom,
      baseline - Math.max(all.actualBoundingBoxAscent, xHeight) / zoom,
      Math.max(end, edges[0] + 1),
      baseline + Math.max(all.actualBoundingBoxDescent, 0) / zoom,
    ];
  }

  // What an icon paints: glyph ink for fonts, drawn shapes for SVG.
  function iconBox(el) {
    const fontEl = isFontIcon(el) ? el : null;
    if (fontEl) {
      const style = css(el);
      const zoom = 8;
      canvas.font = `${zoom * parseFloat(style.fontSize)}px ${style.fontFamily}`;
      canvas.letterSpacing = "0px";
      const r = el.getBoundingClientRect();
      const m = canvas.measureText(el.textContent);
      const [up, down] = [
        m.fontBoundingBoxAscent / zoom,
        m.fontBoundingBoxDescent / zoom,
      ];
      const left = r.left + (r.width - m.width / zoom) / 2;
      const baseline = r.top + (r.height - up - down) / 2 + up;
      return [
        left - m.actualBoundingBoxLeft / zoom,
        baseline - m.actualBoundingBoxAscent / zoom,
        left + m.actualBoundingBoxRight / zoom,
        baseline + m.actualBoundingBoxDescent / zoom,
      ];
    }
    let box = null;
    for (const n of walk(el)) {
      if (!/^(path|circle|rect|ellipse|line|polyline|polygon)$/.test(n.tagName))
        continue;
      const style = css(n);
      if (style.fill === "none" && style.stroke === "none") continue;
      const r = rectOf(n.getBoundingClientRect());
      if (area(r) > 0 || r[2] > r[0] || r[3] > r[1]) box = box ? union(box, r) : r;
    }
    return box || rectOf(el.getBoundingClientRect());
  }

  window.measure = {
    canvas,
    css,
    styleCache,
    walk,
    contains,
    closest,
    parentOf,
    isFontIcon,
    shown,
    clipOf,
    intersect,
    area,
    union,
    rectOf,
    coverage,
    underBars,
    setFont,
    growth,
    inkBox,
    iconBox,
    setCovers: (list) => {
      covers = list;
    },
  };
})();
