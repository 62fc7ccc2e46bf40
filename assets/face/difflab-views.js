// More views of the diffusion lab: samplers side by side, guidance, and where the words of a prompt were read.

studio.difflab.samplers = ({ state, ask, isFlow, labels, reseed, button, busy }) => {
  const { h } = studio;
  const { load } = studio.difflab;
  const COUNT = 6;
  let long = 100;
  const table = h("div", { class: "difflab-rows", role: "status" });
  const lengths = h("select", { "aria-label": "Longest DDPM run", onchange: () => { long = Number(lengths.value); run(); } }, [100, 250, 1000].map((n) => h("option", { value: n }, `${n} steps`)));
  const plan = () => isFlow() ? [[["flow", 50], ["flow", 10], ["flow", 5], ["flow", 1]]] : [[["ddim", 50], ["ddim", 10], ["ddim", 5]], [["ddpm", 5], ["ddpm", 10], ["ddpm", 50]], [["ddpm", long]]];
  const NAMES = { ddim: "DDIM", ddpm: "DDPM", flow: "Euler" };
  let asked = 0;
  const run = async () => {
    const mine = (asked += 1);
    busy(table, true);
    const rows = [];
    for (const part of plan()) { // what is quick is shown while the rest is made
      const answer = await ask("compare", { rows: part, seed: state.seed, label: state.label || null, guidance: state.label ? 2 : 1, count: COUNT });
      if (mine !== asked) return;
      if (!answer) break;
      const sprite = await load(answer.images[0]);
      const side = sprite.naturalHeight / part.length;
      answer.data.rows.forEach((fact, k) => rows.push({ ...fact, sprite, side, k }));
      draw(rows);
    }
    busy(table, false);
  };
  const draw = (rows) => {
    const order = [...rows].sort((a, b) => a.method.localeCompare(b.method) || a.steps - b.steps);
    studio.fill(table, order.map((one) => {
      const canvas = h("canvas", { class: "pixelated difflab-band", width: one.side * COUNT, height: one.side, role: "img", "aria-label": `${NAMES[one.method]}, ${one.steps} steps` });
      canvas.getContext("2d").drawImage(one.sprite, 0, one.k * one.side, one.side * COUNT, one.side, 0, 0, one.side * COUNT, one.side);
      const away = one.method !== "ddpm" && one.away > 0 ? `, away ${(100 * one.away).toFixed(1)} %` : "";
      return h("div", { class: "difflab-line" }, h("div", { class: "num" }, h("strong", {}, `${NAMES[one.method]}, ${one.steps} step${one.steps > 1 ? "s" : ""}`), h("div", { class: "small muted" }, `${studio.seconds(one.seconds)}${away}`)), canvas);
    }));
  };
  const element = h("div", { class: "difflab-view" });
  const enter = () => {
    studio.fill(element, h("div", { class: "difflab-tools" }, labels(run), isFlow() ? null : h("label", { class: "difflab-field" }, h("span", { class: "small muted" }, "DDPM, long"), lengths), reseed(run)),
      h("p", { class: "muted difflab-lead" }, isFlow() ? "The same noise in every row, followed in fewer and more steps." : "The same noise in every row. Down a column DDIM keeps its picture; DDPM draws new noise on the way and loses it."), table, studio.explain("diffusion_samplers"));
    run();
  };
  return { element, enter };
};

studio.difflab.guidance = ({ lab, state, ask, names, slider, labels, reseed, button, fail, busy }) => {
  const { h } = studio;
  const { load } = studio.difflab;
  const COUNT = 6, SCALES = [0, 1, 2, 4, 8];
  const row = h("img", { class: "pixelated difflab-wide", alt: "Six pictures from the same noise" });
  const sheet = h("div", {});
  let by = "free", sheetOf = "";
  const args = () => ({ labels: Array(COUNT).fill(state.label || null), steps: 12, seed: state.seed, guidance: free.get(), classifier: state.about.classifier ? classifier.get() : 0 });
  const look = () => { busy(row, true); lab.drag("sample", args(), (answer) => { busy(row, false); if (answer.message) return fail(answer); fail(null); row.src = answer.images[0]; }); };
  const free = slider("Classifier-free guidance w", 0, 10, 0.5, 2, look, "0 ignores the label, 1 is what was learned, more obeys it more and varies less");
  const classifier = slider("Classifier guidance s", 0, 10, 0.5, 0, look, "How hard the noisy classifier pushes towards the label");
  const grid = async () => {
    const wanted = [state.label, ...names().filter((name) => name !== state.label)].filter(Boolean).slice(0, 5);
    const answer = await ask("guidance", { by, scales: SCALES, labels: wanted, seed: state.seed, steps: 12 });
    if (!answer) return;
    const { data } = answer, sprite = await load(answer.images[0]), side = sprite.naturalHeight / data.labels.length;
    const cell = (r, c) => { const one = studio.difflab.tile(`${data.labels[r]}, scale ${data.scales[c]}`); one.set(sprite, c, r, side); return one.canvas; };
    studio.fill(sheet, h("div", { class: "difflab-grid", style: `--columns:${data.scales.length}` },
      h("div", { class: "small muted" }, by === "free" ? "w" : "s"), data.scales.map((scale) => h("div", { class: "num small muted" }, String(scale))),
      data.labels.flatMap((name, r) => [h("div", { class: "small" }, name), ...data.scales.map((_, c) => cell(r, c))]),
      data.sure ? [h("div", { class: "small muted", title: "How likely the noisy classifier finds the wanted label in the results, on average" }, "sure"), ...data.sure.map((value) => h("div", { class: "num small muted" }, `${Math.round(100 * value)} %`))] : null));
  };
  const again = button("Make the grid", grid);
  const kinds = h("div", { class: "segs", role: "group", "aria-label": "Guidance of the grid" });
  const drawKinds = () => studio.fill(kinds, [["free", "Classifier-free"], ["classifier", "Classifier"]].filter(([key]) => key === "free" || state.about.classifier).map(([key, text]) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === by), onclick: () => { by = key; drawKinds(); again.click(); } }, text)));
  const element = h("div", { class: "difflab-view" });
  const enter = () => {
    drawKinds();
    studio.fill(element, h("div", { class: "difflab-tools" }, labels(look, ""), reseed(look)), h("div", { class: "difflab-tools" }, free.element, state.about.classifier ? classifier.element : h("span", { class: "small muted" }, "This model has no noisy classifier.")),
      row, h("div", { class: "difflab-explains" }, studio.explain("diffusion_guidance", "Classifier-free guidance"), studio.explain("diffusion_classifier", "Classifier guidance")),
      h("div", { class: "difflab-tools" }, h("h2", {}, "Labels and scales, from the same noise"), kinds, again), sheet);
    look();
  };
  return { element, enter };
};

