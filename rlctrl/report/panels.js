// The viewer itself: controls, panels, values under the pointer, and its state in the address, so that a view can be linked. Words there
// that are not names of signals have dashes, which names cannot have.
function viewer(data) {
  const axes = data.axes, stored = data.fields.map(decoded);
  const fields = [
    ...stored, ...minus(stored, "q_star", "q_best", "e_q", "e_Q = Q* − Q̂ at ω*"), ...minus(stored, "q_star", "q_trained", "error", "Q* − Q̂"),
  ];
  const view = (label, keep) => ({ label, fields: keep.flatMap((key) => fields.filter((f) => f.key === key || (key === "policy" && f.kind === key))) });
  const views = [
    view("Q*, trained Q̂ and errors", ["q_star", "q_trained", "error", "e_q"]),
    view("Q*, best fit and e_Q", stored.some((f) => f.key === "q_best") ? ["q_star", "q_best", "e_q"] : []),
    view("V* and policies", ["v_star", "policy"]),
  ].filter((v) => v.fields.length && v.fields[0].axes.length > 1);
  if (views[0].fields.length === 1) views[0].label = "Q*";
  const state = { view: 0, a: 0, b: 1, at: axes.map((axis) => clamp(axis.at, axis.nodes[0], axis.nodes.at(-1))), panels: [], waiting: false };
  const whole = new Map(fields.map((f) => [f.key, extremes([f.values])]));
  const free = () => views[state.view].fields[0].axes;
  const others = () => free().filter((k) => k !== state.a && k !== state.b);

  function choices() {
    element("show").replaceChildren(...views.map((v, k) => make("option", { value: k, textContent: v.label, selected: k === state.view })));
    for (const [id, mine, other] of [["across", "a", "b"], ["up", "b", "a"]]) {
      const options = free().map((k) => make("option", { value: k, textContent: `${axes[k].name} [${axes[k].unit}]`, selected: k === state[mine] }));
      element(id).replaceChildren(...options);
      element(id).onchange = (event) => {
        const chosen = Number(event.target.value);
        if (chosen === state[other]) state[other] = state[mine];
        state[mine] = chosen;
        rebuild();
      };
    }
  }

  function slider(k) {
    const axis = axes[k], n = axis.nodes.length - 1, low = axis.nodes[0], high = axis.nodes[n];
    const output = make("output", { textContent: withUnit(state.at[k], axis.unit) });
    const input = make("input", { type: "range", name: axis.name, ...(axis.discrete ? { min: 0, max: n, step: 1 } : { min: low, max: high, step: "any" }) });
    input.value = axis.discrete ? place(axis, state.at[k])[0] : state.at[k];
    const nudge = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
    const moved = () => {
      state.at[k] = axis.discrete ? axis.nodes[input.value] : Number(input.value);
      output.textContent = withUnit(state.at[k], axis.unit);
      input.setAttribute("aria-valuetext", output.textContent);
      soon();
    };
    input.addEventListener("input", moved);
    input.addEventListener("change", remember);
    input.addEventListener("keydown", (event) => {
      if (axis.discrete || !(event.key in nudge)) return;
      event.preventDefault();
      input.value = Number(input.value) + (nudge[event.key] * (high - low)) / 50;
      moved(), remember();
    });
    return make("label", {}, make("span", {}, `${axis.name}: `, output), input);
  }

  function panel(field) {
    const canvas = make("canvas", { width: WIDTH, height: HEIGHT, tabIndex: 0 }), bar = make("div", { className: "bar" });
    canvas.setAttribute("role", "img");
    const [left, below] = ["left", "below"].map((side) => make("div", { className: `ticks ${side}` }));
    const marks = (axis, box, put) => {
      const low = axis.nodes[0], span = axis.nodes.at(-1) - low;
      for (const [v, label] of ticks(axis)) box.append(Object.assign(make("span", { textContent: label }), { style: put((v - low) / span) }));
    };
    marks(axes[state.a], below, (f) => `left:${100 * f}%`);
    marks(axes[state.b], left, (f) => `top:${100 * (1 - f)}%`);
    const unit = (k) => `${axes[k].name}${axes[k].unit === "1" ? "" : ` [${axes[k].unit}]`}`;
    below.append(make("span", { className: "name", textContent: unit(state.a) }));
    canvas.addEventListener("pointermove", (event) => point(event.offsetX / canvas.clientWidth, 1 - event.offsetY / canvas.clientHeight));
    canvas.addEventListener("pointerdown", (event) => point(event.offsetX / canvas.clientWidth, 1 - event.offsetY / canvas.clientHeight));
    canvas.addEventListener("keydown", steer);
    const title = make("h4", { textContent: field.label + (field.unit ? ` [${field.unit}]` : "") });
    const upward = make("span", { className: "upward", textContent: ` ${unit(state.b)} ↑` });
    const picture = make("div", { className: "picture" }, left, canvas, make("span"), below);
    picture.children[3].classList.add("below");
    return { field, canvas, bar, node: make("div", { className: "panel" }, title, upward, picture, bar) };
  }

  function range(field, cuts, slices) {
    const signed = field.kind === "error" || (field.kind === "policy" && whole.get(field.key)[0] < 0 && whole.get(field.key)[1] > 0);
    const mates = field.kind === "value" ? views[state.view].fields.filter((f) => f.kind === "value") : [field];
    const [low, high] = slices ? extremes(mates.map((f) => cuts.get(f.key).values)) : mates.map((f) => whole.get(f.key)).reduce(
      ([l, h], [low, high]) => [Math.min(l, low), Math.max(h, high)]);
    const resolved = field.kind === "error" ? 1e-6 * Math.max(...whole.get("q_star").map(Math.abs)) : 0; // below it single precision sees nothing
    const most = Math.max(Math.abs(low), Math.abs(high), resolved);
    return { range: signed ? [-most, most] : [low, high], signed };
  }

  function draw() {
    const { a, b, at } = state, cuts = new Map(views[state.view].fields.map((f) => [f.key, slice(axes, f, a, b, at)]));
    const levels = element("levels").checked && !axes[a].discrete && !axes[b].discrete, slices = element("span").value === "slice";
    const f = (k) => (at[k] - axes[k].nodes[0]) / (axes[k].nodes.at(-1) - axes[k].nodes[0]);
    for (const { field, canvas, bar } of state.panels) {
      const { range: scale, signed } = range(field, cuts, slices), cut = cuts.get(field.key), map = signed ? MAPS.signed : MAPS.value;
      paint(canvas, axes, cut, a, b, scale, map);
      if (levels) lines(canvas, cut, nice(...scale, LEVELS), signed ? "rgb(0 0 0 / 45%)" : "rgb(255 255 255 / 65%)");
      cross(canvas, f(a), 1 - f(b));
      const shown = Array.from({ length: 17 }, (_, k) => `rgb(${map[Math.round((k / 16) * (SHADES - 1))].map(Math.round)})`);
      const ends = [scale[0], (scale[0] + scale[1]) / 2, scale[1]].map((v) => make("span", { textContent: text(v) }));
      bar.replaceChildren(make("i", { style: `background:linear-gradient(to right,${shown})` }), make("div", {}, ...ends));
      canvas.setAttribute("aria-label", `${field.label} over ${axes[a].name} and ${axes[b].name}, colours from ${text(scale[0])} to ${text(scale[1])}`);
    }
    const held = others().map((k) => `${axes[k].name} = ${withUnit(at[k], axes[k].unit)}`);
    element("held").textContent = held.length ? `Held: ${held.join(", ")}` : "Nothing is held.";
    const place = [a, b].map((k) => `${axes[k].name} = ${withUnit(at[k], axes[k].unit)}`).join(", ");
    const values = state.panels.map(({ field }) => `${field.label}: ${withUnit(between(axes, cuts.get(field.key), a, b, at[a], at[b]), field.unit)}`);
    element("readout").textContent = `At ${place}:  ${values.join("  ·  ")}`;
  }

  function point(x, y) {
    for (const [k, f] of [[state.a, x], [state.b, y]]) {
      const nodes = axes[k].nodes, v = nodes[0] + clamp(f, 0, 1) * (nodes.at(-1) - nodes[0]);
      state.at[k] = axes[k].discrete ? nodes[place(axes[k], v)[0]] : v;
    }
    soon();
  }

  function soon() { // once a frame, however fast the pointer
    if (!state.waiting) requestAnimationFrame(() => ((state.waiting = false), draw()));
    state.waiting = true;
  }

  function steer(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const f = (k, step) => (state.at[k] - axes[k].nodes[0]) / (axes[k].nodes.at(-1) - axes[k].nodes[0]) + step / (axes[k].discrete ? axes[k].nodes.length - 1 : 50);
    point(f(state.a, move[0]), f(state.b, move[1]));
  }

  function rebuild(keep = true) {
    if (!free().includes(state.a)) state.a = free().find((k) => k !== state.b);
    if (!free().includes(state.b)) state.b = free().find((k) => k !== state.a);
    choices();
    element("sliders").replaceChildren(...others().map(slider));
    state.panels = views[state.view].fields.map(panel);
    element("panels").replaceChildren(...state.panels.map((p) => p.node));
    draw();
    if (keep) remember();
  }

  function remember() {
    const words = new URLSearchParams({ "view-number": state.view, "x-axis": axes[state.a].name, "y-axis": axes[state.b].name });
    for (const k of free()) words.set(axes[k].name, Number(state.at[k].toPrecision(6)));
    history.replaceState(null, "", `#slices?${words}`);
  }

  function recall() {
    if (!location.hash.startsWith("#slices?")) return;
    const words = new URLSearchParams(location.hash.slice(8)), named = (name) => axes.findIndex((axis) => axis.name === name);
    const [a, b] = ["x-axis", "y-axis"].map((word) => named(words.get(word)));
    if (words.get("view-number") in views) state.view = Number(words.get("view-number"));
    if (a >= 0 && b >= 0 && a !== b) [state.a, state.b] = [a, b];
    axes.forEach((axis, k) => {
      const v = Number(words.get(axis.name) ?? NaN);
      if (Number.isFinite(v)) state.at[k] = clamp(v, axis.nodes[0], axis.nodes.at(-1));
    });
    element("slices").scrollIntoView();
  }

  element("show").addEventListener("change", (event) => ((state.view = Number(event.target.value)), rebuild()));
  for (const id of ["span", "levels"]) element(id).addEventListener("change", draw);
  window.addEventListener("hashchange", () => (recall(), rebuild(false)));
  recall();
  rebuild(false);
  element("viewer").hidden = false;
}

const sliceData = JSON.parse(element("slice-data").textContent);
if (sliceData.fields) viewer(sliceData);
