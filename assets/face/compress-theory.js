// What needs no measurement here: sizes of any model, and the usual claims beside our figures.
studio.measuredRatios = (about) => {
  const found = new Map();
  for (const row of about.measured) if (row.ratio && row.precision) found.set(row.precision, [...(found.get(row.precision) || []), row.ratio]);
  return found;
};
studio.gigabytes = (bytes) => bytes < 999.5e3 ? `${(bytes / 1e3).toPrecision(3)} kB` : bytes < 999.5e6 ? `${(bytes / 1e6).toPrecision(3)} MB` : bytes < 999.5e9 ? `${(bytes / 1e9).toPrecision(3)} GB` : `${(bytes / 1e12).toPrecision(3)} TB`;
studio.parameters = (text) => { // "7B", "860 M", "2.6e6"
  const found = /^\s*([\d.,]+(?:e\d+)?)\s*([kmbgt]?)/i.exec(String(text));
  if (!found) return NaN;
  return Number(found[1].replaceAll(",", "")) * { "": 1, k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 }[found[2].toLowerCase()];
};

studio.calculator = (about) => {
  const { h } = studio;
  const PRESETS = ["7B", "14B", "70B", "860M", "2.6M"];
  const body = h("tbody", {}), ratios = studio.measuredRatios(about);
  const input = h("input", { type: "text", class: "cmp-count", value: studio.remember("compress.count") || "7B", "aria-label": "Number of parameters", "data-act": "count", oninput: () => draw() });
  const span = (list, count) => { const low = Math.min(...list) * 4 * count, high = Math.max(...list) * 4 * count; return high / low < 1.02 ? studio.gigabytes(low) : `${studio.gigabytes(low)} to ${studio.gigabytes(high)}`; };
  const draw = () => {
    const count = studio.parameters(input.value);
    const valid = Number.isFinite(count) && count >= 1 && count <= 1e15;
    input.setAttribute("aria-invalid", String(!valid));
    if (!valid) return body.replaceChildren(h("tr", {}, h("td", { colspan: 5, class: "muted" }, "Write a number of parameters, such as 7B, 860M or 2600000.")));
    studio.remember("compress.count", input.value);
    body.replaceChildren(...about.precisions.map((one) => h("tr", {}, h("th", { scope: "row", title: one.sentence }, one.title), h("td", {}, studio.gigabytes((count * one.ideal) / 8)), h("td", {}, studio.gigabytes((count * one.bits) / 8)), h("td", {}, `${(32 / one.bits).toFixed(1)}×`), h("td", {}, ratios.has(one.id) ? span(ratios.get(one.id), count) : "–"))));
  };
  draw();
  return h("div", { class: "cmp-section" },
    h("div", { class: "cmp-head" }, h("h2", {}, "How large is a model?"), input, h("span", { class: "cmp-chips" }, PRESETS.map((text) => h("button", { type: "button", class: "chip num", onclick: () => { input.value = text; draw(); } }, text)))),
    h("div", { class: "cmp-scroll", tabindex: 0, role: "group", "aria-label": "Table" }, h("table", { class: "cmp-table num" }, h("thead", {}, h("tr", {}, ["Precision", "Bits alone", "With scales", "Against fp32", "As measured on the starter models"].map((text) => h("th", { scope: "col" }, text)))), body)),
    h("p", { class: "note" }, "Parameters times bits. Measured files also hold what stays in fp16, and a header, so small models come out larger. Running needs more: activations and the runtime itself."));
};

studio.claims = (about) => {
  const { h } = studio;
  const ratios = studio.measuredRatios(about);
  const share = (value) => studio.gigabytes(value * about.baseline);
  const span = (list, say) => { const low = Math.min(...list), high = Math.max(...list); return !list.length ? "–" : low === high ? say(low) : `${say(low)} to ${say(high)}`; };
  const title = (id) => about.titles[id] || id;
  const ours = (claim) => claim.measured.filter((id) => ratios.has(id)).map((id) => { const all = ratios.get(id).map((ratio) => ratio * 2); return h("div", {}, h("span", { class: "muted" }, `${title(id)}: `), span([Math.min(...all), Math.max(...all)], share)); });
  const lines = about.claims.map((claim) => h("tr", {}, h("th", { scope: "row" }, claim.technique), h("td", {}, claim.said || "–"), h("td", { class: claim.error ? "poor" : "" }, span(claim.gigabytes, (value) => `${value} GB`)), h("td", {}, span(claim.share, share)), h("td", {}, ours(claim).length ? ours(claim) : "not measured"), h("td", { class: "cmp-text" }, claim.error ? h("strong", {}, claim.error) : null, claim.error && claim.note ? " " : null, claim.note)));
  return [h("div", { class: "cmp-section" }, h("div", { class: "cmp-head" }, h("h2", {}, "Memory reduction for a model of 70 billion weights: a table that is often passed on, checked")),
    h("ul", { class: "cmp-errors" }, about.claim_errors.map((text) => h("li", {}, text))),
    h("div", { class: "cmp-scroll", tabindex: 0, role: "group", "aria-label": "Table" }, h("table", { class: "cmp-table cmp-claims num" }, h("thead", {}, h("tr", {}, ["Technique", "Claimed", "Claimed size", "Arithmetic", "Our files, scaled to 70 B", "What is wrong, or to know"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, lines)))),
    quality(about, title)];
  function quality(known, name) {
    const models = [...new Set(known.measured.map((row) => row.model))];
    if (!models.length) return null;
    const order = [...new Set(known.measured.map((row) => row.precision))];
    const leading = { "text-to-image": ["ssim", "SSIM to fp32"], autoencoder: ["coder_psnr", "PSNR, dB"], segmenter: ["mask_iou", "mask IoU to fp32"], detector: ["map50", "mAP50"] };
    const cell = (precision, model) => { const row = known.measured.find((one) => one.model === model && one.precision === precision); const value = row?.[leading[model]?.[0]]; return row ? [h("td", {}, `${(100 * row.ratio).toFixed(1)} %`), h("td", {}, studio.figure(value))] : [h("td", {}, "–"), h("td", {}, "–")]; };
    return h("div", { class: "cmp-section" }, h("div", { class: "cmp-head" }, h("h2", {}, "What it costs the starter models")),
      h("div", { class: "cmp-scroll", tabindex: 0, role: "group", "aria-label": "Table" }, h("table", { class: "cmp-table num" }, h("thead", {}, h("tr", {}, h("th", {}, h("span", { class: "sr" }, "Precision")), models.flatMap((model) => [h("th", {}, `${model}, of fp32`), h("th", {}, leading[model]?.[1] || "")]))), h("tbody", {}, order.map((id) => h("tr", {}, h("th", { scope: "row" }, name(id)), models.flatMap((model) => cell(id, model))))))),
      h("p", { class: "note" }, "Files as stored, header and scales included. They are the same on every machine."));
  }
};
