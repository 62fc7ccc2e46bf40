// The Runs tab: all trainings, their curves against each other, and what can be done with each.
studio.kinds.runs = ({ root }) => {
  const { h } = studio;
  const LABS = { vae: "VAE lab", gan: "GAN lab", "diffusion-lab": "Diffusion lab" }, TABS = { vae: "VAE", gan: "GAN", "diffusion-lab": "Diffusion" };
  const WORDS = { waiting: "waiting", running: "training", paused: "paused", finished: "finished", failed: "stopped", interrupted: "interrupted", damaged: "damaged" };
  let runs = [], command = "", can = {}, filter = "", family = "", chosen = [], curves = {}, metric = "", log = false, problem = null, opened = null, sure = null;
  root.className = "face runs";
  const look = async () => {
    const answer = await studio.ask("runs");
    if (answer.message) problem = answer; else { problem = null; ({ runs, mlflow: command, can } = answer); }
    chosen = chosen.filter((id) => runs.some((run) => run.id === id));
    await Promise.all(chosen.map(fetchCurves));
    draw();
  };
  const fetchCurves = async (id) => {
    const known = curves[id], run = runs.find((one) => one.id === id);
    if (known && known.step === run?.step) return;
    const answer = await studio.ask(`run/${id}`);
    if (!answer.message) curves[id] = { rows: answer.curves, step: answer.step, adopted: answer.adopted, model: answer.model, inside: answer.inside };
  };
  const act = async (id, name, body = {}) => {
    const answer = await studio.ask(`run/${id}/${name}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    problem = answer.status !== undefined ? answer : null;
    const kept = problem; await look(); problem = kept; draw();
  };
  const adopted = (id) => (answer) => {
    problem = answer.message ? answer : null;
    if (answer.card && curves[id]) curves[id].adopted = answer.card;
    draw();
  };
  const toLab = (run) => {
    const tab = [...document.querySelectorAll('.desk button[role="tab"]')].find((one) => one.textContent.trim().startsWith(TABS[run.family]));
    tab?.click();
    setTimeout(() => { const bar = Object.values(studio.named).find((one) => one.follow && one.family === run.family); bar?.follow(run.id); }, 50);
  };
  const when = (run) => studio.when(run.created);
  const best = (run) => run.watched && run.best?.value !== undefined ? `${run.watched.replaceAll("_", " ")} ${studio.figure(run.best.value)}` : "";
  const pick = async (id) => {
    chosen = chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id].slice(-6);
    opened = chosen.includes(id) ? id : chosen.at(-1) || null; sure = null;
    draw();
    await Promise.all(chosen.map(fetchCurves));
    draw();
  };
  const row = (run) => {
    const index = chosen.indexOf(run.id);
    return h("tr", {},
      h("td", {}, h("input", { type: "checkbox", checked: index >= 0, "aria-label": `Compare ${run.title}`, onchange: () => pick(run.id) })),
      h("td", {}, h("span", { class: "swatch", style: index >= 0 ? `background:${studio.series(index)}` : "" }), h("button", { type: "button", class: "name quiet", onclick: () => pick(run.id) }, run.title)),
      h("td", {}, WORDS[run.state]),
      h("td", { class: "wide" }, studio.dataTitle(run.data)),
      h("td", { class: "num" }, studio.number(run.step)),
      h("td", { class: "num wide" }, studio.seconds(run.seconds)),
      h("td", { class: "wide" }, best(run)),
      h("td", { class: "num wide small muted" }, when(run)));
  };
  const names = () => [...new Set(chosen.flatMap((id) => (curves[id]?.rows || []).flatMap((one) => Object.keys(one))))].filter((name) => name !== "step" && name !== "seconds");
  const compare = () => {
    const all = names();
    if (!all.length) return null;
    if (!all.includes(metric)) metric = all.find((name) => chosen.every((id) => (curves[id]?.rows || []).some((one) => name in one))) || all[0];
    const holder = h("div", {});
    const chart = studio.chart(holder);
    const lines = chosen.map((id, index) => ({ id, hue: studio.series(index), name: runs.find((run) => run.id === id)?.title || id, label: true, dots: metric.startsWith("valid_"), points: (curves[id]?.rows || []).filter((one) => Number.isFinite(one[metric])).map((one) => [one.step, one[metric]]) }));
    const twice = (name) => lines.filter((line) => line.name === name).length > 1;
    for (const line of lines) line.label = line.name;
    for (const line of lines) if (twice(line.label)) line.name = `${line.label} ${line.id.slice(-4)}`;
    requestAnimationFrame(() => chart.draw({ lines, log, height: 280, smooth: metric.startsWith("valid_") ? 0 : 0.6 }));
    const select = h("select", { "aria-label": "Curve", onchange: () => { metric = select.value; draw(); } }, all.map((name) => h("option", { value: name, selected: name === metric }, name.startsWith("valid_") ? `${name.slice(6).replaceAll("_", " ")}, unseen pictures` : name.replaceAll("_", " "))));
    return h("div", {}, h("div", { class: "curve-tools" }, select, h("label", { class: "small" }, h("input", { type: "checkbox", checked: log, onchange: (event) => { log = event.target.checked; draw(); } }), "Log scale")), holder);
  };
  const details = () => {
    const run = runs.find((one) => one.id === opened);
    if (!run) return null;
    const more = curves[run.id] || {}, busy = ["waiting", "running"].includes(run.state);
    const rows = [["Recipe", run.recipe], ["Pictures", `${studio.dataTitle(run.data)}${run.pictures?.pictures ? `, ${studio.number(run.pictures.pictures)}` : ""}`], ["Budget", run.steps ? studio.count(run.steps, "step") : studio.count(run.minutes, "minute")], ["Seed", run.seed], ...run.settings, ["Last numbers", Object.entries(run.metrics).map(([key, value]) => `${key.startsWith("valid_") ? `${key.slice(6)} on unseen pictures` : key} ${studio.figure(value)}`.replaceAll("_", " ")).join(", ")], ["Run", run.id]];
    const button = (label, go, quiet = false) => h("button", { type: "button", class: quiet ? "quiet" : "", onclick: go }, label);
    return h("div", { class: "runs-open" },
      h("div", { class: "runs-head" }, h("strong", {}, run.title, " ", h("span", { class: "muted small" }, when(run))),
        h("div", { class: "stage-line" },
          LABS[run.family] ? button(`Open in the ${LABS[run.family]}`, () => toLab(run)) : null,
          busy ? button("Pause", () => act(run.id, "pause")) : run.state === "finished" ? null : button("Continue", () => act(run.id, "continue")),
          more.model && can.import ? studio.adoption({ id: run.id, adopted: more.adopted, inside: more.inside }, adopted(run.id)) : null,
          busy ? null : sure === run.id ? button("Delete for good", () => { sure = null; act(run.id, "delete"); }) : button("Delete", () => { sure = run.id; draw(); }, true))),
      run.message ? studio.problem(run) : null,
      h("dl", { class: "facts-list" }, rows.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, v)])));
  };
  const search = h("input", { type: "search", placeholder: "Filter by name, pictures or state", "aria-label": "Filter", oninput: () => { filter = search.value.trim().toLowerCase(); draw(); } });
  const head = h("div", { class: "runs-head" });
  const body = h("div", { class: "runs" });
  // Made once, so that looking again does not close it while somebody copies the line.
  const line = h("code", {});
  const store = h("details", { class: "facts" }, h("summary", {}, "Open these runs in MLflow"), h("p", { class: "small" }, "Each run is also kept in a local MLflow store, written when it ends or is paused. In a terminal with MLflow installed:"), h("p", {}, line), h("p", { class: "small muted" }, "Then open the address it prints. Nothing is sent anywhere."));
  const draw = () => {
    const families = [...new Set(runs.map((run) => run.family))];
    const shown = runs.filter((run) => (!family || run.family === family) && (!filter || [run.title, run.recipe, run.data, WORDS[run.state], run.id].join(" ").toLowerCase().includes(filter)));
    const focus = document.activeElement === search;
    studio.fill(head, families.length > 1 ? h("div", { class: "segs" }, [["", "All"], ...families.map((one) => [one, LABS[one] || one])].map(([key, label]) => h("button", { type: "button", class: "seg", "aria-pressed": String(family === key), onclick: () => { family = key; draw(); } }, label))) : null, runs.length ? search : null);
    studio.fill(body, problem ? studio.problem(problem) : null,
      !runs.length ? h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("h2", {}, "No trainings yet"), h("p", {}, "What you train in the labs is listed here with its curves and settings, and can be compared, continued or kept as a model."))) : h("table", { class: "runs-table" },
        h("thead", {}, h("tr", {}, h("th", {}, ""), h("th", {}, "Model"), h("th", {}, "State"), h("th", { class: "wide" }, "Pictures"), h("th", { class: "num" }, "Steps"), h("th", { class: "num wide" }, "Time"), h("th", { class: "wide" }, "Best on unseen pictures"), h("th", { class: "num wide" }, "Started"))),
        h("tbody", {}, shown.map(row))),
      runs.length && !shown.length ? h("p", { class: "muted" }, "Nothing matches.") : null,
      chosen.length ? compare() : runs.length ? h("p", { class: "muted small" }, "Choose runs to see their curves against each other.") : null,
      details(),
      runs.length && can.share ? store : null);
    line.textContent = command;
    if (focus) search.focus();
  };
  root.append(head, body);
  look();
  // Only while it is seen; often while something trains.
  let last = 0;
  setInterval(() => {
    if (document.hidden || !studio.visible(root)) { last = 0; return; }
    const every = runs.some((run) => ["waiting", "running"].includes(run.state)) ? 2500 : 10000;
    if (Date.now() - last > every && !(document.activeElement?.tagName === "SELECT" && root.contains(document.activeElement))) { last = Date.now(); look(); }
  }, 700);
  return { update() {} };
};
