// One small line chart for every curve in the app: labelled axes, direct labels at the lines' ends, a readout under the finger.
studio.series = (index) => getComputedStyle(document.documentElement).getPropertyValue(`--c${(index % 6) + 1}`).trim() || "#3556c8";
studio.figure = (value) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return String(+value.toPrecision(size >= 1000 ? 4 : 3));
};

// Round numbers within a range, about `wanted` of them.
studio.ticks = (low, high, wanted) => {
  const raw = (high - low) / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
};

// Exponential smoothing that does not drag the first points towards zero.
studio.smooth = (points, share) => {
  if (!share) return points;
  let sum = 0, weight = 0;
  return points.map(([x, y]) => { sum = share * sum + (1 - share) * y; weight = share * weight + (1 - share); return [x, sum / weight]; });
};

// spec: {lines: [{name, points: [[x, y]], hue?, faint?, dots?}], x, y, log, smooth, height, marks: [[x, y, hue, label]]}. Returns {draw(spec)}.
studio.chart = (holder, first) => {
  const canvas = studio.h("canvas", { class: "chart-canvas", role: "img" });
  const readout = studio.h("div", { class: "chart-readout num small", hidden: true });
  holder.classList.add("chart");
  holder.replaceChildren(canvas, readout);
  let spec = first || { lines: [] }, at = null, place = null;

  const draw = (next) => {
    if (next) spec = next;
    const width = holder.clientWidth, height = spec.height || 168;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    const ink = getComputedStyle(holder);
    const faint = ink.getPropertyValue("--line").trim(), text = ink.getPropertyValue("--ink-2").trim();
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = "11px Inter, system-ui, sans-serif";
    const usable = (y) => Number.isFinite(y) && (!spec.log || y > 0);
    const lines = spec.lines.map((line, index) => ({ ...line, hue: line.hue || studio.series(index), raw: line.points.filter(([, y]) => usable(y)) }))
      .map((line) => ({ ...line, shown: line.dots ? line.raw : studio.smooth(line.raw, spec.smooth || 0) }));
    const all = lines.flatMap((line) => line.shown);
    const ends = lines.map((line) => `${line.name} ${studio.figure(line.shown.at(-1)?.[1])}`);
    canvas.setAttribute("aria-label", ends.join(", ") || "Nothing to plot yet");
    if (!all.length) { c.fillStyle = text; c.fillText(spec.log ? "Nothing above zero to show" : "Nothing yet", 8, height / 2); place = null; return; }
    const scale = (y) => (spec.log ? Math.log10(y) : y);
    let [x0, x1] = [Math.min(...all.map((p) => p[0])), Math.max(...all.map((p) => p[0]))];
    let [y0, y1] = [Math.min(...all.map((p) => scale(p[1]))), Math.max(...all.map((p) => scale(p[1])))];
    if (x0 === x1) x1 = x0 + 1;
    if (y0 === y1) { y0 -= Math.abs(y0) * 0.05 || 0.5; y1 += Math.abs(y1) * 0.05 || 0.5; }
    const pad = (y1 - y0) * 0.06; y0 -= pad; y1 += pad;
    const marks = spec.log ? studio.ticks(y0, y1, 4).map((t) => [t, studio.figure(10 ** t)]) : studio.ticks(y0, y1, 4).map((t) => [t, studio.figure(t)]);
    const left = Math.max(...marks.map(([, label]) => c.measureText(label).width)) + 10;
    const names = lines.length > 1 || lines[0].label;
    const right = names ? Math.min(width * 0.3, Math.max(...lines.map((line) => c.measureText(line.name).width)) + 12) : 10;
    const bottom = 30, top = 8;
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
    const py = (y) => top + (1 - (scale(y) - y0) / (y1 - y0)) * (height - top - bottom);
    c.fillStyle = text; c.strokeStyle = faint; c.lineWidth = 1;
    c.textAlign = "right"; c.textBaseline = "middle";
    for (const [t, label] of marks) {
      const y = top + (1 - (t - y0) / (y1 - y0)) * (height - top - bottom);
      c.beginPath(); c.moveTo(left, Math.round(y) + 0.5); c.lineTo(width - right, Math.round(y) + 0.5); c.stroke();
      c.fillText(label, left - 6, y);
    }
    c.textBaseline = "top"; c.textAlign = "center";
    for (const t of studio.ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) c.fillText(Math.abs(t) >= 10000 ? `${+(t / 1000).toPrecision(3)}k` : studio.figure(t), Math.min(px(t), width - right - 4), height - bottom + 5);
    c.textAlign = "right";
    c.fillText(spec.x || "step", width - right, height - 13);
    for (const line of lines) {
      c.strokeStyle = c.fillStyle = line.hue; c.lineJoin = "round";
      if (spec.smooth && !line.dots) { c.globalAlpha = 0.22; c.lineWidth = 1; path(c, line.raw, px, py); c.globalAlpha = 1; }
      c.lineWidth = line.dots ? 1.25 : 1.75;
      if (!line.dots || line.shown.length > 2) path(c, line.shown, px, py); // two held-out numbers are no curve
      if (line.dots || line.shown.length === 1) for (const [x, y] of line.shown) { c.beginPath(); c.arc(px(x), py(y), 2.5, 0, 7); c.fill(); }
    }
    if (names) { // direct labels, pushed apart
      c.textAlign = "left"; c.textBaseline = "middle";
      const labels = lines.filter((line) => line.shown.length).map((line) => ({ name: line.name, hue: line.hue, y: py(line.shown.at(-1)[1]) })).sort((a, b) => a.y - b.y);
      for (let k = 1; k < labels.length; k += 1) labels[k].y = Math.max(labels[k].y, labels[k - 1].y + 13);
      const over = (labels.at(-1)?.y || 0) - (height - bottom); if (over > 0) for (const label of labels) label.y -= over;
      for (const label of labels) { c.fillStyle = label.hue; c.fillText(label.name, width - right + 6, label.y, right - 6); }
    }
    place = { lines, px, py, x0, x1, left, right, width, height, bottom, top };
    if (at !== null) point(c, text);
  };
  const path = (c, points, px, py) => { c.beginPath(); points.forEach(([x, y], k) => (k ? c.lineTo(px(x), py(y)) : c.moveTo(px(x), py(y)))); c.stroke(); };
  const point = (c, text) => {
    const { lines, px, py, x0, x1, left, right, width, height, bottom, top } = place;
    const x = x0 + ((at - left) / (width - left - right)) * (x1 - x0);
    const found = lines.filter((line) => line.shown.length).map((line) => ({ line, p: line.shown.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best)) }));
    if (!found.length) return;
    c.strokeStyle = text; c.globalAlpha = 0.5; c.beginPath(); c.moveTo(px(found[0].p[0]), top); c.lineTo(px(found[0].p[0]), height - bottom); c.stroke(); c.globalAlpha = 1;
    for (const { line, p } of found) { c.fillStyle = line.hue; c.beginPath(); c.arc(px(p[0]), py(p[1]), 3, 0, 7); c.fill(); }
    readout.textContent = `${spec.x || "step"} ${studio.figure(found[0].p[0])}: ${found.map(({ line, p }) => `${line.name} ${studio.figure(p[1])}`).join(", ")}`;
  };
  canvas.addEventListener("pointermove", (event) => { at = event.offsetX; if (place) { readout.hidden = false; draw(); } });
  canvas.addEventListener("pointerleave", () => { at = null; readout.hidden = true; draw(); });
  new ResizeObserver(() => draw()).observe(holder);
  return { draw, canvas };
};
