// Compress: the same input in every precision and runtime, measured on this machine, and the one to use.
studio.kinds.compress = ({ root, trigger }) => {
  const { h } = studio;
  const TABS = { generate: "Generate", detect: "Detect", segment: "Segment" };
  let about = null, now = null, shown = "compare", picked = null, touched = false, chosen = new Set(), job = null, shot = null, problem = null, timer = null, told = "", seen = null;
  root.className = "face compress";
  const key = "job.compress";
  const here = () => about?.models.find((one) => one.id === now?.id);

  // ── talking ────────────────────────────────────────────────────────────
  const start = async () => {
    if (!studio.visible(root)) return setTimeout(start, 400);
    const answer = await studio.ask("compress");
    if (!answer.models) { studio.fill(root, studio.problem(answer)); return setTimeout(start, 3000); }
    about = answer;
    const before = studio.remember("compress.model");
    const first = about.models.find((one) => one.id === before) || about.models[0];
    if (first) await open(first.id); else draw();
    const running = studio.remember(key);
    if (running && /^[0-9a-f]{32}$/.test(running)) follow(running);
  };
  const open = async (id) => {
    studio.remember("compress.model", id);
    const answer = await studio.ask(`compress/${encodeURIComponent(id)}`);
    problem = answer.message ? answer : null;
    if (!answer.message) { take(answer); const known = new Set(now.offered.map((one) => one.key)); chosen = new Set(suggested().filter((one) => known.has(one))); }
    draw();
  };
  const take = (answer) => {
    const same = now?.id === answer.id;
    now = answer;
    if (!same) touched = false;
    if (!touched || !now.rows.some((row) => row.key === picked)) picked = now.best || now.rows.find((row) => !row.reference)?.key || now.rows[0]?.key || null;
  };
  // What is worth a first look: the floats, and what usually wins or shrinks.
  const suggested = () => {
    const wanted = now.offered.filter((one) => /-(fp32|int8|int4)$/.test(one.key)).map((one) => one.key);
    return now.rows.length ? now.rows.map((row) => row.key) : (wanted.length ? wanted : now.offered.map((one) => one.key)).slice(0, 6);
  };
  const refresh = async () => {
    if (!now) return;
    const answer = await studio.ask(`compress/${encodeURIComponent(now.id)}`);
    if (!answer.message && answer.id === now.id) { take(answer); draw(); }
  };
  const post = (path, body) => studio.ask(`compress/${encodeURIComponent(now.id)}/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: body ? JSON.stringify(body) : undefined });
  const compare = async (anyway = false) => {
    if (job) return;
    job = "asked"; problem = null; told = "";
    draw();
    const answer = await post("compare", { variants: [...chosen], anyway });
    if (answer.job) return follow(answer.job);
    job = null; problem = answer; draw();
  };
  const follow = (id) => { job = id; studio.remember(key, id); draw(); look(); };
  const look = async () => {
    clearTimeout(timer);
    const answer = await studio.ask(`job/${job}`);
    if (answer.status === 404) { job = null; studio.remember(key, null); return draw(); }
    if (answer.state) shot = answer;
    await refresh();
    if (["done", "failed", "cancelled", "interrupted"].includes(answer.state)) {
      job = null; shot = null; studio.remember(key, null);
      problem = answer.state === "failed" || answer.state === "interrupted" ? { message: answer.message, hint: answer.hint } : null;
      told = answer.state === "cancelled" ? "Cancelled. What was measured is kept." : "";
      return draw();
    }
    timer = setTimeout(look, document.hidden ? 3000 : 700);
  };
  const use = async (row) => { const answer = await post(`use/${encodeURIComponent(row.key)}`); after(answer, `${row.title} is used from now on, in every tab.`); };
  const undo = async () => { const answer = await post("undo"); after(answer, answer.default ? `Back to ${answer.default.title}.` : "Back to how the model came."); };
  const after = async (answer, text) => {
    problem = answer.message ? answer : null;
    if (!answer.message) { told = text; take(answer); const fresh = await studio.ask("compress"); if (fresh.models) about = fresh; }
    draw();
  };

  // ── controls ───────────────────────────────────────────────────────────
  const controls = () => h("div", { class: "cmp-controls" },
    h("label", { class: "cmp-field" }, h("span", {}, "Model"),
      h("select", { "data-act": "model", disabled: Boolean(job), onchange: (event) => open(event.target.value) }, about.models.map((one) => h("option", { value: one.id, selected: one.id === now?.id }, one.title)))),
    now ? variants() : h("p", { class: "note" }, "No model with a network is on this device yet. Get one under Models."),
    now ? bar() : null,
    problem ? studio.problem(problem) : null,
    problem && !job && /busy/i.test(problem.message) ? h("button", { type: "button", "data-act": "anyway", title: "Times will vary; sizes and quality will not", onclick: () => compare(true) }, "Measure anyway") : null,
    told ? h("div", { class: "small", role: "status" }, told) : null,
    h("p", { class: "note" }, machine()));
  const machine = () => {
    const { name, cores, features } = about.machine;
    const has = [["amx", "AMX"], ["vnni", "VNNI"], ["bf16", "bf16"]].filter(([key]) => features.includes(key));
    const slow = features.includes("amx") || features.includes("vnni") ? "" : ", no VNNI: 8 bits may not be faster";
    const said = has.map(([, title]) => `, ${title}`).join("") + slow;
    return `Measured here: ${name}, ${studio.count(cores, "core")}${said}. Each variant runs in a process of its own, in turns.`;
  };
  const variants = () => {
    const groups = new Map();
    for (const one of now.offered) { const runtime = one.key.split("-")[0]; groups.set(runtime, [...(groups.get(runtime) || []), one]); }
    if (!groups.size) return h("p", { class: "note" }, "Nothing can be measured for this model here.");
    return h("fieldset", { class: "cmp-variants", disabled: Boolean(job) }, h("legend", {}, "Variants"), [...groups].map(([runtime, list]) => h("div", {},
      h("div", { class: "small cmp-runtime" }, h("i", { class: "dot", style: `background:${studio.runtimeHue(runtime)}`, "aria-hidden": "true" }), studio.runtimeTitle(runtime)),
      families(list).map(([title, some]) => h("div", { class: "cmp-chips" }, title ? h("span", { class: "small muted cmp-family" }, title) : null, h("div", { class: "cmp-chips" }, some.map((one) => chip(one, title))))))));
  };
  const chip = (one, family) => {
    const name = precisionOf(one.key), short = family && name.startsWith(`${family} `) ? name.slice(family.length + 1) : name;
    const flip = () => { chosen.delete(one.key) || chosen.add(one.key); draw(); };
    return h("button", { type: "button", class: "chip", "data-act": `v-${one.key}`, "aria-label": name, "aria-pressed": String(chosen.has(one.key)), title: sentence(one.key), onclick: flip }, short);
  };
  // What a runtime computes in stands first; ways to store weights follow, each family in a row of its own.
  const FAMILIES = [["", ["float", "activations"]], ["Fewer bits", ["integer"]], ["GGUF", ["gguf"]], ["Palettes", ["palette"]], ["Pruned", ["pruned"]], ["Bits by layer", ["mixed"]]];
  const families = (list) => FAMILIES.map(([title, kinds]) => [title, list.filter((one) => kinds.includes(precision(one.key.slice(one.key.indexOf("-") + 1))?.family || "float"))]).filter(([, some]) => some.length);
  const precision = (id) => about.precisions.find((one) => one.id === id);
  const precisionOf = (key) => precision(key.slice(key.indexOf("-") + 1))?.title || key.slice(key.indexOf("-") + 1);
  const sentence = (key) => precision(key.slice(key.indexOf("-") + 1))?.sentence || "";
  const bar = () => job
    ? h("div", { class: "cmp-run" }, h("button", { type: "button", class: "cancel", "data-act": "run", disabled: job === "asked", onclick: () => studio.ask(`job/${job}/cancel`, { method: "POST" }) }, "Cancel"))
    : h("div", { class: "cmp-run" }, h("button", { type: "button", class: "primary", "data-act": "run", disabled: !chosen.size || !about.can, title: about.can ? null : "Not on a public page", onclick: () => compare() }, chosen.size ? `Compare ${chosen.size}` : "Choose variants"));

  // ── the view ───────────────────────────────────────────────────────────
  const VIEWS = [["compare", "Measured here"], ["calculator", "Size calculator"], ["claims", "What is claimed"]];
  const switcher = () => h("div", { class: "segs", role: "group", "aria-label": "What to show" }, VIEWS.map(([name, label]) => h("button", { type: "button", class: "seg", "data-act": `s-${name}`, "aria-pressed": String(shown === name), onclick: () => { shown = name; draw(); } }, label)));
  const progress = () => {
    if (!shot) return null;
    const share = shot.total ? (100 * shot.step) / shot.total : 0;
    const words = shot.state === "queued" ? (shot.place ? `Waiting, ${shot.place} before this one` : "Starting") : shot.phase || "Measuring";
    return h("div", { class: "cmp-progress" }, h("div", { class: "stage-bar" + (shot.total ? "" : " unknown") }, h("i", { style: `width:${share}%` })),
      h("div", { class: "stage-line" }, h("span", { class: "phase" }, words[0].toUpperCase() + words.slice(1)), shot.total > 1 ? h("span", { class: "num" }, `${shot.step} of ${shot.total}`) : null, h("span", { class: "spring" }), h("span", { class: "num" }, studio.seconds(shot.seconds || 0))));
  };
  const empty = () => h("div", { class: "empty" }, h("h2", {}, "What does each precision cost here?"),
    h("p", {}, "The same input runs in every variant you choose: size, memory, speed and quality, side by side. One click makes the best one the default for this model."),
    now?.offered.length && about.can ? h("div", { class: "examples" }, h("button", { type: "button", "data-act": "first", onclick: () => compare() }, `Compare ${studio.count(chosen.size, "variant")} of ${now.title}`)) : null);
  const views = studio.compressViews({ row: () => now.rows.find((one) => one.key === picked), reference: () => now.rows.find((one) => one.reference), pick: (name) => { picked = name; touched = true; draw(); }, about: () => about, now: () => now });
  const measured = () => now?.rows.length
    ? [head(), views.pictures(), views.table(picked), selected(), views.scatter(picked), views.layers(), exportsRow()]
    : [job ? null : empty(), job && !now?.rows.length ? h("div", { class: "empty" }, h("p", {}, "The first row arrives as soon as it is measured.")) : null];
  const head = () => {
    const best = now.rows.find((row) => row.key === now.best);
    return best ? h("p", { class: "cmp-verdict", "data-best": best.key }, best.verdict) : null;
  };
  const selected = () => {
    const row = now.rows.find((one) => one.key === picked);
    if (!row) return null;
    const tab = here()?.task;
    return h("div", { class: "cmp-selected" }, h("div", { class: "what" }, h("div", {}, row.verdict), (row.notes || []).map((text) => h("div", { class: "small muted" }, text)),
      row.default ? h("div", { class: "small muted" }, `${row.title} is what this device uses for ${now.title}.`) : null),
      h("div", { class: "cmp-acts" },
        !row.default && row.median_ms !== null && !row.error && about.can ? h("button", { type: "button", class: now.best === row.key ? "primary" : "", "data-act": "use", onclick: () => use(row) }, "Use this on this device") : null,
        now.default && about.can ? h("button", { type: "button", "data-act": "undo", onclick: undo }, studio.icon("back"), "Undo") : null,
        row.default && TABS[tab] ? h("button", { type: "button", class: "quiet", "data-act": "go", onclick: () => trigger("sent", { tab }) }, `Open ${TABS[tab]}`) : null));
  };
  const exportsRow = () => h("div", { class: "cmp-acts" }, ["csv", "json", "html"].map((format) => h("a", { class: "button", href: studio.url(`compress/${encodeURIComponent(now.id)}/export/${format}`), download: "", "data-act": `export-${format}` }, studio.icon("down"), format === "html" ? "Report" : format.toUpperCase())));
  const content = () => shown === "compare" ? measured() : shown === "calculator" ? studio.calculator(about, now) : studio.claims(about);

  // ── drawing: the focus stays where it was ──────────────────────────────
  const draw = () => {
    if (!about) return studio.fill(root, h("div", { class: "muted" }, "Reading …"));
    const act = root.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    studio.fill(root, controls(), h("div", { class: "cmp-view" }, switcher(), progress(), content()));
    if (act) root.querySelector(`[data-act="${CSS.escape(act)}"]`)?.focus({ preventScroll: true });
    if (problem && problem !== seen) root.querySelector('[data-act="anyway"]')?.scrollIntoView({ block: "nearest" });
    seen = problem;
  };
  draw();
  start();
  return { update() {}, redraw: draw };
};
studio.runtimeHue = (name) => studio.series({ torch: 0, onnxruntime: 1, openvino: 2 }[name] ?? 5);
studio.runtimeTitle = (name) => ({ torch: "torch", onnxruntime: "ONNX Runtime", openvino: "OpenVINO" }[name] || name);
