// Thumbnails of many results, and the list of past jobs.
studio.kinds.shelf = ({ root, trigger }) => {
  const { h } = studio;
  root.className = "face";
  const update = (value) => {
    const tiles = (value.tiles || []).map((one) => h("button", { type: "button", class: "tile", title: one.label, "aria-label": one.label, onclick: () => trigger("open", { artifact: one.artifact }) },
      h("img", { src: studio.thumb(one.id), alt: "", loading: "lazy" }), one.tag ? h("span", { class: "tag" }, one.tag) : null));
    studio.fill(root, tiles.length ? h("div", { class: "shelf" }, tiles) : h("div", { class: "stage-view" }, h("div", { class: "empty" }, h("h2", {}, value.title || ""), h("p", {}, value.text || ""))));
  };
  return { update };
};
