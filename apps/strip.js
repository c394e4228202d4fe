// Thumbnails: the user's pictures and the examples. `element`, `trigger`: gr.HTML's.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { show, example } = button.dataset;
  if (show !== undefined) trigger("show", { k: Number(show) });
  if (example !== undefined) trigger("example", { k: Number(example) });
});
