// Paints a mask over a picture: one canvas the size of the picture, white where it shall change.
studio.brush = (start, mask, finish) => {
  const { h } = studio;
  const image = h("img", { src: studio.picture(start.id), alt: "", draggable: "false" });
  const measure = `--w:${Math.round(start.width * Math.min(4, Math.max(1, 560 / Math.max(start.width, start.height))))}px;--fit:${start.width / start.height}`;
  const canvas = h("canvas", { class: "over", width: start.width, height: start.height, style: "opacity:0.6;touch-action:none;cursor:crosshair" });
  const pen = canvas.getContext("2d", { willReadFrequently: false });
  const figure = h("div", { class: "figure", style: measure }, image, canvas);
  const strokes = [];
  const ink = getComputedStyle(document.body).getPropertyValue("--accent").trim() || "#3556c8";
  let erase = false, last = null, base = null;

  const size = h("input", { type: "range", min: 2, max: 50, value: 14, "aria-label": "Brush size" });
  const width = () => (Math.max(start.width, start.height) * Number(size.value)) / 100;
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [((event.clientX - box.left) / box.width) * start.width, ((event.clientY - box.top) / box.height) * start.height]; };
  const segment = (from, to, thick, wipe) => {
    pen.globalCompositeOperation = wipe ? "destination-out" : "source-over";
    pen.strokeStyle = ink; pen.lineCap = pen.lineJoin = "round"; pen.lineWidth = thick;
    pen.beginPath(); pen.moveTo(...from); pen.lineTo(to[0] + 0.01, to[1]); pen.stroke();
  };
  const redraw = () => {
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, start.width, start.height);
    if (base) pen.drawImage(base, 0, 0);
    for (const { points, thick, wipe } of strokes) points.forEach((point, index) => segment(points[Math.max(0, index - 1)], point, thick, wipe));
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); last = { points: [at(event)], thick: width(), wipe: erase }; strokes.push(last); segment(last.points[0], last.points[0], last.thick, erase); });
  canvas.addEventListener("pointermove", (event) => { if (!last) return; const point = at(event); segment(last.points.at(-1), point, last.thick, last.wipe); last.points.push(point); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });

  // An earlier mask comes back as paint: its light pixels become ink.
  if (mask) {
    const old = new Image();
    old.onload = () => {
      base = h("canvas", { width: start.width, height: start.height });
      const layer = base.getContext("2d");
      layer.drawImage(old, 0, 0, start.width, start.height);
      const data = layer.getImageData(0, 0, start.width, start.height);
      const [r, g, b] = parse(ink);
      for (let i = 0; i < data.data.length; i += 4) { const on = data.data[i] > 127; data.data.set([r, g, b, on ? 255 : 0], i); }
      layer.putImageData(data, 0, 0);
      redraw();
    };
    old.src = studio.picture(mask);
  }
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const save = () => {
    const out = h("canvas", { width: start.width, height: start.height });
    const layer = out.getContext("2d");
    layer.drawImage(canvas, 0, 0);
    const data = layer.getImageData(0, 0, start.width, start.height);
    for (let i = 0; i < data.data.length; i += 4) { const on = data.data[i + 3] > 127 ? 255 : 0; data.data.set([on, on, on, 255], i); }
    layer.putImageData(data, 0, 0);
    out.toBlob(finish, "image/png");
  };
  const eraser = h("button", { type: "button", "aria-pressed": "false", onclick: () => { erase = !erase; eraser.setAttribute("aria-pressed", String(erase)); eraser.textContent = erase ? "Erasing" : "Eraser"; } }, "Eraser");
  const tools = h("div", { class: "brush" },
    h("label", { class: "small" }, "Brush ", size), eraser,
    h("button", { type: "button", onclick: () => { strokes.pop(); redraw(); } }, "Undo"),
    h("button", { type: "button", onclick: () => { strokes.length = 0; base = null; redraw(); } }, "Clear"),
    h("button", { type: "button", class: "primary", style: "width:auto;min-height:36px", onclick: save }, "Done"),
    h("button", { type: "button", class: "quiet", onclick: () => finish(null) }, "Cancel"));
  return { figure, tools };
};
