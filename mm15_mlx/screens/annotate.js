// Reads what a rendered screen shows: text lines with character edges, and widgets.
// Widgets carry data-el (written by kits.py); geometry is measured, never assumed.
(() => {
  const {
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
    setCovers,
  } = window.measure;

  // Chromium reports the rectangles of characters hidden by an ellipsis as if they
  // were drawn, so long text is cut in the document itself before measuring.
  function cutOverflow(all) {
    for (const el of all) {
      const style = css(el);
      const clamp = style.webkitLineClamp !== "none" && style.webkitLineClamp;
      const ellipsis =
        style.textOverflow === "ellipsis" && style.overflowX !== "visible";
      if (!clamp && !ellipsis) continue;
      const range = document.createRange();
      const edge =
        el.getBoundingClientRect().right - parseFloat(style.paddingRight) + 0.5;
      const over = (node) => {
        if (clamp) return el.scrollHeight > el.clientHeight + 1;
        range.selectNodeContents(node);
        return range.getBoundingClientRect().right > edge;
      };
      const nodes = [...walk(el)].filter((n) => n.nodeType === 3 && n.data.trim());
      for (const node of nodes.reverse()) {
        if (!over(node)) continue;
        const full = node.data.trimEnd();
        let [low, high] = [0, full.length];
        while (low < high) {
          const mid = (low + high + 1) >> 1;
          node.data = full.slice(0, mid).trimEnd() + "…";
          if (over(node)) high = mid - 1;
          else low = mid;
        }
        node.data = low ? full.slice(0, low).trimEnd() + "…" : "";
      }
    }
  }

  const transform = (text, style) => {
    if (style.textTransform === "uppercase") return text.toUpperCase();
    if (style.textTransform === "lowercase") return text.toLowerCase();
    if (style.textTransform !== "capitalize") return text;
    return text.replace(/(^|\s)\S/g, (c) => c.toUpperCase());
  };

  function* linesOf(node) {
    const el = node.parentElement || node.getRootNode().host;
    const style = css(el);
    const shownText = transform(node.data, style);
    if (shownText.length !== node.data.length) return;
    const range = document.createRange();
    let line = null;
    const glyphs = [...node.data];
    let offset = 0;
    for (const glyph of glyphs) {
      range.setStart(node, offset);
      range.setEnd(node, offset + glyph.length);
      const char = shownText.substr(offset, glyph.length);
      offset += glyph.length;
      const r = range.getClientRects()[0];
      if (!r || (r.width === 0 && /\s/.test(glyph))) continue;
      if (
        line &&
        (Math.abs(r.top - line.top) > r.height / 2 || r.left < line.right - r.height)
      ) {
        yield line;
        line = null;
      }
      line ??= { el, style, chars: [], edges: [r.left], top: r.top, height: r.height };
      line.chars.push(/\s/.test(char) ? " " : char);
      line.right = r.right;
      line.edges.push(r.right);
    }
    if (line) yield line;
  }

  function* fieldLine(el) {
    const style = css(el);
    let text = el.value;
    if (el.tagName === "SELECT") text = el.selectedOptions[0]?.text ?? "";
    else if (el.type === "password") text = "•".repeat(text.length);
    let font = style;
    if (!text) {
      text = el.placeholder || "";
      font = getComputedStyle(el, "::placeholder");
    }
    if (!text.trim()) return;
    setFont(style);
    const r = el.getBoundingClientRect();
    const side = (name) =>
      parseFloat(style[`padding${name}`]) + parseFloat(style[`border${name}Width`]);
    const metrics = canvas.measureText(text);
    const [up, down] = [metrics.fontBoundingBoxAscent, metrics.fontBoundingBoxDescent];
    const inner = [
      r.left + side("Left"),
      r.top + side("Top"),
      r.right - side("Right"),
      r.bottom - side("Bottom"),
    ];
    let left = inner[0];
    if (style.textAlign === "center") left = (inner[0] + inner[2] - metrics.width) / 2;
    if (style.textAlign === "right" || style.textAlign === "end")
      left = inner[2] - metrics.width;
    const lineHeight = parseFloat(style.lineHeight) || up + down;
    const middle =
      el.tagName === "TEXTAREA" ? inner[1] + lineHeight / 2 : (inner[1] + inner[3]) / 2;
    const edges = [left];
    for (let i = 1; i <= text.length; i++) {
      edges.push(left + canvas.measureText(text.slice(0, i)).width);
    }
    yield {
      el,
      style,
      chars: [...text],
      edges,
      top: middle - (up + down) / 2,
      height: up + down,
      clip: inner,
      field: true,
      faint: font !== style,
    };
  }

  function readLine(line) {
    const { el, style } = line;
    let { chars, edges } = line;
    let clip = clipOf(el);
    if (line.clip)
      clip = intersect(clip, [
        line.clip[0] - 1,
        line.clip[1],
        line.clip[2] + 1,
        line.clip[3],
      ]);
    const total = chars.join("").trim().length;
    const inside = (i) => edges[i] >= clip[0] - 1 && edges[i + 1] <= clip[2] + 1;
    let [start, end] = [0, chars.length];
    while (start < end && (chars[start] === " " || !inside(start))) start++;
    while (end > start && (chars[end - 1] === " " || !inside(end - 1))) end--;
    chars = chars.slice(start, end);
    edges = edges.slice(start, end + 1);
    if (!chars.length || chars.length < 0.6 * total) return null;
    if (parseFloat(style.fontSize) < 5 || !shown(el)) return null;
    if (/rgba\(.*, 0\)$/.test(style.color)) return null;
    const text = chars.join("");
    setFont(style);
    const metrics = canvas.measureText(text);
    // Range rectangles have the height of the font, whatever the line height is.
    const grown = growth(el);
    const [up, down] = [
      metrics.fontBoundingBoxAscent * grown,
      metrics.fontBoundingBoxDescent * grown,
    ];
    const baseline = line.top + (line.height - up - down) / 2 + up;
    const full = inkBox(text, edges, baseline, style, grown);
    const box = intersect(full, clip);
    if (area(box) < 0.6 * area(full) || area(full) === 0) return null;
    const cover = coverage(el, box, Math.min(16, Math.max(3, chars.length)), 1);
    if (cover.free < 1) return null;
    // One edge per UTF-16 unit, so that len(text) + 1 holds for ordinary text.
    return { text, box, edges, el, dimmed: cover.dim > 0.5 };
  }

  function readTexts(nodes) {
    const lines = [];
    for (const node of nodes) {
      if (node.nodeType === 3) {
        const el = node.parentElement;
        if (
          !el ||
          !node.data.trim() ||
          /^(STYLE|SCRIPT|OPTION|TEXTAREA)$/.test(el.tagName)
        )
          continue;
        if (isFontIcon(el)) continue;
        for (const line of linesOf(node)) lines.push(readLine(line));
      } else if (/^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName)) {
        if (/checkbox|radio|range|hidden/.test(node.type)) continue;
        for (const line of fieldLine(node)) lines.push(readLine(line));
      }
    }
    return lines.filter(Boolean);
  }

  function elementBox(el, spec, texts, icons) {
    if (spec.type === "icon") return iconBox(el);
    if (spec.box === "ink") {
      let box = null;
      for (const t of texts)
        if (contains(el, t.el)) box = box ? union(box, t.box) : t.box;
      for (const i of icons)
        if (contains(el, i.el)) box = box ? union(box, i.box) : i.box;
      return box;
    }
    if (spec.box) {
      let box = null;
      for (const n of walk(el)) {
        if (n.nodeType !== 1 || !n.matches(spec.box)) continue;
        const r = rectOf(n.getBoundingClientRect());
        if (area(r)) box = box ? union(box, r) : r;
      }
      return box;
    }
    return rectOf(el.getBoundingClientRect());
  }

  const TAPPABLE = new Set([
    "button",
    "link",
    "input",
    "checkbox",
    "radio",
    "switch",
    "select",
    "tab",
    "slider",
    "menuitem",
  ]);

  window.annotateScreen = () => {
    styleCache.clear();
    let nodes = [...walk(document.body)];
    cutOverflow(nodes.filter((n) => n.nodeType === 1));
    nodes = [...walk(document.body)];
    const marked = nodes.filter((n) => n.nodeType === 1 && n.dataset && n.dataset.el);
    const over = nodes.filter(
      (n) => n.nodeType === 1 && n.dataset && "over" in n.dataset,
    );
    const bars = nodes.filter(
      (n) => n.nodeType === 1 && n.dataset && "cover" in n.dataset,
    );
    setCovers(
      bars.map((el) => ({ el, box: rectOf(el.getBoundingClientRect()), over })),
    );
    const texts = readTexts(nodes);
    const specs = marked.map((el) => ({ el, spec: JSON.parse(el.dataset.el) }));
    const icons = specs
      .filter(({ spec }) => spec.type === "icon")
      .map(({ el }) => ({ el, box: iconBox(el) }));
    const owner = new Map();
    const elements = [];
    for (const { el, spec } of specs) {
      const full = elementBox(el, spec, texts, icons);
      if (!full || area(full) < 4 || !shown(el)) continue;
      const box = underBars(el, intersect(full, clipOf(el)));
      if (area(box) < 0.6 * area(full)) continue;
      const cover = coverage(el, box, 3, 3);
      if (cover.free < 0.6 || cover.dim > 0.5) continue;
      const own = texts.filter((t) => contains(el, t.el));
      // A row is named by its title as it is seen, cut or not.
      const cut = own.find(
        (t) => t.text.endsWith("…") && spec.text?.startsWith(t.text.slice(0, -1)),
      );
      if (cut) spec.text = spec.label = cut.text;
      const text = spec.text ?? own.map((t) => t.text).join(" ");
      const tappable =
        (spec.tappable ?? TAPPABLE.has(spec.type)) && !spec.state?.disabled;
      const item = {
        type: spec.type,
        text,
        label: spec.label || text,
        icon: spec.icon || "",
        box,
        tappable,
        state: spec.state || {},
      };
      owner.set(el, item);
      elements.push(item);
    }
    // A glyph or caption that its own button already names is not a second element.
    const wrapping = (el) =>
      closest(parentOf(el), (n) => owner.has(n) && owner.get(n).type !== "image");
    const kept = elements.filter((item) => {
      if (item.type !== "icon") return true;
      const el = [...owner].find(([, value]) => value === item)[0];
      const outer = wrapping(el);
      return !outer || owner.get(outer).icon !== item.icon;
    });
    for (const t of texts) {
      if (t.dimmed) continue;
      const outer = closest(t.el, (n) => owner.has(n) && owner.get(n).type !== "image");
      if (outer && owner.get(outer).label.includes(t.text)) continue;
      if (outer && t.el.tagName.match(/INPUT|SELECT|TEXTAREA/)) continue;
      kept.push({
        type: "text",
        text: t.text,
        label: t.text,
        icon: "",
        box: t.box,
        tappable: false,
        state: {},
      });
    }
    return {
      texts: texts.map(({ text, box, edges, dimmed }) => ({
        text,
        box,
        edges,
        dimmed,
      })),
      elements: kept,
    };
  };
})();
