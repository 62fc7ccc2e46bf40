// A place for one picture or mask: choose, drop, paste, or have one sent here. Its value is what the upload answered.
studio.kinds.slot = ({ root, props, trigger }) => {
  const { h, icon } = studio;
  let value = {}, problem = null, busy = false;
  const input = h("input", { type: "file", accept: props.kind === "text" ? "image/png" : "image/png,image/jpeg,image/webp,image/gif,image/bmp", class: "sr", tabindex: -1, "aria-hidden": "true", onchange: () => { take(input.files[0]); input.value = ""; } });

  const take = async (file) => {
    if (!file) return;
    busy = true; problem = null; draw();
    const answer = await studio.upload(file, props.kind);
    busy = false;
    if (answer.message) { problem = answer; return draw(); }
    if (props.kind === "text") { draw(); return trigger("read", answer); }
    set(answer);
  };
  const set = (next) => { value = next; problem = null; draw(); props.value = next; studio.named[props.feeds]?.redraw?.(); studio.named[props.shows]?.peek?.(next); };
  const clear = () => set({});

  const what = () => {
    if (busy) return [h("div", { class: "what" }, "Reading …")];
    if (value.id) return [
      h("img", { src: studio.thumb(value.id), alt: "" }),
      h("div", { class: "what num" }, `${value.width} × ${value.height} px`, value.name ? h("div", {}, value.name) : null),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove ${props.title}`, title: "Remove", onclick: clear }, icon("close")),
    ];
    return [h("button", { type: "button", class: "quiet", onclick: () => input.click() }, icon("picture"), props.invite), ];
  };
  const draw = () => {
    root.className = "face";
    const box = h("div", { class: `slot${value.id ? " full" : ""}` }, what());
    for (const name of ["dragenter", "dragover"]) box.addEventListener(name, (event) => { event.preventDefault(); event.stopPropagation(); box.classList.add("drop"); });
    for (const name of ["dragleave", "drop"]) box.addEventListener(name, () => box.classList.remove("drop"));
    box.addEventListener("drop", (event) => { event.preventDefault(); event.stopPropagation(); take(event.dataTransfer.files[0]); });
    const tools = props.paint && !busy ? paintButton() : null;
    studio.fill(root, h("div", { class: "label" }, props.title), box, crop(), tools, problem ? studio.problem(problem) : null, input);
  };
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
      studio.named[props.stage].paint(start, value.id, async (blob) => { busy = true; draw(); const answer = await studio.upload(new File([blob], "painted mask"), "mask"); busy = false; answer.message ? ((problem = answer), draw()) : set(answer); });
    } }, icon("brush"), value.id ? "Change with the brush" : "Paint the area"));
  };
  const update = (next) => { value = next; problem = null; busy = false; draw(); studio.named[props.feeds]?.redraw?.(); studio.named[props.shows]?.peek?.(next); };
  return { update, take, clear, get: () => value, redraw: draw, shows: props.shows };
};

addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
  if (!file) return;
  const stage = Object.values(studio.named).find((widget) => widget.accepts && studio.visible(widget.root));
  if (stage) { event.preventDefault(); stage.accepts(file); }
});
