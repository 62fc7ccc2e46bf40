// The labs' shared ground: the model that is open, the training that is followed, curves and samples over time.

// studio.lab(family): what a lab's views ask. `id` is the open model (a card or a run), null for none.
studio.labs = {};
studio.lab = (family) => {
  if (studio.labs[family]) return studio.labs[family];
  const listeners = [], watchers = [];
  let flying = null, next = null;
  const lab = studio.labs[family] = {
    family, id: null, title: "", facts: {}, config: {}, recipe: "", inside: 0, run: null,
    on: (fn) => { listeners.push(fn); if (lab.id) fn(lab); },
    onrun: (fn) => { watchers.push(fn); if (lab.run) fn(lab.run); },
    follow: (run) => { lab.run = run; for (const fn of watchers) fn(run); },
    open: async (id) => {
      const about = id ? await studio.ask(`explore/${id}`) : { id: null };
      if (about.message) return about;
      Object.assign(lab, { id: about.id, title: about.title || "", facts: about.facts || {}, config: about.config || {}, recipe: about.recipe || "", inside: about.inside || 0 });
      for (const fn of listeners) fn(lab);
      return about;
    },
    ask: (op, args = {}, assets = {}) => lab.id
      ? studio.ask(`explore/${lab.id}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ op, args, ...assets }) })
      : Promise.resolve({ message: "No model is open.", hint: "Train one, or choose one above." }),
    // For drags: one request on its way, the latest wish waits, what lies between is dropped.
    drag: (op, args, done, assets = {}) => {
      next = { op, args, done, assets };
      if (flying) return;
      const fly = async () => {
        while (next) { const one = next; next = null; one.done(await lab.ask(one.op, one.args, one.assets)); }
        flying = null;
      };
      flying = fly();
    },
  };
  return lab;
};

// A strip of choices that is wider than the screen shows the chosen one.
studio.reveal = (strip) => {
  const chosen = strip?.querySelector('[aria-pressed="true"]');
  if (chosen) strip.scrollLeft += chosen.getBoundingClientRect().left - strip.getBoundingClientRect().left - (strip.clientWidth - chosen.offsetWidth) / 2;
};

// "What am I seeing?": a short text with its formula and source, closed until asked for.
studio.learned = null;
studio.explain = (name, label = "What am I seeing?") => {
  const { h } = studio;
  const body = h("div", { class: "learn-text" });
  const box = h("details", { class: "learn" }, h("summary", {}, label), body);
  studio.learned = studio.learned || studio.ask("learn.json");
  studio.learned.then((texts) => {
    const one = [name].flat().map((key) => texts[key]).find(Boolean); // the first that is there
    if (!one) return box.remove();
    if (one.title) body.append(h("strong", {}, one.title));
    body.append(h("p", {}, one.text));
    if (one.formula) { const f = h("div", { class: "formula" }); if (/^\s*<math/.test(one.formula)) f.innerHTML = one.formula; else f.textContent = one.formula; body.append(f); }
    if (one.source) body.append(h("p", { class: "small muted" }, one.source));
  });
  return box;
};
studio.kinds.explain = ({ root, props }) => { root.append(...props.names.map((name) => studio.explain(name, name.replaceAll("_", " ")))); return { update() {} }; };

// "Add to Models", and the choice whether pictures of its data go along: the studio's do, the user's only when asked.
studio.wished = new Map();
studio.adoption = (run, done) => {
  const { h } = studio, { pictures = 0, own = true } = run.inside || {};
  if (run.adopted) return [h("span", { class: "small muted" }, "In Models")];
  const along = () => studio.wished.get(run.id) ?? !own;
  const add = h("button", { type: "button", onclick: async () => {
    add.disabled = true;
    done(await studio.ask(`run/${run.id}/adopt`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ pictures: along() }) }));
  } }, "Add to Models");
  const box = h("input", { type: "checkbox", checked: along(), onchange: () => studio.wished.set(run.id, box.checked) });
  return [add, pictures ? h("label", { class: "along small", title: "The lab shows them beside what the model makes. Whoever gets the model can see them. Without them the lab shows stickers." }, box, `include ${studio.count(pictures, own ? "of my pictures" : "training picture", own ? "of my pictures" : "training pictures")} (others can see ${pictures === 1 ? "it" : "them"})`) : null];
};

// Start, Pause, Continue in one place, and the poll that everything else follows.
studio.kinds.trainbar = ({ root, props, trigger }) => {
  const { h } = studio;
  const key = `run.${props.name}`, lab = studio.lab(props.family);
  const BUSY = ["waiting", "running"];
  let id = null, run = null, problem = null, asked = false, timer = null, rows = [], silent = 0;
  const view = () => studio.named[props.watch];
  const head = () => studio.named[props.sides];

  const start = () => {
    if (asked || (run && BUSY.includes(run.state))) return;
    asked = true; problem = null; draw(); head()?.show("watch");
    trigger("train", {});
    setTimeout(() => { if (asked) { asked = false; problem = { message: "The studio does not answer.", hint: "Try again in a moment." }; draw(); } }, 30000);
  };
  const follow = (next) => { clearTimeout(timer); if (next !== id) rows = []; id = next; run = null; asked = false; problem = null; silent = 0; studio.remember(key, next); look(); };
  const look = async () => {
    clearTimeout(timer);
    const asking = id;
    if (!asking) return;
    const since = rows.length ? Math.max(-1, rows.at(-1).step - 1) : -1;
    const now = await studio.ask(`run/${asking}?since=${since}`);
    if (asking !== id) return;
    if (now.status === 404) { id = null; run = null; rows = []; studio.remember(key, null); lab.follow(null); view()?.show(null); return draw(); }
    if (now.status === undefined) {
      if (rows.length && now.step < rows.at(-1).step) { rows = []; timer = setTimeout(look, 50); return; } // continued from before what was shown
      rows = [...rows.filter((row) => row.step <= since), ...now.curves];
      const before = run;
      run = now;
      lab.follow({ ...now, curves: rows });
      view()?.show({ ...now, curves: rows });
      if (now.model && (!before || before.model !== now.model || before.state !== now.state)) head()?.changed(now);
      if (!before || before.state !== now.state) draw();
    }
    const busy = run && BUSY.includes(run.state);
    silent += 1;
    if (busy || now.status !== undefined) timer = setTimeout(look, document.hidden ? 4000 : !studio.visible(root) ? 2500 : silent < 8 ? 400 : 900);
  };
  const act = async (name, body = {}) => {
    const button = root.querySelector("button"); button?.setAttribute("disabled", "");
    if (name === "continue") head()?.show("watch");
    const answer = await studio.ask(`run/${id}/${name}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    problem = answer.status !== undefined ? answer : null;
    silent = 0; run = null; draw(); look();
  };
  const draw = () => studio.refocus(root, () => {
    const state = run?.state;
    root.className = "face run-in trainbar";
    const buttons = [];
    if (asked) buttons.push(h("button", { type: "button", class: "cancel", disabled: true }, "Starting …"));
    else if (BUSY.includes(state)) buttons.push(h("button", { type: "button", class: "cancel", onclick: () => act("pause") }, state === "waiting" ? "Cancel" : "Pause"));
    else if (["paused", "interrupted", "damaged"].includes(state)) buttons.push(h("button", { type: "button", class: "primary", onclick: () => act("continue") }, "Continue"), h("button", { type: "button", class: "quiet again", onclick: start }, "Start a new one"));
    else buttons.push(h("button", { type: "button", class: "primary", onclick: (event) => { if (event.detail < 2) start(); } }, "Train", h("span", { class: "keys" }, "Ctrl ⏎")),
      state === "finished" ? h("button", { type: "button", class: "quiet again", onclick: () => act("continue", run.minutes ? { minutes: run.minutes * 2 } : { steps: run.steps * 2 }) }, "Continue training (twice as long)") : null,
      state === "failed" && run.step ? h("button", { type: "button", class: "quiet again", onclick: () => act("continue") }, "Try to continue") : null);
    studio.fill(root, buttons, problem ? studio.problem(problem) : null);
  });
  document.addEventListener("keydown", (event) => {
    if (studio.visible(root) && event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!event.repeat) start(); }
  }, true);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && id) look(); });
  const begin = async () => {
    const known = studio.remember(key);
    if (known && /^[a-z0-9-]{3,80}$/.test(known)) return follow(known);
    const { runs } = await studio.ask(`runs?family=${props.family}`);
    if (!id && !asked && runs?.length) follow(runs[0].id);
  };
  draw();
  setTimeout(begin, 0);
  return { update: (value) => { if (value.run) { if (value.run !== id) follow(value.run); } else if (value.message) { asked = false; problem = value; draw(); } }, follow, run: () => run, start, family: props.family };
};

