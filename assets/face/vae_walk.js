// Views of the VAE lab that walk through code space: map, sliders, samples, interpolation, arithmetic.
(() => {
  const views = studio.vaeViews, { h } = studio;
  const debounced = (fn, wait = 120) => { let timer = null; return () => { clearTimeout(timer); timer = setTimeout(fn, wait); }; };

  // ── the map ────────────────────────────────────────────────────────────
  views.map = {
    title: "Map", text: "Every point of this plane is a picture. Drag across it; the dots are pictures the model has never trained on.",
    learn: [["vae_map", "What am I seeing"], ["vae_latent", "What is a latent"]],
    build: ({ lab, about, cut, select, segs, labels, chooser, axisName, failed }) => {
      let through = false;
      let space = about.space, data = null, images = [], at = null, near = null, sheet = null, backdrop = null, waiting = null;
      const canvas = h("canvas", { class: "vae-canvas", tabindex: 0, role: "application", "aria-label": "Map of codes. Drag, or use the arrow keys." });
      const seen = h("img", { class: "vae-picture large", alt: "The picture at this point" });
      const place = h("div", { class: "small num muted" }, "Drawing the map …");
      const beside = h("div", { class: "vae-near" });
      const trouble = h("div", {});
      const what = segs("On the map", [["points", "Points"], ["pictures", "Pictures"], ["between", "What lies between"]], studio.remember("vae.map") || "between", (key) => { studio.remember("vae.map", key); paint(); });
      const order = (which) => (which === about.space ? about.axes : Array.from({ length: 16 }, (_, k) => k));
      const spaces = about.space === "latents" ? segs("Axes", [["latents", "Latents"], ["directions", "PCA"]], space, (key) => { space = key; axes(); load(); }) : null;
      const row = h("div", { class: "vae-row" });
      let x = null, y = null;
      const label = labels(() => load(), [["", "Label 1"]].slice(1));
      const one = chooser([["a", "This picture", 0]], () => { if (through) load(); });
      const hold = h("div", { class: "vae-row" });
      const rest = segs("All other axes", [["", "Middle"], ["a", "Of a picture"]], "", (key) => { through = key === "a"; held(); load(); });
      const held = () => studio.fill(hold, h("div", { class: "vae-field" }, h("span", { class: "small muted" }, "All other axes"), rest.box), through ? one.box : null);
      held();
      const axes = () => {
        const all = order(space).slice(0, 16).map((axis, k) => [axis, space === about.space && about.facts.kl_per_latent ? `${axisName(axis, space)}, ${studio.figure(about.weights[k])} nats` : axisName(axis, space)]);
        x = select("Across", all, all[0][0], () => load());
        y = select("Up", all, all[Math.min(1, all.length - 1)][0], () => load());
        studio.fill(row, what.box, spaces?.box, x.box, y.box, hold, label?.box);
      };
      const told = () => ({ ...(label && label.value() !== "" && !through ? { label: Number(label.value()) } : {}), ...(through ? { base: one.args().a } : {}) });
      const load = async () => {
        const mine = (waiting = {});
        const answer = await lab.ask("map", { space, x: Number(x.value()), y: Number(y.value()), side: 13, ...told() }, through ? one.assets() : {});
        if (mine !== waiting || failed(trouble, answer)) return;
        data = answer.data; images = answer.images;
        sheet = await picture(images[0]); backdrop = images[1] ? await picture(images[1]) : null;
        at = at || [0, 0]; near = null; still = null;
        ask(); paint();
      };
      const picture = (source) => new Promise((done) => { const one = new Image(); one.onload = () => done(one); one.onerror = () => done(null); one.src = source; });
      const side = () => canvas.clientWidth;
      const px = ([u, v]) => [((u / data.reach + 1) / 2) * side(), ((1 - v / data.reach) / 2) * side()];
      const isDark = () => document.documentElement.classList.contains("dark") || document.body.classList.contains("dark");
      const hue = (k) => `hsl(${(k * 137.508) % 360} 62% ${isDark() ? 66 : 42}%)`;
      // What does not move with the finger is drawn once: a drag then costs one copy and the marks of its place.
      let still = null, drawn = "";
      const ground = (size, ratio, style) => {
        const mode = what.value(), key = [mode, size, ratio, isDark()].join();
        if (still && drawn === key) return still;
        drawn = key; still = h("canvas", { width: canvas.width, height: canvas.height });
        const c = still.getContext("2d");
        c.setTransform(ratio, 0, 0, ratio, 0, 0);
        c.fillStyle = style.getPropertyValue("--well"); c.fillRect(0, 0, size, size);
        if (mode === "between" && backdrop) { c.imageSmoothingEnabled = true; c.drawImage(backdrop, 0, 0, size, size); }
        c.strokeStyle = style.getPropertyValue("--line-2"); c.globalAlpha = mode === "between" ? 0.35 : 1; c.beginPath(); c.moveTo(size / 2, 0); c.lineTo(size / 2, size); c.moveTo(0, size / 2); c.lineTo(size, size / 2); c.stroke(); c.globalAlpha = 1;
        const tile = about.size, each = Math.max(18, Math.min(32, size / 18));
        data.points.forEach((point, index) => {
          const [a, b] = px(point);
          if (a < 0 || b < 0 || a > size || b > size) return;
          if (mode === "pictures" && sheet) c.drawImage(sheet, (index % data.columns) * tile, Math.floor(index / data.columns) * tile, tile, tile, a - each / 2, b - each / 2, each, each);
          else dot(c, point, 4, style);
        });
        return still;
      };
      const dot = (c, point, radius, style) => {
        const [a, b] = px(point);
        c.beginPath(); c.arc(a, b, radius, 0, 7); c.fillStyle = hue(point[2]); c.fill(); c.lineWidth = 1.25; c.strokeStyle = what.value() === "between" ? "#fff" : style.getPropertyValue("--page"); c.stroke();
      };
      const paint = () => {
        if (!data || !side()) return;
        const ratio = devicePixelRatio || 1, size = side(), c = canvas.getContext("2d"), style = getComputedStyle(canvas);
        if (canvas.width !== Math.round(size * ratio)) { canvas.width = canvas.height = Math.round(size * ratio); canvas.style.height = `${size}px`; }
        c.setTransform(1, 0, 0, 1, 0, 0);
        c.drawImage(ground(size, ratio, style), 0, 0);
        c.setTransform(ratio, 0, 0, ratio, 0, 0);
        if (near !== null && !(what.value() === "pictures" && sheet)) dot(c, data.points[near], 6, style);
        if (at) { const [a, b] = px(at); c.lineWidth = 3; c.strokeStyle = "#fff"; c.beginPath(); c.arc(a, b, 9, 0, 7); c.stroke(); c.lineWidth = 1.75; c.strokeStyle = "#14161a"; c.beginPath(); c.arc(a, b, 9, 0, 7); c.stroke(); }
      };
      const ask = () => {
        const [u, v] = at;
        lab.drag("decode", { space, axes: [data.x, data.y], values: [u, v], ...told() }, (answer) => {
          if (failed(trouble, answer)) return;
          seen.src = answer.images[0];
          place.textContent = `${axisName(data.x, space)} ${u.toFixed(2)}, ${axisName(data.y, space).toLowerCase()} ${v.toFixed(2)}; decoded in ${studio.figure((answer.data.seconds?.decode || 0) * 1000)} ms`;
        }, through ? one.assets() : {});
        nearest();
      };
      const nearest = () => {
        const [u, v] = at;
        const before = near;
        near = data.points.reduce((best, [a, b], index) => (best === null || Math.hypot(a - u, b - v) < Math.hypot(data.points[best][0] - u, data.points[best][1] - v) ? index : best), null);
        if (near === null || near === before) return;
        studio.fill(beside, h("span", { class: "vae-thumb", style: cut(about.sheet, near, about.columns, about.points) }), h("span", { class: "small muted" }, "Nearest held-out picture", about.names[about.labels[near]] ? h("br", {}) : null, about.names[about.labels[near]] || null));
      };
      const move = (event) => {
        if (!data) return;
        const box = canvas.getBoundingClientRect();
        const share = (value, size) => Math.max(0, Math.min(1, value / size));
        at = [(share(event.clientX - box.left, box.width) * 2 - 1) * data.reach, (1 - 2 * share(event.clientY - box.top, box.height)) * data.reach];
        ask(); paint();
      };
      canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); move(event); });
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (!step || !data) return;
        event.preventDefault();
        at = at.map((value, k) => Math.max(-data.reach, Math.min(data.reach, value + (step[k] * data.reach) / 20)));
        ask(); paint();
      });
      axes();
      const root = h("div", { class: "vae-stack" }, row, trouble, h("div", { class: "vae-two" }, h("div", {}, canvas, h("div", { class: "small muted vae-axis" }, () => "")), h("aside", {}, seen, place, beside)));
      root.querySelector(".vae-axis").remove();
      new ResizeObserver(paint).observe(canvas);
      load();
      return { root, shown: paint };
    },
  };

  // ── sliders ────────────────────────────────────────────────────────────
  views.sliders = {
    title: "Latent sliders", text: "Turn one number of the code at a time. Those that carry most are first.", told: "The label stays what you choose.",
    learn: [["vae_sliders", "What am I seeing"], ["vae_beta", "What β does"], ["vae_collapse", "Unused latents"]],
    build: ({ lab, about, chooser, labels, axisName, failed, slider }) => {
      const FEW = 10;
      let values = null, base = null, more = false, wanted = {};
      const seen = h("img", { class: "vae-picture large", alt: "The decoded picture" });
      const list = h("div", { class: "vae-sliders" }), trouble = h("div", {}), grid = h("div", { class: "vae-grid" });
      const label = labels(() => { decode(); traverse(); });
      const from = chooser([["a", "Start from", 0]], () => start());
      const told = () => (label && label.value() !== "" ? { label: Number(label.value()) } : {});
      const top = Math.max(...about.weights, 1e-9), isKl = !!about.facts.kl_per_latent;
      const rows = () => about.axes.slice(0, more ? 64 : FEW);
      const state = () => ({ values, ...(base !== null ? { base } : {}), ...told() });
      const decode = () => lab.drag("decode", state(), (answer) => { if (!failed(trouble, answer)) seen.src = answer.images[0]; }, from.assets());
      const traverse = debounced(async () => {
        const mine = (wanted = {});
        const shown = about.axes.slice(0, 6);
        const answer = await lab.ask("traverse", { ...state(), rows: shown, steps: 9, reach: about.reach }, from.assets());
        if (mine !== wanted || answer.message) return;
        studio.fill(grid, h("div", { class: "label" }, "Each row turns one axis, all else held"), h("div", { class: "vae-traverse" }, h("div", { class: "vae-rows small muted" }, shown.map((axis) => h("span", {}, axisName(axis)))),
          h("div", {}, h("img", { class: "vae-sheet", src: answer.images[0], alt: "Traversals", onclick: (event) => {
            const box = event.target.getBoundingClientRect();
            const column = Math.floor(((event.clientX - box.left) / box.width) * 9), line = Math.floor(((event.clientY - box.top) / box.height) * shown.length);
            values[shown[line]] = answer.data.values[column]; draw(); decode(); traverse();
          } }), h("div", { class: "vae-columns small num muted" }, answer.data.values.map((value) => h("span", {}, value.toFixed(1).replace(/\.0$/, "")))))));
      }, 160);
      const draw = () => studio.fill(list, rows().map((axis) => {
        const weight = about.weights[about.axes.indexOf(axis)];
        const one = slider(axisName(axis), { min: -4, max: 4, step: 0.05, value: Math.max(-4, Math.min(4, values[axis] || 0)), text: (v) => v.toFixed(2), moved: (v) => { values[axis] = v; decode(); traverse(); } });
        one.box.append(h("span", { class: "vae-weight", title: isKl ? `${studio.figure(weight)} nats of KL` : `variance ${studio.figure(weight)}` }, h("i", { style: `width:${(100 * weight) / top}%` })));
        return one.box;
      }), about.axes.length > FEW ? h("button", { type: "button", class: "quiet small", onclick: () => { more = !more; draw(); } }, more ? "Fewer" : `All ${Math.min(64, about.axes.length)}`) : null);
      const start = async () => {
        base = from.args().a;
        const answer = await lab.ask("encode", { a: base }, from.assets());
        if (failed(trouble, answer)) return;
        values = answer.data.values;
        draw(); decode(); traverse();
      };
      const middle = () => { base = null; values = about.axes.map(() => 0); draw(); decode(); traverse(); };
      const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
      const random = () => { base = null; values = about.axes.map(() => normal()); draw(); decode(); traverse(); };
      const used = isKl ? about.weights.filter((w) => w > 0.1).length : null;
      const root = h("div", { class: "vae-stack" }, trouble, h("div", { class: "vae-two even" },
        h("div", { class: "vae-stack" }, seen, h("div", { class: "vae-row" }, from.box, h("button", { type: "button", onclick: middle }, "Middle"), h("button", { type: "button", onclick: random }, studio.icon("vary"), "Random"), label?.box)),
        h("div", {}, used !== null ? h("p", { class: "small muted num vae-used" }, `${used} of ${about.axes.length} latents carry more than 0.1 nats (a nat is 1.44 bits). The bar under a slider shows how much.`) : h("p", { class: "small muted vae-used" }, about.space === "directions" ? "The latents of this network mean nothing alone, so these are the principal directions of its codes." : "The bar under a slider shows how much it varies."), list)), grid);
      start();
      return { root };
    },
  };

  // ── samples ────────────────────────────────────────────────────────────
  views.samples = {
    title: "Samples", text: "New pictures from codes drawn by chance.",
    learn: [["vae_samples", "What am I seeing"]],
    build: ({ lab, labels, slider, failed }) => {
      let seed = 1;
      const img = h("img", { class: "vae-sheet", alt: "New pictures" }), note = h("p", { class: "small muted" }), trouble = h("div", {});
      const ask = () => lab.drag("samples", { count: 32, seed, temperature: heat.value(), ...(label && label.value() !== "" ? { label: Number(label.value()) } : {}) }, (answer) => {
        if (failed(trouble, answer)) return;
        img.src = answer.images[0]; note.textContent = `Seed ${seed}. ${answer.data.note || ""}`;
      });
      const heat = slider("Temperature", { min: 0, max: 1.5, step: 0.05, value: 0.8, text: (v) => v.toFixed(2), moved: ask });
      const label = labels(ask);
      const root = h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, h("button", { type: "button", onclick: () => { seed += 1; ask(); } }, studio.icon("again"), "Others"), heat.box, label?.box), trouble, img, note);
      ask();
      return { root };
    },
  };

  // ── interpolation ──────────────────────────────────────────────────────
  views.interpolate = {
    title: "Interpolate", text: "From one picture to another, through pictures nobody drew.",
    learn: [["vae_interpolate", "What am I seeing"]],
    build: ({ lab, about, chooser, segs, slider, failed }) => {
      let wanted = {};
      const strip = h("img", { class: "vae-sheet", alt: "The way from the first to the second" }), film = h("img", { class: "vae-picture film", alt: "The way as a film" }), trouble = h("div", {});
      const save = h("a", { class: "button", download: "interpolation.gif" }, studio.icon("down"), "GIF");
      const ask = debounced(async () => {
        const mine = (wanted = {});
        const answer = await lab.ask("interpolate", { ...pair.args(), way: way.value(), steps: steps.value(), film: true }, pair.assets());
        if (mine !== wanted || failed(trouble, answer)) return;
        strip.src = answer.images[2]; film.src = answer.data.gif; save.href = answer.data.gif;
      }, 80);
      const pair = chooser([["a", "From", 0], ["b", "To", Math.floor(about.points / 2)]], ask);
      const way = segs("Way", [["spherical", "Spherical"], ["linear", "Linear"]], "spherical", ask);
      const steps = slider("Pictures", { min: 3, max: 24, step: 1, value: 10, moved: ask });
      const root = h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, pair.box, way.box, steps.box), trouble, strip, h("div", { class: "vae-row" }, film, save));
      ask();
      return { root };
    },
  };

  // ── arithmetic ─────────────────────────────────────────────────────────
  views.arithmetic = {
    title: "Arithmetic", text: "Take what one picture has, take away another, add a third: on codes, not on pixels.",
    learn: [["vae_arithmetic", "What am I seeing"]],
    build: ({ lab, about, chooser, slider, failed }) => {
      const made = h("img", { class: "vae-picture large", alt: "A − B + C" }), trouble = h("div", {}), own = h("div", { class: "vae-own" });
      const ask = () => lab.drag("arithmetic", { ...three.args(), strength: strength.value() }, (answer) => {
        if (failed(trouble, answer)) return;
        made.src = answer.images[6];
        studio.fill(own, ["A", "B", "C"].map((name, k) => h("figure", {}, h("img", { class: "vae-picture small", src: answer.images[3 + k], alt: `${name} as the model sees it` }), h("figcaption", { class: "small muted" }, name))));
      }, three.assets());
      const third = Math.floor(about.points / 3);
      const three = chooser([["a", "A", 0], ["b", "B", third, "−"], ["c", "C", 2 * third, "+"]], () => ask());
      const strength = slider("Strength", { min: -2, max: 2, step: 0.05, value: 1, text: (v) => v.toFixed(2), moved: () => ask() });
      const root = h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, three.box, strength.box), trouble, h("div", { class: "vae-two even" }, h("div", {}, h("div", { class: "label" }, "A − B + C"), made), h("div", {}, h("div", { class: "label" }, "The three as the model sees them"), own)));
      ask();
      return { root };
    },
  };
})();
