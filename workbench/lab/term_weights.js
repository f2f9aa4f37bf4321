// The weights of a loss's terms and each one's share of the gradient. The norms were measured in
// Python; everything else is computed here. Joined behind elements.js and explorer_charts.js.

const SEND_DELAY = 80, SAY_DELAY = 600; // ms
const NAMED_FROM = 7.5; // px a letter; a narrower segment goes without its name
let views = 0;

/** The weight of every term: hard and soft share one, split by alpha. */
export function weightsOf(variant, { alpha, weights }) {
  return { hard: variant.combined * alpha, soft: variant.combined * (1 - alpha), ...weights };
}

/** Each term's share of the sum of the weighted norms. */
export function sharesOf(norms, weights) {
  const names = Object.keys(norms);
  const total = names.reduce((sum, name) => sum + weights[name] * norms[name], 0);
  return Object.fromEntries(names.map((name) =>
    [name, total > 0 ? weights[name] * norms[name] / total : 0]));
}

/** A number with three digits, as the formula in Python has it. */
function short(value) {
  return String(Number(value.toPrecision(3)));
}

/** A bar of one segment a term. */
class Bar {
  constructor(terms, className) {
    this.parts = Object.fromEntries(terms.map((term) =>
      [term, node("div", { class: `wbt-part wbt-${term}` })]));
    this.element = node("div", { class: `wbt-bar ${className}`, role: "img" }, ...Object.values(this.parts));
  }

  show(shares) {
    const said = [], width = this.element.clientWidth || 700;
    for (const [term, part] of Object.entries(this.parts)) {
      const share = shares[term] ?? 0, text = `${term} ${percent(share)}`;
      part.style.width = `${100 * share}%`;
      part.title = text;
      write(part, share * width > NAMED_FROM * text.length + 10 ? text : "");
      said.push(text);
    }
    this.element.setAttribute("aria-label", `share of the gradient: ${said.join(", ")}`);
  }
}