// Training or Explore, and which model is open.
studio.kinds.labhead = ({ root, props }) => {
  const { h } = studio;
  const lab = studio.lab(props.family);
  let side = "watch", choices = { cards: [], runs: [] }, chosen = null, problem = null, settled = false;
  const place = (name) => document.getElementById(`${props.lab}-${name}`);
  const show = (next) => {
    side = next; settled = true;
    for (const name of ["watch", "explore"]) place(name)?.classList.toggle("off", name !== side);
    place("bar")?.classList.toggle("resting", side === "explore"); // a phone's screen is the picture's then
    draw();
    dispatchEvent(new Event("resize"));
  };
  const when = (run) => studio.when(run.created);
  const draw = () => {
    root.className = "face labhead";
    const seg = (name, label) => h("button", { type: "button", class: "seg", "aria-pressed": String(side === name), onclick: () => show(name) }, label);
    const select = h("select", { "aria-label": "Open model", onchange: () => open(select.value) },
      choices.cards.map((one) => h("option", { value: one.id, selected: one.id === chosen }, one.title)),
      choices.runs.map((one) => h("option", { value: one.id, selected: one.id === chosen }, `${one.title}, ${when(one)}`)));
    const any = choices.cards.length + choices.runs.length > 0;
    studio.fill(root, h("div", { class: "segs", role: "group", "aria-label": "View" }, seg("watch", "Training"), seg("explore", "Explore")),
      any && side === "explore" ? h("label", { class: "opened" }, h("span", { class: "muted small" }, "Model"), select) : null,
      any && side === "explore" && lab.id && lab.id === chosen ? h("p", { class: "small muted" }, lab.inside ? `${studio.count(lab.inside, "example picture")} ${lab.inside === 1 ? "is" : "are"} stored with this model.` : `No example pictures are stored with this model${props.family === "diffusion-lab" ? "" : "; stickers stand in"}.`) : null,
      side === "explore" && !any ? h("p", { class: "muted" }, "Nothing to explore yet. Train a model; it can be opened from its first minute on.") : null,
      problem && side === "explore" ? studio.problem(problem) : null);
  };
  const load = async () => {
    const answer = await studio.ask(`lab/${props.family}`);
    if (!answer.message) choices = answer;
    return choices;
  };
  const open = async (id, quietly = false) => {
    chosen = id; problem = null; draw();
    const answer = await lab.open(id);
    if (answer.message) problem = answer;
    if (!answer.message || !quietly) draw();
    studio.remember(`open.${props.lab}`, id);
  };
  const begin = async () => {
    const { cards, runs } = await load();
    const known = studio.remember(`open.${props.lab}`);
    const wanted = [...cards, ...runs].find((one) => one.id === known) || cards[0] || runs[0];
    const busy = ["waiting", "running"].includes(lab.run?.state);
    if (!settled) show(wanted && !busy && !lab.run ? "explore" : "watch"); // a slow answer does not undo a choice
    if (wanted) open(wanted.id, true); else draw();
  };
  // A run that has a (newer) model: it is offered, and opened when it is finished or already open.
  const changed = async (run) => {
    await load();
    if (run.id === chosen || !chosen || run.state === "finished") await open(run.id, true);
    else draw();
  };
  setTimeout(begin, 0);
  return { update: (value) => { if (value.open) load().then(() => open(value.open)); if (value.show) show(value.show); }, show, changed, open };
};

