// What was measured, to look at: pictures over one another, the table, the plane of costs, the layers.
studio.compressViews = ({ row, reference, pick, about, now }) => {
  const { h } = studio;
  let at = 50, index = 0, heat = false, axis = "median_ms";
  const AXES = { median_ms: ["Latency", "ms"], bytes: ["Size", "MB"], peak_mb: ["Memory", "MB"] };
  const isNumber = (value) => value !== null && value !== undefined && Number.isFinite(value);
  const mb = (value) => isNumber(value) ? (value / 2 ** 20 < 9.95 ? (value / 2 ** 20).toFixed(1) : String(Math.round(value / 2 ** 20))) : "–";
  const of = (one, name) => (isNumber(one[name]) ? (name === "bytes" ? one[name] / 2 ** 20 : one[name]) : null);
  const measure = (name) => about().measures[name] || { title: name, unit: "", higher_is_better: true };

  // ── pictures ───────────────────────────────────────────────────────────
  const address = (one, number) => studio.url(`compress/${encodeURIComponent(now().id)}/picture/${one.pictures[number]}?at=${one.pictured || 0}`);
  const pictures = () => {
    const one = row(), base = reference();
    if (!one?.pictures?.length || !base?.pictures?.length) return null;
    const count = Math.min(one.pictures.length, base.pictures.length);
    index = Math.min(index, count - 1);
    const same = one.key === base.key;
    const under = h("img", { src: address(base, index), alt: base.title }), over = h("img", { class: "over", src: address(one, index), alt: one.title });
    const canvas = h("canvas", { class: "cmp-heat", hidden: !heat });
    const slider = h("input", { type: "range", min: 0, max: 100, value: at, "aria-label": "Where one picture ends and the other begins", "data-act": "slide", hidden: heat || same, oninput: (event) => { at = Number(event.target.value); place(); } });
    const box = h("div", { class: "cmp-pair" }, under, over, canvas, h("i", { class: "cmp-edge", hidden: heat || same }), slider,
      same ? null : h("span", { class: "cmp-tag left", hidden: heat }, base.title), same ? null : h("span", { class: "cmp-tag right", hidden: heat }, one.title));
    const place = () => { over.style.clipPath = `inset(0 0 0 ${at}%)`; box.style.setProperty("--at", `${at}%`); };
    const loaded = () => { const scale = Math.min(4, Math.max(1, 512 / Math.max(under.naturalWidth, 1))); box.style.width = `${under.naturalWidth * scale}px`; box.style.aspectRatio = `${under.naturalWidth} / ${under.naturalHeight}`; if (heat) paint(canvas, under, over); };
    Promise.all([under, over].map((image) => image.decode().catch(() => {}))).then(loaded);
    place();
    return h("div", { class: "cmp-pictures" }, h("div", { class: "stage-view cmp-stage" }, box),
      h("div", { class: "cmp-acts" },
        same ? h("span", { class: "small muted" }, "This is the reference; choose another row to see it beside this one.") : h("div", { class: "segs" }, [[false, "Side by side"], [true, "Difference"]].map(([value, label]) => h("button", { type: "button", class: "seg", "aria-pressed": String(heat === value), "data-act": `heat-${value}`, onclick: () => { heat = value; pick(one.key); } }, label))),
        heat && !same ? h("span", { class: "small muted" }, "Brighter is further from the reference; four times enlarged.") : null,
        count > 1 ? h("span", { class: "cmp-which" }, [...Array(count).keys()].map((number) => h("button", { type: "button", class: "quiet num", "aria-pressed": String(number === index), "aria-label": `Input ${number + 1}`, "data-act": `input-${number}`, onclick: () => { index = number; pick(one.key); } }, String(number + 1)))) : null));
  };
  // The largest channel difference, times four, as black through violet and orange to white.
  const paint = (canvas, first, second) => {
    const width = (canvas.width = first.naturalWidth), height = (canvas.height = first.naturalHeight);
    if (!width) return;
    const read = (image) => { const c = h("canvas", {}); c.width = width; c.height = height; const g = c.getContext("2d"); g.drawImage(image, 0, 0, width, height); return g.getImageData(0, 0, width, height).data; };
    const a = read(first), b = read(second), ink = canvas.getContext("2d"), out = ink.createImageData(width, height);
    const stops = [[0, 0, 8], [88, 24, 120], [214, 72, 64], [252, 186, 72], [255, 255, 240]];
    for (let p = 0; p < a.length; p += 4) {
      const value = Math.min(0.9999, (4 * Math.max(Math.abs(a[p] - b[p]), Math.abs(a[p + 1] - b[p + 1]), Math.abs(a[p + 2] - b[p + 2]))) / 255) * 4;
      const low = Math.floor(value), share = value - low;
      for (let c = 0; c < 3; c += 1) out.data[p + c] = stops[low][c] * (1 - share) + stops[low + 1][c] * share;
      out.data[p + 3] = 255;
    }
    ink.putImageData(out, 0, 0);
  };

  // ── the table ──────────────────────────────────────────────────────────
  const table = (picked) => {
    const rows = now().rows, base = reference();
    const names = [...new Set(rows.flatMap((one) => Object.keys(one.quality)))];
    const ratio = (one, name, up) => isNumber(one[name]) && isNumber(base?.[name]) && !one.reference && base[name] > 0 ? h("span", { class: "small muted" }, ` ${up ? (base[name] / one[name]).toFixed(1) : (one[name] / base[name]).toFixed(2)}×`) : null;
    const head = ["Variant", "MB on disk", "Peak MB", "Load s", "First ms", "Median ms", ...names.map((name) => `${measure(name).title}${measure(name).unit ? ` ${measure(name).unit}` : ""}`)];
    const line = (one) => h("tr", { class: one.key === picked ? "picked" : "", "data-key": one.key, onclick: () => pick(one.key) },
      h("th", { scope: "row" }, h("button", { type: "button", class: "quiet name", "data-act": `row-${one.key}`, "aria-pressed": String(one.key === picked) }, h("i", { class: "dot", style: `background:${studio.runtimeHue(one.runtime)}`, "aria-hidden": "true" }), one.title),
        one.default ? h("span", { class: "badge on" }, "In use") : null, one.front ? h("span", { class: "badge", title: "No other variant measured here is smaller, faster and better at once" }, "Best trade-off") : null,
        !one.error && (one.runs ?? one.of ?? 0) < (one.of ?? 0) ? h("span", { class: "badge", title: "Times are the middle of the runs so far" }, `${one.runs ?? 0} of ${one.of} runs`) : null),
      one.error ? h("td", { colspan: head.length - 1, class: "muted cmp-failed" }, one.error) : [
        h("td", {}, mb(one.bytes), ratio(one, "bytes", false)), h("td", {}, isNumber(one.peak_mb) ? String(Math.round(one.peak_mb)) : "–"), h("td", {}, studio.figure(one.load_s)), h("td", {}, studio.figure(one.first_ms)),
        h("td", {}, studio.figure(one.median_ms), isNumber(one.spread_ms) ? h("span", { class: "small muted" }, ` ± ${studio.figure(one.spread_ms / 2)}`) : null, ratio(one, "median_ms", true)),
        ...names.map((name) => h("td", { class: name === one.leading && !one.tolerable && !one.reference ? "poor" : "", title: measure(name).sentence }, one.quality[name] === undefined || one.quality[name] === null ? "–" : studio.figure(one.quality[name])))]);
    return h("div", { class: "cmp-scroll", tabindex: 0, role: "region", "aria-label": "Measurements" }, h("table", { class: "cmp-table num" }, h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows.map(line))));
  };

  // ── the plane: cost to the right, quality up, size as area ─────────────
  const svg = (tag, attributes, ...children) => { const element = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value); element.append(...children.filter(Boolean)); return element; };
  const scatter = (picked) => {
    const all = now().rows.filter((one) => !one.error && isNumber(of(one, axis)) && one.leading);
    const name = all.find((one) => one.leading)?.leading;
    const rows = all.filter((one) => isNumber(one.quality[name]));
    if (rows.length < 2) return null;
    const up = measure(name).higher_is_better, W = 760, H = 320, L = 64, R = 120, T = 16, B = 44;
    const xs = rows.map((one) => of(one, axis)), ys = rows.map((one) => one.quality[name]);
    const range = (values, pad) => { const low = Math.min(...values), high = Math.max(...values), gap = (high - low || Math.abs(high) || 1) * pad; return [low - gap, high + gap]; };
    const [x0, x1] = [0, Math.max(...xs) * 1.08], [y0, y1] = range(ys, 0.12);
    const px = (x) => L + ((x - x0) / (x1 - x0)) * (W - L - R), py = (y) => up ? H - B - ((y - y0) / (y1 - y0)) * (H - B - T) : T + ((y - y0) / (y1 - y0)) * (H - B - T);
    const most = Math.max(...rows.map((one) => one.bytes || 0)) || 1;
    const better = (a, b) => (up ? a >= b : a <= b);
    const front = rows.filter((one) => !rows.some((other) => other !== one && of(other, axis) <= of(one, axis) && better(other.quality[name], one.quality[name]) && (of(other, axis) < of(one, axis) || other.quality[name] !== one.quality[name]))).sort((a, b) => of(a, axis) - of(b, axis));
    const path = front.map((one, k) => `${k ? "L" : "M"}${px(of(one, axis)).toFixed(1)},${py(one.quality[name]).toFixed(1)}`).join("");
    const taken = [];
    const label = (one, x, y) => { let top = y; while (taken.some(([tx, ty]) => Math.abs(tx - x) < 150 && Math.abs(ty - top) < 16)) top += 16; taken.push([x, top]); return svg("text", { x: x + 8 + radius(one), y: top + 4, class: `cmp-label${one.key === picked ? " picked" : ""}` }, document.createTextNode(one.title.replace(" on ", ", "))); };
    const radius = (one) => 4 + 8 * Math.sqrt((one.bytes || 0) / most);
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "cmp-plane", role: "img", "aria-label": `${AXES[axis][0]} against ${measure(name).title}` },
      ...studio.ticks(x0, x1, 6).map((tick) => svg("g", {}, svg("line", { x1: px(tick), x2: px(tick), y1: T, y2: H - B, class: "grid" }), svg("text", { x: px(tick), y: H - B + 18, "text-anchor": "middle" }, document.createTextNode(studio.figure(tick))))),
      ...studio.ticks(y0, y1, 4).map((tick) => svg("g", {}, svg("line", { x1: L, x2: W - R, y1: py(tick), y2: py(tick), class: "grid" }), svg("text", { x: L - 8, y: py(tick) + 4, "text-anchor": "end" }, document.createTextNode(studio.figure(tick))))),
      svg("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, document.createTextNode(`${AXES[axis][0]}, ${AXES[axis][1]}: less is better`)),
      svg("text", { x: 14, y: (T + H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(T + H - B) / 2})` }, document.createTextNode(`${measure(name).title}${measure(name).unit ? `, ${measure(name).unit}` : ""}`)),
      path ? svg("path", { d: path, class: "cmp-front" }) : null,
      ...rows.map((one) => { const x = px(of(one, axis)), y = py(one.quality[name]); const group = svg("g", { class: `cmp-dot${one.key === picked ? " picked" : ""}`, "data-key": one.key }, svg("circle", { cx: x, cy: y, r: radius(one), fill: studio.runtimeHue(one.runtime), "fill-opacity": one.front ? 0.9 : 0.3, stroke: studio.runtimeHue(one.runtime) })); group.addEventListener("click", () => pick(one.key)); return group; }),
      ...[...rows].sort((a, b) => py(a.quality[name]) - py(b.quality[name])).map((one) => label(one, px(of(one, axis)), py(one.quality[name]))));
    return h("div", { class: "cmp-section" }, h("div", { class: "cmp-head" }, h("h2", {}, "Cost and quality"), h("div", { class: "segs" }, Object.entries(AXES).map(([value, [text]]) => h("button", { type: "button", class: "seg", "data-act": `axis-${value}`, "aria-pressed": String(axis === value), onclick: () => { axis = value; pick(picked); } }, text)))),
      h("div", { class: "cmp-scroll" }, picture), h("p", { class: "note" }, "The line joins what no other beats on these two axes; a larger dot is a larger file; full colour is a best trade-off of size, time and quality."));
  };

  // ── layers ─────────────────────────────────────────────────────────────
  const layers = () => {
    const one = row();
    const list = Object.entries(one?.layers || {}).filter(([, value]) => isNumber(value)).sort((a, b) => b[1] - a[1]);
    if (!list.length) return null;
    const top = list[0][1] || 1;
    return h("div", { class: "cmp-section" }, h("div", { class: "cmp-head" }, h("h2", {}, `What ${one.title} does to each layer`), h("span", { class: "small muted" }, "error over the layer's own size")),
      h("ul", { class: "cmp-bars" }, list.slice(0, 40).map(([name, value]) => h("li", {}, h("span", { class: "name", title: name }, name), h("span", { class: "track" }, h("i", { style: `width:${(100 * value) / top}%;background:${studio.runtimeHue(one.runtime)}` })), h("span", { class: "num" }, studio.figure(value))))),
      list.length > 40 ? h("p", { class: "note" }, `The 40 most affected of ${list.length}.`) : null);
  };
  return { pictures, table, scatter, layers };
};
