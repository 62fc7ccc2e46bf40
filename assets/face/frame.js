// The frame's own pieces: the name, light and dark, the hand-off, the status line.
studio.kinds.brand = ({ root, props }) => {
  root.className = "face brand-in";
  root.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><rect x="2.500" y="2.500" width="19" height="19" rx="5" fill="none" stroke="currentColor" stroke-width="2"/><circle cx="9" cy="9.500" r="2.200" fill="currentColor"/><path d="M4.500 18.500l5-5 3.500 3 3-3.500 4 4.500" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"/></svg>';
  root.append(studio.h("h1", {}, props.title));
  root.prepend(studio.h("a", { class: "skip", href: "#", onclick: skip }, "Skip to content"));
  setTimeout(tabKeys, 0);
  return { update() {} };
};

const skip = (event) => {
  event.preventDefault();
  const panel = [...document.querySelectorAll("[role=tabpanel]")].find(studio.visible);
  panel?.setAttribute("tabindex", "-1");
  panel?.focus();
};

// Tabs as everywhere: one stop of the Tab key, arrows go along them.
const STEPS = {
  ArrowRight: (at, count) => (at + 1) % count,
  ArrowLeft: (at, count) => (at + count - 1) % count,
  Home: () => 0,
  End: (at, count) => count - 1,
};
const tabKeys = () => {
  const strip = document.querySelector(".tabs.desk [role=tablist]");
  if (!strip) return setTimeout(tabKeys, 50);
  const tabs = () => [...strip.querySelectorAll("[role=tab]")];
  const settle = () => {
    for (const tab of tabs()) {
      const chosen = tab.getAttribute("aria-selected") === "true";
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen && strip.scrollWidth > strip.clientWidth) tab.scrollIntoView({ inline: "center", block: "nearest" });
    }
  };
  strip.addEventListener("keydown", (event) => {
    const all = tabs(), at = all.indexOf(event.target);
    if (at < 0 || !STEPS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = all[STEPS[event.key](at, all.length)];
    next.focus();
    next.click();
  });
  new MutationObserver(settle).observe(strip, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
  settle();
};

// Follows the system until the user chooses; Gradio only knows the class on <body>.
studio.scheme = () => {
  const choice = studio.remember("scheme");
  const dark = choice ? choice === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.classList.toggle("dark", dark);
  document.body?.classList.toggle("dark", dark);
  return dark;
};
studio.scheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", studio.scheme);
addEventListener("DOMContentLoaded", () => {
  studio.scheme();
  new MutationObserver(() => { if (document.body.classList.contains("dark") !== document.documentElement.classList.contains("dark")) studio.scheme(); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
});

studio.kinds.corner = ({ root }) => {
  const draw = () => {
    const dark = studio.scheme();
    const label = dark ? "Use light colours" : "Use dark colours";
    root.className = "face corner-in";
    root.replaceChildren(studio.h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: () => { studio.remember("scheme", dark ? "light" : "dark"); draw(); } }, studio.icon(dark ? "sun" : "moon")));
  };
  draw();
  return { update() {} };
};

// One hand-off for the whole app: an asset's id and the key of the place that takes it.
studio.kinds.post = ({ props, trigger }) => {
  studio.send = (parcel) => trigger("send", parcel);
  const given = (value) => {
    studio.targets = value.targets;
    for (const widget of Object.values(studio.named)) widget.redraw?.();
    if (props.idle) watchIdle(props.idle);
  };
  return { update: (value) => {
    if (value.targets) given(value);
    if (value.arrived) land(value.arrived);
  } };
};
// The focus goes along to the slot that took what was sent, once its tab is shown.
const land = (name, frames = 180) => {
  const place = document.querySelector(`#${CSS.escape(name)} .face`);
  if (!place || !studio.visible(place)) return frames && requestAnimationFrame(() => land(name, frames - 1));
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
};
// A kiosk forgets: after some quiet time the visit ends, and with it what the visitor made and this browser remembers.
const watchIdle = (seconds) => {
  let last = Date.now();
  for (const name of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(name, () => { last = Date.now(); }, { passive: true });
  }
  setInterval(async () => {
    if (Date.now() - last < seconds * 1000 || !studio.remembers()) return;
    last = Date.now(); // asked again after another such time, where the studio does not answer
    await studio.ask("leave", { method: "POST" });
    studio.forget();
    location.reload();
  }, 5000);
};
studio.kinds.status = ({ root }) => {
  const { h } = studio;
  let unloading = false;
  root.className = "face status-in";
  const look = async () => {
    if (document.hidden) return;
    const now = await studio.ask("status");
    if (now.status !== undefined) return root.replaceChildren(h("span", {}, `${now.message} ${now.hint}`));
    const share = Math.min(100, (100 * now.memory) / Math.max(1, now.budget));
    const jobs = now.running || now.waiting ? `${now.running} running${now.waiting ? `, ${now.waiting} waiting` : ""}` : "idle";
    studio.fill(root,
      h("span", { class: "device", title: now.about }, now.device),
      h("span", { class: "num", title: Object.entries(now.loaded).map(([id, size]) => `${id}: ${studio.bytes(size)}`).join("\n") || "No model is loaded" },
        h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: `width:${share}%` })), `${studio.bytes(now.memory)} of ${studio.bytes(now.budget)}`),
      h("span", { class: "num" }, jobs),
      h("span", { class: "spring" }),
      now.memory && now.can_unload ? h("button", { type: "button", class: "quiet unload", disabled: unloading, title: "End the idle models and give their memory back", onclick: async () => { unloading = true; await studio.ask("unload", { method: "POST" }); unloading = false; look(); } }, "Unload models") : null,
      now.offline ? h("span", { class: "badge", title: "No connection to any other machine is opened" }, "Offline") : null,
    );
  };
  look();
  setInterval(look, 2500);
  document.addEventListener("visibilitychange", look);
  return { update() {} };
};

// A section that is closed until asked for; what is inside exists all along.
studio.kinds.fold = ({ root, props }) => {
  const inside = () => root.closest(".block").nextElementSibling;
  const set = (open) => { inside()?.toggleAttribute("data-open", open); button.setAttribute("aria-expanded", String(open)); };
  const button = studio.h("button", { type: "button", "aria-expanded": "false", onclick: () => set(button.getAttribute("aria-expanded") !== "true") }, props.label);
  root.className = "face fold-in";
  root.append(button);
  return { update: (value) => { if (value.open) set(true); } };
};
