// The picture, large: empty, running, or a result with its one row of actions.
studio.kinds.stage = ({ root, props, trigger }) => {
  const { h, icon } = studio;
  let value = {}, chosen = 0, zoomed = false, shot = null, note = "", preview = "", ratio = 1, painter = null, begun = 0, taught = {};

  const pictures = () => value.pictures || [];
  const current = () => pictures()[chosen];
  const subject = () => value.subject || current(); // what the actions are about, where it is not the picture shown
  const pilot = () => studio.named[props.pilot]; // the tab's companion: lays things over the picture, takes clicks

  const start = (event, data) => { // an event that begins a job: the run bar answers before Python does
    const runner = Object.values(studio.named).find((widget) => widget.serves === props.name);
    const tell = () => trigger(event, data);
    runner ? runner.begin(tell) : tell();
  };

  // ── the view ───────────────────────────────────────────────────────────
  const view = h("div", { class: "stage-view" });
  const line = h("div", { class: "stage-line" });
  const spoken = h("div", { class: "sr", role: "status" }); // what is heard: a phase once, not its every step
  const speak = (text) => { if (spoken.textContent !== text) spoken.textContent = text; };
  const below = h("div", { class: "stage-below" });
  const bar = h("div", { class: "stage-bar", hidden: true }, h("i"));
  root.className = "face stage";
  root.replaceChildren(view, line, spoken, below);

  const emptyState = () => {
    const { title, text, examples = [], more } = { ...props.empty, ...taught };
    return h("div", { class: "empty" }, h("h2", {}, title || ""), h("p", {}, text || ""),
      more ? h("button", { type: "button", class: "quiet", onclick: more.act }, more.label) : null, examples.length
      ? h("div", { class: "examples" }, examples.map((one, index) => h("button", { type: "button", class: one.image ? "picture" : "", onclick: () => start("example", { index }) }, one.image ? h("img", { src: one.image, alt: "", loading: "lazy" }) : null, one.label)))
      : null);
  };
  const cross = { picture: "", spot: null }; // where the keyboard's cross stands; it outlives the drawing
  let last = null; // the element is used again for the same picture, so that nothing flashes
  const shown = (one) => {
    if (last?.id !== one.id) last = { id: one.id, image: h("img", { src: studio.picture(one.id), alt: one.alt || one.title || one.name || "" }) };
    const figure = h("div", { class: "figure", style: studio.measure(one) }, last.image);
    const long = Math.max(one.width / one.height, one.height / one.width);
    if (long > 4) figure.classList.add(one.width > one.height ? "wide" : "tall");
    studio.overlay?.(figure, one, pilot()?.lay?.(value) ?? value, { props, trigger, pilot: pilot(), cross });
    return figure;
  };
  const grid = () => pictures().map((one, index) => h("button", {
    type: "button", class: "cell", "aria-pressed": String(index === chosen), title: one.title || "",
    onclick: () => { if (index === chosen) zoomed = true; chosen = index; draw(); trigger("pick", { index }); },
  }, h("img", { src: studio.picture(one.id), alt: one.alt || one.title || `Picture ${index + 1}` })));

  const draw = () => {
    if (painter) return;
    const held = view.querySelector(".figure.pressed"); // a box is being drawn: what arrived waits for the finger
    if (held) return held.addEventListener("released", draw, { once: true });
    studio.refocus(view, drawView);
    drawLine();
    drawBelow();
  };
  const drawView = () => {
    const many = pictures().length > 1 && !zoomed && !shot;
    view.className = `stage-view${many ? " many" : ""}`;
    if (shot && preview) view.replaceChildren(previewFigure(), bar);
    else if (shot) view.replaceChildren(current() ? veiled() : h("div", { class: "empty" }, h("p", {}, words(shot))), bar);
    else if (many) view.replaceChildren(...grid());
    else if (current()) view.replaceChildren(shown(current()));
    else view.replaceChildren(emptyState());
  };
  const veiled = () => { const figure = shown(current()); figure.classList.add("veil"); return figure; };
  const previewFigure = () => h("div", { class: "figure", style: `--w:512px;--fit:${ratio}` }, h("img", { class: "preview", src: preview, alt: "The picture as it forms" }));

  // ── running ────────────────────────────────────────────────────────────
  const words = (now) => {
    if (now.state === "queued") return now.place > 0 ? `Waiting, ${now.place} before this one` : "Starting";
    const { count = 0, total } = now, each = total / count, phase = now.phase || "working";
    if (!["step", "decoding"].includes(phase) || !total || !count) return phase[0].toUpperCase() + phase.slice(1);
    const nth = Math.min(count, Math.floor(Math.max(0, now.step - (phase === "decoding" ? 1 : 0)) / each) + 1);
    const which = count > 1 ? `Picture ${nth} of ${count}` : "Painting";
    return phase === "decoding" ? `${which}, decoding` : `${which}, step ${now.step - (nth - 1) * each} of ${each}`;
  };
  const progress = (now, message = "") => {
    const started = now && !shot;
    if (started) { begun = Date.now(); painter?.leave(); } // the paint is the mask already
    shot = now; note = message;
    speak(!now ? message : now.state === "queued" ? words(now) : now.phase || "working");
    if (!now) { preview = ""; bar.hidden = true; return draw(); }
    if (now.preview) {
      const source = studio.url(`job/${now.id}/preview/${now.preview}.webp`);
      if (source !== preview) {
        const next = new Image();
        next.onload = () => { if (shot) { ratio = next.naturalWidth / next.naturalHeight; const first = !preview; preview = source; first ? draw() : view.querySelector("img.preview")?.setAttribute("src", source); } };
        next.src = source;
      }
    }
    bar.hidden = false;
    bar.classList.toggle("unknown", !now.total);
    bar.firstElementChild.style.width = now.total ? `${Math.min(100, (100 * now.step) / now.total)}%` : "";
    if (started) draw(); else { drawLine(); const text = view.querySelector(".empty p"); if (text && !preview) text.textContent = words(now); }
  };
  const drawLine = () => { if (!painter) studio.refocus(line, fillLine); };
  const fillLine = () => {
    if (shot) {
      if (value.artifact && (shot.seconds || 0) < 0.4 && Date.now() - begun < 400 && line.firstChild) return;
      const parts = [h("span", { class: "phase" }, words(shot))];
      if (shot.total > 1 && shot.state === "running" && !["step", "decoding"].includes(shot.phase)) parts.push(h("span", { class: "num" }, `step ${shot.step} of ${shot.total}`));
      parts.push(h("span", { class: "spring" }), h("span", { class: "num" }, studio.seconds(shot.seconds || 0)));
      if (shot.remaining !== null && shot.remaining !== undefined && shot.step > 1) parts.push(h("span", { class: "num" }, `about ${studio.seconds(shot.remaining)} to go`));
      return line.replaceChildren(...parts);
    }
    const row = current() && !value.fresh ? actions() : [];
    if (note && row.length) row.push(h("span", { class: "spring" }));
    if (note) row.push(h("span", {}, note));
    line.replaceChildren(...row);
  };

  // ── a result's one row ─────────────────────────────────────────────────
  // A draft that is sent or exported is worth keeping.
  const keep = async () => {
    if (!value.artifact || value.kept !== false) return;
    value = { ...value, kept: true };
    await studio.ask(`keep/${value.artifact}`, { method: "POST" });
  };
  // value.sends: [{label, parcels: [{asset, to}]} or {label, make: route that makes the asset, to}]; else what fits is offered.
  const sends = (one) => value.sends
    ? value.sends.map((item) => ({ label: item.label, act: () => { keep(); dispatch(item); } }))
    : studio.targets.filter((target) => target.kinds.includes(one.kind) && target.from !== props.name).map((target) => ({ label: target.title, act: () => { keep(); studio.send({ asset: one.id, to: target.key }); } }));
  const dispatch = async (item) => {
    if (item.parcels) return studio.send({ ...item.parcels[0], also: item.parcels.slice(1) });
    const made = await studio.ask(item.make, { method: "POST" });
    if (made.message) { note = `${made.message} ${made.hint}`; return drawLine(); }
    if (item.to) return studio.send({ asset: made.id, to: item.to });
    note = item.done || "Done."; drawLine(); setTimeout(() => { note = ""; drawLine(); }, 2500);
  };
  const save = (path) => { keep().then(() => drawLine()); const link = h("a", { href: studio.url(path), download: "" }); document.body.append(link); link.click(); link.remove(); };
  const actions = () => {
    const one = subject();
    const row = [];
    const offered = sends(one);
    if (offered.length) row.push(studio.menu("Send to", "send", offered));
    if (value.exports) { if (value.exports.length) row.push(studio.menu("Export", "down", value.exports.map((item) => ({ label: item.label, act: () => save(item.path) })))); }
    else row.push(h("a", { class: "button", href: `${studio.picture(one.id)}?name=${encodeURIComponent(one.file || "picture")}`, download: "" }, icon("down"), "Download"));
    if (value.artifact && value.kept === false) row.push(h("button", { type: "button", onclick: async () => { await keep(); drawLine(); } }, "Save to Library"));
    else if (value.kept === true) row.push(h("span", { class: "small muted kept" }, icon("tick"), "Saved"));
    for (const action of value.actions || []) row.push(h("button", { type: "button", onclick: () => (action.runs ? start : trigger)("act", { name: action.name, artifact: value.artifact, index: chosen }) }, action.icon ? icon(action.icon) : null, action.label));
    if (pictures().length > 1 && zoomed) row.push(h("button", { type: "button", class: "quiet", onclick: () => { zoomed = false; draw(); } }, icon("back"), "All pictures"));
    if (one.title && !note) row.push(h("span", { class: "spring" }), h("span", { class: "small num" }, one.title));
    return row;
  };
  const drawBelow = () => {
    if (shot || !current()) return below.replaceChildren();
    const notes = value.notes?.length ? h("div", { class: "stage-notes" }, value.notes.map((text) => h("div", {}, text))) : "";
    const facts = value.details?.length
      ? h("details", { class: "facts", open: studio.remember("facts") === "open", ontoggle: (event) => studio.remember("facts", event.target.open ? "open" : null) },
          h("summary", {}, "Details"),
          h("dl", {}, value.details.flatMap(([name, text]) => [h("dt", {}, name), h("dd", { class: "num" }, String(text))])))
      : "";
    const family = value.family?.length ? studio.family(value.family, (artifact) => trigger("open", { artifact })) : "";
    studio.fill(below, pilot()?.panel, notes, family, facts);
  };

  // ── files dropped on the picture go to the slot it belongs to ──────────
  const slot = () => (props.slot ? studio.named[props.slot] : null);
  for (const name of ["dragenter", "dragover"]) view.addEventListener(name, (event) => { if (slot()) { event.preventDefault(); view.classList.add("drop"); } });
  for (const name of ["dragleave", "drop"]) view.addEventListener(name, () => view.classList.remove("drop"));
  view.addEventListener("drop", (event) => { if (slot()) { event.preventDefault(); slot().take(event.dataTransfer.files[0]); } });

  // ── the brush, over the plain picture ──────────────────────────────────
  // `keep(answer of a blob)` is told after every stroke, `revert()` where the paint is not wanted after all.
  const paint = (start, mask, { keep, revert }) => {
    painter?.leave();
    painter = studio.brush(start, mask, { keep, leave: (unwanted) => { painter = null; if (unwanted) revert(); draw(); } });
    view.className = "stage-view";
    view.replaceChildren(painter.figure);
    line.replaceChildren(painter.tools);
    below.replaceChildren();
    const box = root.getBoundingClientRect(); // a phone's screen is at the controls
    if (box.top < 0 || box.top + view.offsetHeight > innerHeight) root.scrollIntoView({ block: "start" });
    painter.focus();
  };

  const update = (next) => {
    value = next;
    chosen = Math.min(next.selected ?? 0, Math.max(0, pictures().length - 1));
    zoomed = false; note = "";
    if (value.artifact && current()) speak(`Done. ${current().alt || ""}`);
    pilot()?.shown?.(value);
    draw();
  };
  // The picture a slot just took, before anything was made of it.
  const peek = (asset) => {
    if (painter || (asset.id || "") === (pictures()[0]?.id || "")) return;
    update(asset.id ? { pictures: [asset], fresh: true } : {});
  };
  // What the chosen model can do, said where nothing is yet.
  const teach = (next) => { taught = next; if (!current() && !shot && !painter) draw(); };
  draw();
  // A tab that was never seen is built when something is sent to it: its slot was filled before the stage was there.
  setTimeout(() => { const waiting = slot()?.get?.(); if (waiting?.id && waiting.kind !== "mask" && !current() && studio.named[props.slot]?.shows === props.name) peek(waiting); }, 0);
  return { update, peek, progress, teach, paint, root, artifact: () => value.artifact, isPainting: () => painter !== null, stopPainting: () => painter?.leave(), get: () => current() || {}, say: (text) => { if (shot) { shot = { ...shot, phase: text }; drawLine(); } }, ...(props.slot ? { accepts: (file) => slot()?.take(file) } : {}), redraw: draw };
};
