// Paints a mask over a picture: one canvas the size of the picture, white where it shall change.
// `keep(promise of PNG bytes or null)` after every stroke; `leave(unwanted)` when the hand has done, or wants none of it.
studio.brush = (start, mask, { keep, leave }) => {
  const { h } = studio;
  const image = h("img", { src: studio.picture(start.id), alt: "", draggable: "false" });
  const canvas = h("canvas", {
    class: "over", width: start.width, height: start.height, style: "opacity:0.6;touch-action:none;cursor:crosshair",
    tabindex: 0, role: "img", "aria-label": "The picture, to be painted where it shall change",
  });
  const pen = canvas.getContext("2d", { willReadFrequently: false });
  const figure = h("div", { class: "figure", style: studio.measure(start) }, image, canvas);
  let strokes = [], undone = []; // a stroke, or "clear"
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
    const from = strokes.lastIndexOf("clear");
    if (base && from < 0) pen.drawImage(base, 0, 0);
    for (const { points, thick, wipe } of strokes.slice(from + 1)) {
      points.forEach((point, index) => segment(points[Math.max(0, index - 1)], point, thick, wipe));
    }
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    last = { points: [at(event)], thick: width(), wipe: erase };
    segment(last.points[0], last.points[0], last.thick, erase);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const point = at(event);
    segment(last.points.at(-1), point, last.thick, last.wipe);
    last.points.push(point);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (last) add(last); last = null; });
  const add = (stroke) => { strokes.push(stroke); undone = []; changed(); };
  const step = (from, to) => { if (from.length) { to.push(from.pop()); redraw(); changed(); } };
  const undo = () => step(strokes, undone), redo = () => step(undone, strokes);

  // An earlier mask comes back as paint: its light pixels become ink.
  const earlier = mask ? new Promise((done) => {
    const old = new Image();
    old.onload = () => {
      base = h("canvas", { width: start.width, height: start.height });
      const layer = base.getContext("2d");
      layer.drawImage(old, 0, 0, start.width, start.height);
      const data = layer.getImageData(0, 0, start.width, start.height);
      const [r, g, b] = parse(ink);
      for (let i = 0; i < data.data.length; i += 4) {
        const on = data.data[i] > 127;
        data.data.set([r, g, b, on ? 255 : 0], i);
      }
      layer.putImageData(data, 0, 0);
      redraw();
      done();
    };
    old.onerror = done;
    old.src = studio.picture(mask);
  }) : Promise.resolve();
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  // A stroke is kept after a moment's rest, and at once when the brush is left.
  let waiting = null;
  const changed = () => { clearTimeout(waiting); waiting = setTimeout(save, 300); };
  const save = () => {
    clearTimeout(waiting);
    waiting = null;
    keep(earlier.then(bytes));
  };
  const bytes = () => {
    const out = h("canvas", { width: start.width, height: start.height });
    const layer = out.getContext("2d");
    layer.drawImage(canvas, 0, 0);
    const data = layer.getImageData(0, 0, start.width, start.height);
    let any = false;
    for (let i = 0; i < data.data.length; i += 4) {
      const on = data.data[i + 3] > 127 ? 255 : 0;
      any ||= on > 0;
      data.data.set([on, on, on, 255], i);
    }
    layer.putImageData(data, 0, 0);
    return any ? new Promise((done) => out.toBlob(done, "image/png")) : null;
  };
  const close = (unwanted = false) => {
    if (last) { strokes.push(last); last = null; changed(); }
    if (waiting !== null && !unwanted) save();
    clearTimeout(waiting);
    document.removeEventListener("keydown", key, true);
    leave(unwanted);
  };
  const key = (event) => {
    if (!studio.visible(canvas)) return;
    const act = event.key === "Escape" ? close : { undo, redo }[studio.undoKey(event)];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
  document.addEventListener("keydown", key, true);
  const eraser = h("button", { type: "button", "aria-pressed": "false", onclick: () => { erase = !erase; eraser.setAttribute("aria-pressed", String(erase)); eraser.textContent = erase ? "Erasing" : "Eraser"; } }, "Eraser");
  const tools = h("div", { class: "brush" },
    h("label", { class: "small" }, "Brush ", size), eraser,
    h("button", { type: "button", onclick: undo }, "Undo"),
    h("button", { type: "button", onclick: () => { add("clear"); redraw(); } }, "Clear"),
    h("button", { type: "button", class: "primary", style: "width:auto;min-height:36px", onclick: () => close() }, "Done"),
    h("button", { type: "button", class: "quiet", title: "Back to what was there before", onclick: () => close(true) }, "Cancel"));
  return { figure, tools, leave: () => close(), focus: () => canvas.focus({ preventScroll: true }) };
};
