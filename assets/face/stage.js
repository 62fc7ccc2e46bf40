// The picture, large: empty, running, or a result with its one row of actions.
studio.kinds.stage = ({ root, props, trigger }) => {
  const { h, icon } = studio;
  let value = {}, chosen = 0, zoomed = false, shot = null, note = "", preview = "", ratio = 1, painter = null;

  const pictures = () => value.pictures || [];
  const current = () => pictures()[chosen];

  const start = (event, data) => { // an event that begins a job: the run bar answers before Python does
    const runner = Object.values(studio.named).find((widget) => widget.serves === props.name);
    if (!runner || runner.begin()) trigger(event, data);
  };

  // ── the view ───────────────────────────────────────────────────────────
  const view = h("div", { class: "stage-view" });
  const line = h("div", { class: "stage-line", role: "status", "aria-live": "polite" });
  const below = h("div", { class: "stage-below" });
  const bar = h("div", { class: "stage-bar", hidden: true }, h("i"));
  root.className = "face stage";
  root.replaceChildren(view, line, below);

  const emptyState = () => {
    const { title, text, examples = [] } = props.empty || {};
    return h("div", { class: "empty" }, h("h2", {}, title || ""), h("p", {}, text || ""), examples.length
      ? h("div", { class: "examples" }, examples.map((one, index) => h("button", { type: "button", class: one.image ? "picture" : "", onclick: () => start("example", { index }) }, one.image ? h("img", { src: one.image, alt: "", loading: "lazy" }) : null, one.label)))
      : null);
  };
  // Small pictures are enlarged, up to four times, so that they can be seen; large ones fit the window.
  const measure = (one) => `--w:${Math.round(one.width * Math.min(4, Math.max(1, 560 / Math.max(one.width, one.height))))}px;--fit:${one.width / one.height}`;
  const shown = (one) => {
    const image = h("img", { src: studio.picture(one.id), alt: one.title || "", width: one.width, height: one.height, style: measure(one) });
    const figure = h("div", { class: "figure" }, image);
    studio.overlay?.(figure, one, value, { props, trigger });
    return figure;
  };
  const grid = () => pictures().map((one, index) => h("button", {
    type: "button", class: "cell", "aria-pressed": String(index === chosen), title: one.title || "",
    onclick: () => { if (index === chosen) zoomed = true; chosen = index; draw(); trigger("pick", { index }); },
  }, h("img", { src: studio.picture(one.id), alt: one.title || `Picture ${index + 1}` })));

  const draw = () => {
    if (painter) return;
    const many = pictures().length > 1 && !zoomed && !shot;
    view.className = `stage-view${many ? " many" : ""}`;
    if (shot && preview) view.replaceChildren(previewFigure(), bar);
    else if (shot) view.replaceChildren(current() ? veiled() : h("div", { class: "empty" }, h("p", {}, words(shot))), bar);
    else if (many) view.replaceChildren(...grid());
    else if (current()) view.replaceChildren(shown(current()));
    else view.replaceChildren(emptyState());
    drawLine();
    drawBelow();
  };
  const veiled = () => { const figure = shown(current()); figure.classList.add("veil"); return figure; };
  const previewFigure = () => h("div", { class: "figure" }, h("img", { class: "preview", src: preview, alt: "The picture as it forms", style: `--w:512px;--fit:${ratio}` }));

  // ── running ────────────────────────────────────────────────────────────
  const words = (now) => {
    if (now.state === "queued") return now.place > 0 ? `Waiting, ${now.place} before this one` : "Starting";
    const phase = now.phase || "working";
    return phase[0].toUpperCase() + phase.slice(1);
  };
  const progress = (now, message = "") => {
    const started = now && !shot;
    shot = now; note = message;
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
  const drawLine = () => {
    if (shot) {
      const parts = [h("span", { class: "phase" }, words(shot))];
      if (shot.total > 1 && shot.state === "running") parts.push(h("span", { class: "num" }, `step ${shot.step} of ${shot.total}`));
      parts.push(h("span", { class: "spring" }), h("span", { class: "num" }, studio.seconds(shot.seconds || 0)));
      if (shot.remaining !== null && shot.remaining !== undefined && shot.step > 1) parts.push(h("span", { class: "num" }, `about ${studio.seconds(shot.remaining)} to go`));
      return line.replaceChildren(...parts);
    }
    if (note) return line.replaceChildren(h("span", {}, note));
    if (!current()) return line.replaceChildren();
    line.replaceChildren(...actions());
  };

  // ── a result's one row ─────────────────────────────────────────────────
  const actions = () => {
    const one = current();
    const places = studio.targets.filter((target) => target.kinds.includes(one.kind) && target.from !== props.name);
    const row = [];
    if (places.length) row.push(studio.menu("Send to", "send", places.map((target) => ({ label: target.title, act: () => studio.send({ asset: one.id, to: target.key }) }))));
    row.push(h("a", { class: "button", href: `${studio.picture(one.id)}?name=${encodeURIComponent(one.file || "picture")}`, download: "" }, icon("down"), "Download"));
    for (const action of value.actions || []) row.push(h("button", { type: "button", onclick: () => (action.runs ? start : trigger)("act", { name: action.name, artifact: value.artifact, index: chosen }) }, action.icon ? icon(action.icon) : null, action.label));
    if (pictures().length > 1 && zoomed) row.push(h("button", { type: "button", class: "quiet", onclick: () => { zoomed = false; draw(); } }, icon("back"), "All pictures"));
    if (one.title) row.push(h("span", { class: "spring" }), h("span", { class: "small num" }, one.title));
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
    studio.fill(below, notes, family, facts);
  };

  // ── files dropped on the picture go to the slot it belongs to ──────────
  const slot = () => (props.slot ? studio.named[props.slot] : null);
  for (const name of ["dragenter", "dragover"]) view.addEventListener(name, (event) => { if (slot()) { event.preventDefault(); view.classList.add("drop"); } });
  for (const name of ["dragleave", "drop"]) view.addEventListener(name, () => view.classList.remove("drop"));
  view.addEventListener("drop", (event) => { if (slot()) { event.preventDefault(); slot().take(event.dataTransfer.files[0]); } });

  // ── the brush, over the plain picture ──────────────────────────────────
  const paint = (start, mask, done) => {
    painter = studio.brush(start, mask, (blob) => { painter = null; draw(); if (blob) done(blob); });
    view.className = "stage-view";
    view.replaceChildren(painter.figure);
    line.replaceChildren(painter.tools);
    below.replaceChildren();
  };

  const update = (next) => {
    value = next;
    chosen = Math.min(next.selected ?? 0, Math.max(0, pictures().length - 1));
    zoomed = false; note = ""; painter = null;
    if (!shot) draw();
  };
  draw();
  return { update, progress, paint, root, get: () => current() || {}, say: (text) => { if (shot) { shot = { ...shot, phase: text }; drawLine(); } }, ...(props.slot ? { accepts: (file) => slot()?.take(file) } : {}), redraw: draw };
};
