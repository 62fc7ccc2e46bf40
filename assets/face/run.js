// Run and Cancel in one place. Follows a job by its id, which survives a reload; Python only submits and shows.
studio.kinds.run = ({ root, props, trigger }) => {
  const { h } = studio;
  const key = `job.${props.name}`;
  let job = null, problem = null, timer = null, looks = 0, verb = props.verb, unwanted = false;
  const stage = () => studio.named[props.stage];

  const run = () => begin(() => trigger("run", {}));
  // The page answers at once; `then` is told to Python as soon as what was painted or chosen has arrived there.
  const begin = (then) => {
    if (job) return;
    problem = null;
    unwanted = false;
    job = "asked";
    draw();
    stage()?.progress({ state: "queued", phase: "starting", total: 0, step: 0, seconds: 0 });
    timer = setTimeout(() => { if (job === "asked") refuse({ message: "The studio does not answer.", hint: "Try again in a moment." }); }, 30000);
    studio.arrived().then((failure) => (failure ? refuse(failure) : then()));
  };
  const refuse = (what) => { clearTimeout(timer); job = null; problem = what; studio.remember(key, null); stage()?.progress(null); draw(); };
  const cancel = async () => {
    if (!job) return;
    root.querySelector("button")?.setAttribute("aria-disabled", "true"); // and keeps the focus
    stage()?.say("cancelling");
    if (job === "asked") { unwanted = true; return; }
    await studio.ask(`job/${job}/cancel`, { method: "POST" });
  };

  const follow = (id) => { clearTimeout(timer); const quiet = job === null; job = id; looks = 0; problem = null; studio.remember(key, id); quiet ? setTimeout(draw, 300) : draw();
    unwanted ? cancel().then(look) : look(); };
  const look = async () => {
    const id = job;
    const shot = await studio.ask(`job/${id}`);
    if (job !== id) return;
    if (shot.status === 404) return refuse({ message: shot.message, hint: shot.hint });
    if (shot.status !== undefined) stage()?.say(shot.message);
    else if (["done", "failed", "cancelled", "interrupted"].includes(shot.state)) return finish(shot);
    else stage()?.progress(shot);
    looks += 1; // quick jobs are asked after quickly
    timer = setTimeout(look, document.hidden ? 2000 : Math.min(40 * 1.5 ** looks, shot.state === "running" ? 250 : 600));
  };
  const finish = (shot) => {
    job = null;
    if (shot.state !== "done") studio.remember(key, null);
    problem = shot.state === "failed" || shot.state === "interrupted" ? { message: shot.message, hint: shot.hint } : null;
    stage()?.progress(null, shot.state === "cancelled" ? "Cancelled. Nothing was saved." : "");
    draw();
    trigger("finished", { job: shot.id, state: shot.state });
  };

  const draw = () => studio.refocus(root, () => {
    const busy = job !== null;
    root.className = "face run-in";
    root.replaceChildren(
      busy
        ? h("button", { type: "button", class: "cancel", onclick: cancel }, "Cancel", h("span", { class: "keys" }, "Esc"))
        : h("button", { type: "button", class: "primary", onclick: (event) => { if (event.detail < 2) run(); } }, verb, h("span", { class: "keys" }, "Ctrl ⏎")),
      ...(problem ? [studio.problem(problem)] : []),
    );
  });

  document.addEventListener("keydown", (event) => {
    if (!studio.visible(root)) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!event.repeat) run(); }
    if (event.key === "Escape" && job && !stage()?.isPainting()) cancel();
  }, true);

  const update = (value) => {
    if (value.job) { if (value.job !== job) follow(value.job); }
    else if (value.message) refuse(value);
    else if (job === "asked") refuse({ message: "Nothing was started.", hint: "" });
  };
  draw();
  const before = studio.remember(key);
  if (before && /^[0-9a-f]{32}$/.test(before)) setTimeout(() => { if (!job) follow(before); }, 0);
  return { update, run, cancel, begin, rename: (text) => { if (text !== verb) { verb = text; draw(); } }, serves: props.stage };
};
