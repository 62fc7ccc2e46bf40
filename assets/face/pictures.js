// Data sets by source, and how any source is called.
studio.DATA = { stickers: "Stickers, all", "stickers:animals": "Stickers: animals", "stickers:nature": "Stickers: nature", "stickers:food": "Stickers: food",
  "stickers:transport": "Stickers: transport", "stickers:things": "Stickers: things", "stickers:smileys": "Stickers: smileys",
  "stickers:favourites": "Stickers: sixty favourites", digits: "Handwritten digits", library: "My library" };
studio.dataTitle = (source) => studio.DATA[source] || (source.startsWith("upload:") ? "Own pictures" : source);

// Which pictures to learn from. The value is {"source"}.
studio.kinds.pictures = ({ root, props }) => {
  const { h } = studio;
  const GROUPS = Object.entries(studio.DATA);
  const PICTURES = /\.(png|jpe?g|webp|gif|bmp)$/i, MOST = 2 * 2 ** 30, MOST_FILES = 20000;
  const ADD = { zip: "A zip of my pictures …", ...(props.folders ? { folder: "A folder of my pictures …" } : {}) };
  let value = { source: "stickers" }, own = null, busy = "", problem = null, names = [], seed = 0, shown = false;
  const set = (source) => { value = { source }; props.value = value; draw(); };
  const chooser = (more, taken) => {
    const input = h("input", { type: "file", class: "sr", tabindex: -1, "aria-hidden": "true", ...more, onchange: () => { const files = [...input.files]; input.value = ""; if (files.length) taken(files); } });
    return input;
  };
  const inputs = {
    zip: chooser({ accept: ".zip,application/zip" }, ([file]) => take(file, file.name)),
    folder: chooser({ webkitdirectory: true, multiple: true }, (files) => gather(files)),
  };
  const say = (words) => { busy = words; problem = null; draw(); };
  const refuse = (message, hint) => { busy = ""; problem = { message, hint }; draw(); };
  const take = async (body, name) => {
    say("Reading the pictures …");
    const answer = await studio.ask("pictures", { method: "POST", headers: { "Content-Type": "application/zip" }, body });
    busy = "";
    if (answer.message) problem = answer; else { own = { ...answer, name }; return set(answer.source); }
    draw();
  };
  // A folder travels as a zip, so that what is checked of one is checked of the other. Names begin inside the folder.
  const gather = async (files) => {
    const found = files.filter((file) => PICTURES.test(file.name)).map((file) => ({ file, name: file.webkitRelativePath.split("/").slice(1).join("/") || file.name }));
    const bytes = found.reduce((sum, { file }) => sum + file.size, 0), name = files[0].webkitRelativePath.split("/")[0];
    if (!found.length) return refuse("There is no picture in this folder.", "Choose one with PNG, JPEG, WebP, GIF or BMP files.");
    if (bytes > MOST || found.length > MOST_FILES) return refuse(`This folder has ${studio.count(found.length, "picture")} of ${studio.bytes(bytes)} in all; ${studio.number(MOST_FILES)} and ${studio.bytes(MOST)} are the most.`, "Choose a smaller one.");
    let said = 0;
    const count = (done, total) => { if (Date.now() - said > 250) { said = Date.now(); say(`Gathering the pictures, ${studio.number(done)} of ${studio.number(total)} …`); } };
    try { await take(await studio.zip(found, count), name); } catch { refuse("A file of this folder could not be read.", "It may have been moved. Choose the folder again."); }
  };
  const draw = () => {
    root.className = "face";
    const choices = [...GROUPS.filter(([key]) => key !== "library" || props.shared), ...(own ? [[own.source, own.name]] : []), ...Object.entries(ADD)];
    const select = h("select", { id: `${props.name}-select`, "aria-label": "Pictures to learn from", onchange: () => { if (ADD[select.value]) { const from = select.value; select.value = value.source; inputs[from].click(); } else { problem = null; set(select.value); } } },
      choices.map(([key, label]) => h("option", { value: key, selected: key === value.source }, label)));
    const many = () => `${studio.count(own.pictures, "picture")}${own.classes > 1 ? ` in ${own.classes} classes` : ""}`;
    const note = busy ? busy : own && value.source === own.source ? (own.pictures < own.fewest ? `${many()}. A training needs at least ${own.fewest}.` : many()) : "";
    studio.fill(root, h("label", { class: "label", for: `${props.name}-select` }, "Pictures"), h("div", { class: "picked" }, select),
      note ? h("p", { class: "note small" }, note) : null,
      own?.unread && value.source === own.source ? h("details", { class: "learn" }, h("summary", {}, `${studio.number(own.unread)} could not be read`), h("div", { class: "learn-text small" }, own.broken.map((line) => h("div", {}, line)))) : null,
      problem ? studio.problem(problem) : null,
      shown ? h("img", { class: "augmented", alt: "Each row: a picture, then as the training may see it", src: studio.url(`augment?names=${names.join(",")}&data=${encodeURIComponent(value.source)}&seed=${seed}`), onclick: () => { seed += 1; draw(); }, title: "Click for other random changes" }) : null, Object.values(inputs));
  };
  draw();
  // The preview follows the augmentations ticked in the same form.
  const look = () => {
    const group = document.getElementById(props.name.replace(/-data$/, "-augment"));
    const now = group ? [...group.querySelectorAll("input:checked")].map((box) => box.value || box.name).filter(Boolean) : [];
    if (now.join() === names.join()) return;
    names = now; shown = names.length > 0; draw();
  };
  document.addEventListener("change", (event) => { if (event.target.closest?.(`#${props.name.replace(/-data$/, "-augment")}`)) setTimeout(look, 0); });
  return { update: (next) => { if (next.source && next.source !== value.source) { value = { source: next.source }; draw(); } } };
};

