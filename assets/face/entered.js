// What was entered outlives a reload of this window. Fields are known by their block and their place in it.
(() => {
  const KEY = "entered", PATIENCE = 8000; // ms until all tabs are drawn
  const forms = () => [...document.querySelectorAll(".bench > .controls")];
  const fields = (form) => [...form.querySelectorAll(".block[id]")].filter((block) => !block.querySelector(".face, .block"))
    .flatMap((block) => [...block.querySelectorAll("textarea, input")].map((field, index) => [`${block.id} ${index}`, field]));
  const isList = (field) => field.getAttribute("role") === "combobox";
  const isTicked = (field) => field.type === "checkbox" || field.type === "radio";
  const read = (field) => (isTicked(field) ? field.checked : field.value);
  const write = (field, value) => {
    if (isTicked(field)) return field.checked !== value && (value || field.type === "checkbox") && field.click();
    const kind = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, value);
    for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
  };

  addEventListener("pagehide", () => {
    const rows = forms().flatMap((form) => fields(form).map(([key, field]) => [key, read(field)]));
    if (rows.length) studio.recall(KEY, JSON.stringify(Object.fromEntries(rows)));
  });

  // Numbers belong to the model they were set for: where another one is chosen now, only words come back.
  const fitting = (form, before) => {
    const all = fields(form);
    const same = all.every(([key, field]) => !isList(field) || !(key in before) || before[key] === field.value);
    return all.filter(([key, field]) => key in before && !isList(field) && (same || field.tagName === "TEXTAREA"));
  };
  const restore = (before, until) => {
    const back = forms().flatMap((form) => fitting(form, before));
    for (const [key, field] of back) {
      if (read(field) !== before[key]) write(field, before[key]);
      delete before[key];
    }
    if (Date.now() < until && Object.keys(before).length) setTimeout(() => restore(before, until), 150);
  };
  addEventListener("DOMContentLoaded", () => {
    let before = null;
    try { before = JSON.parse(studio.recall(KEY) || "null"); } catch { /* nothing that can be read */ }
    if (before) restore(before, Date.now() + PATIENCE);
  });
})();
