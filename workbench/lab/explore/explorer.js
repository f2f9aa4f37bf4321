// The explorer's view. Elements are made once for an example; a move of T or alpha only changes
// attributes and texts. This file is joined behind elements.js, explorer_charts.js,
// distillation.js and state.js.

const LARGEST_SHOWN = 26; // symbols; of more, the most probable and one bar for the others
const WRITE_DELAY = 120, SAY_DELAY = 600, PATIENCE = 20000; // ms
const WHO = ["oracle", "teacher", "student"];
const SERIES = ["teacher", "student"];
const ROUND_TEMPERATURES = [0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 40, 50];
const KL = {
  "forward": "KL(teacher‖student)",
  "reverse": "KL(student‖teacher)",
  "jensen-shannon": "JS(teacher, student)",
};
let views = 0;

function floats(view) {
  return new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

// ---------------------------------------------------------------------- the panel

class Panel {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.limits = model.get("_limits");
    this.presets = model.get("_presets");
    this.id = `wbx${++views}`;
    this.state = { ...DEFAULTS };
    this.source = null; // of the example on the screen; null before the first
    this.wanted = null; // state string that the kernel was asked for
    this.picked = null;
    this.timers = {};
    this.build();
    this.pull = this.pull.bind(this);
    this.answered = this.answered.bind(this);
    model.on("change:_example", this.pull);
    model.on("change:state", this.pull);
    model.on("msg:custom", this.answered);
    this.pull();
  }

  close() {
    Object.values(this.timers).forEach(clearTimeout);
    this.model.off("change:_example", this.pull);
    this.model.off("change:state", this.pull);
    this.model.off("msg:custom", this.answered);
  }

  // -- from the kernel

  /** Show what the model holds, once its example and its state belong together. */
  pull() {
    const packed = this.model.get("_example");
    const state = parseState(this.model.get("state"), this.limits);
    const given = packed.source === "";
    if (!given && packed.source !== sourceOf(state)) return;
    const other = packed !== this.packed;
    if (other) this.load(packed);
    state.position = state.position || firstPosition(this.positions);
    if (!other && formatState(state, this.positions) === this.written()) return;
    clearTimeout(this.timers.write); // the kernel's word is newer than ours
    if (this.wanted !== null && sourceOf(parseState(this.wanted, this.limits)) === packed.source) {
      // Only the example is new; T and alpha may have moved since it was asked for.
      const { protein, sequence, position, teacher, student } = state;
      this.state = { ...this.state, protein, sequence, position, teacher, student };
      this.wait(null);
      this.show();
      this.later("write", WRITE_DELAY, () => this.push());
    } else {
      this.state = state;
      this.show();
    }
  }

  answered(message) {
    if (!message || message.asked === undefined || message.asked !== this.wanted) return;
    this.wait(null);
    if (message.problem) this.complain(message.problem);
    this.later("write", WRITE_DELAY, () => this.push()); // what moved while waiting
  }

  load(packed) {
    this.packed = packed;
    this.source = packed.source;
    this.symbols = packed.symbols;
    this.positions = packed.labels.length;
    this.data = {
      teacher: floats(packed.teacher),
      student: floats(packed.student),
      oracle: packed.oracle ? floats(packed.oracle) : null,
    };
    this.buildLetters();
    this.shown = null;
  }

  // -- to the kernel

  written() {
    return formatState(this.state, this.positions);
  }

  push() {
    if (this.wanted !== null) return; // after the answer
    this.model.set("state", this.written());
    this.model.save_changes();
  }

  /** Another example: nothing changes here until the kernel has answered. */
  ask(state) {
    const wanted = formatState({ ...state, teacher: state.teacher ?? {}, student: state.student ?? {} },
      Infinity);
    this.wait(wanted);
    this.model.send({ want: wanted });
  }

  wait(wanted) {
    this.wanted = wanted;
    clearTimeout(this.timers.patience);
    write(this.parts.busy, wanted === null ? "" : "asking teacher and student …");
    this.root.setAttribute("aria-busy", String(wanted !== null));
    if (wanted !== null)
      this.later("patience", PATIENCE, () => {
        this.wait(null);
        this.complain("The kernel does not answer; run the cell again");
      });
  }

  later(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  // -- changes

  /** Take a change that was made here. */
  change(changes) {
    this.settle();
    Object.assign(this.state, changes);
    this.show();
    this.later("write", WRITE_DELAY, () => this.push());
  }

  /** Take a whole state string, typed or from the menu. */
  apply(text, keepExample) {
    const state = parseState(text, this.limits);
    if (keepExample) {
      const { protein, sequence, position } = this.state;
      Object.assign(state, { protein, sequence, position });
    }
    if (this.source === "" && sourceOf(state) !== sourceOf(DEFAULTS))
      throw new Unusable("This explorer shows logits that were given; leave protein and sequence out");
    if (this.source !== "" && sourceOf(state) !== this.source) {
      this.settle();
      const { temperature, alpha, squared, direction, reduction } = state;
      Object.assign(this.state, { temperature, alpha, squared, direction, reduction });
      this.show();
      this.ask(state);
      return;
    }
    state.position = state.position || firstPosition(this.positions);
    if (state.position > this.positions)
      throw new Unusable(`position is ${state.position}; expected 1 to ${this.positions} in this example`);
    for (const key of SERIES)
      for (const index of Object.keys(state[key]))
        if (Number(index) >= this.symbols.length)
          throw new Unusable(`${key} sets the logit ${index}; expected 0 to ${this.symbols.length - 1}, `
            + "as this vocabulary has them");
    this.change(state);
  }

  moveTo(position) {
    if (position !== this.state.position) this.change({ position, teacher: {}, student: {} });
  }

  setLogit(series, index, value, keepScale) {
    const held = this.limits.logit;
    const logit = Math.round(Math.max(-held, Math.min(held, value)) * 100) / 100 + 0;
    this.fixedScale = keepScale;
    this.change({ [series]: { ...this.state[series], [index]: logit } });
  }

  /** Run an action that reads what was typed; what cannot be used is said in the panel. */
  attempt(input, action) {
    try {
      action();
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      this.complain(error.message, input);
    }
  }

  complain(line, input = null) {
    write(this.parts.error, line);
    this.parts.error.hidden = false;
    if (input) input.setAttribute("aria-invalid", "true");
  }

  settle() {
    if (this.parts.error.hidden) return;
    write(this.parts.error, "");
    this.parts.error.hidden = true;
    this.root.querySelectorAll("[aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
  }

  // ---------------------------------------------------------------------- making the elements

  build() {
    const parts = this.parts = {};
    const picture = this.model.get("_picture");
    if (/^[0-9a-f]+$/.test(picture))
      // A rule, not an attribute: the picture may come, or come again, after this.
      this.root.append(node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`));
    parts.error = node("p", { class: "wbx-error", role: "alert" });
    parts.error.hidden = true;
    parts.live = node("p", { class: "wbx-unseen", "aria-live": "polite" });
    parts.readout = node("p", { class: "wbx-readout" });
    this.root.append(
      this.buildStories(), this.buildExample(), this.buildKnobs(), parts.error,
      node("div", { class: "wbx-main" },
        node("div", { class: "wbx-charts" }, ...this.buildCharts(), parts.readout),
        node("div", { class: "wbx-side" }, ...this.buildFigures())),
      this.buildFormula(), this.buildString(), parts.live);
    keepKeys(this.root);
  }

  labelled(text, control, className = "") {
    control.id = `${this.id}-${this.names = (this.names ?? 0) + 1}`;
    return node("span", { class: `wbx-field ${className}` },
      node("label", { for: control.id }, text), control);
  }

  box(name, size, commit) {
    const input = node("input", {
      type: "text", size, class: "wbx-box", "aria-label": name, autocomplete: "off", spellcheck: "false",
    });
    // Enter makes no "change" in JupyterLab, and makes one elsewhere: whichever is first counts.
    let taken = false;
    const take = () => {
      if (taken) return;
      taken = true;
      this.attempt(input, () => commit(input.value));
    };
    input.addEventListener("input", () => { taken = false; });
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
    input.addEventListener("change", take);
    return input;
  }

  buildStories() {
    const parts = this.parts;
    parts.preset = node("select", { class: "wbx-box" }, node("option", { value: "" }, "own settings"));
    this.presets.forEach(({ name }, i) =>
      parts.preset.append(node("option", { value: String(i) }, name)));
    parts.preset.addEventListener("change", () => {
      const preset = this.presets[Number(parts.preset.value)];
      if (parts.preset.value !== "" && preset)
        this.attempt(parts.preset, () => this.apply(preset.state, true));
    });
    parts.story = node("p", { class: "wbx-story" });
    return node("div", { class: "wbx-row wbx-stories" },
      this.labelled("Story", parts.preset), parts.story);
  }

  buildExample() {
    const parts = this.parts;
    parts.protein = this.box("number of a protein of the world", 7, (text) =>
      this.ask({ ...this.state, position: 0, teacher: {}, student: {}, sequence: "",
        protein: readWhole("protein", text, 0, this.limits.proteins - 1) }));
    parts.sequence = node("input", {
      type: "text", class: "wbx-box wbx-wide", autocomplete: "off", spellcheck: "false",
      placeholder: "amino acids, such as MKRILV",
    });
    const type = () => this.attempt(parts.sequence, () =>
      this.ask({ ...this.state, position: 0, teacher: {}, student: {}, protein: 0,
        sequence: readSequence(parts.sequence.value, this.limits) }));
    parts.sequence.addEventListener("keydown", (event) => { if (event.key === "Enter") type(); });
    const show = node("button", { type: "button", class: "wbx-button" }, "Show");
    show.setAttribute("aria-label", "show the typed sequence");
    show.addEventListener("click", type);
    parts.busy = node("span", { class: "wbx-busy", role: "status" });
    parts.source = node("div", { class: "wbx-row" },
      this.labelled("Protein", parts.protein), this.labelled("or a sequence", parts.sequence, "wbx-grow"),
      show, parts.busy);

    parts.letters = node("div", { class: "wbx-letters", role: "listbox", "aria-label": "position in the sequence" });
    parts.letters.addEventListener("click", (event) => {
      const letter = event.target.closest("[data-position]");
      if (letter) this.moveTo(Number(letter.dataset.position));
    });
    parts.letters.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.state.position - 1, ArrowRight: this.state.position + 1,
        Home: 1, End: this.positions }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.moveTo(Math.max(1, Math.min(this.positions, to)));
      parts.letters.children[this.state.position - 1]?.focus();
    });
    parts.position = node("input", { type: "range", min: 1, step: 1, class: "wbx-grow" });
    parts.position.addEventListener("input", () => this.moveTo(Number(parts.position.value)));
    parts.where = node("span", { class: "wbx-where" });
    parts.positions = node("div", {}, parts.letters, node("div", { class: "wbx-row" },
      this.labelled("Position", parts.position, "wbx-grow"), parts.where));
    return node("div", { class: "wbx-example" }, parts.source, parts.positions);
  }

  buildLetters() {
    this.parts.source.hidden = this.source === "";
    this.parts.positions.hidden = this.positions < 2 && !this.packed.contexts?.length;
    this.parts.letters.classList.toggle("wbx-words", this.packed.letters.some((l) => l.length > 3));
    this.parts.position.max = this.positions;
    this.parts.letters.replaceChildren(...this.packed.letters.map((letter, i) => {
      const made = node("span", {
        role: "option", "data-position": i + 1, tabindex: -1, "aria-selected": "false",
        "aria-label": `position ${i + 1}, ${letter}`,
      });
      made.textContent = letter === "END" ? "end" : letter;
      return made;
    }));
    this.marked = null;
    keepKeys(this.parts.letters);
  }

  buildKnobs() {
    const parts = this.parts;
    const [low, high] = this.limits.temperature;
    parts.temperature = node("input", { type: "range", min: 0, max: 200, step: 1 });
    parts.temperature.addEventListener("input", () => {
      let T = low * (high / low) ** (Number(parts.temperature.value) / 200);
      T = ROUND_TEMPERATURES.find((round) => Math.abs(T / round - 1) < 0.0133)
        ?? Number(T.toFixed(T < 10 ? 2 : 1));
      this.hand = parts.temperature;
      this.change({ temperature: T });
    });
    parts.temperatureBox = this.box("temperature T as a number", 5, (text) =>
      this.change({ temperature: readNumber("T", text, low, high, "10") }));
    parts.alpha = node("input", { type: "range", min: 0, max: 1, step: 0.01 });
    parts.alpha.addEventListener("input", () => this.change({ alpha: Number(parts.alpha.value) }));
    parts.alphaBox = this.box("weight of the labels α as a number", 5, (text) =>
      this.change({ alpha: readNumber("α", text, 0, 1, "0.1") }));
    parts.squared = node("input", { type: "checkbox" });
    parts.squared.addEventListener("change", () => this.change({ squared: parts.squared.checked }));
    const choice = (key, options) => {
      parts[key] = node("select", { class: "wbx-box" },
        ...options.map(([value, text]) => node("option", { value }, text)));
      parts[key].addEventListener("change", () => this.change({ [key]: parts[key].value }));
      return parts[key];
    };
    parts.reset = node("button", { type: "button", class: "wbx-button" }, "Undo hand-set logits");
    parts.reset.addEventListener("click", () => this.change({ teacher: {}, student: {} }));
    const knob = (label, slider, box, left, right) => node("div", { class: "wbx-knob" },
      this.labelled(label, slider, "wbx-grow"), box,
      node("span", { class: "wbx-ends", "aria-hidden": "true" }, node("span", {}, left), node("span", {}, right)));
    return node("div", { class: "wbx-knobs" },
      knob("Temperature T", parts.temperature, parts.temperatureBox, `${low}, sharper`, `softer, ${high}`),
      knob("Labels’ weight α", parts.alpha, parts.alphaBox, "teacher only", "labels only"),
      node("div", { class: "wbx-row wbx-choices" },
        this.labelled("soft loss × T²", parts.squared, "wbx-check"),
        this.labelled("Direction", choice("direction", [
          ["forward", "forward KL"], ["reverse", "reverse KL"], ["jensen-shannon", "Jensen–Shannon"]])),
        this.labelled("Reduction", choice("reduction", [
          ["token-mean", "token-mean"], ["batchmean", "batchmean"],
          ["element-mean", "element-mean"], ["sum", "sum"]])),
        parts.reset));
  }

  buildCharts() {
    const words = {
      logits: "Logits; drag a bar up or down",
      chances: "Probabilities",
      gradient: "Gradient on each logit of the student",
    };
    this.logits = new Chart(176, { title: words.logits, describe: "logits of teacher and student" });
    this.logits.legend([
      { name: "teacher", look: "wbx-teacher", width: 82 }, { name: "student", look: "wbx-student", width: 74 }]);
    this.chances = new Chart(214, { title: words.chances, describe: "probabilities at temperature T" });
    this.chances.legend([
      { name: "oracle", look: "wbx-oracle", width: 72 }, { name: "teacher", look: "wbx-teacher", width: 82 },
      { name: "student", look: "wbx-student", width: 82 }, { name: "label", look: "wbx-label", width: 58 }]);
    this.gradient = new Chart(196, { title: words.gradient, describe: "gradient on each logit of the student" });
    this.gradient.legend([
      { name: "from label", look: "wbx-hard", width: 100 }, { name: "from teacher", look: "wbx-soft", width: 118 },
      { name: "sum", look: "wbx-sumswatch", width: 50 }]);
    this.charts = [this.logits, this.chances, this.gradient];
    const patterns = drawn("defs");
    for (const look of ["teacher", "soft"]) {
      const pattern = drawn("pattern", {
        id: `${this.id}-${look}`, width: 6, height: 6, patternUnits: "userSpaceOnUse",
        patternTransform: `rotate(${look === "teacher" ? 45 : -45})`,
      });
      pattern.append(drawn("rect", { width: 6, height: 6, class: `wbx-${look}-ground` }),
        drawn("rect", { width: 1.6, height: 6, class: `wbx-${look}-line` }));
      patterns.append(pattern);
    }
    this.logits.svg.prepend(patterns);
    this.root.style.setProperty("--wbx-teacher-fill", `url(#${this.id}-teacher)`);
    this.root.style.setProperty("--wbx-soft-fill", `url(#${this.id}-soft)`);
    return this.charts.map((chart) => chart.svg);
  }

  /** Bars and handles for the symbols that are shown; as often as these change. */
  buildBars(shown, others) {
    this.shown = shown;
    this.others = others;
    this.isShown = new Uint8Array(this.symbols.length);
    for (const i of shown) this.isShown[i] = 1;
    const names = [...shown.map((i) => this.symbols[i]), ...(others ? [`${others} others`] : [])];
    const slots = names.length, pitch = PLOT / slots;
    this.pitch = pitch;
    const longest = Math.max(...names.map((name) => name.length));
    const words = longest > 3;
    const at = (slot, start, share) => ({ x: LEFT + pitch * (slot + start), width: pitch * share });
    this.bars = { teacher: [], student: [], pOracle: [], pTeacher: [], pStudent: [], hard: [], soft: [], sum: [] };
    this.handles = { teacher: [], student: [] };
    this.axisNames = [];
    this.charts.forEach((chart) => {
      chart.body.replaceChildren();
      chart.band.setAttribute("width", pitch);
      chart.band.setAttribute("visibility", "hidden");
    });
    this.labelMark = drawn("rect", { class: "wbx-label", width: pitch * 0.94, y: this.chances.top - 2,
      height: this.chances.plot + 2 });
    this.labelName = drawn("text", { class: "wbx-labelname", y: this.chances.top + 11 }, "label");
    this.chances.body.append(this.labelMark);
    const bar = (chart, list, look, slot, start, share) => {
      const made = drawn("rect", { class: look, ...at(slot, start, share) });
      list.push(made);
      chart.body.append(made);
    };
    names.forEach((name, slot) => {
      const mine = slot < shown.length;
      if (mine) {
        bar(this.logits, this.bars.teacher, "wbx-teacher", slot, 0.12, 0.36);
        bar(this.logits, this.bars.student, "wbx-student", slot, 0.52, 0.36);
      }
      bar(this.chances, this.bars.pOracle, "wbx-oracle", slot, 0.08, 0.26);
      bar(this.chances, this.bars.pTeacher, "wbx-teacher", slot, 0.37, 0.26);
      bar(this.chances, this.bars.pStudent, "wbx-student", slot, 0.66, 0.26);
      bar(this.gradient, this.bars.hard, "wbx-hard", slot, 0.12, 0.36);
      bar(this.gradient, this.bars.soft, "wbx-soft", slot, 0.52, 0.36);
      const sum = drawn("line", { class: "wbx-sum", x1: LEFT + pitch * (slot + 0.04), x2: LEFT + pitch * (slot + 0.96) });
      this.bars.sum.push(sum);
      this.gradient.body.append(sum);
      const middle = LEFT + pitch * (slot + 0.5);
      for (const chart of this.charts) {
        if (words && chart !== this.gradient || !mine && chart === this.logits) continue;
        const y = chart.top + chart.plot + 18;
        const text = drawn("text", { x: middle, y, class: words ? "wbx-word" : "wbx-symbol" },
          name === "END" ? "end" : name.length > 12 ? name.slice(0, 11) + "…" : name);
        if (words) text.setAttribute("transform", `rotate(-55 ${middle} ${y - 6}) translate(4 -4)`);
        chart.body.append(text);
        if (mine) this.axisNames.push({ text, index: shown[slot] });
      }
      for (const chart of [this.chances, this.gradient]) {
        const area = drawn("rect", { ...at(slot, 0, 1), y: chart.top, height: chart.plot + 24, class: "wbx-area" });
        area.addEventListener("pointerenter", () => this.pick(slot));
        chart.body.append(area);
      }
    });
    this.cutMark = drawn("text", { class: "wbx-labelname", x: LEFT + pitch * (slots - 0.5), y: this.chances.top + 11 });
    this.chances.body.append(this.labelName, this.cutMark);
    // Long names need room below the lowest chart.
    this.gradient.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${this.gradient.height + (words ? 62 : 0)}`);
    for (const series of SERIES) this.buildHandles(series, at);
    keepKeys(this.logits.svg);
  }

  buildHandles(series, at) {
    const group = drawn("g", { role: "group",
      "aria-label": `${series}’s logits: left and right choose a symbol, up and down change its logit` });
    const chart = this.logits, held = this.limits.logit;
    this.shown.forEach((index, slot) => {
      const handle = drawn("rect", {
        ...at(slot, series === "teacher" ? 0 : 0.5, 0.5), y: chart.top, height: chart.plot,
        class: "wbx-handle", role: "slider", tabindex: slot === 0 ? 0 : -1, "aria-orientation": "vertical",
        "aria-valuemin": -held, "aria-valuemax": held, "aria-label": `${series}’s logit of ${this.symbols[index]}`,
      });
      handle.addEventListener("pointerenter", () => { if (!this.dragged) this.pick(slot); });
      handle.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        handle.setPointerCapture(event.pointerId);
        this.rove(series, slot);
        this.dragged = handle;
        this.drag(event, series, index);
      });
      handle.addEventListener("pointermove", (event) => {
        if (this.dragged === handle) this.drag(event, series, index);
      });
      const drop = () => {
        if (this.dragged !== handle) return;
        this.dragged = null;
        this.fixedScale = false;
        this.show();
      };
      handle.addEventListener("pointerup", drop);
      handle.addEventListener("pointercancel", drop);
      handle.addEventListener("keydown", (event) => this.press(event, series, slot));
      handle.addEventListener("focus", () => this.pick(slot));
      this.handles[series].push(handle);
      group.append(handle);
    });
    chart.body.append(group);
  }

  drag(event, series, index) {
    const box = this.logits.svg.getBoundingClientRect();
    const y = (event.clientY - box.top) * WIDTH / box.width;
    const value = Math.max(this.logits.low, Math.min(this.logits.high, this.logits.value(y)));
    this.setLogit(series, index, Math.round(value * 10) / 10, true);
  }

  press(event, series, slot) {
    const last = this.shown.length - 1, index = this.shown[slot];
    const to = { ArrowLeft: slot - 1, ArrowRight: slot + 1, Home: 0, End: last }[event.key];
    const by = { ArrowUp: 0.1, ArrowDown: -0.1, PageUp: 1, PageDown: -1 }[event.key];
    if (to !== undefined) this.rove(series, Math.max(0, Math.min(last, to)));
    else if (by !== undefined) this.setLogit(series, index, this.row[series][index] + by, false);
    else if (event.key === "Delete" || event.key === "Backspace") {
      const { [index]: _, ...left } = this.state[series];
      this.change({ [series]: left });
    } else return;
    event.preventDefault();
  }

  /** One tab stop for each series: the handle that was used last. */
  rove(series, slot) {
    this.handles[series].forEach((handle, i) => handle.setAttribute("tabindex", i === slot ? 0 : -1));
    this.handles[series][slot].focus({ preventScroll: true });
  }

  buildFigures() {
    const parts = this.parts;
    const cell = (key) => (parts[key] = node("td"));
    const head = (text, scope = "row") => node("th", { scope }, text);
    const row = (name, ...cells) => node("tr", {}, name, ...cells);
    parts.atT = node("caption", {}, "Distributions");
    const distributions = node("table", {}, parts.atT,
      node("thead", {}, row(head("", "col"), head("entropy, nats", "col"), head("perplexity", "col"), head("KL from oracle", "col"))),
      node("tbody", {}, ...WHO.map((who) => {
        const name = head(who);
        name.prepend(node("span", { class: `wbx-dot wbx-dot-${who}`, "aria-hidden": "true" }));
        return row(name, cell(`entropy-${who}`), cell(`perplexity-${who}`), cell(`oracle-${who}`));
      })));
    const used = (direction) => (parts[`used-${direction}`] = node("tr", {},
      head(KL[direction]), cell(`kl-${direction}`)));
    const distances = node("table", {}, node("caption", {}, "Distance of the two, nats; the one in the loss is marked"),
      node("tbody", {}, ...Object.keys(KL).map(used)));
    const terms = node("table", {}, node("caption", {}, "The two parts of the loss"),
      node("thead", {}, row(head("", "col"), head("labels, hard", "col"), head("teacher, soft", "col"))),
      node("tbody", {},
        row(head("value, nats"), cell("value-hard"), cell("value-soft")),
        row(head("weight"), cell("weight-hard"), cell("weight-soft")),
        row(head("gradient’s norm"), cell("norm-hard"), cell("norm-soft")),
        row(head("share"), cell("share-hard"), cell("share-soft"))));
    parts.shareHard = node("div", { class: "wbx-share-hard" });
    parts.shareSoft = node("div", { class: "wbx-share-soft" });
    parts.shareBar = node("div", { class: "wbx-share", role: "img" }, parts.shareHard, parts.shareSoft);
    parts.labelsTeach = node("span");
    parts.teacherTeaches = node("span");
    return [
      node("h4", {}, "Who is teaching"),
      parts.shareBar,
      node("div", { class: "wbx-shares", "aria-hidden": "true" }, parts.labelsTeach, parts.teacherTeaches),
      distributions, distances, terms,
    ];
  }

  buildFormula() {
    const parts = this.parts;
    parts.symbolic = node("div");
    parts.numeric = node("div", { class: "wbx-numeric" });
    parts.remark = node("div", { class: "wbx-remark" });
    return node("div", { class: "wbx-formula" }, parts.symbolic, parts.numeric, parts.remark);
  }

  buildString() {
    const parts = this.parts;
    parts.string = node("input", {
      type: "text", class: "wbx-box wbx-wide wbx-code", autocomplete: "off", spellcheck: "false",
      placeholder: "all defaults; try T=10;alpha=0.1",
    });
    const apply = () => this.attempt(parts.string, () => this.apply(parts.string.value, false));
    parts.string.addEventListener("keydown", (event) => { if (event.key === "Enter") apply(); });
    const use = node("button", { type: "button", class: "wbx-button" }, "Apply");
    use.setAttribute("aria-label", "apply the state as text");
    use.addEventListener("click", apply);
    const copy = node("button", { type: "button", class: "wbx-button" }, "Copy");
    copy.setAttribute("aria-label", "copy the state as text");
    copy.addEventListener("click", () => {
      parts.string.select();
      navigator.clipboard?.writeText(parts.string.value).catch(() => {});
    });
    return node("div", { class: "wbx-row" },
      this.labelled("This state as text", parts.string, "wbx-grow"), use, copy);
  }

  // ---------------------------------------------------------------------- showing a state

  /** The numbers of the present position, hand-set logits included. */
  current() {
    const n = this.symbols.length, start = (this.state.position - 1) * n;
    const slice = (values) => values.slice(start, start + n);
    const row = {
      oracle: this.data.oracle && slice(this.data.oracle),
      label: this.packed.labels[this.state.position - 1],
      tokens: this.packed.tokens,
      sequences: this.packed.sequences,
    };
    for (const series of SERIES) {
      row[series] = slice(this.data[series]);
      for (const [index, value] of Object.entries(this.state[series])) row[series][index] = value;
    }
    return row;
  }

  /** Which symbols have bars: all, or the most probable at T = 1, to anybody, and the label. */
  choose() {
    const n = this.symbols.length;
    if (n <= LARGEST_SHOWN) return { shown: Array.from({ length: n }, (_, i) => i), others: 0 };
    // As the models have them: bars would jump if those that were dragged could change places.
    const start = (this.state.position - 1) * n;
    const chance = WHO.filter((who) => this.data[who])
      .map((who) => logSoftmax(this.data[who].subarray(start, start + n)));
    const weight = chance[0].map((_, i) => chance.reduce((sum, logs) => sum + Math.exp(logs[i]), 0));
    const order = Array.from(weight.keys()).sort((a, b) => weight[b] - weight[a]);
    const first = new Set([this.packed.labels[this.state.position - 1],
      ...SERIES.flatMap((s) => Object.keys(this.state[s]).map(Number))]);
    for (const index of order) {
      if (first.size >= LARGEST_SHOWN - 2) break;
      first.add(index);
    }
    const shown = order.filter((index) => first.has(index));
    return { shown, others: n - shown.length };
  }

  show() {
    const { state, parts } = this;
    this.row = this.current();
    const wanted = this.symbols.length > LARGEST_SHOWN
      ? `${this.source}/${state.position}/${SERIES.map((s) => Object.keys(state[s]))}` : "all";
    if (this.shown === null || this.showing !== wanted) {
      const { shown, others } = this.choose();
      if (this.shown === null || String(shown) !== String(this.shown)) this.buildBars(shown, others);
      this.showing = wanted;
    }
    this.now = figures(this.row, state);
    this.showControls();
    this.showLogits();
    this.showChances();
    this.showGradient();
    this.showFigures();
    this.showFormula();
    this.showPicked();
    this.later("say", SAY_DELAY, () => write(parts.live, this.summary()));
  }

  showControls() {
    const { state, parts, limits } = this;
    const set = (input, value) => { if (input.value !== String(value)) input.value = value; };
    const [low, high] = limits.temperature;
    if (this.hand !== parts.temperature)
      set(parts.temperature, Math.round(200 * Math.log(state.temperature / low) / Math.log(high / low)));
    this.hand = null;
    parts.temperature.setAttribute("aria-valuetext", `T = ${plain(state.temperature)}`);
    set(parts.temperatureBox, plain(state.temperature));
    set(parts.alpha, state.alpha);
    parts.alpha.setAttribute("aria-valuetext", `labels ${percent(state.alpha)}, teacher ${percent(1 - state.alpha)}`);
    set(parts.alphaBox, plain(state.alpha));
    parts.squared.checked = state.squared;
    set(parts.direction, state.direction);
    set(parts.reduction, state.reduction);
    parts.reset.disabled = !Object.keys(state.teacher).length && !Object.keys(state.student).length;
    set(parts.position, state.position);
    const letter = this.packed.letters[state.position - 1];
    parts.position.setAttribute("aria-valuetext", `position ${state.position}, ${letter}`);
    const context = this.packed.contexts?.[state.position - 1];
    write(parts.where, `${state.position} of ${this.positions}: ` + (context ? `${context} → ${letter}`
      : `the next symbol is ${letter === "END" ? "the end" : letter}`));
    if (this.marked !== state.position) {
      const children = parts.letters.children;
      const before = children[(this.marked ?? 0) - 1];
      if (before) {
        before.setAttribute("aria-selected", "false");
        before.setAttribute("tabindex", -1);
      }
      children[state.position - 1].setAttribute("aria-selected", "true");
      children[state.position - 1].setAttribute("tabindex", 0);
      this.marked = state.position;
    }
    if (this.exampleShown !== this.source) {
      set(parts.protein, state.sequence ? "" : state.protein);
      set(parts.sequence, state.sequence);
      this.exampleShown = this.source;
    }
    const text = this.written();
    set(parts.string, text);
    const settings = formatState({ ...state, protein: 0, sequence: "", position: 0 }, 0);
    const preset = this.presets.findIndex((p) =>
      formatState(parseState(p.state, limits), 0) === settings);
    set(parts.preset, preset < 0 ? "" : preset);
    write(parts.story, preset < 0 ? "Choose a story, or move T and α." : this.presets[preset].story);
  }

  showLogits() {
    const chart = this.logits;
    if (!this.fixedScale) {
      let low = 0, high = 0;
      for (const i of this.shown)
        for (const series of SERIES) {
          low = Math.min(low, this.row[series][i]);
          high = Math.max(high, this.row[series][i]);
        }
      const unit = roundUp(Math.max(high - low, 4) / 8);
      chart.scale(Math.floor(low / unit - 0.4) * unit, Math.ceil(high / unit + 0.8) * unit);
    }
    for (const series of SERIES)
      this.shown.forEach((index, slot) => {
        const value = this.row[series][index];
        const bar = this.bars[series][slot];
        chart.stretch(bar, value);
        bar.classList.toggle("wbx-byhand", index in this.state[series]);
        const text = String(Math.round(value * 100) / 100);
        const handle = this.handles[series][slot];
        if (handle.getAttribute("aria-valuenow") !== text) handle.setAttribute("aria-valuenow", text);
      });
  }

  /** Values of the shown symbols, and the sum over the others. */
  gathered(values) {
    const picked = this.shown.map((i) => values[i]);
    if (this.others) {
      // Not as a difference of sums: rounding would make it a negative probability.
      let rest = 0;
      for (let i = 0; i < values.length; i++) if (!this.isShown[i]) rest += values[i];
      picked.push(rest);
    }
    return picked;
  }

  showChances() {
    const chart = this.chances, { probabilities } = this.now;
    const columns = WHO.map((who) => probabilities[who] && this.gathered(probabilities[who]));
    let largest = 0;
    // The others together are no symbol: their bar is cut off rather than flattening all.
    for (const column of columns)
      if (column) largest = Math.max(largest, ...column.slice(0, this.shown.length));
    chart.scale(0, Math.min(1, roundUp(Math.max(largest * 1.02, 1e-6))));
    [this.bars.pOracle, this.bars.pTeacher, this.bars.pStudent].forEach((bars, k) =>
      bars.forEach((bar, slot) => {
        bar.setAttribute("visibility", columns[k] ? "visible" : "hidden");
        if (columns[k]) chart.stretch(bar, columns[k][slot]);
      }));
    write(chart.title, `Probabilities at T = ${plain(this.state.temperature)}`);
    write(this.cutMark, this.others && columns.some((c) => c && c[this.shown.length] > chart.high) ? "↑" : "");
    const slot = this.shown.indexOf(this.row.label);
    this.labelMark.setAttribute("x", LEFT + this.pitch * (slot + 0.03));
    this.labelName.setAttribute("x", LEFT + this.pitch * (slot + 0.5));
    write(this.labelName, chart.high < 1 ? "1 ↑" : "1");
    for (const { text, index } of this.axisNames)
      text.classList.toggle("wbx-true", index === this.row.label);
  }

  showGradient() {
    const chart = this.gradient, { gradient } = this.now;
    const hard = this.gathered(gradient.hard), soft = this.gathered(gradient.soft);
    const sum = hard.map((value, i) => value + soft[i]);
    const low = -Math.min(0, ...hard, ...soft, ...sum), high = Math.max(0, ...hard, ...soft, ...sum);
    const scale = Math.max(low, high) || 1;
    const unit = roundUp(scale * 1.02) / 5;
    const reach = (value) => Math.max(1, Math.ceil(value * 1.02 / unit)) * unit;
    chart.scale(-reach(low), reach(high));
    hard.forEach((value, slot) => {
      chart.stretch(this.bars.hard[slot], value);
      chart.stretch(this.bars.soft[slot], soft[slot]);
      const y = chart.y(sum[slot]);
      this.bars.sum[slot].setAttribute("y1", y);
      this.bars.sum[slot].setAttribute("y2", y);
    });
  }

  showFigures() {
    const { now, parts, state } = this;
    write(parts.atT, `Distributions at T = ${plain(state.temperature)}`);
    for (const who of WHO) {
      write(parts[`entropy-${who}`], figure(now.entropy[who]));
      write(parts[`perplexity-${who}`], figure(now.perplexity[who]));
      write(parts[`oracle-${who}`], who === "oracle" ? "–" : figure(now.kl_from_oracle[who]));
    }
    for (const direction of Object.keys(KL)) {
      write(parts[`kl-${direction}`], figure(now.divergence[direction]));
      parts[`used-${direction}`].classList.toggle("wbx-used", direction === state.direction);
    }
    for (const [part, weight] of [["hard", state.alpha], ["soft", 1 - state.alpha]]) {
      write(parts[`value-${part}`], figure(now[part]));
      write(parts[`weight-${part}`], plain(weight));
      write(parts[`norm-${part}`], figure(now.norm[part]));
      write(parts[`share-${part}`], percent(now.share[part]));
    }
    parts.shareHard.style.width = `${100 * now.share.hard}%`;
    parts.shareSoft.style.width = `${100 * now.share.soft}%`;
    write(parts.labelsTeach, `labels ${percent(now.share.hard)}`);
    write(parts.teacherTeaches, `teacher ${percent(now.share.soft)}`);
    parts.shareBar.setAttribute("aria-label",
      `labels ${percent(now.share.hard)}, teacher ${percent(now.share.soft)} of the gradient`);
  }

  showFormula() {
    const { now, parts, state, packed } = this;
    const letter = this.symbols[this.row.label];
    const T2 = state.temperature ** 2, n = this.symbols.length;
    const reduced = { "token-mean": ["", ""], "batchmean": ["n·", `${packed.tokens}·`],
      "element-mean": ["1/V·", `1/${n}·`], "sum": ["n·B·", `${packed.tokens}·${packed.sequences}·`] };
    const [symbol, number] = reduced[state.reduction];
    write(parts.symbolic, `L = α·CE(student, label) + (1−α)·${state.squared ? "T²·" : ""}${symbol}${KL[state.direction]} at T`);
    write(parts.numeric, `L = ${plain(state.alpha)}·${figure(now.hard)} + ${plain(1 - state.alpha)}·`
      + `${state.squared ? plain(T2) + "·" : ""}${number}${figure(now.divergence[state.direction])}`
      + ` = ${figure(state.alpha * now.hard)} + ${figure((1 - state.alpha) * now.soft)} = ${figure(now.loss)} nats`);
    const remarks = {
      "token-mean": "The soft loss is a mean over tokens.",
      "batchmean": `batchmean divides by the sequences alone: this position’s soft loss counts n = ${packed.tokens} times, once for each token of the sequence.`,
      "element-mean": `element-mean divides by tokens and vocabulary: this position’s soft loss is V = ${n} times smaller.`,
      "sum": `sum divides by nothing: this position’s soft loss counts n·B = ${packed.tokens}·${packed.sequences} times, once for each token of the batch.`,
    };
    write(parts.remark, `${remarks[state.reduction]} The label ${letter === "END" ? "(the end)" : letter} is always judged at T = 1.`);
  }

  // -- one symbol

  pick(slot) {
    this.picked = slot;
    this.showPicked();
  }

  showPicked() {
    const slot = this.picked !== null && this.picked < this.bars.hard.length
      ? this.picked : this.shown.indexOf(this.row.label);
    for (const chart of this.charts) {
      chart.band.setAttribute("x", LEFT + this.pitch * slot);
      chart.band.setAttribute("visibility", "visible");
    }
    const { probabilities, gradient } = this.now, index = this.shown[slot];
    const value = (values) => values === null ? null
      : index !== undefined ? values[index] : this.gathered(values)[slot];
    const name = index === undefined ? `${this.others} others`
      : this.symbols[index] === "END" ? "end" : this.symbols[index];
    const chances = WHO.filter((who) => probabilities[who])
      .map((who) => `${who} ${figure(value(probabilities[who]))}`).join(", ");
    const logits = index === undefined ? "" : ` Logits: teacher ${figure(this.row.teacher[index])}, `
      + `student ${figure(this.row.student[index])}.`;
    const hard = value(gradient.hard), soft = value(gradient.soft);
    const pull = hard + soft === 0 ? "stays" : hard + soft < 0 ? "goes up" : "goes down";
    write(this.parts.readout, `${name}${index === this.row.label ? " (the label)" : ""}: ${chances}.${logits} `
      + `Gradient: label ${figure(hard)}, teacher ${figure(soft)}; the student’s logit ${pull}.`);
  }

  summary() {
    const { state, now } = this;
    return `T = ${plain(state.temperature)}, α = ${plain(state.alpha)}: labels ${percent(now.share.hard)}, `
      + `teacher ${percent(now.share.soft)} of the gradient; loss ${figure(now.loss)} nats; `
      + `${KL[state.direction]} ${figure(now.divergence[state.direction])} nats.`;
  }
}

function render({ model, el }) {
  const root = node("section", {
    class: "wbx", "aria-label": "temperature and α explorer", "data-lm-suppress-shortcuts": "true",
  });
  el.append(root);
  const panel = new Panel(model, root);
  return () => {
    panel.close();
    root.remove();
  };
}

export default { render };
