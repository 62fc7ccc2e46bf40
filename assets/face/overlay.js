// What lies over a picture: boxes with labels, tinted masks, and the user's own clicks and boxes. Picture pixels throughout.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  // Ten hues of like lightness; the same name has the same colour on every tab.
  const HUES = ["#e4572e", "#17a398", "#7d5ba6", "#d19c1d", "#2e86de", "#c2447a", "#5a9e3a", "#0f8bb3", "#b35c1e", "#6b6fd6"];
  studio.hue = (text) => HUES[[...String(text)].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7) % HUES.length];

  const svg = (tag, attributes) => { const element = document.createElementNS(NS, tag); for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value); return element; };

  // value.masks: [{id, hue?}] · value.boxes: [{box, label, score?, hue?}] · value.points: [[x, y, 1 or 0]] · value.box: [x1, y1, x2, y2]
  // value.aim: "point" | "box" | "both" lets the user click or drag; events: point {x, y, label}, box {box}.
  studio.overlay = (figure, picture, value, { trigger }) => {
    const unit = Math.max(picture.width, picture.height) / 560;
    const layer = svg("svg", { viewBox: `0 0 ${picture.width} ${picture.height}`, preserveAspectRatio: "none" });
    for (const mask of value.masks || []) figure.append(tint(mask));
    for (const one of value.boxes || []) drawBox(layer, one, picture, unit);
    for (const [x, y, label] of value.points || []) drawPoint(layer, x, y, label, unit);
    if (value.box) layer.append(frame(value.box, "var(--accent)", unit, "6 4"));
    figure.append(layer);
    if (value.aim) aim(figure, layer, picture, value.aim, unit, trigger);
  };

  const tint = (mask) => {
    const url = `url("${studio.picture(mask.id)}")`;
    return studio.h("div", { class: "tint", style: `position:absolute;inset:0;background:${mask.hue || "var(--accent)"};opacity:0.5;mask:${url} 0 0/100% 100% luminance;-webkit-mask:${url} 0 0/100% 100%;mask-mode:luminance;pointer-events:none` });
  };
  const frame = ([x1, y1, x2, y2], colour, unit, dash) => svg("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), fill: "none", stroke: colour, "stroke-width": 2, "vector-effect": "non-scaling-stroke", rx: 2 * unit, ...(dash ? { "stroke-dasharray": dash } : {}) });
  const drawBox = (layer, one, picture, unit) => {
    const colour = one.hue || studio.hue(one.label);
    const [x1, y1] = one.box;
    const text = one.score === undefined ? one.label : `${one.label} ${Math.round(one.score * 100)}%`;
    const height = 18 * unit, width = Math.min(picture.width, (text.length * 7 + 10) * unit);
    const top = y1 - height < 0 ? y1 : y1 - height;
    const left = Math.max(0, Math.min(x1, picture.width - width));
    const group = svg("g", { class: "found" });
    const words = svg("text", { x: left + 5 * unit, y: top + 13 * unit, fill: "#fff", "font-size": 12 * unit, "font-weight": 500, "font-family": "Inter, sans-serif" });
    words.textContent = text;
    group.append(frame(one.box, colour, unit), svg("rect", { x: left, y: top, width, height, fill: colour, rx: 2 * unit }), words);
    layer.append(group);
  };
  const drawPoint = (layer, x, y, label, unit) => {
    layer.append(svg("circle", { cx: x, cy: y, r: 6 * unit, fill: label ? "#1f9d55" : "#d64545", stroke: "#fff", "stroke-width": 2 * unit }));
    layer.append(svg("path", { d: label ? `M${x - 3 * unit} ${y}h${6 * unit}M${x} ${y - 3 * unit}v${6 * unit}` : `M${x - 3 * unit} ${y}h${6 * unit}`, stroke: "#fff", "stroke-width": 1.6 * unit }));
  };

  // A press that moves is a box, one that does not is a click; right button or Shift means "not this".
  const aim = (figure, layer, picture, mode, unit, trigger) => {
    let from = null, rubber = null;
    const at = (event) => {
      const box = figure.getBoundingClientRect();
      const clamp = (value, top) => Math.min(Math.max(value, 0), top);
      return [clamp(((event.clientX - box.left) / box.width) * picture.width, picture.width - 0.01), clamp(((event.clientY - box.top) / box.height) * picture.height, picture.height - 0.01)];
    };
    figure.classList.add("aim");
    figure.addEventListener("contextmenu", (event) => event.preventDefault());
    figure.addEventListener("pointerdown", (event) => { figure.setPointerCapture(event.pointerId); from = at(event); });
    figure.addEventListener("pointermove", (event) => {
      if (!from || mode === "point") return;
      const to = at(event);
      if (Math.hypot(to[0] - from[0], to[1] - from[1]) < 6 * unit) return;
      rubber?.remove();
      rubber = frame(ordered(from, to), "var(--accent)", unit, "6 4");
      layer.append(rubber);
    });
    figure.addEventListener("pointercancel", () => { from = null; rubber?.remove(); rubber = null; });
    figure.addEventListener("pointerup", (event) => {
      if (!from) return;
      const to = at(event), negative = event.button === 2 || event.shiftKey;
      if (rubber) trigger("box", { box: ordered(from, to) });
      else if (mode !== "box") { drawPoint(layer, from[0], from[1], negative ? 0 : 1, unit); trigger("point", { x: from[0], y: from[1], label: negative ? 0 : 1 }); }
      from = null; rubber = null;
    });
  };
  const ordered = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
})();
