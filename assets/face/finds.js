// What a detector found, as a list beside the picture: classes with counts, each find to point at, codes with their text.
studio.kinds.finds = ({ root, props }) => {
  const { h } = studio;
  const FEW = 24; // finds of a class that are listed before "show all"
  let value = {}, floor = 0, only = [], labels = studio.remember("labels") !== "off", hot = null, picked = null, open = new Set(), copied = null;
  const stage = () => studio.named[props.stage];
  const panel = h("div", { class: "finds" }); // the stage puts it under its actions
  const all = () => (value.boxes || []).map((one, index) => ({ ...one, index })).filter(passes);

  const passes = (one) => one.score >= floor && (!only.length || only.includes(one.label));

  // ── what the stage asks ────────────────────────────────────────────────
  const shown = (next) => { value = next; hot = picked = copied = null; open = new Set(); floor = 0; draw(); };
  const lay = (next) => (floor || only.length ? { ...next, boxes: (next.boxes || []).map((one) => (passes(one) ? one : { ...one, box: [0, 0, 0, 0] })) } : next);
  const painted = (layer) => {
    layer.classList.toggle("bare", !labels);
    layer.classList.toggle("some", hot !== null || picked !== null);
    for (const group of layer.querySelectorAll(".found")) {
      const index = Number(group.dataset.index), one = value.boxes?.[index];
      group.toggleAttribute("hidden", !one || !passes(one));
      group.classList.toggle("hot", isHot(index, one));
    }
  };
  const isHot = (index, one) => [hot, picked].some((mark) => mark === index || (typeof mark === "string" && mark === one?.label));
  const light = () => { const layer = stage()?.root.querySelector(".figure > svg"); if (layer) painted(layer); mark(); };
  const hover = (mark_) => { hot = mark_; light(); };
  const pick = (mark_) => { picked = picked === mark_ ? null : mark_; draw(); light(); };

  // The confidence slider filters what is there while it moves; letting go runs again, which also finds more.
  addEventListener("input", (event) => {
    if (!event.target.closest?.(`#${props.slider}`) || !value.boxes) return;
    floor = Number(event.target.value) || 0;
    draw(); light();
  }, true);

  // ── the list ───────────────────────────────────────────────────────────
  const draw = () => studio.refocus(panel, () => {
    root.className = "face";
    if (!value.artifact || !value.boxes) return panel.replaceChildren();
    const found = all();
    const groups = new Map();
    for (const one of found) groups.set(one.label, [...(groups.get(one.label) || []), one]);
    const rows = [...groups].sort((a, b) => b[1].length - a[1].length || a[0].localeCompare(b[0]));
    studio.fill(panel,
      h("div", { class: "finds-head" }, h("div", { role: "status" }, headline(found, rows)), found.length ? labelSwitch() : null),
      chosenBar(),
      rows.length ? h("ul", { class: "finds-list" }, rows.map(([label, ones]) => row(label, ones))) : null);
    mark();
  });
  const headline = (found, rows) => {
    const hidden = (value.boxes || []).length - found.length, filtered = only.length ? "hidden by the filters" : "below this confidence";
    if (!found.length) return [h("strong", {}, "Nothing found."), h("span", { class: "muted" }, hidden ? ` ${hidden} ${filtered}.` : ` ${value.nothing?.text || "Lower the confidence, or choose another model."}`),
      !hidden && value.nothing?.go ? h("button", { type: "button", onclick: () => studio.go(value.nothing.go) }, value.nothing.label) : null];
    return [h("strong", { class: "num" }, `${found.length} found`), h("span", { class: "muted num" }, ` ${rows.length === 1 ? "in one class" : `in ${studio.count(rows.length, "class", "classes")}`}${hidden ? `, ${hidden} ${filtered}` : ""}`)];
  };
  const labelSwitch = () => h("label", { class: "switch", title: "Off, a box shows its label when it is pointed at" }, h("input", { type: "checkbox", checked: labels, onchange: (event) => { labels = event.target.checked; studio.remember("labels", labels ? null : "off"); light(); } }), "Labels");
  const row = (label, ones) => {
    const hue = ones[0].hue || studio.hue(label);
    const listed = open.has(label) ? ones : ones.slice(0, FEW);
    const texts = ones.some((one) => one.text !== undefined);
    return h("li", {},
      h("button", { type: "button", class: "quiet finds-class", "data-mark": label, onclick: () => pick(label), onpointerenter: () => hover(label), onpointerleave: () => hover(null), onfocus: () => hover(label), onblur: () => hover(null) },
        h("i", { class: "dot", style: `background:${hue}`, "aria-hidden": "true" }), h("span", { class: "name" }, label), h("span", { class: "num count" }, String(ones.length))),
      h("div", { class: texts ? "finds-texts" : "finds-ones" }, listed.map((one) => (texts ? code(one) : chip(one))),
        ones.length > listed.length ? h("button", { type: "button", class: "quiet small", onclick: () => { open.add(label); draw(); } }, `${ones.length - listed.length} more`) : null));
  };
  const pointing = (one) => ({ "data-mark": one.index, onclick: () => pick(one.index), onpointerenter: () => hover(one.index), onpointerleave: () => hover(null), onfocus: () => hover(one.index), onblur: () => hover(null) });
  const chip = (one) => h("button", { type: "button", class: "chip num", title: sizeOf(one), "aria-label": `${one.label}, ${Math.round(one.score * 100)} %, ${sizeOf(one)}`, ...pointing(one) }, `${Math.round(one.score * 100)}%`);
  const code = (one) => h("div", { class: "finds-code" },
    h("button", { type: "button", class: "quiet finds-text", ...pointing(one) }, one.text || "Seen, but not readable"),
    one.text ? h("button", { type: "button", class: "quiet small", onclick: () => copy(one) }, copied === one.index ? "Copied" : "Copy") : null);
  const sizeOf = ({ box: [x1, y1, x2, y2] }) => `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)} px`;
  const copy = async (one) => { try { await navigator.clipboard.writeText(one.text); } catch { select(one.text); } copied = one.index; draw(); };
  const select = (text) => { const area = h("textarea", { class: "sr" }, text); document.body.append(area); area.select(); document.execCommand("copy"); area.remove(); };

  // ── what can be done with the chosen find ──────────────────────────────
  const chosenBar = () => {
    const one = typeof picked === "number" ? value.boxes?.[picked] : null;
    if (!one) return null;
    const places = new Set(studio.targets.map((target) => target.key));
    return h("div", { class: "finds-chosen" },
      h("span", { class: "num" }, `${one.label} ${Math.round(one.score * 100)}%, ${sizeOf(one)}`),
      places.has("segment") ? h("button", { type: "button", onclick: () => studio.send({ asset: value.pictures[0].id, to: "segment", box: one.box }) }, "Cut out") : null,
      places.has("start") ? h("button", { type: "button", onclick: () => cropped(one, (made) => studio.send({ asset: made.id, to: "start" })) }, "Crop to Generate") : null,
      h("button", { type: "button", onclick: () => cropped(one, (made) => { location.href = `${studio.picture(made.id)}?name=${encodeURIComponent(made.name)}`; }) }, "Download crop"),
      h("button", { type: "button", class: "quiet", "aria-label": "Choose none", onclick: () => pick(picked) }, studio.icon("close")));
  };
  const cropped = async (one, then) => {
    const made = await studio.ask(`crop/${value.pictures[0].id}?box=${one.box.map((v) => v.toFixed(2)).join(",")}`, { method: "POST" });
    made.message ? panel.prepend(studio.problem(made)) : then(made);
  };
  const mark = () => { for (const button of panel.querySelectorAll("[data-mark]")) { const name = button.dataset.mark; button.setAttribute("aria-pressed", String(String(picked) === name)); button.classList.toggle("hot", String(hot) === name); } };

  draw();
    const update = (next) => { only = next.only || []; draw(); light(); };
  return { update, panel, shown, lay, painted, hover, pick, redraw: draw };
};
