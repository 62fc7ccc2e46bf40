// The diffusion lab's views. Each is made by studio.difflab[name](tools) and answers {element, enter(), picture?()}.
studio.difflab = {};

// One picture of a sprite, enlarged without smoothing. `set(image, column, row, side)` draws it.
studio.difflab.tile = (label, title = "") => {
  const { h } = studio;
  const canvas = h("canvas", { class: "pixelated", width: 32, height: 32, role: "img", "aria-label": label, title });
  const set = (image, column = 0, row = 0, side = image.naturalHeight) => {
    if (canvas.width !== side) canvas.width = canvas.height = side;
    canvas.getContext("2d").drawImage(image, column * side, row * side, side, side, 0, 0, side, side);
  };
  return { canvas, set };
};
studio.difflab.load = (source) => new Promise((done, fail) => { const image = new Image(); image.onload = () => done(image); image.onerror = fail; image.src = source; });

studio.kinds.difflab = ({ root, props }) => {
  const { h } = studio;
  const lab = studio.lab(props.family);
  const VIEWS = [["noise", "Noise"], ["reverse", "Reverse"], ["samplers", "Samplers"], ["guidance", "Guidance"], ["words", "Words"]];
  const state = { about: null, pictures: null, own: null, picture: 0, label: "", seed: 7, painters: [] };
  let view = studio.remember("difflab.view") || "noise", entered = "", asking = 0;
  const trouble = h("div", { role: "status" });
  const tabs = h("div", { class: "segs difflab-tabs", role: "group", "aria-label": "What to look at" });
  const body = h("div", { class: "difflab-body" });

  // The picture's slot is a piece of its own on the page; it is shown inside the view that uses it.
  let held = null;
  const slot = () => (held ||= document.getElementById(props.slot));

  // What every view is given.
  const tools = {
    slot,
    lab, state, props,
    fail: (what) => studio.fill(trouble, what ? studio.problem(what) : null),
    ask: async (op, args, assets) => { const answer = await lab.ask(op, args, assets); tools.fail(answer.message ? answer : null); return answer.message ? null : answer; },
    asset: () => (state.own ? { image: state.own.id } : {}),
    source: () => (state.own ? {} : { picture: state.picture }),
    names: () => state.about?.names || [],
    isFlow: () => state.about?.process === "flow",
    // A button that works once at a time and says so.
    button: (text, act, kind = "") => {
      const button = h("button", { type: "button", class: kind, onclick: async () => { if (button.disabled) return; button.disabled = true; button.textContent = "Working …"; try { await act(); } finally { button.disabled = false; button.textContent = text; } } }, text);
      return button;
    },
    // A labelled slider with its value; `heard(value)` as it moves.
    slider: (text, low, high, step, value, heard, title = "") => {
      const out = h("output", { class: "num small" }, String(value));
      const input = h("input", { type: "range", min: low, max: high, step, value, "aria-label": text, title, oninput: () => { out.textContent = input.value; heard(Number(input.value)); } });
      return { element: h("label", { class: "difflab-slider", title }, h("span", { class: "small muted" }, text), input, out), get: () => Number(input.value), set: (next) => { input.value = next; out.textContent = input.value; } };
    },
    labels: (heard, none = "No label") => {
      const select = h("select", { "aria-label": "Label", onchange: () => { state.label = select.value; heard(); } }, none ? h("option", { value: "" }, none) : null, tools.names().map((name) => h("option", { value: name, selected: name === state.label }, name)));
      return h("label", { class: "difflab-field" }, h("span", { class: "small muted" }, "Label"), select);
    },
    reseed: (heard) => h("button", { type: "button", title: "Begin from other noise", onclick: () => { state.seed = Math.floor(Math.random() * 2 ** 31); heard(); } }, studio.icon("again"), "New noise"),
    busy: (element, on) => element.classList.toggle("difflab-busy", on),
  };
  const made = {};
  const current = () => (made[view] ||= studio.difflab[view](tools));

  const draw = () => {
    root.className = "face difflab";
    studio.fill(tabs, VIEWS.map(([key, text]) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === view), onclick: () => { view = key; studio.remember("difflab.view", key); draw(); wake(); } }, text)));
    const ready = state.about || view === "words";
    studio.fill(body, ready ? current().element : h("p", { class: "muted" }, lab.id ? "Opening the model …" : "Train a model, or choose one above."));
    slot()?.classList.toggle("difflab-hidden", view !== "noise" || !state.about);
  };
  // Nothing is asked, and no worker started, before somebody looks.
  const wake = async () => {
    if (!studio.visible(root)) return;
    if (view !== "words" && lab.id && !state.about) {
      const asked = (asking += 1);
      const answer = await tools.ask("about");
      if (!answer || asked !== asking) return;
      state.about = answer.data;
      state.pictures = answer.images.length ? await studio.difflab.load(answer.images[0]) : null;
      state.picture = 0;
      state.label = answer.data.names.includes(state.label) ? state.label : answer.data.names[0];
      draw();
    }
    if ((state.about || view === "words") && entered !== `${view}/${lab.id}`) { entered = `${view}/${lab.id}`; current().enter(); }
  };
  lab.on(() => { state.about = null; state.pictures = null; for (const key of Object.keys(made)) if (key !== "words") delete made[key]; entered = ""; asking += 1; tools.fail(null); draw(); wake(); });
  new IntersectionObserver(wake).observe(root);
  studio.fill(root, tabs, trouble, body);
  draw();
  return {
    update: (value) => { if (value.painters) { state.painters = value.painters; made.words?.refresh(); } },
    peek: (asset) => { state.own = asset.id ? asset : null; made.noise?.picture(); if (asset.id && view !== "noise") { view = "noise"; draw(); wake(); } },
  };
};

