// What a prompt asks for in vain, said under it while it is written, with prompts that the model knows; and all it knows.
// The value is {"card", "text", "things": [{"label", "prompt"}]}; without things there is nothing to say.
studio.kinds.hints = ({ root, props }) => {
  const { h } = studio;
  const PAUSE = 250; // ms without a key before the words are looked up
  let value = {}, advice = null, asked = "", timer = null;
  root.className = "face hints";
  const field = () => document.querySelector(`#${props.field} textarea`);
  const write = (text) => {
    const area = field();
    if (!area) return;
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    area.focus();
  };
  const look = async () => {
    const text = field()?.value || "", key = `${value.card} ${text}`;
    if (key === asked) return;
    asked = key;
    const answer = value.things?.length && text.trim() ? await studio.ask(`advice/${value.card}?prompt=${encodeURIComponent(text)}`) : {};
    if (key !== asked) return; // another word was written meanwhile
    advice = answer.sentence ? answer : null;
    draw();
  };
  const list = () => {
    const box = h("dialog", { class: "face things", "aria-label": label(), onclick: (event) => { if (event.target === box) box.close(); }, onclose: () => box.remove() },
      h("div", { class: "things-head" }, h("h2", {}, label()), h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => box.close() }, studio.icon("close"))),
      h("p", { class: "muted small" }, "Choose one to write it into the prompt."),
      h("div", { class: "things-all" }, value.things.map((one) => h("button", { type: "button", class: "chip", onclick: () => { box.close(); write(one.prompt); } }, one.label))));
    root.append(box);
    box.showModal();
  };
  const label = () => `All ${studio.count(value.things.length, "thing")}`;
  const draw = () => {
    studio.fill(root, advice ? h("div", { class: "hint-line", role: "status" }, h("span", {}, advice.sentence),
      advice.suggestions.map((one) => h("button", { type: "button", class: "chip", title: "Write this into the prompt", onclick: () => write(one.prompt) }, one.prompt))) : null,
      value.things?.length ? h("button", { type: "button", class: "quiet small", onclick: list }, label()) : null);
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(look, PAUSE); };
  document.addEventListener("input", (event) => { if (event.target === field()) later(); }, true);
  document.addEventListener("change", (event) => { if (event.target === field()) later(); }, true);
  setInterval(() => { if (studio.visible(root)) look(); }, 1000); // an example or a picture's settings wrote the prompt
  const update = (next) => {
    value = next;
    asked = ""; advice = null;
    studio.named[props.stage]?.teach({ text: value.text, more: value.things?.length ? { label: label(), act: list } : null });
    draw(); look();
  };
  return { update };
};
