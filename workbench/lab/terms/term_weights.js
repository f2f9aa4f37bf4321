// The weights of a loss's terms and each one's share of the gradient. The norms were measured in
// Python; everything else is computed here. Joined behind elements.js and explorer_charts.js.

const SEND_DELAY = 80, SAY_DELAY = 600; // ms
const NAMED_FROM = 9; // px a letter; a narrower segment says its share alone, or nothing

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
/** Three digits, as in the formula that Python writes. */
const short = (value) => String(Number(value.toPrecision(3)));

/** A bar of one segment a term. */
class Bar {
  constructor(terms, className) {
    this.parts = Object.fromEntries(terms.map((term) =>
      [term, node("div", { class: `wbt-part wbt-${term}` })]));
    this.element = node("div", { class: `wbt-bar ${className}`, role: "img" }, ...Object.values(this.parts));
  }

  show(shares) {
    const said = [];
    for (const [term, part] of Object.entries(this.parts)) {
      const share = shares[term] ?? 0, text = `${term} ${percent(share)}`;
      said.push(part.title = text);
      part.style.width = `${100 * share}%`;
      const fits = (t) => share * this.element.clientWidth > NAMED_FROM * t.length + 10;
      write(part, [text, percent(share)].find(fits) ?? "");
    }
    this.element.setAttribute("aria-label", `share of the gradient: ${said.join(", ")}`);
  }
}

class Panel {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.variants = model.get("_variants");
    const [first] = Object.values(this.variants);
    this.terms = Object.keys(Object.values(first.at)[0].norms);
    this.own = Object.keys(first.own.weights);
    this.timers = {};
    this.build();
    this.pull = () => { this.state = this.model.get("state"); this.show(); };
    model.on("change:state", this.pull);
    this.watch = new ResizeObserver(() => this.showBars()); // names come and go with their room
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

  build() {
    const picture = this.model.get("_picture"), parts = this.parts = {};
    const [first] = Object.values(this.variants);
    if (/^[0-9a-f]+$/.test(picture))
      this.root.append(node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`));
    parts.temperature = node("select", { class: "wbt-box" });
    for (const T of Object.keys(first.at).sort((a, b) => a - b))
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
        node("label", {}, "Temperature T", parts.temperature), parts.reset),
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
      const control = node("td", { class: "wbt-control" });
      const row = this.rows[term] = { cells: Array.from({ length: 4 }, () => node("td")) };
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
        ...(term === "soft" ? [] : [control]), ...row.cells));
    }
    const heads = ["term", "", "weight w", "× norm of its gradient g", "= pull w·g", "share"];
    return node("div", { class: "wbt-scroll" }, node("table", {},
      node("thead", {}, node("tr", {}, ...heads.map((text) => node("th", { scope: "col" }, text)))), body));
  }

  /** What a variant makes of a state. */
  at(name, state) {
    const variant = this.variants[name], at = variant.at[String(state.temperature)];
    const weights = weightsOf(variant, state);
    return { variant, at, weights, shares: sharesOf(at.norms, weights) };
  }

  showBars() {
    this.now.show(this.at(this.state.variant, this.state).shares);
    for (const [name, { bar, button }] of Object.entries(this.others)) {
      bar.show(this.at(name, this.variants[name].own).shares);
      button.setAttribute("aria-pressed", String(name === this.state.variant));
    }
  }

  show() {
    const { parts, state } = this, { variant, at, weights, shares } = this.at(state.variant, state);
    this.showBars();
    for (const [term, { cells, slider }] of Object.entries(this.rows)) {
      const weight = weights[term], norm = at.norms[term], share = percent(shares[term]);
      [short(weight), figure(norm), figure(weight * norm), share].forEach((text, i) => write(cells[i], text));
      if (!slider) continue;
      if (Number(slider.value) !== weight) slider.value = weight;
      slider.setAttribute("aria-valuetext", `${short(weight)}: ${share} of the gradient`);
    }
    if (Math.abs(Number(parts.alpha.value) - state.alpha) > 0.005) parts.alpha.value = state.alpha;
    parts.alpha.setAttribute("aria-valuetext", `α = ${short(state.alpha)}`);
    write(parts.alphaIs, `α = ${short(state.alpha)}`);
    parts.temperature.value = String(state.temperature);
    const flat = ({ temperature, alpha, weights: own }) => String([temperature, alpha, ...this.own.map((n) => own[n])]);
    parts.reset.disabled = flat(state) === flat(variant.own);
    write(parts.source, `${state.variant}: ${variant.source}.`);
    write(parts.remark, at.remark);
    write(parts.formula, at.formula.map(([text, term]) => // a line a term
      text.replace(" + ", "\n+ ") + (term ? short(weights[term]) : "")).join(""));
    this.later("say", SAY_DELAY, () => write(parts.live, `${state.variant}, T = ${state.temperature}: `
      + this.terms.map((term) => `${term} ${percent(shares[term])}`).join(", ")));
  }
}

function render({ model, el }) {
  const root = node("section", { class: "wbt", "aria-label": "weights of the terms", "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const panel = new Panel(model, root);
  return () => { panel.close(); root.remove(); };
}

export default { render };
