// The GAN lab's views of an open model: samples, walks, style mixing, codes and classes, edges, single updates, D's opinion.
(() => {
  const { h } = studio;
  const roll = () => Math.floor(Math.random() * 100000);

  // A sheet of pictures cut into cells; `cell(k)` may add what belongs to one.
  const cut = (answer, { act, title, cell, chosen = [] } = {}) => {
    const { columns, rows, count, side } = answer.data;
    const cells = Array.from({ length: count }, (_, k) => {
      const x = columns > 1 ? (100 * (k % columns)) / (columns - 1) : 0, y = rows > 1 ? (100 * Math.floor(k / columns)) / (rows - 1) : 0;
      const picture = h(act ? "button" : "div", { class: "gan-cell", type: act ? "button" : null, title: title?.(k), "aria-label": title?.(k) || `Picture ${k + 1}`, role: act ? null : "img", "aria-pressed": act ? String(chosen.includes(k)) : null, onclick: act ? () => act(k) : null,
        style: `background-image:url(${answer.images[0]});background-size:${columns * 100}% ${rows * 100}%;background-position:${x}% ${y}%` });
      const more = cell?.(k);
      return more ? h("div", { class: "gan-captioned" }, picture, more) : picture;
    });
    return h("div", { class: "gan-sheet", style: `--columns:${columns};--side:${side}` }, cells);
  };
  const slider = (label, { min, max, step, value, show = (v) => v }, change) => {
    const out = h("output", { class: "num" }, String(show(value)));
    const input = h("input", { type: "range", min, max, step, value, "aria-label": label, oninput: () => { out.textContent = String(show(Number(input.value))); change(Number(input.value)); } });
    return h("label", { class: "gan-slider small" }, h("span", {}, label), input, out);
  };
  const button = (label, act, more = {}) => h("button", { type: "button", onclick: act, ...more }, label);
  const segs = (label, options, value, change) => h("div", { class: "segs", role: "group", "aria-label": label }, options.map(([key, name]) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === value), onclick: () => change(key) }, name)));
  const select = (label, options, value, change) => {
    const box = h("select", { "aria-label": label, onchange: () => change(box.value) }, options.map(([key, name]) => h("option", { value: key, selected: String(key) === String(value) }, name)));
    return h("label", { class: "gan-slider small" }, h("span", {}, label), box);
  };
  const seedField = (label, value, change) => {
    const input = h("input", { type: "number", min: 0, max: 4294967295, step: 1, value, "aria-label": label, onchange: () => { const n = Math.round(Number(input.value)); if (n >= 0 && n <= 4294967295) change(n); else input.value = value; } });
    return h("label", { class: "gan-slider small" }, h("span", {}, label), input, h("button", { type: "button", class: "quiet", title: "Another one", "aria-label": `${label}: another one`, onclick: () => change(roll()) }, studio.icon("again")));
  };
  const answerOf = (critic, value) => (critic ? value.toFixed(2) : `${Math.round(100 * value)} %`);

  studio.kinds.ganlab = ({ root, props }) => {
    const lab = studio.lab(props.family);
    let view = "samples", asked = 0;
    const state = { seed: 0, psi: 1, label: "", from: 0, to: 7, way: "spherical", at: 0, rows: [0, 1, 2, 3], columns: [11, 12, 13, 14, 15], band: "coarse", mixPsi: 0.8, codeSeed: 0, vary: 0, classSeed: 0, first: 0, example: 0, picked: [], drawn: false, rate: 0.1 };
    const kind = () => lab.config.kind;
    const is = (...kinds) => kinds.includes(kind());
    const options = () => lab.config.options || {};
    const styled = () => is("stylegan2");
    const bar = h("div", { class: "gan-bar" }), tools = h("div", { class: "gan-tools" }), trouble = h("div", {}), place = h("div", { class: "gan-place" }), learn = h("div", { class: "gan-learn" });
    const slot = () => document.getElementById(props.slot);

    // The same for what is dragged: latest wins, and nothing of a model or view that was left meanwhile.
    const drag = (op, args, then) => {
      const from = [lab.id, view].join();
      asked += 1;
      lab.drag(op, args, (answer) => {
        if (from !== [lab.id, view].join()) return;
        place.classList.remove("busy");
        studio.fill(trouble, answer.message ? studio.problem(answer) : null);
        if (!answer.message) then(answer);
      });
    };
    // Only the newest answer is shown; a failed one leaves what is there.
    const ask = async (op, args, then, assets = {}) => {
      const mine = ++asked;
      place.classList.add("busy");
      const answer = await lab.ask(op, args, assets);
      if (mine !== asked) return;
      place.classList.remove("busy");
      studio.fill(trouble, answer.message ? studio.problem(answer) : null);
      if (!answer.message) then(answer);
    };
    const show = (...children) => studio.fill(place, children);

    // ── samples ──────────────────────────────────────────────────────────
    const samples = () => {
      const classes = is("cgan") ? (lab.config.names || []).map((name, k) => [k, name]) : is("infogan") ? Array.from({ length: options().categories }, (_, k) => [k, `Category ${k + 1}`]) : null;
      studio.fill(tools,
        button("Other noise", () => { state.seed = roll(); state.picked = []; samples(); }),
        is("pix2pix") ? null : slider("Truncation ψ", { min: 0, max: 1.5, step: 0.05, value: state.psi, show: (v) => v.toFixed(2) }, (v) => { state.psi = v; fetch_(); }),
        classes ? select("Class", [["", "Any"], ...classes], state.label, (v) => { state.label = v; fetch_(); }) : null);
      const note = h("div", { class: "gan-note num", role: "status" });
      const fetch_ = () => drag("samples", { seed: state.seed, count: 32, columns: 8, truncation: state.psi, ...(state.label === "" ? {} : { label: Number(state.label) }) }, (answer) => {
        const d = answer.data;
        if (d.rows_are) return show(cut(answer), h("p", { class: "muted small" }, "Top: edges. Middle: what is made of them. Below: the true pictures."));
        const draw = () => {
          show(cut(answer, { chosen: state.picked.map((seed) => d.seeds.indexOf(seed)), title: (k) => `Seed ${d.seeds[k]}; D: ${answerOf(critic(), d.scores[k])}`, act: (k) => {
            const seed = d.seeds[k];
            state.picked = state.picked.includes(seed) ? state.picked.filter((one) => one !== seed) : [...state.picked, seed].slice(-2);
            draw();
          } }), note);
          const said = (seed) => { const k = d.seeds.indexOf(seed); return k < 0 ? `seed ${seed}` : `seed ${seed} (D: ${answerOf(critic(), d.scores[k])})`; };
          studio.fill(note, state.picked.length ? h("span", {}, `Chosen: ${state.picked.map(said).join(" and ")}. `) : h("span", { class: "muted" }, "Click two pictures to walk from one to the other."),
            state.picked.length === 2 ? button("Walk between them", () => { [state.from, state.to] = state.picked; turn("walk"); }) : null);
        };
        draw();
      });
      fetch_();
    };
    const critic = () => ["wasserstein", "hinge"].includes(options().loss);

    // ── walk ─────────────────────────────────────────────────────────────
    let playing = null;
    const stop = () => { clearInterval(playing); playing = null; };
    const walk = () => {
      stop();
      const ways = [["spherical", "Arc in z"], ["linear", "Line in z"], ...(styled() ? [["w", "Line in w"]] : [])];
      if (!ways.some(([key]) => key === state.way)) state.way = "spherical";
      studio.fill(tools, seedField("From seed", state.from, (n) => { state.from = n; walk(); }), seedField("To seed", state.to, (n) => { state.to = n; walk(); }),
        segs("Way", ways, state.way, (key) => { state.way = key; walk(); }));
      const FRAMES = 49;
      ask("interpolate", { first: state.from, last: state.to, count: FRAMES, space: state.way === "w" ? "w" : "z", way: state.way === "w" ? "linear" : state.way, truncation: state.psi }, (answer) => {
        const big = h("div", { class: "gan-big", role: "img", "aria-label": "The picture at this point of the walk", style: `background-image:url(${answer.images[0]});background-size:${FRAMES * 100}% 100%` });
        const range = h("input", { type: "range", min: 0, max: FRAMES - 1, step: 1, value: state.at, "aria-label": "Where on the way", oninput: () => { stop(); go(Number(range.value)); } });
        const go = (k) => { state.at = k; range.value = k; studio.filled(range); big.style.backgroundPosition = `${(100 * k) / (FRAMES - 1)}% 0`; play.textContent = playing ? "Pause" : "Play"; };
        let step = 1;
        const play = button("Play", () => {
          if (playing) { stop(); return go(state.at); }
          playing = setInterval(() => { if (!big.isConnected) return stop(); if (state.at + step < 0 || state.at + step > FRAMES - 1) step = -step; go(state.at + step); }, 60);
          go(state.at);
        });
        const strip = h("div", { class: "gan-strip" }, Array.from({ length: 9 }, (_, k) => { const at = Math.round((k * (FRAMES - 1)) / 8); return h("button", { type: "button", class: "gan-cell", "aria-label": `${Math.round((100 * k) / 8)} % of the way`, onclick: () => { stop(); go(at); }, style: `background-image:url(${answer.images[0]});background-size:${FRAMES * 100}% 100%;background-position:${(100 * at) / (FRAMES - 1)}% 0` }); }));
        show(big, h("div", { class: "gan-scrub" }, range, play), strip);
        go(Math.min(state.at, FRAMES - 1));
      });
    };

    // ── style mixing ─────────────────────────────────────────────────────
    const mixing = () => {
      const other = (list) => list.map(roll);
      studio.fill(tools, segs("Which layers take the style from the top", [["coarse", "Coarse, to 8 px"], ["middle", "Middle, 16 px"], ["fine", "Fine, from 32 px"]], state.band, (key) => { state.band = key; mixing(); }),
        button("Other rows", () => { state.rows = other(state.rows); mixing(); }), button("Other columns", () => { state.columns = other(state.columns); mixing(); }),
        slider("Truncation ψ", { min: 0, max: 1.5, step: 0.05, value: state.mixPsi, show: (v) => v.toFixed(2) }, (v) => { state.mixPsi = v; fetch_(); }));
      const fetch_ = () => drag("style_mix", { rows: state.rows, columns: state.columns, band: state.band, truncation: state.mixPsi }, (answer) => {
        const sheet = cut(answer);
        sheet.classList.add("gan-cross");
        sheet.firstElementChild.classList.add("blank");
        show(h("p", { class: "small muted" }, answer.data.layers.length ? "Top: where the band's style comes from. Left: where all else comes from." : "This model has no layers so fine, so nothing is taken from the top."), sheet);
      });
      fetch_();
    };

    // ── codes and classes ────────────────────────────────────────────────
    const codes = () => {
      const free = options().continuous || 0;
      studio.fill(tools, segs("What changes along a row", [[-1, "Noise"], ...Array.from({ length: free }, (_, k) => [k, `Code ${k + 1}`])], state.vary, (key) => { state.vary = key; codes(); }),
        button("Other noise", () => { state.codeSeed = roll(); codes(); }));
      ask("codes", { seed: state.codeSeed, count: 9, ...(state.vary < 0 || state.vary >= free ? {} : { vary: state.vary }) }, (answer) => show(
        h("p", { class: "small muted" }, state.vary < 0 ? "Each row is a category; along it only the noise changes." : `Each row is a category; along it code ${state.vary + 1} goes from −2 to 2.`), cut(answer)));
    };
    const classes = () => {
      const total = (lab.config.names || []).length, SHOWN = 8;
      state.first = Math.max(0, Math.min(state.first, total - 1));
      studio.fill(tools,
        button("Earlier", () => { state.first -= SHOWN; classes(); }, { disabled: state.first === 0 }), button("Later", () => { state.first += SHOWN; classes(); }, { disabled: state.first + SHOWN >= total }),
        button("Other noise", () => { state.classSeed = roll(); classes(); }));
      ask("classes", { seed: state.classSeed, first: state.first, count: SHOWN, rows: 4 }, (answer) => show(
        h("div", { class: "gan-heads small muted", style: `--columns:${answer.data.columns}` }, answer.data.names.map((name) => h("span", { title: name }, name))), cut(answer),
        h("p", { class: "small muted num" }, `Classes ${state.first + 1} to ${state.first + answer.data.columns} of ${answer.data.classes}. Along a row the noise is the same.`)));
    };

    // ── edges ────────────────────────────────────────────────────────────
    let pad = null;
    const drawing = () => {
      if (pad) return pad;
      const SIDE = 256, canvas = h("canvas", { width: SIDE, height: SIDE, class: "gan-pad", "aria-label": "Draw lines here" }), c = canvas.getContext("2d");
      const clear = () => { c.fillStyle = "#fff"; c.fillRect(0, 0, SIDE, SIDE); };
      clear();
      let last = null;
      const at = (event) => { const box = canvas.getBoundingClientRect(); return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height]; };
      const line = (a, b) => { c.strokeStyle = "#000"; c.lineWidth = (1.4 * SIDE) / (options().size || 32); c.lineCap = c.lineJoin = "round"; c.beginPath(); c.moveTo(...a); c.lineTo(...b); c.stroke(); };
      canvas.addEventListener("pointerdown", (event) => { event.preventDefault(); canvas.setPointerCapture(event.pointerId); last = at(event); line(last, last); });
      canvas.addEventListener("pointermove", (event) => { if (!last) return; const next = at(event); line(last, next); last = next; });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (last) { last = null; paint(); } });
      const paint = () => canvas.toBlob(async (blob) => {
        const made = await studio.upload(new File([blob], "lines"), "image");
        if (made.message) return studio.fill(trouble, studio.problem(made));
        state.drawn = true;
        translate({ drawn: true }, { image: made.id });
      }, "image/png");
      pad = { canvas, clear };
      return pad;
    };
    const shown3 = h("div", {});
    const translate = (args, assets = {}) => ask("translate", args, (answer) => studio.fill(shown3,
      cut(answer, { cell: (k) => h("span", { class: "small muted" }, [args.drawn ? "Your lines, as the network sees them" : "Edges", "Made of them", args.drawn ? "" : "The true picture"][k]) })), assets);
    const edges = () => {
      const board = drawing();
      const own = studio.named[props.slot]?.get?.();
      studio.fill(tools, button("Next example", () => { state.example += 1; translate({ example: state.example }); }), button("Clear the drawing", () => { board.clear(); }),
        own?.id ? button("Edges of my picture", () => translate({}, { image: own.id })) : null);
      show(h("div", { class: "gan-edges" }, h("div", {}, h("div", { class: "label" }, "Draw lines"), board.canvas), shown3));
      if (!shown3.childElementCount) translate({ example: state.example });
    };

    // ── step by step ─────────────────────────────────────────────────────
    const step = (args = null) => {
      const go = (more) => step({ show: 8, rate: state.rate, ...more });
      studio.fill(tools, button("One update each", () => go({}), { class: "gan-main" }), button("Ten", () => go({ count: 10 })), button("Start over", () => go({ reset: true })),
        slider("Step size", { min: 0.05, max: 1, step: 0.05, value: state.rate, show: (v) => `${v.toFixed(2)} ×` }, (v) => { state.rate = v; }));
      ask("step", args || { show: 8, rate: state.rate, reset: true }, (answer) => {
        const d = answer.data, m = d.metrics, say = (v) => answerOf(d.critic, v);
        const rows = [["real_before", "real_after"], ["fake_before", "fake_after_d"], ["fake_after_d", "fake_after_g"]];
        const arrow = (a, b) => h("span", { class: "small num gan-moved" }, `${say(a)} → ${say(b)}`);
        const sheet = cut(answer, { cell: (k) => { const row = Math.floor(k / d.columns), col = k % d.columns, [a, b] = rows[row]; return arrow(d.shown[a][col], d.shown[b][col]); } });
        const heads = ["Real pictures: D before and after D's update", "Made from noise: D before and after D's update", "The same noise after G's update: D before and after it"];
        [...sheet.children].forEach((cell, k) => { if (k % d.columns === 0) cell.before(h("div", { class: "gan-row small" }, heads[k / d.columns])); });
        const what = d.critic ? "score" : "D's answer";
        const fact = (name, text) => [h("dt", {}, name), h("dd", { class: "num" }, text)];
        show(sheet, h("dl", { class: "facts-list" },
          fact("Update", `${d.step} of each`),
          fact(`Mean ${what}, real`, `${say(d.means.real_before)} → ${say(d.means.real_after)}`),
          fact(`Mean ${what}, made`, `${say(d.means.fake_before)} → ${say(d.means.fake_after_d)} by D's update, → ${say(d.means.fake_after_g)} by G's`),
          fact("Loss", `D ${studio.figure(m.loss_d)}, G ${studio.figure(m.loss_g)}`),
          fact("Gradient norm", `D ${studio.figure(m.grad_d)}, G ${studio.figure(m.grad_g)}`),
          m.critic_norm !== undefined ? fact("Critic's slope", `${studio.figure(m.critic_norm)}, wanted 1`) : [],
          m.clipped !== undefined ? fact("Weights on the bound", `${Math.round(100 * m.clipped)} %`) : []));
      });
    };

    // ── D's opinion ──────────────────────────────────────────────────────
    const opinion = () => {
      const own = studio.named[props.slot]?.get?.();
      studio.fill(tools);
      if (!own?.id) { asked += 1; return show(h("p", { class: "muted" }, "Choose a picture, and D says how real it looks to it.")); }
      ask("scores", {}, (answer) => {
        const d = answer.data, all = [...d.real, ...d.made, ...d.own];
        const low = d.critic ? Math.min(...all) : 0, high = d.critic ? Math.max(...all) : 1, x = (v) => 4 + (92 * (v - low)) / Math.max(1e-9, high - low);
        const lane = (name, values, hue) => h("div", { class: "gan-lane" }, h("span", { class: "small" }, name), h("div", { class: "gan-dots" }, values.map((v) => h("i", { style: `left:${x(v)}%;background:var(${hue})` }))));
        const picture = cut(answer); picture.classList.add("gan-one");
        show(h("div", { class: "gan-opinion" }, picture, h("div", {},
          h("p", {}, d.critic ? `The critic gives it ${d.own[0].toFixed(2)}.` : `D says real with ${Math.round(100 * d.own[0])} %.`),
          lane("Yours", d.own, "--accent"), lane("Real", d.real, "--c3"), lane("Made", d.made, "--c2"),
          h("div", { class: "gan-axis small muted num" }, h("span", {}, d.critic ? low.toFixed(1) : "0 %, made"), h("span", {}, d.critic ? high.toFixed(1) : "100 %, real")))));
      }, { image: own.id });
    };

    const VIEWS = [
      ["samples", "Samples", () => true, samples, ["gan_samples", "gan_collapse"]],
      ["walk", "Walk", () => !is("pix2pix"), walk, ["gan_walk"]],
      ["mixing", "Style mixing", styled, mixing, ["gan_mixing", "gan_demodulation"]],
      ["codes", "Codes", () => is("infogan"), codes, ["gan_codes"]],
      ["classes", "Classes", () => is("cgan"), classes, ["gan_classes"]],
      ["edges", "Edges to picture", () => is("pix2pix"), edges, ["gan_edges"]],
      ["step", "Step by step", () => true, () => step(), ["gan_step", "gan_game"]],
      ["opinion", "D's opinion", () => !is("pix2pix"), opinion, ["gan_opinion"]],
    ];
    const MISSING = [["Style mixing", "stylegan2", "StyleGAN2"], ["Codes", "infogan", "InfoGAN"], ["Classes", "cgan", "a conditional GAN"], ["Edges to picture", "pix2pix", "pix2pix"]];
    const turn = (next) => { stop(); view = next; draw(); };
    const LABELS = { gan_samples: "What am I seeing", gan_walk: "What am I seeing", gan_mixing: "What am I seeing", gan_codes: "What am I seeing", gan_classes: "What am I seeing", gan_edges: "What am I seeing", gan_step: "What am I seeing", gan_opinion: "What am I seeing", gan_collapse: "When all look alike", gan_demodulation: "How styles act", gan_game: "The game" };
    const draw = () => {
      root.className = "face ganlab";
      const there = Boolean(lab.id);
      root.hidden = !there;
      slot()?.classList.toggle("off", !there || !["edges", "opinion"].includes(view));
      if (!there) return;
      const offered = VIEWS.filter(([, , fits]) => fits());
      if (!offered.some(([key]) => key === view)) view = "samples";
      const one = offered.find(([key]) => key === view);
      const missing = MISSING.filter(([, key]) => key !== kind()).map(([name, , model]) => `${name} with ${model}`);
      studio.fill(bar, segs("Look at", offered.map(([key, name]) => [key, name]), view, turn));
      studio.fill(learn, one[4].map((name) => studio.explain(name, LABELS[name])), h("p", { class: "small muted" }, `Other models have more to show: ${missing.join(", ")}.`));
      if (!root.contains(place)) studio.fill(root, bar, tools, trouble, place, learn);
      if (slot() && !root.contains(slot())) tools.after(slot()); // the picture is chosen where its view begins
      one[3]();
    };
    lab.on(() => { Object.assign(state, { label: "", picked: [], example: 0 }); shown3.replaceChildren(); show(); draw(); });
    draw();
    return { update() {}, peek: () => { if (lab.id && view === "opinion") opinion(); else if (lab.id && view === "edges") { edges(); const own = studio.named[props.slot]?.get?.(); if (own?.id) translate({}, { image: own.id }); } }, turn, root, accepts: (file) => { if (["edges", "opinion"].includes(view)) studio.named[props.slot]?.take(file); } };
  };
})();