// The training itself: what it does in plain words, samples over time, curves.
studio.kinds.watch = ({ root, props }) => {
  const { h } = studio;
  let run = null, name = null, at = null, log = studio.remember("curves.log") === "1", smooth = Number(studio.remember("curves.smooth") || 0.6), charts = {}, note = null, built = false, offered = "";
  root.className = "face watch";
  const status = h("div", { class: "watch-status" });
  const spoken = h("div", { class: "sr", role: "status" }); // what is heard: the state once, not its every step
  const bar = h("div", { class: "stage-bar", "aria-hidden": "true" }, h("i", {}));
  const trouble = h("div", {});
  const img = h("img", { class: "pixelated", alt: "Samples" });
  const range = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Samples over time", oninput: () => { at = Number(range.value) >= Number(range.max) ? null : Number(range.value); samples(); } });
  const when = h("span", { class: "num small muted" });
  const tabs = h("div", { class: "segs", role: "group", "aria-label": "Which samples" });
  const pictures = h("div", { class: "watch-pictures" }, tabs, h("div", { class: "watch-frame" }, img), h("div", { class: "scrub" }, range, when));
  const grid = h("div", { class: "curves" });
  const tools = h("div", { class: "curve-tools" },
    h("label", { class: "small" }, h("input", { type: "checkbox", checked: log, onchange: (event) => { log = event.target.checked; studio.remember("curves.log", log ? "1" : "0"); curves(); } }), "Log scale"),
    h("label", { class: "small" }, "Smoothing", h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: smooth, oninput: (event) => { smooth = Number(event.target.value); studio.remember("curves.smooth", String(smooth)); curves(); } })));
  const acts = h("div", { class: "stage-line" });
  const facts = h("div", {});
  const empty = () => h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("h2", {}, props.empty.title), h("p", {}, props.empty.text),
    h("div", { class: "examples" }, h("button", { type: "button", onclick: () => studio.named[props.bar]?.start() }, "Train with these settings"))));

  const left = (seconds) => seconds === null || seconds === undefined ? "" : `, about ${studio.seconds(seconds)} to go`;
  const WORDS = {
    waiting: () => run.place ? `Waits for another training to end (${run.place} before it).` : "About to start.",
    running: () => run.step ? `${{ looking: "Evaluating on unseen pictures", recording: "Saving the record" }[run.phase] || "Training"}: step ${studio.number(run.step)} of ${run.steps ? "" : "about "}${studio.number(run.total)}, ${studio.seconds(run.seconds)} so far${left(run.remaining)}` : `${run.phase ? run.phase[0].toUpperCase() + run.phase.slice(1) : "Loading"} …`,
    paused: () => !run.step ? "Stopped before it began." : `Paused at step ${studio.number(run.step)}. Continue goes on exactly from here.`,
    damaged: () => "Its record is damaged.",
    interrupted: () => `Interrupted at about step ${studio.number(run.step)}.`,
    finished: () => `Finished: ${studio.count(run.step, "step")} in ${studio.seconds(run.seconds)}.`,
    failed: () => `Stopped at step ${studio.number(run.step)}.`,
  };
  const NAMES = { psnr: "PSNR", kl: "KL", elbo: "ELBO", mse: "MSE", fid: "FID", kid: "KID", d: "Discriminator", g: "Generator" };
  const said = (group) => NAMES[group] || group.split("_").map((word, k) => NAMES[word] && word.length > 1 ? NAMES[word] : k ? word : word[0].toUpperCase() + word.slice(1)).join(" ");
  const samples = () => {
    const names = Object.keys(run.samples || {}).filter((one) => run.samples[one].length);
    pictures.hidden = !names.length;
    if (!names.length) return;
    if (!names.includes(name)) name = ["samples", "reconstructions"].find((one) => names.includes(one)) || names[0];
    studio.fill(tabs, names.length > 1 ? names.map((one) => h("button", { type: "button", class: "seg", "aria-pressed": String(one === name), onclick: () => { name = one; samples(); } }, said(one))) : null);
    const steps = run.samples[name];
    range.max = steps.length - 1;
    const index = at === null ? steps.length - 1 : Math.min(at, steps.length - 1);
    range.value = index; studio.filled(range);
    const source = studio.url(`run/${run.id}/sample/${name}/${steps[index]}.png`);
    if (img.src !== source) img.src = source;
    when.textContent = `step ${studio.number(steps[index])}`;
  };
  // Names that share their first word are one chart; held-out numbers are drawn with their training twin, as dots.
  const groups = () => {
    const names = [...new Set((run.curves || []).flatMap((row) => Object.keys(row)))].filter((one) => one !== "step" && one !== "seconds");
    const plain = names.filter((one) => !one.startsWith("valid_")), found = {};
    const stem = (one) => one.split(/[_/]/)[0];
    const shared = new Set(plain.map(stem).filter((one) => plain.filter((other) => stem(other) === one).length > 1));
    for (const one of plain) (found[shared.has(stem(one)) ? stem(one) : one] ||= []).push(one);
    for (const one of names.filter((other) => other.startsWith("valid_"))) {
      const twin = one.slice(6);
      const home = Object.keys(found).find((group) => found[group].includes(twin));
      (found[home || twin] ||= []).push(one);
    }
    return Object.entries(found).sort(([a], [b]) => b.startsWith("loss") - a.startsWith("loss"));
  };
  const curves = () => {
    if (!run) return;
    const wanted = groups();
    if (wanted.map(([group]) => group).join() !== Object.keys(charts).join()) {
      charts = {};
      grid.replaceChildren(...wanted.map(([group]) => {
        const holder = h("div", {});
        charts[group] = studio.chart(holder);
        return h("section", { class: "curve" }, h("h2", {}, said(group)), holder, studio.explain([`${props.family}_curve_${group}`, `curve_${group}`]));
      }));
    }
    for (const [group, names] of wanted) {
      const lines = names.map((one) => {
        const held = one.startsWith("valid_");
        const short = one.replace(/^valid_/, "").replace(new RegExp(`^${group}[_/]`), "").replaceAll("_", " ");
        return { name: held ? (names.length > 1 && names.includes(one.slice(6)) ? "unseen" : short) : names.length > 1 && names.some((other) => other === `valid_${one}`) && names.length === 2 ? "training" : short, dots: held, points: run.curves.filter((row) => row[one] !== undefined && row[one] !== null).map((row) => [row.step, row[one]]) };
      });
      charts[group].draw({ lines, log, smooth, x: "step" });
    }
    tools.hidden = !wanted.length;
  };
  const adopted = (answer) => {
    note = answer.message ? answer : null;
    if (answer.card) run.adopted = answer.card;
    offered = "";
    show(run);
  };
  const actions = () => { // drawn anew only where something changed, so that a finger or a focus on them is not lost
    const last = run.samples?.[name]?.at(-1), key = JSON.stringify([run.id, Boolean(run.model), run.can, run.adopted, run.inside, name, last]);
    if (key === offered) return;
    offered = key;
    studio.fill(acts,
      run.model && run.can?.import ? studio.adoption(run, adopted) : null,
      run.model && last !== undefined ? h("a", { class: "button quiet", href: studio.url(`run/${run.id}/sample/${name}/${last}.png`), download: `${run.id}.png` }, studio.icon("down"), "Samples") : null);
  };
  const details = () => {
    const rows = [["Recipe", run.recipe], ["Pictures", `${studio.dataTitle(run.data)}${run.pictures?.pictures ? `, ${studio.number(run.pictures.train)} to learn from, ${studio.number(run.pictures.valid)} kept unseen` : ""}`], ["Budget", run.steps ? studio.count(run.steps, "step") : studio.count(run.minutes, "minute")], ["Seed", run.seed], ...(run.settings || []), ["Run", run.id]];
    const broken = run.pictures?.broken || [];
    const open = facts.querySelector("details")?.open;
    studio.fill(facts, h("details", { class: "facts", open }, h("summary", {}, "Details"), h("dl", {}, rows.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))),
      broken.length ? h("details", { class: "facts" }, h("summary", {}, `${studio.count(broken.length, "picture")} could not be read`), h("div", { class: "small" }, broken.map((line) => h("div", {}, line)))) : null);
  };
  const show = (next) => {
    if (!next) { run = null; built = false; at = null; offered = ""; return studio.fill(root, empty()); }
    if (run?.id !== next.id) { grid.replaceChildren(); at = null; charts = {}; name = null; note = null; }
    run = next;
    if (!built) { studio.fill(root, status, spoken, bar, trouble, pictures, acts, tools, grid, facts); built = true; }
    status.textContent = WORDS[run.state]();
    const heard = run.state === "running" ? "Training" : WORDS[run.state]();
    if (spoken.textContent !== heard) spoken.textContent = heard;
    const busy = run.state === "running";
    bar.hidden = !busy; bar.classList.toggle("unknown", busy && !run.step);
    bar.firstElementChild.style.width = run.step ? `${Math.min(100, (100 * run.step) / Math.max(1, run.total))}%` : "";
    studio.fill(trouble, ["failed", "interrupted", "damaged"].includes(run.state) && run.message ? studio.problem(run) : null, (run.warnings || []).map((one) => h("div", { class: "problem", role: "status" }, one.sentence, " ", h("span", { class: "hint" }, one.advice))), note ? studio.problem(note) : null);
    samples(); curves(); actions(); details();
  };
  studio.fill(root, empty());
  return { update() {}, show };
};