studio.difflab.words = ({ state, props, fail, slider, button, busy }) => {
  const { h } = studio;
  let shown = null, chosen = null, painter = null;
  const text = h("input", { type: "text", value: props.prompts[0], maxlength: 500, "aria-label": "Prompt", onkeydown: (event) => { if (event.key === "Enter") go.click(); } });
  const painters = h("select", { "aria-label": "Text-to-image model", onchange: () => { painter = painters.value; } });
  const large = h("img", { class: "difflab-large pixelated-off", alt: "The painted picture" });
  const words = h("div", { class: "difflab-words" });
  const note = h("p", { class: "small muted" });
  const result = h("div", { class: "difflab-row", hidden: true }, h("figure", { class: "difflab-hero" }, large), h("div", { class: "difflab-aside" }, words, note, studio.explain("diffusion_words")));
  const offer = h("div", { class: "difflab-offers" }, props.prompts.map((prompt) => h("button", { type: "button", onclick: () => { text.value = prompt; go.click(); } }, prompt)));
  const draw = () => {
    large.src = shown.images[chosen === null ? 0 : chosen + 1];
    studio.fill(words, shown.data.words.map((one, k) => h("button", { type: "button", class: "difflab-word", "aria-pressed": String(k === chosen), onclick: () => { chosen = chosen === k ? null : k; draw(); }, onpointerenter: () => { large.src = shown.images[k + 1]; }, onpointerleave: () => { large.src = shown.images[chosen === null ? 0 : chosen + 1]; } },
      h("img", { src: shown.images[k + 1], alt: `Where “${one.word}” was read` }), h("span", {}, one.word), h("span", { class: "num small muted" }, one.share < 0.005 ? "hardly read" : `${Math.round(100 * one.share)} %`))));
    const maps = Object.entries(shown.data.maps).map(([size, count]) => `${size} (${count})`).join(", ");
    const most = Math.round(100 * shown.data.to_words), hardly = shown.data.words.filter((one) => one.share < 0.005).map((one) => `“${one.word}”`);
    const rest = `${most} % of the attention went to words, the rest to the marks at the prompt's ends, which carry the sentence as a whole${hardly.length ? `: ${hardly.join(", ")} may count through them, though hardly read` : ""}.`;
    note.textContent = `Point at a word to lay its map over the picture; click to keep it. ${rest} Maps of ${maps} places, ${shown.data.steps} steps.`;
  };
  const go = button("Paint and look", async () => {
    if (!painter) return fail({ message: "There is no text-to-image model on this device.", hint: "Get one under Models." });
    busy(result, true);
    const body = JSON.stringify({ op: "attention", args: { prompt: text.value, seed: state.seed } });
    const answer = await studio.ask(`explore/${painter}`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    busy(result, false);
    if (answer.message) return fail(answer);
    fail(null);
    shown = answer; chosen = null; result.hidden = false; offer.hidden = true; draw();
  }, "primary difflab-go");
  const refresh = () => {
    painter = state.painters.some((one) => one.id === painter) ? painter : state.painters[0]?.id || null;
    studio.fill(painters, state.painters.map((one) => h("option", { value: one.id, selected: one.id === painter }, one.title)));
  };
  refresh();
  const element = h("div", { class: "difflab-view" },
    h("p", { class: "muted difflab-lead" }, "A text-to-image model reads the prompt through cross-attention. Paint a prompt and see where in the picture each word was read."),
    h("div", { class: "difflab-tools" }, h("label", { class: "difflab-field difflab-prompt" }, h("span", { class: "small muted" }, "Prompt"), text), h("label", { class: "difflab-field" }, h("span", { class: "small muted" }, "Model"), painters), go,
      h("button", { type: "button", title: "Begin from other noise", onclick: () => { state.seed = Math.floor(Math.random() * 2 ** 31); go.click(); } }, studio.icon("again"), "New noise")),
    offer, result);
  return { element, enter: refresh, refresh };
};
