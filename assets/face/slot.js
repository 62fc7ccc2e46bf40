// A place for one picture or mask: choose, drop, paste, or have one sent here. Its value is what the upload answered.
studio.kinds.slot = ({ root, props, trigger }) => {
  const { h, icon } = studio;
  let value = {}, problem = null, note = "", busy = false, turn = 0, removed = null, over = "";
  const input = h("input", { type: "file", accept: props.kind === "text" ? "image/png" : "image/png,image/jpeg,image/webp,image/gif,image/bmp", class: "sr", tabindex: -1, "aria-hidden": "true", onchange: () => { take(input.files[0]); input.value = ""; } });

  const fed = () => studio.named[props.feeds];
  const take = async (file) => {
    if (!file) return;
    busy = true; problem = null; note = ""; draw();
    const answer = await studio.arrive(studio.upload(file, props.kind));
    busy = false;
    if (answer.message) { problem = answer; return draw(); }
    if (props.kind === "text") { draw(); return trigger("read", answer); }
    set(answer);
  };
  const set = (next) => {
    turn += 1; // what is still on its way is out of date
    value = next; problem = null; removed = null;
    props.value = next;
    draw();
    told();
  };
  const key = `slot.${props.name}`;
  const told = () => {
    studio.recall(key, value.id ? JSON.stringify(value) : null);
    fed()?.redraw?.();
    studio.named[props.shows]?.peek?.(value);
  };
  // What was here before a reload of the window, where the studio still has it.
  const begin = async () => {
    let before = null;
    try { before = JSON.parse(studio.recall(key) || "null"); } catch { /* nothing that can be read */ }
    if (!/^[0-9a-f]{64}$/.test(before?.id) || value.id) return;
    const { ok } = await fetch(studio.thumb(before.id)).catch(() => ({}));
    if (ok && !value.id && turn === 0) set(before);
  };
  if (props.kind !== "text") setTimeout(begin, 0);
  // A mask goes with its picture, and both come back together.
  const clear = () => {
    const before = { own: value, fed: fed()?.get?.() };
    studio.named[props.stage]?.stopPainting();
    set({});
    fed()?.set({});
    removed = before;
    draw();
  };
  const restore = () => {
    const { own, fed: theirs } = removed;
    set(own);
    if (theirs?.id) fed()?.set(theirs);
  };

  const what = () => {
    if (busy) return [h("div", { class: "what" }, "Reading …")];
    if (value.id) return [
      h("img", { src: studio.thumb(value.id), alt: "" }),
      h("div", { class: "what num" }, `${value.width} × ${value.height} px`, value.name ? h("div", {}, value.name) : null),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove ${props.title}`, title: "Remove", onclick: clear }, icon("close")),
    ];
    return [
      h("button", { type: "button", class: "quiet", onclick: () => input.click() }, icon("picture"), props.invite),
      removed ? h("button", { type: "button", class: "quiet", title: `Bring ${props.title} back`, onclick: restore }, "Undo") : null,
    ];
  };
  const draw = () => studio.refocus(root, () => {
    root.className = "face";
    const box = h("div", { class: `slot${value.id ? " full" : ""}` }, what());
    for (const name of ["dragenter", "dragover"]) box.addEventListener(name, (event) => { event.preventDefault(); event.stopPropagation(); box.classList.add("drop"); });
    for (const name of ["dragleave", "drop"]) box.addEventListener(name, () => box.classList.remove("drop"));
    box.addEventListener("drop", (event) => { event.preventDefault(); event.stopPropagation(); take(event.dataTransfer.files[0]); });
    const tools = props.paint && !busy ? paintButton() : null;
    const said = problem ? studio.problem(problem) : note ? h("p", { class: "note", role: "status" }, note) : null;
    studio.fill(root, h("div", { class: "label" }, props.title), box, crop(), tools, said, input);
  });
  // What will be used of a picture whose proportions are not those that are painted, before it is.
  const crop = () => {
    if (busy || !value.id || !props.fits?.length) return null;
    const [width, height] = props.fits.map((id) => Number(document.querySelector(`#${id} input`)?.value));
    if (!(width > 0 && height > 0)) return null;
    const scale = Math.min(value.width / width, value.height / height), used = [width * scale, height * scale].map(Math.round);
    const left = (100 * (1 - used[0] / value.width)) / 2, top = (100 * (1 - used[1] / value.height)) / 2;
    if (Math.max(left, top) < 1) return null;
    return h("div", { class: "crop" },
      h("div", { class: "crop-view", style: `aspect-ratio:${value.width}/${value.height};width:${Math.round((160 * value.width) / value.height)}px` }, h("img", { src: studio.thumb(value.id), alt: "" }), h("i", { style: `inset:${top}% ${left}%` })),
      h("p", { class: "note" }, `Only the middle ${used.join(" × ")} of your ${value.width} × ${value.height} picture will be used, at ${width === height ? width : `${width} × ${height}`} px.`));
  };
  for (const name of ["input", "change"]) document.addEventListener(name, (event) => { if (props.fits?.some((id) => event.target.closest?.(`#${id}`))) draw(); });
  const paintButton = () => {
    const source = studio.named[props.paint];
    const start = source?.get?.();
    if (!start?.id) return null;
    return h("div", { class: "slot-tools" }, h("button", { type: "button", class: "quiet", onclick: () => {
      const before = value;
      over = start.id;
      studio.named[props.stage].paint(start, value.id, { keep: (blob) => studio.arrive(keep(blob)), revert: () => set(before) });
    } }, icon("brush"), value.id ? "Change with the brush" : "Paint the area"));
  };
  const redraw = () => {
    const start = studio.named[props.paint]?.get?.();
    if (over && start?.id !== over) { over = ""; studio.named[props.stage]?.stopPainting(); } // it was another picture's
    draw();
  };
  // Paint is the mask at once. `blob` is a promise, of null where nothing is painted.
  const keep = async (blob) => {
    const mine = (turn += 1);
    const file = await blob;
    const answer = file ? await studio.upload(new File([file], "painted mask"), "mask") : {};
    if (mine !== turn) return {};
    if (answer.message) { problem = answer; draw(); } else set(answer);
    return answer;
  };
  const update = (next) => {
    ({ problem = null, note = "" } = next.message ? { problem: next } : { note: next.note });
    busy = false;
    if (props.kind !== "text" && (next.id || value.id)) { turn += 1; value = next; removed = null; told(); }
    draw();
  };
  return { update, take, set, clear, get: () => value, redraw, shows: props.shows };
};

addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
  if (!file) return;
  const stage = Object.values(studio.named).find((widget) => widget.accepts && studio.visible(widget.root));
  if (stage) { event.preventDefault(); stage.accepts(file); }
});
