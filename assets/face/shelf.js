// The library: thumbnails of many results, where a picture comes from, and the list of jobs.
// A button where there is a result to open; what came from outside is only a picture.
studio.tile = (one, open) => {
  const { h } = studio;
  const label = one.tag ? `${one.label}, ${one.tag}` : one.label;
  const image = (alt) => (one.id ? h("img", { src: studio.thumb(one.id), alt, loading: "lazy" }) : null);
  if (!one.artifact) return h("div", { class: "tile", title: label }, image(label));
  const tag = one.tag ? h("span", { class: "tag" }, one.tag) : null;
  return h("button", { type: "button", class: "tile", title: label, "aria-label": label, onclick: () => open(one.artifact) },
    image(""), tag);
};

// family: rows of {"label", "tiles"}, oldest first.
studio.family = (rows, open) => studio.h("div", { class: "kin" }, rows.map((row) => studio.h("div", {}, studio.h("div", { class: "label" }, row.label), studio.h("div", { class: "family" }, row.tiles.map((one) => studio.tile(one, open))))));

studio.kinds.shelf = ({ root, trigger }) => {
  const { h } = studio;
  root.className = "face";
  const pager = (value) => value.page || value.more ? h("div", { class: "stage-line pager" },
    h("button", { type: "button", disabled: !value.page, onclick: () => trigger("turn", { page: value.page - 1 }) }, "Newer"),
    h("button", { type: "button", disabled: !value.more, onclick: () => trigger("turn", { page: value.page + 1 }) }, "Older"),
    h("span", { class: "small num" }, `Page ${value.page + 1}`)) : null;
  const notice = (value) => value.notice ? h("div", { class: "stage-line notice", role: "status" }, value.notice, value.undo ? h("button", { type: "button", class: "quiet", onclick: () => trigger("undo", { artifact: value.undo }) }, "Undo") : null) : null;
  const empty = (value) => h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("h2", {}, value.title || ""), h("p", {}, value.text || "")));
  const update = (value) => {
    if (value.jobs) return studio.fill(root, value.jobs.length ? h("div", { class: "jobs" }, value.jobs.map(job)) : empty(value));
    const tiles = value.tiles || [];
    studio.fill(root, notice(value), tiles.length ? h("div", { class: "shelf" }, tiles.map((one) => studio.tile(one, (artifact) => trigger("open", { artifact })))) : empty(value), pager(value));
  };
  const job = (one) => h("div", { class: "job" },
    h("span", { class: "state" }, one.state),
    h("div", { class: "what" }, h("div", {}, one.title), h("div", { class: "muted small" }, one.text)),
    h("span", { class: "muted small num" }, one.when),
    (one.actions || []).map((action) => h("button", { type: "button", class: "quiet", onclick: () => trigger("job", { name: action.name, job: one.id }) }, action.label)));
  // While something runs and the list is seen, it is kept fresh.
  setInterval(() => { if (!document.hidden && studio.visible(root) && root.querySelector(".job .state")?.textContent.match(/running|waiting/)) trigger("turn", { page: 0 }); }, 2500);
  return { update };
};