class Panel {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.variants = model.get("_variants");
    this.terms = Object.keys(Object.values(Object.values(this.variants)[0].at)[0].norms);
    this.own = Object.keys(Object.values(this.variants)[0].own.weights);
    this.id = `wbt${++views}`;
    this.timers = {};
    this.build();
    this.pull = () => { this.state = this.model.get("state"); this.show(); };
    model.on("change:state", this.pull);
    // Names come and go with the room for them.
    this.watch = new ResizeObserver(() => this.showBars());
    this.pull();
    this.watch.observe(root);
  }

  close() {
    Object.values(this.timers).forEach(clearTimeout);
    this.watch.disconnect();
    this.model.off("change:state", this.pull);
  }

  later(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  change(changes) {
    this.state = { ...this.state, ...changes };
    this.show();
    this.later("send", SEND_DELAY, () => {
      this.model.set("state", this.state);
      this.model.save_changes();
    });
  }

  // -- elements

  build() {
    const picture = this.model.get("_picture"), parts = this.parts = {};
    if (/^[0-9a-f]+$/.test(picture))
      this.root.append(node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`));
    parts.temperature = node("select", { class: "wbt-box", id: `${this.id}-temperature` });
    for (const T of Object.keys(Object.values(this.variants)[0].at).sort((a, b) => a - b))
      parts.temperature.append(node("option", { value: T }, T));
    parts.temperature.addEventListener("change", () =>
      this.change({ temperature: Number(parts.temperature.value) }));
    parts.reset = node("button", { type: "button", class: "wbt-box wbt-button" }, "Published weights");
    parts.reset.addEventListener("click", () => this.change(this.variants[this.state.variant].own));
    parts.alpha = this.slider("labels’ weight α", 1, 0.01, (value) => this.change({ alpha: value }));
    parts.source = node("p", { class: "wbt-faint" });
    parts.remark = node("p", { class: "wbt-remark" });
    parts.formula = node("p", { class: "wbt-formula" });
    parts.live = node("p", { class: "wbt-unseen", "aria-live": "polite" });
    this.root.append(
      node("div", { class: "wbt-row" }, node("b", {}, this.model.get("_title")),
        node("span", { class: "wbt-field" },
          node("label", { for: parts.temperature.id }, "Temperature T"), parts.temperature), parts.reset),
      this.buildBars(), parts.source, parts.remark, this.buildTable(), parts.formula, parts.live);
    keepKeys(this.root);
  }

  slider(name, most, step, take) {
    const made = node("input", { type: "range", "aria-label": name, min: 0, max: most, step });
    made.addEventListener("input", () => take(Number(made.value)));
    return made;
  }

  buildBars() {
    this.now = new Bar(this.terms, "wbt-now");
    this.others = {};
    const place = node("div", { class: "wbt-bars" },
      node("p", { class: "wbt-title" }, "Each term’s share of the gradient on the student’s parameters, at its start"),
      node("b", {}, "these weights"), this.now.element,
      node("p", { class: "wbt-faint wbt-title" }, "The variants as they come; press one to take its numbers"));
    for (const [name, variant] of Object.entries(this.variants)) {
      const bar = new Bar(this.terms, "wbt-thin");
      const button = node("button", { type: "button", class: "wbt-box wbt-button" }, name);
      button.addEventListener("click", () => this.change(variant.own));
      this.others[name] = { bar, button };
      place.append(button, bar.element);
    }
    return place;
  }

  buildTable() {
    this.rows = {};
    const { parts } = this, body = node("tbody");
    for (const term of this.terms) {
      const cells = ["weight", "norm", "pull", "share"].map(() => node("td"));
      const control = node("td", { class: "wbt-control" });
      const row = this.rows[term] = { cells };
      if (this.own.includes(term)) {
        row.slider = this.slider(`weight of ${term}`, this.model.get("_most"), 0.1, (value) =>
          this.change({ weights: { ...this.state.weights, [term]: value } }));
        control.append(row.slider);
      } else if (term === "hard") {
        // One slider for two rows: what the labels gain the teacher loses.
        control.rowSpan = 2;
        parts.ends = node("span", { class: "wbt-ends", "aria-hidden": "true" },
          node("span", {}, "teacher only"), parts.alphaIs = node("span"), node("span", {}, "labels only"));
        control.append(parts.alpha, parts.ends);
      }
      body.append(node("tr", {},
        node("th", { scope: "row" }, node("span", { class: `wbt-dot wbt-${term}`, "aria-hidden": "true" }), term),
        ...(term === "soft" ? [] : [control]), ...cells));
    }
    const heads = ["term", "", "weight w", "× norm of its gradient g", "= pull w·g", "share"];
    return node("div", { class: "wbt-scroll" }, node("table", {},
      node("thead", {}, node("tr", {}, ...heads.map((text) => node("th", { scope: "col" }, text)))), body));
  }

  // -- showing

  here() {
    const variant = this.variants[this.state.variant], at = variant.at[String(this.state.temperature)];
    const weights = weightsOf(variant, this.state);
    return { variant, at, weights, shares: sharesOf(at.norms, weights) };
  }

  showBars() {
    this.now.show(this.here().shares);
    for (const [name, { bar, button }] of Object.entries(this.others)) {
      const { own, at, combined } = this.variants[name];
      bar.show(sharesOf(at[String(own.temperature)].norms, weightsOf({ combined }, own)));
      button.setAttribute("aria-pressed", String(name === this.state.variant));
    }
  }

  show() {
    const { parts, state } = this, { variant, at, weights, shares } = this.here();
    this.showBars();
    for (const [term, { cells, slider }] of Object.entries(this.rows)) {
      const weight = weights[term], norm = at.norms[term];
      [short(weight), figure(norm), figure(weight * norm), percent(shares[term])]
        .forEach((text, i) => write(cells[i], text));
      if (slider && Number(slider.value) !== weight) slider.value = weight;
      if (slider) slider.setAttribute("aria-valuetext", `${short(weight)}: ${percent(shares[term])} of the gradient`);
    }
    if (Math.abs(Number(parts.alpha.value) - state.alpha) > 0.005) parts.alpha.value = state.alpha;
    parts.alpha.setAttribute("aria-valuetext", `α = ${short(state.alpha)}`);
    write(parts.alphaIs, `α = ${short(state.alpha)}`);
    parts.temperature.value = String(state.temperature);
    parts.reset.disabled = same(state, variant.own);
    write(parts.source, `${state.variant}: ${variant.source}.`);
    write(parts.remark, at.remark);
    const line = at.formula.map(([text, term]) => text + (term ? short(weights[term]) : "")).join("");
    write(parts.formula, line.replaceAll(" + ", "\n+ ")); // a line a term
    this.later("say", SAY_DELAY, () => write(parts.live, `${state.variant}, T = ${state.temperature}: `
      + this.terms.map((term) => `${term} ${percent(shares[term])}`).join(", ")));
  }
}

function same(one, other) {
  return one.temperature === other.temperature && one.alpha === other.alpha
    && Object.keys(one.weights).every((term) => one.weights[term] === other.weights[term]);
}

function render({ model, el }) {
  const root = node("section", { class: "wbt", "aria-label": "weights of the terms", "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const panel = new Panel(model, root);
  return () => { panel.close(); root.remove(); };
}

export default { render };
