// The VAE lab: one frame for its views. A view registers under studio.vaeViews and is built when it is first looked at.
studio.vaeViews = {};

studio.kinds.vae = ({ root, props }) => {
  const { h } = studio;
  const lab = studio.lab(props.family);
  let about = null, built = {}, chosen = studio.remember("vae.view") || "map", problem = null, asked = 0;
  root.className = "face vae";

  const open = async () => {
    const mine = ++asked;
    about = null; built = {}; problem = null; draw();
    const answer = await lab.ask("about");
    if (mine !== asked) return;
    if (answer.message) problem = answer;
    else about = { ...answer.data, sheet: answer.images[0] };
    draw();
  };
  const GRIDS = ["interpolate", "arithmetic", "reconstruct", "compress"]; // what makes sense where a code is a large grid without a prior
  const offered = () => Object.entries(studio.vaeViews).filter(([name]) => about.network !== "autoencoder-tiny" || GRIDS.includes(name));
  const show = (name) => { chosen = name; studio.remember("vae.view", name); draw(); };
  const draw = () => {
    if (problem) return studio.fill(root, studio.problem(problem));
    if (!lab.id) return studio.fill(root, h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("h2", {}, "No model is open"), h("p", {}, "Train one under Training, or choose one above. Then turn its latents, walk its map, and mix its pictures."))));
    if (!about) return studio.fill(root, h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("p", {}, "Opening the model …"))));
    const views = offered();
    if (!views.some(([name]) => name === chosen)) chosen = views[0][0];
    built[chosen] = built[chosen] || studio.vaeViews[chosen].build(context());
    studio.fill(root,
      h("div", { class: "segs vae-views", role: "group", "aria-label": "View of the model" }, views.map(([name, view]) => h("button", { type: "button", class: "seg", "aria-pressed": String(name === chosen), onclick: () => show(name) }, view.title))),
      h("p", { class: "vae-words" }, about.conditional && studio.vaeViews[chosen].told ? `${studio.vaeViews[chosen].text} ${studio.vaeViews[chosen].told}` : studio.vaeViews[chosen].text),
      built[chosen].root, h("div", { class: "vae-learn" }, studio.vaeViews[chosen].learn.map(([name, label]) => studio.explain(name, label))));
    studio.reveal(root.querySelector(".vae-views"));
    built[chosen].shown?.();
  };
  lab.on(open);
  draw();
  const context = () => ({ lab, about, ...parts(lab, about) });
  return { update() {}, show };
};

