// What lies over a picture: boxes with labels, masks with a crisp edge, and the user's own clicks and boxes. All in
// picture pixels; lines and letters keep their size on screen, whatever the picture's.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const SIDE = 1200; // px of a mask's canvas at most; it is only looked at
  const CROWD = 30; // more boxes than this show their label only when pointed at,
  const FEW = 5, LOW = 54; // and so do more than a few that are lower than three labels, px on screen
  // Ten hues of like lightness; the same name has the same colour on every tab.
  const HUES = ["#e4572e", "#17a398", "#7d5ba6", "#d19c1d", "#2e86de", "#c2447a", "#5a9e3a", "#0f8bb3", "#b35c1e", "#6b6fd6"];
  studio.hue = (text) => HUES[[...String(text)].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7) % HUES.length];
  studio.rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  studio.accent = () => { const found = getComputedStyle(document.body).getPropertyValue("--accent").trim(); return /^#[0-9a-f]{6}$/i.test(found) ? found : "#3556c8"; };

  const svg = (tag, attributes) => { const element = document.createElementNS(NS, tag); for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value); return element; };

  // value.masks: [{id, hue?}] · value.boxes: [{box, label, score?, hue?}] · value.points: [[x, y, 1 or 0]] · value.box: [x1, y1, x2, y2]
  // value.aim: "point" | "box" | "both" lets the user click or drag. The companion of the stage (`pilot`) hears point, box,
  // pick and hover; without one the stage's own events do.
  studio.overlay = (figure, picture, value, { trigger, pilot, cross = {} }) => {
    const tell = (event, data) => (pilot?.[event] ? pilot[event](data) : trigger(event, data));
    const layer = svg("svg", { viewBox: `0 0 ${picture.width} ${picture.height}`, preserveAspectRatio: "none" });
    for (const mask of value.masks || []) figure.append(studio.maskLayer(mask.id, mask.hue || studio.accent()));
    pilot?.under?.(figure, picture);
    figure.append(layer);
    const unit = () => picture.width / (figure.clientWidth || 560);
    const paint = () => {
      const one = unit();
      layer.replaceChildren();
      layer.classList.toggle("crowd", isCrowd(value.boxes || [], one));
      const order = (value.boxes || []).map((box, index) => index).sort((a, b) => area(value.boxes[b].box) - area(value.boxes[a].box)); // small ones stay clickable
      for (const index of order) drawBox(layer, value.boxes[index], index, picture, one, pilot);
      for (const [x, y, label] of value.points || []) drawPoint(layer, x, y, label, one);
      if (value.box) layer.append(frame(value.box, "var(--accent)", "6 4"));
      pilot?.painted?.(layer);
      showCross?.();
    };
    let showCross = null;
    new ResizeObserver(paint).observe(figure);
    paint();
    if (value.aim) showCross = aim(figure, layer, picture, value.aim, unit, tell, cross);
  };

  // ── masks ──────────────────────────────────────────────────────────────
  const drawn = new Map(); // the last few, so that choosing among them is instant
  studio.maskLayer = (id, hue) => {
    const key = `${id} ${hue}`;
    if (!drawn.has(key)) {
      // What is cut out keeps its colours, the rest steps back, and the edge between is crisp.
      drawn.set(key, tinted(studio.picture(id), (red) => (red > 127 ? 1 : 2), (name) => (name === 1 ? [...studio.rgb(hue), 0, 255] : [12, 13, 16, 148, 148])));
      if (drawn.size > 8) drawn.delete(drawn.keys().next().value);
    }
    return drawn.get(key);
  };
  // A canvas that tints each region of a picture of regions: name(r, g) -> 0 for none, colour(name) -> [r, g, b, opacity].
  const tinted = (source, name, colour) => {
    const canvas = studio.h("canvas", { class: "over mask", width: 1, height: 1, "aria-hidden": "true" });
    const image = new Image();
    image.onload = () => {
      const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
      canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
      canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.imageSmoothingEnabled = false;
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      const data = pen.getImageData(0, 0, canvas.width, canvas.height);
      const names = new Uint16Array(canvas.width * canvas.height);
      for (let i = 0; i < names.length; i += 1) names[i] = name(data.data[4 * i], data.data[4 * i + 1]);
      canvas.names = names;
      canvas.tint = (next) => { fillIn(data, names, canvas.width, canvas.height, next); pen.putImageData(data, 0, 0); };
      canvas.tint(colour);
      canvas.dispatchEvent(new Event("ready"));
    };
    image.src = source;
    return canvas;
  };
  studio.regions = (source, colour) => tinted(source, (red, green) => red + 256 * green, colour);
  const fillIn = (data, names, width, height, colour) => {
    const thick = Math.max(1, Math.round(Math.max(width, height) / 320));
    const known = new Map();
    for (let y = 0, i = 0; y < height; y += 1) for (let x = 0; x < width; x += 1, i += 1) {
      const name = names[i];
      if (!name) { data.data[4 * i + 3] = 0; continue; }
      let tint = known.get(name);
      if (!tint) known.set(name, (tint = colour(name)));
      const edge = (x >= thick && names[i - thick] !== name) || (x + thick < width && names[i + thick] !== name) || (y >= thick && names[i - thick * width] !== name) || (y + thick < height && names[i + thick * width] !== name);
      data.data[4 * i] = tint[0]; data.data[4 * i + 1] = tint[1]; data.data[4 * i + 2] = tint[2];
      data.data[4 * i + 3] = edge ? tint[4] ?? 255 : tint[3] ?? 105;
    }
  };

  const isCrowd = (boxes, unit) => {
    const heights = boxes.map(({ box }) => (box[3] - box[1]) / unit).sort((a, b) => a - b);
    return boxes.length > CROWD || (boxes.length > FEW && heights[Math.floor(heights.length / 2)] < LOW);
  };

  // ── boxes and points ───────────────────────────────────────────────────
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const frame = ([x1, y1, x2, y2], colour, dash) => svg("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), fill: "none", stroke: colour, "stroke-width": 2, "vector-effect": "non-scaling-stroke", ...(dash ? { "stroke-dasharray": dash } : {}) });
  const ink = (colour) => { if (colour[0] !== "#") return "#fff"; const [r, g, b] = studio.rgb(colour); return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff"; };
  const drawBox = (layer, one, index, picture, unit, pilot) => {
    const colour = one.hue || studio.hue(one.label);
    const [x1, y1] = one.box;
    const text = one.score === undefined ? one.label : `${one.label} ${Math.round(one.score * 100)}%`;
    const height = 18 * unit, width = Math.min(picture.width, (text.length * 6.8 + 10) * unit);
    const top = y1 - height < 0 ? y1 : y1 - height;
    const left = Math.max(0, Math.min(x1, picture.width - width));
    const words = svg("text", { x: left + 5 * unit, y: top + 13 * unit, fill: ink(colour), "font-size": 12 * unit, "font-weight": 500, "font-family": "Inter, sans-serif" });
    words.textContent = text;
    const tag = svg("g", { class: "tag" });
    tag.append(svg("rect", { x: left, y: top, width, height, fill: colour, rx: 2 * unit }), words);
    const outline = frame(one.box, colour);
    const group = svg("g", { class: "found", "data-index": index });
    group.append(outline, tag);
    if (pilot?.pick) {
      outline.setAttribute("pointer-events", "all");
      group.addEventListener("click", () => pilot.pick(index));
      group.addEventListener("pointerenter", () => pilot.hover(index));
      group.addEventListener("pointerleave", () => pilot.hover(null));
    }
    layer.append(group);
  };
  const drawPoint = (layer, x, y, label, unit) => {
    layer.append(svg("circle", { class: "mark", cx: x, cy: y, r: 7 * unit, fill: label ? "#1f9d55" : "#d64545", stroke: "#fff", "stroke-width": 2 * unit }));
    layer.append(svg("path", { d: label ? `M${x - 3 * unit} ${y}h${6 * unit}M${x} ${y - 3 * unit}v${6 * unit}` : `M${x - 3 * unit} ${y}h${6 * unit}`, stroke: "#fff", "stroke-width": 1.6 * unit }));
  };

  // A press that moves is a box, one that does not is a click; right button or Shift means "not this". By keyboard: arrows
  // move a cross, Enter clicks, Shift and Enter says "not this".
  const aim = (figure, layer, picture, mode, unit, tell, cross) => {
    if (cross.picture !== picture.id) Object.assign(cross, { picture: picture.id, spot: [picture.width / 2, picture.height / 2] });
    let from = null, rubber = null, lines = null;
    const clamp = (value, top) => Math.min(Math.max(value, 0), top - 0.01);
    const at = (event) => {
      const box = figure.getBoundingClientRect();
      return [clamp(((event.clientX - box.left) / box.width) * picture.width, picture.width), clamp(((event.clientY - box.top) / box.height) * picture.height, picture.height)];
    };
    const click = ([x, y], negative) => { if (mode !== "none") drawPoint(layer, x, y, negative ? 0 : 1, unit()); tell("point", { x, y, label: negative ? 0 : 1 }); };
    figure.classList.add("aim");
    figure.tabIndex = 0;
    figure.setAttribute("role", "application");
    figure.setAttribute("aria-label", "Picture. Arrow keys move a cross, Enter marks, Shift and Enter says what is not part of it.");
    figure.addEventListener("contextmenu", (event) => event.preventDefault());
    figure.addEventListener("pointerdown", (event) => { if (event.button === 1) return; figure.setPointerCapture(event.pointerId); figure.classList.add("pressed"); from = at(event); });
    figure.addEventListener("pointermove", (event) => {
      tell("hover", at(event));
      if (!from || mode === "point" || mode === "none") return;
      const to = at(event);
      if (!rubber && Math.hypot(to[0] - from[0], to[1] - from[1]) < 6 * unit()) return;
      rubber?.remove();
      rubber = frame(ordered(from, to), "var(--accent)", "6 4");
      layer.append(rubber);
    });
    figure.addEventListener("pointerleave", () => tell("hover", null));
    const release = () => { from = null; rubber = null; figure.dispatchEvent(new Event("released")); };
    figure.addEventListener("pointercancel", () => { figure.classList.remove("pressed"); rubber?.remove(); release(); });
    figure.addEventListener("pointerup", (event) => {
      if (!from) return;
      figure.classList.remove("pressed");
      const to = at(event), [x1, y1, x2, y2] = ordered(from, to);
      if (rubber && x2 - x1 >= 1 && y2 - y1 >= 1) tell("box", { box: [x1, y1, x2, y2] });
      else if (mode !== "box") click(from, event.button === 2 || event.shiftKey);
      release();
    });
    const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    figure.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && mode !== "box") { event.preventDefault(); return click(cross.spot, event.shiftKey); }
      if (!STEPS[event.key]) return;
      event.preventDefault();
      const far = (event.shiftKey ? 2 : 16) * unit();
      const [x, y] = cross.spot, [dx, dy] = STEPS[event.key];
      cross.spot = [clamp(x + dx * far, picture.width), clamp(y + dy * far, picture.height)];
      show();
      tell("hover", cross.spot);
    });
    const show = () => {
      lines?.remove();
      lines = null;
      if (!figure.matches(":focus-visible")) return;
      const [x, y] = cross.spot, arm = 9 * unit();
      const d = `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}`;
      lines = svg("path", { class: "cross", d, stroke: "var(--accent)", "stroke-width": 2 * unit() });
      layer.append(lines);
    };
    for (const name of ["focus", "blur"]) figure.addEventListener(name, show);
    return show;
  };
  const ordered = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
})();
