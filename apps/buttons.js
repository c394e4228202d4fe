// Thumbnails and earlier answers. `element`, `trigger`: gr.HTML's.
element.addEventListener("click", (event) => {
  const { show, example, turn } = event.target.closest("button")?.dataset ?? {};
  if (show !== undefined) trigger("show", { k: Number(show) });
  if (example !== undefined) trigger("example", { k: Number(example) });
  if (turn !== undefined) trigger("turn", { k: Number(turn) });
});