// ── Noise: one's own picture at any level ────────────────────────────────────
studio.difflab.noise = ({ lab, state, ask, asset, source, slot, slider, button, fail }) => {
  const { h } = studio;
  const { tile, load } = studio.difflab;
  const large = h("img", { class: "difflab-large", alt: "The picture with noise" });
  const small = tile("The picture at the model's size"), seen = tile("What the network sees in it at one look");
  const facts = h("div", { class: "num small difflab-facts", role: "status" });
  const strip = h("img", { class: "difflab-strip", alt: "From the picture to noise" });
  const thumbs = h("div", { class: "difflab-thumbs" });
  const mix = studio.chart(h("div", {})), beta = studio.chart(h("div", {}));
  const mixed = h("section", { class: "curve" }, h("h2", {}, "Shares of picture and noise"), mix.canvas.parentElement);
  const betas = h("section", { class: "curve" }, h("h2", {}, "Noise added per level, β"), beta.canvas.parentElement);
  const back = h("div", { class: "difflab-back" });
  let schedule = "", curves = null, t = 300;
  const level = slider("Level t", 0, 999, 1, t, (value) => { t = value; look(); plot(); });
  const kinds = h("div", { class: "segs", role: "group", "aria-label": "Schedule" });

  const drawKinds = () => studio.fill(kinds, [["linear", "Linear"], ["cosine", "Cosine"], ["flow", "Flow"]].map(([key, text]) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === schedule), title: key === state.about.own_schedule ? "The schedule this model was trained with" : "For comparison; this model was trained with another one", onclick: () => { schedule = key; drawKinds(); look(); plot(); row(); } }, key === state.about.own_schedule ? `${text} (this model's)` : text)));
  const show = async (answer) => {
    if (answer.message) return fail(answer);
    fail(null);
    const { signal, noise, snr_db: snr } = answer.data;
    large.src = answer.images[0];
    small.set(await load(answer.images[1]));
    seen.canvas.parentElement.hidden = answer.images.length < 3;
    if (answer.images[2]) seen.set(await load(answer.images[2]));
    facts.textContent = `picture × ${signal.toFixed(3)} + noise × ${noise.toFixed(3)}, signal-to-noise ${snr === null ? "none" : `${snr.toFixed(1)} dB`}`;
  };
  const look = () => lab.drag("noised", { t, schedule, side: 192, ...source() }, show, asset());
  const row = async () => { const answer = await ask("strip", { schedule, count: 9, side: 96, ...source() }, asset()); if (answer) strip.src = answer.images[0]; };
  const plot = () => {
    if (!curves) return;
    const one = curves.curves[schedule], at = curves.t, near = at.reduce((best, v, k) => (Math.abs(v - t) < Math.abs(at[best] - t) ? k : best), 0);
    const line = (name, key) => ({ name, points: at.map((v, k) => [v, one[key][k]]) });
    const dot = (key, hue) => ({ name: "", dots: true, hue, points: [[at[near], one[key][near]]] });
    mix.draw({ lines: [line("picture", "signal"), line("noise", "noise"), dot("signal", studio.series(0)), dot("noise", studio.series(1))], x: "t" });
    betas.hidden = !one.beta;
    if (one.beta) beta.draw({ lines: [line("β", "beta"), dot("beta", studio.series(0))], x: "t", log: true });
  };
  const choose = () => studio.fill(thumbs, state.pictures && !state.own ? [...Array(Math.min(16, state.about.pictures)).keys()].map((k) => {
    const one = tile(state.about.picture_labels[k]);
    one.set(state.pictures, k, 0);
    return h("button", { type: "button", class: "difflab-thumb", "aria-pressed": String(k === state.picture), title: state.about.picture_labels[k], onclick: () => { state.picture = k; picture(); } }, one.canvas);
  }) : null);
  const picture = () => { choose(); back.replaceChildren(); if (state.about && (state.own || state.about.pictures)) { look(); row(); } };
  const round = button("There and back", async () => {
    const answer = await ask("invert", { steps: 50, ...source() }, asset());
    if (!answer) return;
    const parts = [["Picture", 0], ["Its noise", 1], ["From that noise again", 2]].map(([text, k]) => { const one = tile(text); load(answer.images[k]).then((image) => one.set(image)); return h("figure", {}, one.canvas, h("figcaption", { class: "small muted" }, text)); });
    studio.fill(back, parts, h("p", { class: "num small muted" }, `${answer.data.psnr} dB after ${answer.data.steps} steps each way; deviation of its noise ${answer.data.noise_std} (1 would be perfect)`), studio.explain("diffusion_invert"));
  });
  const element = h("div", { class: "difflab-view" }, thumbs,
    h("div", { class: "difflab-row" }, h("figure", { class: "difflab-hero" }, large, h("figcaption", {}, facts)),
      h("div", { class: "difflab-pair" }, h("figure", {}, small.canvas, h("figcaption", { class: "small muted" }, "The same at the model's size")), h("figure", {}, seen.canvas, h("figcaption", { class: "small muted" }, "What the network sees in it at one look")), studio.explain("diffusion_guess"))),
    h("div", { class: "difflab-tools" }, level.element, kinds), strip, studio.explain("diffusion_noise"),
    h("div", { class: "curves" }, mixed, betas), studio.explain("diffusion_schedule"), h("div", {}, round), back);
  const enter = async () => {
    schedule = state.about.own_schedule;
    if (slot()) element.prepend(slot());
    drawKinds(); picture();
    if (!state.own && !state.about.pictures) fail({ message: "Choose a picture to add noise to.", hint: "" });
    const answer = await ask("schedule", { points: 101 });
    if (answer) { curves = answer.data; plot(); }
  };
  return { element, enter, picture };
};