// What the views share: pictures cut from a sheet, a place to choose one, a labelled slider.
const parts = (lab, about) => {
  const { h } = studio;
  const cut = (sheet, index, columns, count) => {
    const rows = Math.ceil(count / columns), x = index % columns, y = Math.floor(index / columns);
    return `background-image:url(${sheet});background-size:${columns * 100}% ${rows * 100}%;background-position:${columns > 1 ? (100 * x) / (columns - 1) : 0}% ${rows > 1 ? (100 * y) / (rows - 1) : 0}%`;
  };
  const nameOf = (label) => about.names[label] || "";
  const thumb = (index) => h("span", { class: "vae-thumb", style: cut(about.sheet, index, about.columns, about.points), role: "img", "aria-label": `Picture ${index + 1}, ${nameOf(about.labels[index])}` });
  const image = (source, alt, more = "") => h("img", { class: `vae-picture ${more}`, src: source, alt });

  // Several pictures of a view, each one of the model's own or the user's. `slots` are [name, label, first point].
  const FIELDS = ["image", "other", "third"];
  const chooser = (slots, changed) => {
    const values = slots.map(([, , point]) => ({ point: point % Math.max(1, about.points) }));
    let open = null, problem = null, busy = false;
    const box = h("div", { class: "vae-chooser" });
    const file = h("input", { type: "file", accept: "image/*", class: "sr", tabindex: -1, "aria-hidden": "true", onchange: () => { take(open, file.files[0]); file.value = ""; } });
    const take = async (slot, picked) => {
      if (!picked || slot === null) return;
      busy = true; problem = null; draw();
      const answer = await studio.upload(picked, "image");
      busy = false;
      if (answer.message) problem = answer; else { values[slot] = { asset: answer.id }; open = null; changed(); }
      draw();
    };
    const put = (slot, point) => { values[slot] = { point }; open = null; problem = null; draw(); changed(); box.querySelectorAll(".vae-slot")[slot]?.focus(); };
    const tile = (value, slot) => h("button", { type: "button", class: "vae-slot", "aria-expanded": String(open === slot), title: "Choose another picture", onclick: () => { open = open === slot ? null : slot; draw(); },
      ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); event.stopPropagation(); take(slot, event.dataTransfer.files[0]); } },
    value.asset ? h("span", { class: "vae-thumb", style: `background-image:url(${studio.thumb(value.asset)});background-size:cover;background-position:center` }) : thumb(value.point),
    h("span", { class: "small" }, slots[slot][1]));
    const draw = () => studio.fill(box, h("div", { class: "vae-slots" }, values.map((value, slot) => [slots[slot][3] ? h("span", { class: "vae-sign", "aria-hidden": "true" }, slots[slot][3]) : null, tile(value, slot)]).flat()),
      open === null ? null : h("div", { class: "vae-tray" },
        h("div", { class: "vae-tray-head" }, h("button", { type: "button", onclick: () => file.click() }, busy ? "Reading …" : "Your own picture …"), h("span", { class: "small muted" }, `or one of ${about.points} the model has not trained on:`)),
        h("div", { class: "vae-tray-list" }, Array.from({ length: about.points }, (_, point) => h("button", { type: "button", class: "vae-pick", title: nameOf(about.labels[point]), onclick: () => put(open, point) }, thumb(point))))),
      problem ? studio.problem(problem) : null, file);
    draw();
    return {
      box,
      args: () => Object.fromEntries(slots.map(([name], slot) => [name, values[slot].asset ? FIELDS[slot] : values[slot].point])),
      assets: () => Object.fromEntries(values.map((value, slot) => [FIELDS[slot], value.asset]).filter(([, id]) => id)),
      set: (slot, point) => put(slot, point),
    };
  };
  const slider = (label, { min, max, step, value, text = (v) => v, moved }) => {
    const out = h("span", { class: "num" }, text(value));
    const range = h("input", { type: "range", min, max, step, value, "aria-label": label, oninput: () => { out.textContent = text(Number(range.value)); moved(Number(range.value)); } });
    return { box: h("label", { class: "vae-slider" }, h("span", { class: "small muted" }, label, h("span", { class: "spring" }), out), range), value: () => Number(range.value), set: (v) => { range.value = v; out.textContent = text(Number(range.value)); } };
  };
  const segs = (label, options, value, changed) => {
    const box = h("div", { class: "segs", role: "group", "aria-label": label });
    const draw = () => studio.fill(box, options.map(([key, name]) => h("button", { type: "button", class: "seg", "aria-pressed": String(key === value), onclick: () => { value = key; draw(); changed(key); } }, name)));
    draw();
    return { box, value: () => value };
  };
  const select = (label, options, value, changed) => {
    const field = h("select", { "aria-label": label, onchange: () => changed(field.value) }, options.map(([key, name]) => h("option", { value: key, selected: String(key) === String(value) }, name)));
    return { box: h("label", { class: "vae-field" }, h("span", { class: "small muted" }, label), field), value: () => field.value, set: (v) => { field.value = v; } };
  };
  const labels = (changed, first = [["", "Any"]]) => about.conditional ? select("Paint a", [...first, ...about.names.map((name, k) => [k, name])], first.length ? "" : 0, changed) : null;
  const axisName = (axis, space = about.space) => (space === "latents" ? `Latent ${axis + 1}` : `Direction ${axis + 1}`);
  const failed = (holder, answer) => { if (!answer.message) { holder.replaceChildren(); return false; } holder.replaceChildren(studio.problem(answer)); return true; };
  // Two pictures of one size as one, with a line to pull across.
  const compare = (left, right, names) => {
    const top = h("img", { src: left, alt: names[0], class: "vae-over" });
    const line = h("i", {});
    const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `${names[0]} to ${names[1]}`, oninput: () => set() });
    const set = () => { top.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`; line.style.left = `${range.value}%`; };
    set();
    return h("div", { class: "vae-compare" }, h("img", { src: right, alt: names[1] }), top, line, range, h("span", { class: "tag left" }, names[0]), h("span", { class: "tag right" }, names[1]));
  };
  return { cut, thumb, image, chooser, slider, segs, select, labels, axisName, failed, compare, nameOf };
};
