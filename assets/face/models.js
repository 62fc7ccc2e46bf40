// The models on this device and those that can be fetched: one row each, opened for everything known about it.
studio.kinds.models = ({ root, trigger }) => {
  const { h } = studio;
  const WORDS = { ready: "Ready", partial: "Partly here", damaged: "Damaged", unusable: "Cannot run", absent: "Not here" };
  const PLACES = { generate: ["Make pictures", "Generate"], detect: ["Find things", "Detect"], segment: ["Cut out", "Segment"] };
  const ORIGINS = { builtin: "Came with the studio", none: "Built in, no weights", imported: "Imported" };
  let data = null, ready = null, timer = null, notice = null, bringing = null, clearing = null;
  const rows = new Map(); // id -> {element, key}
  const open = new Map(); // id -> facts, or null while they are read
  const asking = new Map(); // id -> {plan} | {problem} | {waiting} | {remove: true}
  root.className = "face models";

  // ── talking ────────────────────────────────────────────────────────────
  const look = async () => {
    clearTimeout(timer);
    if (studio.visible(root) && !document.hidden) {
      const now = await studio.ask("models");
      if (now.groups) take(now);
      else if (!data) studio.fill(root, studio.problem(now));
    }
    const busy = data?.groups.some((group) => group.models.some((one) => isRunning(one.download) || isRunning(one.check)));
    timer = setTimeout(look, busy ? 600 : data ? 3000 : 400);
  };
  const take = (now) => {
    data = now;
    draw();
    const here = now.groups.flatMap((group) => group.models).filter((one) => one.status === "ready").map((one) => one.id).join();
    if (ready !== null && here !== ready) trigger("changed", {});
    ready = here;
  };
  const act = async (id, name) => {
    asking.delete(id);
    const answer = await studio.ask(`models/${id}/${name}`, { method: "POST" });
    if (answer.groups) { open.has(id) && facts(id); take(answer); look(); }
    else { asking.set(id, { problem: answer }); draw(); }
  };
  const plan = async (one) => {
    asking.set(one.id, { waiting: true });
    draw();
    const answer = await studio.ask(`models/${one.id}/plan`);
    asking.set(one.id, answer.message ? { problem: answer } : { plan: answer });
    draw();
  };
  const facts = async (id) => {
    const answer = await studio.ask(`models/${id}`);
    if (open.has(id)) { open.set(id, answer); draw(); }
  };
  const toggle = (id) => { if (open.delete(id)) return draw(); open.set(id, null); draw(); facts(id); };
  const isHere = (one) => one.status === "ready" || one.status === "unusable";
  const isRunning = (task) => task?.state === "running";

  // ── one row ────────────────────────────────────────────────────────────
  const size = (value) => (value === null || value === undefined ? "size unknown" : value < 1e6 ? `${Math.max(1, Math.round(value / 1e3))} kB` : studio.bytes(value));
  const meta = (one) => {
    const parts = [];
    if (one.origin !== "none" && isHere(one)) parts.push(`${size(one.size)} on disk`);
    if (one.status === "partial") parts.push(`${size(one.here)} of ${size(one.size)} here`);
    if (one.status === "damaged") parts.push(`${one.damaged} is damaged`);
    if (one.runs) parts.push(`needs about ${studio.bytes(one.memory)} memory`);
    return parts.join(" · ");
  };
  const badges = (one) => [
    one.loaded ? h("span", { class: "badge on num", title: "In memory now" }, `Loaded, ${studio.bytes(one.loaded)}`) : null,
    one.pinned ? h("span", { class: "badge", title: "Never taken away to make room" }, "Pinned") : null,
    one.commercial === false ? h("span", { class: "badge", title: "The licence does not allow commercial use" }, "Non-commercial") : null,
    !one.runs && !isHere(one) ? h("span", { class: "badge", title: "It can be fetched and kept, but nothing here runs it yet" }, "No engine yet") : null,
  ];
  const side = (one) => {
    if (isRunning(one.download) || isRunning(one.check)) return null;
    const canFetch = data.can.download && one.origin === "hub" && !isHere(one);
    const words = { absent: one.size ? `Fetch ${size(one.size)}` : "Fetch", partial: "Fetch the rest", damaged: "Fetch again" };
    return [
      isHere(one) || !canFetch ? h("span", { class: `state ${one.status}` }, WORDS[one.status]) : null,
      canFetch ? h("button", { type: "button", "data-act": "fetch", disabled: data.offline, title: data.offline ? "The studio is offline" : null, onclick: () => plan(one) }, words[one.status]) : null,
      canFetch && data.offline ? h("span", { class: "small muted" }, "offline") : null,
    ];
  };
  const gauge = (one) => {
    const task = isRunning(one.download) ? one.download : isRunning(one.check) ? one.check : null;
    if (!task) return null;
    const share = task.total ? Math.min(100, (100 * task.done) / task.total) : 0;
    const left = task.remaining === null || task.remaining === undefined ? "" : `, about ${studio.seconds(task.remaining)} to go`;
    return h("div", { class: "gauge" },
      h("div", { class: "track", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share) }, h("i", { style: `width:${share}%` })),
      h("span", { class: "num small" }, `${task === one.check ? "Checking " : ""}${size(task.done)} of ${task.total ? size(task.total) : "…"}${left}`),
      h("button", { type: "button", class: "quiet", "data-act": "cancel", onclick: () => act(one.id, "cancel") }, "Cancel"));
  };
  const outcome = (one) => {
    const failed = one.download?.state === "failed" ? one.download : one.check?.state === "failed" ? one.check : null;
    if (failed) return studio.problem(failed);
    if (one.download?.state === "cancelled" && one.status === "partial") return h("div", { class: "small muted" }, "Cancelled. What arrived is kept; fetching goes on from there.");
    if (one.check?.state === "done" && open.has(one.id)) return h("div", { class: "small muted", role: "status" }, "Checked: every file is as recorded.");
    return null;
  };
  const question = (one) => {
    const ask = asking.get(one.id);
    if (!ask) return null;
    const leave = (label) => h("button", { type: "button", class: "quiet", "data-act": "leave", onclick: () => { asking.delete(one.id); draw(); } }, label);
    if (ask.waiting) return h("div", { class: "ask small muted", role: "status" }, `Asking ${one.repo.split("/")[0] ? "huggingface.co" : "the hub"} …`);
    if (ask.problem) return h("div", { class: "ask" }, studio.problem(ask.problem), leave("Close"));
    if (ask.remove) return h("div", { class: "ask" }, h("span", {}, one.origin === "hub" ? `Remove ${size(one.here)} from this disk? It can be fetched again.` : `Remove ${size(one.here)}? It was imported and cannot be fetched again.`),
      h("button", { type: "button", "data-act": "sure", onclick: () => { open.delete(one.id); act(one.id, "remove"); } }, "Remove"), leave("Keep"));
    const { plan: found } = ask;
    const licence = found.licence && found.licence.toLowerCase() !== one.licence.toLowerCase() ? `${one.licence} (the hub says ${found.licence})` : one.licence;
    return h("div", { class: "ask" },
      h("div", {}, `Fetches ${size(found.missing)} in ${studio.count(found.files, "file")} from huggingface.co/${one.repo}.`,
        h("div", { class: "small muted" }, `Licence: ${licence}${one.commercial === false ? ". Not for commercial use." : ""}${found.gated ? ". The authors ask you to accept their terms on the model's page first." : ""}`)),
      h("button", { type: "button", class: "primary", "data-act": "sure", onclick: () => act(one.id, "fetch") }, "Fetch"), leave("Not now"));
  };
  const row = (one) => h("li", { class: `model ${one.status}` },
    h("div", { class: "model-main" },
      h("div", { class: "what" },
        h("button", { type: "button", class: "quiet model-title", "data-act": "open", "aria-expanded": String(open.has(one.id)), onclick: () => toggle(one.id) }, one.title),
        badges(one),
        h("div", { class: "muted" }, one.summary, one.reason ? ` ${one.reason}` : null),
        h("div", { class: "small num meta" }, meta(one), meta(one) ? " · " : "", one.licence)),
      h("div", { class: "side" }, side(one))),
    gauge(one), question(one), outcome(one),
    open.has(one.id) ? more(one, open.get(one.id)) : null);

  // ── everything about one ───────────────────────────────────────────────
  const more = (one, known) => {
    if (!known) return h("div", { class: "small muted" }, "Reading …");
    if (known.message) return studio.problem(known);
    const names = known.things || known.classes || known.options?.names;
    const list = [
      ["Licence", one.licence_url ? h("a", { href: one.licence_url, target: "_blank", rel: "noopener noreferrer" }, one.licence) : one.licence],
      ["From", ORIGINS[one.origin] || `huggingface.co/${one.repo}${known.state.revision ? `, ${known.state.revision.slice(0, 10)}` : ""}`],
      ["Engine", known.engine],
      ...Object.entries(known.metrics || {}).filter(([name]) => !(name in known)).map(measured),
      ...(known.minutes ? [["Trained for", studio.count(Math.round(known.minutes), "minute")]] : []),
      ...["data", "licence_of_data", "recipe", "limits", "known_limits", "pictures_inside", "training_pictures_inside"].filter((name) => known[name]).map((name) => [label(name), plain(known[name])]),
      ...(Object.keys(known.defaults || {}).length ? [["Prefers", plain(known.defaults)]] : []),
      ...(names?.length ? [[`${known.things ? "Things it can draw" : "Things it knows"} (${names.length})`, h("div", { class: "names", tabindex: 0, role: "group", "aria-label": "What it knows" }, names.join(", "))]] : []),
      ...(known.files?.length ? [["Files", h("div", { class: "files" }, known.files.map((file) => h("div", { title: file.sha256 }, `${file.name}, ${size(file.size)}, sha256 ${file.sha256.slice(0, 16)} …`)))]] : []),
    ];
    return h("div", { class: "facts model-facts" }, h("dl", {}, list.flatMap(([name, text]) => [h("dt", {}, name), h("dd", { class: "num" }, text)])), actions(one));
  };
  const label = (name) => { const text = String(name).replaceAll("_", " "); return text[0].toUpperCase() + text.slice(1); };
  const plain = (value) => typeof value === "number" ? String(Math.round(value * 1000) / 1000) : Array.isArray(value) ? value.map(plain).join("; ") : value && typeof value === "object" ? Object.entries(value).map(([name, inner]) => `${label(name).toLowerCase()} ${plain(inner)}`).join(", ") : String(value);
  // Measures that have a name and a unit people read; any other is shown as its file says it.
  const percent = (value) => `${plain(value)} %`, share = (value) => `${plain(100 * value)} %`;
  const MEASURES = {
    thing_top1_percent: ["Right thing first", percent], thing_top5_percent: ["Right thing among the first five", percent], background_percent: ["Right background", percent],
    psnr_db: ["Picture quality (PSNR)", (value) => `${Math.round(value)} dB`], map50: ["Found at IoU 0.5 (mAP)", share], map50_95: ["Found at IoU 0.5 to 0.95 (mAP)", share],
    map50_small: ["Small things found (mAP)", share], ms: ["Time per picture", (value) => `${plain(value)} ms`], steps: ["Training steps", (value) => studio.number(value)],
    size_px: ["Picture side", (value) => `${value} px`], scenes: ["Scenes measured on", plain], things: ["Things measured on", (value) => studio.number(value)], valid_loss: ["Loss on unseen pictures", plain],
  };
  const measured = ([name, value]) => MEASURES[name] && typeof value === "number" ? [MEASURES[name][0], MEASURES[name][1](value)] : [label(name), plain(value)];
  const actions = (one) => {
    const has = one.origin !== "none" && one.status !== "absent";
    const mine = one.origin === "hub" || one.origin === "imported";
    const button = (name, text, does, title) => h("button", { type: "button", "data-act": name, title, onclick: does }, text);
    const row = [
      data.can.delete && has && !isRunning(one.check) ? button("verify", "Verify", () => act(one.id, "verify"), "Reads every file again and compares it with its recorded hash") : null,
      data.can.delete && mine && isHere(one) ? (one.pinned ? button("unpin", "Unpin", () => act(one.id, "unpin")) : button("pin", "Pin", () => act(one.id, "pin"), "Keeps it when room is made")) : null,
      data.can.import && has && isHere(one) ? h("a", { class: "button", href: studio.url(`models/${one.id}/pack`), download: "", title: "One file that brings it to a device without a network" }, "Pack") : null,
      data.can.share && one.loaded ? button("unload", "Unload", () => act(one.id, "unload"), "Ends its process and gives its memory back") : null,
      data.can.delete && mine && has ? button("remove", "Remove", () => { asking.set(one.id, { remove: true }); draw(); }) : null,
    ].filter(Boolean);
    return row.length ? h("div", { class: "model-acts" }, row) : null;
  };

  // ── the head: disk, room, import ───────────────────────────────────────
  const head = () => {
    const { usage } = data;
    const share = Math.min(100, (100 * usage.hub) / Math.max(1, usage.budget));
    const words = [`${studio.bytes(usage.hub)} of ${studio.bytes(usage.budget)} for downloads`, usage.imported ? `${size(usage.imported)} imported` : "", `${size(usage.builtin)} came with the studio`, `${studio.bytes(usage.free)} free on the disk`].filter(Boolean).join(" · ");
    return h("div", { class: "models-head" },
      h("div", { class: "disk num" }, h("span", { class: "track", "aria-hidden": "true" }, h("i", { style: `width:${share}%` })), h("span", { class: "small muted" }, words)),
      h("div", { class: "model-acts" },
        data.can.delete && usage.evictable ? h("button", { type: "button", "data-act": "room", onclick: askRoom }, "Make room") : null,
        data.can.import && !bringing ? h("button", { type: "button", "data-act": "import", onclick: () => input.click(), title: "A model file or a model pack of yours: .safetensors, .onnx, .gguf, .pt, .pth, .ckpt, .tar" }, studio.icon("down"), "Import a file") : null));
  };
  const askRoom = async () => { const answer = await studio.ask("models/room"); clearing = answer.models || null; draw(); };
  const room = () => clearing === null ? null : h("div", { class: "ask" },
    h("div", {}, clearing.length ? `Remove ${size(clearing.reduce((sum, one) => sum + one.size, 0))}: ${clearing.map((one) => one.title).join(", ")}?` : "Nothing can go: what is downloaded is pinned or in memory.",
      clearing.length ? h("div", { class: "small muted" }, "They can be fetched again. Pinned and loaded models stay.") : null),
    clearing.length ? h("button", { type: "button", "data-act": "sure-room", onclick: async () => { clearing = null; const answer = await studio.ask("models/room", { method: "POST" }); notice = answer.message ? answer : { text: `${size(answer.freed)} are free again.` }; look(); } }, "Remove them") : null,
    h("button", { type: "button", class: "quiet", onclick: () => { clearing = null; draw(); } }, clearing.length ? "Keep them" : "Close"));
  const input = h("input", { type: "file", class: "sr", tabindex: -1, "aria-hidden": "true", onchange: () => { bring(input.files[0]); input.value = ""; } });
  const brought = (cards) => {
    const [one, ...more] = cards;
    if (more.length || one.reason) return { text: cards.map((card) => card.reason ? `${card.title}: ${card.reason}` : `${card.title} was added.`).join(" ") };
    const [group, tab] = PLACES[one.task] || [];
    return { text: `${one.title} was added${group ? ` under ${group}` : ""}.`, go: tab };
  };
  const bring = (file) => { // XMLHttpRequest, because fetch does not tell how much was sent
    if (!file) return;
    const wire = new XMLHttpRequest();
    bringing = { name: file.name, done: 0, total: file.size, wire };
    notice = null;
    wire.open("POST", studio.url(`models/import?name=${encodeURIComponent(file.name)}`));
    wire.setRequestHeader("Content-Type", "application/octet-stream");
    wire.responseType = "json";
    wire.upload.onprogress = (event) => { bringing.done = event.loaded; draw(); };
    wire.onload = () => {
      const answer = wire.response || { message: "The studio did not understand the file.", hint: "" };
      notice = answer.cards ? brought(answer.cards) : answer;
      answer.cards?.forEach((one) => { open.set(one.id, null); facts(one.id); });
      bringing = null; draw(); look();
    };
    wire.onerror = () => { bringing = null; notice = { message: "The studio does not answer.", hint: "Try again in a moment." }; draw(); };
    wire.onabort = () => { bringing = null; notice = { text: "Cancelled. Nothing was added." }; draw(); };
    wire.send(file);
    draw();
  };
  const coming = () => bringing && h("div", { class: "gauge" },
    h("div", { class: "track" }, h("i", { style: `width:${(100 * bringing.done) / Math.max(1, bringing.total)}%` })),
    h("span", { class: "num small" }, bringing.done < bringing.total ? `Copying ${bringing.name}, ${size(bringing.done)} of ${size(bringing.total)}` : `Checking ${bringing.name}`),
    bringing.done < bringing.total ? h("button", { type: "button", class: "quiet", onclick: () => bringing.wire.abort() }, "Cancel") : null);
  const told = () => notice && (notice.message ? studio.problem(notice) : h("div", { class: "small", role: "status" }, notice.text, " ", notice.go ? h("button", { type: "button", class: "quiet", onclick: () => studio.go(notice.go) }, `Open ${notice.go}`) : null));

  // ── drawing: only the rows that changed, so that focus and open rows stay ─
  const top = h("div", {}), list = h("div", { class: "models-groups" });
  const draw = () => {
    if (!data) return studio.fill(root, h("div", { class: "muted" }, "Reading …"));
    if (!top.isConnected) root.replaceChildren(top, list, input);
    keepFocus(top, () => studio.fill(top, head(), room(), coming(), told()));
    const groups = data.groups.filter((group) => group.models.length);
    const order = JSON.stringify(groups.map((group) => [group.title, group.models.map((one) => [one.id, one.status])]));
    if (list.dataset.order === order) return groups.forEach((group) => group.models.forEach(cached));
    keepFocus(list, () => list.replaceChildren(...groups.flatMap((group) => [title(group), h("ul", {}, group.models.map(cached))])));
    list.dataset.order = order;
  };
  const title = (group) => h("h2", {}, group.title, h("span", { class: "muted num" }, ` ${group.models.filter((one) => one.status === "ready").length} ready of ${group.models.length}`));
  const cached = (one) => {
    const key = JSON.stringify([one, open.has(one.id), open.get(one.id), asking.get(one.id), data.offline]);
    const known = rows.get(one.id);
    if (known?.key === key) return known.element;
    const element = row(one);
    element.dataset.id = one.id;
    if (known?.element.isConnected) keepFocus(known.element, () => known.element.replaceWith(element), element);
    rows.set(one.id, { key, element });
    return element;
  };
  const keepFocus = (before, change, after = before) => {
    const was = before.contains(document.activeElement) ? document.activeElement : null;
    const id = was?.closest("[data-id]")?.dataset.id, name = was?.dataset.act;
    change();
    if (!name) return;
    const again = id ? (after.dataset.id === id ? after : after.querySelector(`[data-id="${CSS.escape(id)}"]`))?.querySelector(`[data-act="${name}"]`) : after.querySelector(`[data-act="${name}"]`);
    again?.focus();
  };
  for (const name of ["dragenter", "dragover"]) root.addEventListener(name, (event) => { if (data?.can.import) { event.preventDefault(); root.classList.add("drop"); } });
  for (const name of ["dragleave", "drop"]) root.addEventListener(name, () => root.classList.remove("drop"));
  root.addEventListener("drop", (event) => { if (data?.can.import && !bringing) { event.preventDefault(); bring(event.dataTransfer.files[0]); } });
  document.addEventListener("visibilitychange", look);
  draw();
  look();
  return { update() {}, redraw() {} };
};
