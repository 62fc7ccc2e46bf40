// The user's marks on a picture to cut out from: clicks, a box, or everything; and the choice among the masks that come.
// The marks live here, so that a click shows at once and a late answer never undoes a newer click.
studio.kinds.marks = ({ root, props, trigger }) => {
  const { h } = studio;
  const MODES = { click: "Click", box: "Box", all: "Everything" };
  const HINTS = {
    click: "Click on the thing. Drag for a box. Shift or right click says what is not part of it.",
    box: "Drag a box around the thing.",
    all: "Press Find segments, then choose among them.",
  };
  let picture = null, points = [], box = null, mode = "click", sign = 1, modes = ["click", "box", "all"], past = [], undone = [];
  let value = {}, chosen = [], canvas = null, under = 0, note = "";
  const stage = () => studio.named[props.stage];
  const hasMap = () => mode === "all" && value.everything && value.artifact && value.choices?.length;

  // ── towards Python ─────────────────────────────────────────────────────
  const state = () => ({ image: picture?.id || "", points, box, mode, modes, chosen, artifact: value.artifact || "" });
  const tell = () => { props.value = state(); };
  const marked = () => {
    tell();
    draw();
    stage()?.redraw();
    if (box || points.some((point) => point[2])) trigger("marked", state());
  };
  const change = (next) => { past.push({ points, box }); undone = []; ({ points, box } = { points, box, ...next }); marked(); };

  // ── what the stage asks ────────────────────────────────────────────────
  const shown = (next) => {
    const first = next.pictures?.[0] || null;
    const isNew = first?.id !== picture?.id;
    value = next;
    picture = first;
    if (isNew || !first) { points = []; box = null; past = []; undone = []; }
    chosen = next.chosen || [];
    if (next.marks && (isNew || (!points.length && !box && !past.length))) adopt(next.marks);
    if (!next.everything) canvas = null;
    note = "";
    tell();
    draw();
    if (next.fresh && first?.box) { mode = modes.includes("box") ? "box" : mode; change({ box: first.box }); }
  };
  const adopt = (marks) => { // a result that was opened or came back after a reload
    points = marks.points || [];
    box = marks.box || null;
    if (marks.everything && modes.includes("all")) mode = "all";
  };
  const lay = (next) => {
    const mine = !next.artifact || next.marks;
    const masks = mode === "all" && !next.everything ? [] : mode !== "all" && next.everything ? [] : next.masks;
    return { ...next, points: mode === "all" ? [] : points, box: mode === "all" ? null : box, masks, aim: mine && picture ? { click: "both", box: "box", all: "none" }[mode] : undefined };
  };
  const colour = (name) => {
    const tint = PALETTE[(name - 1) % PALETTE.length];
    if (name === under) return [...tint, 170, 255];
    return chosen.length ? (chosen.includes(name - 1) ? [...tint, 150, 255] : [...tint, 0, 90]) : [...tint, 96, 235];
  };
  const below = (figure) => {
    if (!hasMap()) return;
    if (canvas?.artifact !== value.artifact) { canvas = studio.regions(studio.url(`segments/${value.artifact}.png`), colour); canvas.artifact = value.artifact; }
    canvas.tint?.(colour);
    figure.append(canvas);
  };
  const nameAt = ([x, y]) => {
    if (!canvas?.names || !picture) return 0;
    return canvas.names[Math.floor((y / picture.height) * canvas.height) * canvas.width + Math.floor((x / picture.width) * canvas.width)] || 0;
  };
  let waiting = 0;
  const hover = (spot) => {
    if (!hasMap()) return;
    const next = spot ? nameAt(spot) : 0;
    if (next === under) return;
    under = next;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => canvas?.tint?.(colour));
  };
  const point = ({ x, y, label }) => {
    if (mode !== "all") return change({ points: [...points, [x, y, sign ? label : 1 - label]] });
    const name = hasMap() ? nameAt([x, y]) : 0;
    if (name) choose(name - 1, true);
    else if (!hasMap()) { note = HINTS.all; draw(); }
  };
  const boxed = ({ box: next }) => { if (mode !== "all") change({ box: next, points: [] }); };

  // ── choosing among masks ───────────────────────────────────────────────
  const choose = (index, add = false) => {
    const was = chosen.includes(index);
    if (add) chosen = was ? chosen.filter((one) => one !== index) : [...chosen, index];
    else chosen = value.everything && was && chosen.length === 1 ? [] : [index];
    value.masks = chosen.length === 1 ? [{ id: value.choices[chosen[0]].id }] : [];
    tell();
    draw();
    stage()?.redraw();
    trigger("choose", state());
  };
  const chip = (one, index) => h("button", { type: "button", class: "chip choice num", "aria-pressed": String(chosen.includes(index)), title: `The model's own estimate of overlap: ${one.score.toFixed(2)}. ${studio.number(one.area)} px²`, onclick: (event) => choose(index, value.everything && (event.shiftKey || chosen.length > 1)) },
    value.everything ? null : h("img", { src: studio.thumb(one.id), alt: "" }), h("span", {}, `${index + 1} · ${one.score.toFixed(2)}`));
  const choices = () => {
    const list = value.choices || [];
    const fits = Boolean(value.everything) === (mode === "all");
    if (!fits || !list.length) return null;
    const words = value.everything ? `${studio.count(list.length, "segment")}${chosen.length ? `, ${chosen.length} chosen` : ""}` : list.length > 1 ? `${["", "", "Two", "Three"][list.length] || list.length} readings of your ${box ? "box" : "click"}` : "";
    return h("div", { class: "marks-choices" }, words ? h("span", { class: "small muted num", role: "status", title: value.everything ? null : "The number is the model's own estimate of overlap" }, words) : null,
      list.length > 1 || value.everything ? h("div", { class: "chips" }, list.slice(0, 120).map(chip)) : null);
  };

  // ── the bar over the picture ───────────────────────────────────────────
  const draw = () => studio.refocus(root, () => {
    root.className = "face marks-in";
    const drawn = (points.length || box) && value.artifact && !value.everything && value.masks?.length; // the mask of these marks is there
    studio.named[props.run]?.rename(mode === "all" ? "Find segments" : drawn ? "Cut out again" : "Cut out");
    if (!picture) return root.replaceChildren();
    const any = points.length || box;
    const toggle = (name, label, on, act, title) => h("button", { type: "button", class: `seg ${name}`, "aria-pressed": String(on), title, onclick: act }, label);
    studio.fill(root,
      h("div", { class: "marks-bar" },
        h("div", { class: "segs", role: "group", "aria-label": "How to mark" }, modes.map((one) => toggle(one, MODES[one], mode === one, () => { mode = one; note = ""; tell(); draw(); stage()?.redraw(); }, HINTS[one]))),
        mode === "click" ? h("div", { class: "segs", role: "group", "aria-label": "What a click says" },
          toggle("plus", "+ Part of it", sign === 1, () => { sign = 1; draw(); }, "A click marks what belongs to the thing"),
          toggle("minus", "− Not part", sign === 0, () => { sign = 0; draw(); }, "A click marks what does not belong to it")) : null,
        mode !== "all" ? h("button", { type: "button", class: "quiet", disabled: !past.length, onclick: undo }, "Undo") : null,
        mode !== "all" ? h("button", { type: "button", class: "quiet", disabled: !any, onclick: () => change({ points: [], box: null }) }, "Clear") : null),
      choices(),
      (mode === "all" ? !hasMap() : !any) || note ? h("div", { class: "small muted marks-hint" }, note || HINTS[mode]) : null);
  });
  const step = (from, to) => { if (from.length) { to.push({ points, box }); ({ points, box } = from.pop()); marked(); } };
  const undo = () => step(past, undone), redo = () => step(undone, past);
  document.addEventListener("keydown", (event) => {
    const act = studio.visible(root) && { undo, redo }[studio.undoKey(event)];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const update = (next) => { // Python says which ways of marking the model understands
    if (!next.modes || next.modes.join() === modes.join()) return;
    modes = next.modes;
    if (!modes.includes(mode)) mode = modes[0];
    tell();
    draw();
    stage()?.redraw();
  };
  draw();
  return { update, shown, lay, under: below, hover, point, box: boxed, redraw: draw };
};
// The studio's colours of masks, as studio/ops/masks.py has them: eight that stay apart, then steps of the golden ratio.
const PALETTE = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0], [240, 228, 66], [150, 110, 230]];