// ── Reverse: the film ────────────────────────────────────────────────────────
studio.difflab.reverse = ({ state, ask, isFlow, slider, labels, reseed, busy }) => {
  const { h } = studio;
  const { tile, load } = studio.difflab;
  const COUNT = 4;
  let film = null, frame = 0, timer = null, method = "", guidance = 2;
  const tiles = [...Array(COUNT).keys()].map((k) => ({ x: tile(`Picture ${k + 1} as the sampler holds it`), clean: tile(`Picture ${k + 1} as the network expects it`) }));
  const where = h("span", { class: "num small" });
  const scrub = h("input", { type: "range", min: 0, max: 1, value: 0, "aria-label": "Frame", oninput: () => { stop(); frame = Number(scrub.value); show(); } });
  const play = h("button", { type: "button", onclick: () => (timer ? stop() : start()) }, "Play");
  const path = studio.chart(h("div", {})), straight = h("span", { class: "num small muted" });
  const steps = slider("Steps", 2, 100, 1, 40, () => {}, "More steps take longer and go more smoothly");
  const ways = h("div", { class: "segs", role: "group", "aria-label": "Sampler" });
  const screen = h("div", { class: "difflab-screen" }, h("div", { class: "small muted" }, "x, what the sampler holds"), h("div", { class: "difflab-tiles" }, tiles.map((one) => one.x.canvas)), h("div", { class: "small muted" }, "x̂₀, what the network expects"), h("div", { class: "difflab-tiles" }, tiles.map((one) => one.clean.canvas)));

  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const start = () => { if (!film) return; if (frame >= film.frames) frame = 0; play.textContent = "Pause"; timer = setInterval(() => { if (!studio.visible(screen)) return; frame += 1; show(); if (frame >= film.frames) stop(); }, 90); };
  const show = () => {
    if (!film) return;
    scrub.value = frame; studio.filled(scrub);
    for (const [k, one] of tiles.entries()) { one.x.set(film.x, frame, k, film.side); one.clean.set(film.clean, Math.max(0, frame - 1), k, film.side); }
    const level = film.levels[Math.max(0, frame - 1)];
    where.textContent = frame === 0 ? "pure noise" : `after step ${film.steps <= film.frames ? frame : Math.round((frame * film.steps) / film.frames)} of ${film.steps}, left t = ${film.flow ? level.toFixed(2) : Math.round(level)}`;
    path.draw({ lines: film.paths.map((points, k) => ({ name: `${k + 1}`, points: points.slice(0, Math.max(2, frame + 1)) })), x: "part of the way" });
  };
  const run = async () => {
    stop(); busy(screen, true);
    const answer = await ask("sample", { method, steps: steps.get(), seed: state.seed, label: state.label || null, guidance: state.label ? guidance : 1, count: COUNT, frames: 60 });
    busy(screen, false);
    if (!answer) return;
    const [, x, clean] = await Promise.all(answer.images.map(load));
    film = { x, clean, side: x.naturalHeight / COUNT, frames: answer.data.levels.length, steps: answer.data.steps, levels: answer.data.levels, paths: answer.data.paths, flow: isFlow() };
    straight.textContent = `straightness ${answer.data.straightness.map((value) => value.toFixed(2)).join(", ")}`;
    scrub.max = film.frames; frame = 0; show(); start();
  };
  const drawWays = () => studio.fill(ways, state.about.methods.length > 1 ? state.about.methods.map((key) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === method), onclick: () => { method = key; drawWays(); run(); } }, key.toUpperCase())) : null);
  const element = h("div", { class: "difflab-view" });
  const enter = () => {
    method = method || state.about.methods[0];
    drawWays();
    studio.fill(element, h("div", { class: "difflab-tools" }, labels(run), steps.element, ways, h("button", { type: "button", class: "primary difflab-go", onclick: run }, "Run"), reseed(run)), screen,
      h("div", { class: "difflab-tools" }, play, h("div", { class: "scrub" }, scrub), where), studio.explain("diffusion_reverse"),
      h("section", { class: "curve difflab-path" }, h("h2", {}, "The way of each picture"), path.canvas.parentElement, straight, studio.explain("diffusion_path")));
    run();
  };
  return { element, enter };
};
