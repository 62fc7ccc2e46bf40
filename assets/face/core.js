// The shared ground of the page's own pieces. Each piece registers under studio.kinds; Gradio mounts it by name.
(() => {
  const studio = (window.studio = { kinds: {}, named: {}, targets: [] });

  // Elements by hand: text is always text, never markup.
  studio.h = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    if (attributes.type === "range") studio.filled(element);
    return element;
  };

  // A slider's track is filled up to its thumb, as Gradio's are; call it where a script moves one.
  studio.filled = (range) => range.style.setProperty("--range_progress", `${(100 * (range.value - range.min)) / Math.max(1e-9, range.max - range.min)}%`);
  document.addEventListener("input", (event) => { if (event.target.type === "range") studio.filled(event.target); }, true);

  // Like replaceChildren, but leaves out what is not there.
  studio.fill = (parent, ...children) => parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));

  const PATHS = {
    send: "M3 8h9M8.5 4.5 12 8l-3.5 3.5",
    down: "M8 2.5v8M4.5 7 8 10.5 11.5 7M3 13.5h10",
    again: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
    vary: "M3 4h2.5l5 8H13M3 12h2.5l1.4-2.2M9.2 6 10.5 4H13",
    close: "M4 4l8 8M12 4l-8 8",
    tick: "M3 8.500l3.500 3.500L13 4.500",
    brush: "M9.5 6.5 13 3M4 13c-1 0-1.5 0-2 .5 1-3 1.5-4.5 3.5-4.5S8 10 8 11s-1.500 2-4 2z",
    picture: "M2.500 3.500h11v9h-11zM2.500 11l3-3 2.500 2.500 2-2 3.500 3",
    trash: "M3 4.500h10M6 4.500v-2h4v2M4.500 4.500l.5 9h6l.5-9",
    back: "M13 8H4M7.500 4.500 4 8l3.500 3.500",
    sun: "M8 5.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5zM8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.400 1.400M11.600 11.600 13 13M13 3l-1.400 1.400M4.400 11.600 3 13",
    moon: "M13 9.500A5.500 5.500 0 0 1 6.500 3a5.500 5.500 0 1 0 6.500 6.500z",
  };
  studio.icon = (name) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(svg.namespaceURI, "path");
    for (const [key, value] of Object.entries({ d: PATHS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round" })) path.setAttribute(key, value);
    svg.append(path);
    return svg;
  };

  // Style of a picture's figure: small ones are enlarged so that they can be seen, more where there is more room.
  studio.measure = ({ width, height }) => {
    const room = Math.max(560, innerHeight - 420);
    return `--w:${Math.round(width * Math.min(room / 140, Math.max(1, room / Math.max(width, height))))}px;--fit:${width / height}`;
  };

  studio.url = (path) => new URL(`face/${path}`, document.baseURI).href;
  studio.picture = (id) => studio.url(`asset/${id}.png`);
  studio.thumb = (id) => studio.url(`asset/${id}.webp`);

  // Answers {message, hint} instead of throwing where the studio said no or did not answer.
  studio.ask = async (path, options = {}) => {
    try {
      const answer = await fetch(studio.url(path), { cache: "no-store", ...options });
      const data = await answer.json();
      return answer.ok ? data : { message: data.message || "That did not work.", hint: data.hint || "", status: answer.status };
    } catch {
      return { message: "The studio does not answer.", hint: "If it was closed, start it again; this page will find it.", status: 0 };
    }
  };
  studio.upload = (file, kind) => studio.ask(`upload?kind=${kind}&name=${encodeURIComponent(file.name || "")}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });

  // memory(key) reads, memory(key, text) writes, memory(key, null) forgets.
  let isOver = false; // once all is forgotten, nothing is remembered any more
  const memory = (store) => (key, value) => {
    if (isOver) return null;
    try {
      if (value === null) window[store].removeItem(`studio.${key}`);
      else if (value === undefined) return window[store].getItem(`studio.${key}`);
      else window[store].setItem(`studio.${key}`, value);
    } catch { /* private windows may refuse; then nothing is remembered */ }
    return null;
  };
  studio.remember = memory("localStorage"); // in this browser
  studio.recall = memory("sessionStorage"); // in this window
  const stores = () => [localStorage, sessionStorage];
  const ours = (store) => Object.keys(store).filter((key) => key.startsWith("studio"));
  studio.remembers = () => stores().some((store) => ours(store).length > 0);
  studio.forget = () => {
    isOver = true;
    for (const store of stores()) for (const key of ours(store)) store.removeItem(key);
  };

  // What is on its way to the studio and belongs to the next run: promises of an answer, {message, hint} where it failed.
  const arriving = new Set();
  studio.arrive = (answer) => {
    arriving.add(answer);
    answer.finally(() => arriving.delete(answer));
    return answer;
  };
  studio.arrived = async () => (await Promise.all(arriving)).find((answer) => answer?.message);

  // Whether a key belongs to the words being written there.
  const WORDLESS = ["range", "checkbox", "radio", "button", "submit", "file", "color"];
  studio.isTyping = ({ tagName, type, isContentEditable }) =>
    tagName === "TEXTAREA" || Boolean(isContentEditable) || (tagName === "INPUT" && !WORDLESS.includes(type));
  // "undo", "redo" or nothing, as the key is known everywhere.
  studio.undoKey = (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || studio.isTyping(event.target)) return "";
    return key === "z" ? (event.shiftKey ? "redo" : "undo") : key === "y" ? "redo" : "";
  };

  // Draws anew. Where the focus was inside, it stays inside: on the button of the same words, else on the first.
  const FOCUSABLE = ".figure.aim, button:not(:disabled), a[href], select, input:not([type=file])";
  studio.refocus = (root, draw) => {
    const before = document.activeElement, inside = before !== root && root.contains(before);
    draw();
    if (!inside || root.contains(document.activeElement)) return;
    const offered = [...root.querySelectorAll(FOCUSABLE)];
    const same = offered.find((one) => one.textContent === before.textContent && one.tagName === before.tagName);
    (same || offered[0])?.focus({ preventScroll: true });
  };

  // Gradio calls this once per piece. `own` is what the piece was made with, `gradio.value` what Python sends.
  studio.mount = (kind, own, element, gradio, send, watch) => {
    const root = element.firstElementChild;
    root.classList.add("face");
    const props = { ...own, get value() { return gradio.value; }, set value(next) { gradio.value = next; } };
    const widget = studio.kinds[kind]({ root, props, trigger: send });
    studio.named[props.name] = widget;
    watch("value", () => widget.update(props.value || {}));
    widget.update(props.value || {});
  };

  studio.seconds = (value) => value < 9.95 ? `${value.toFixed(1)} s` : value < 90 ? `${Math.round(value)} s` : value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
  studio.bytes = (value) => value < 1e9 ? `${Math.round(value / 2 ** 20)} MB` : `${(value / 2 ** 30).toFixed(1)} GB`;

  // Numbers, plurals and moments are written by these three, as studio/ops/words.py writes them.
  studio.number = (value) => Number(value).toLocaleString("en");
  studio.count = (value, noun, plural = `${noun}s`) => `${studio.number(value)} ${value === 1 ? noun : plural}`;
  studio.when = (seconds) => {
    const then = new Date(seconds * 1000), pad = (value) => String(value).padStart(2, "0");
    const year = then.getFullYear() === new Date().getFullYear() ? "" : ` ${then.getFullYear()}`;
    return `${then.getDate()} ${then.toLocaleString("en", { month: "short" })}${year} ${pad(then.getHours())}:${pad(then.getMinutes())}`;
  };

  studio.problem = (what) => studio.h("div", { class: "problem", role: "alert" }, what.message, " ", what.hint ? studio.h("span", { class: "hint" }, what.hint) : null,
    what.jobs?.length ? studio.h("div", { class: "problem-acts" }, what.jobs.map((job) => studio.h("button", { type: "button", onclick: async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      const answer = await studio.ask(`job/${job.id}/cancel`, { method: "POST" });
      button.textContent = answer.message && answer.status !== 404 ? answer.message : `Cancelled ${job.label}`;
    } }, `Cancel ${job.label}`))) : null);

  // A small menu that closes on choice, Escape and a click elsewhere.
  studio.menu = (label, icon, items) => {
    const { h } = studio;
    const box = h("div", { class: "menu" });
    const close = () => { list.hidden = true; opener.setAttribute("aria-expanded", "false"); };
    const opener = h("button", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false", onclick: (event) => {
      event.stopPropagation();
      list.hidden = !list.hidden;
      opener.setAttribute("aria-expanded", String(!list.hidden));
      if (!list.hidden) { document.addEventListener("click", close, { once: true }); list.querySelector("button").focus(); }
    } }, studio.icon(icon), label);
    const list = h("ul", { role: "menu", hidden: true, onkeydown: (event) => {
      const buttons = [...list.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      if (event.key === "Escape") { event.stopPropagation(); close(); opener.focus(); }
      if (event.key === "ArrowDown") { event.preventDefault(); buttons[(at + 1) % buttons.length].focus(); }
      if (event.key === "ArrowUp") { event.preventDefault(); buttons[(at + buttons.length - 1) % buttons.length].focus(); }
    } }, items.map((item) => h("li", { role: "none" }, h("button", { type: "button", role: "menuitem", onclick: () => { close(); item.act(); } }, item.label))));
    box.append(opener, list);
    return box;
  };

  // Gradio opens a list anew on any key, also on the Tab that leaves it.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && event.target.getAttribute?.("role") === "combobox") event.stopPropagation();
  }, true);

  // Shows the tab of that title.
  studio.go = (title) => [...document.querySelectorAll('.desk button[role="tab"]')].find((one) => one.textContent.trim() === title)?.click();

  // A file that misses its place must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

  studio.visible = (element) => element.isConnected && element.getClientRects().length > 0;
})();
