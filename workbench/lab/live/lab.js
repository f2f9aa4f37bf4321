// The Lab's view: the run's controls, its pictures and its words in one panel. Python draws most
// pictures as finished text; the distributions are drawn here. This file is joined behind
// elements.js, state.js, distillation.js, explorer_charts.js and the other scripts of this folder.

const CALM = 1000; // ms between two pictures for those who asked for less motion
const WIDE_ENOUGH = 1080; // px
const TYPE = 14, TYPE_LARGE = 22; // px
/** Regions whose text Python has escaped; each is put in place as it is. */
const REGIONS = ["numbers", "curves", "terms", "formula", "table", "origin"];
const IN_PRESENTATION = ["temperature", "alpha"];
let views = 0;

class Panel {
  constructor(model, root, wire) {
    this.model = model;
    this.root = root;
    this.wire = wire;
    this.id = `wblab${++views}`;
    this.dirty = new Set();
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.listeners = {};
    this.watch = new ResizeObserver(() => this.fit());
    this.pressed = this.pressed.bind(this);
    this.showStatus = this.showStatus.bind(this);
    root.addEventListener("keydown", this.pressed);
    wire.join(this.showStatus);
    this.listen();
    this.build();
    this.watch.observe(root);
  }

  listen() {
    const on = (name, action) => {
      this.listeners[name] = () => { this.wire.arrived(); action(); };
      this.model.on(name, this.listeners[name]);
    };
    on("msg:custom", () => {});
    on("change:_face", () => this.rebuild());
    on("change:_values", () => this.takeValues());
    on("change:_status", this.showStatus);
    for (const name of [...REGIONS, "link", "script"]) on(`change:_${name}`, () => this.renew(name));
    for (const name of ["_probe", "_logits"]) on(`change:${name}`, () => this.renew("probe"));
    // Not a word from the kernel: it changes by hand as well.
    this.listeners["change:_presenter"] = () => this.showPresenter();
    this.model.on("change:_presenter", this.listeners["change:_presenter"]);
  }

  close() {
    for (const [name, listener] of Object.entries(this.listeners)) this.model.off(name, listener);
    this.wire.flush();
    this.wire.leave(this.showStatus);
    this.watch.disconnect();
    this.rows?.close();
    clearTimeout(this.renewal);
    cancelAnimationFrame(this.frame);
    this.root.removeEventListener("keydown", this.pressed);
  }

  hides(name) {
    return this.face.hidden.includes(name);
  }

  get presets() {
    const { presets, follows } = this.face;
    return follows || this.hides("preset") || this.hides("presets") ? [] : presets;
  }

  // ---------------------------------------------------------------------- making the elements

  /** As new, where the kernel describes another panel; the focus stays on what it was on. */
  rebuild() {
    if (JSON.stringify(this.model.get("_face")) === this.built) return;
    const focus = this.root.getRootNode().activeElement;
    const name = this.root.contains(focus) ? focus.dataset.name : undefined;
    this.rows?.close();
    this.build();
    if (name !== undefined) this.root.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
  }

  build() {
    const face = this.face = this.model.get("_face"), parts = this.parts = {};
    this.built = JSON.stringify(face);
    this.regions = {};
    this.knobs = {};
    this.root.setAttribute("aria-label", `Lab: ${face.title}`);
    this.root.classList.toggle("wblab-follows", face.follows);
    this.transport = face.follows ? null : new Transport(this);
    parts.error = node("p", { class: "wblab-error", role: "alert" });
    parts.error.hidden = true;
    parts.question = node("div", { class: "wblab-asked" });
    const side = this.buildSide(), pictures = this.buildPictures();
    this.root.replaceChildren(...[
      this.buildStyle(), this.buildHead(), parts.question, this.buildRun(),
      node("div", { class: `wblab-main ${side.querySelector("fieldset") ? "" : "wblab-alone"}` }, side, pictures),
      this.buildFoot(),
    ].filter(Boolean));
    keepKeys(this.root);
    this.takeValues();
    this.showStatus();
    for (const name of [...REGIONS, "link", "script", "probe"]) this.put(name);
    this.showPresenter();
    this.fit();
  }

  buildStyle() {
    const picture = this.model.get("_picture");
    // A rule, not an attribute: the picture may come, or come again, after this.
    return /^[0-9a-f]+$/.test(picture)
      ? node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`) : null;
  }

  labelled(text, control, className = "") {
    control.id = `${this.id}-${this.names = (this.names ?? 0) + 1}`;
    return node("span", { class: `wblab-field ${className}` }, node("label", { for: control.id }, text), control);
  }

  region(name, className = "") {
    if (this.hides(name)) return [];
    this.regions[name] = node("div", { class: `wblab-region wblab-${name} ${className}`, "data-region": name });
    return [this.regions[name]];
  }

  buildHead() {
    const { face, parts } = this;
    const head = node("header", { class: "wblab-head" }, node("h3", { class: "wblab-title" }, face.title));
    if (face.follows) head.append(node("span", { class: "wblab-badge" }, "following"));
    if (this.presets.length) {
      const presets = node("div", { class: "wblab-presets", role: "group", "aria-label": "presets" });
      for (const { name, words } of this.presets) {
        const made = button(`preset-${name}`, name, () => this.command("preset", name), "wblab-quiet");
        made.title = words;
        presets.append(made);
      }
      head.append(presets);
    }
    if (!this.hides("presenter")) {
      parts.presenter = button("presenter", "Presenter mode", () => this.present(!this.model.get("_presenter")), "wblab-quiet wblab-presenter");
      head.append(parts.presenter);
    }
    return head;
  }

  /** The run: its commands, how far it is, and what is to be said of it. */
  buildRun() {
    this.words = new Status();
    return node("div", { class: "wblab-run" },
      ...[this.transport?.element, this.parts.error, this.words.progress].filter(Boolean),
      node("div", { class: "wblab-how" }, this.words.element, ...this.region("numbers")));
  }

  buildSide() {
    const { face, parts } = this;
    const group = (live) => face.follows ? [] : face.knobs
      .filter((knob) => Boolean(knob.live) === live && !this.hides(knob.name)).map((knob) => {
        const made = this.knobs[knob.name] = new Knob(knob, `${this.id}-knob-${knob.name}`, this);
        if (!IN_PRESENTATION.includes(knob.name)) made.element.classList.add("wblab-off-stage");
        return made.element;
      });
    const live = group(true), later = group(false);
    parts.waits = node("p", { class: "wblab-waits" });
    return node("div", { class: "wblab-side" },
      ...(live.length ? [node("fieldset", { class: "wblab-live" }, node("legend", {}, "Live: apply at the next step"), ...live)] : []),
      ...this.region("formula"),
      ...(later.length ? [node("fieldset", { class: "wblab-later wblab-off-stage" },
        node("legend", {}, "Apply on reset"), ...later, parts.waits)] : []));
  }

  buildPictures() {
    const [curves] = this.region("curves");
    if (curves) {
      // Where it is moved sideways, the keyboard has to reach it.
      curves.setAttribute("role", "region");
      curves.setAttribute("aria-label", "curves");
      curves.setAttribute("tabindex", 0);
    }
    const mayUnpin = !this.face.follows && !this.hides("unpin");
    this.pins = new Pins(mayUnpin ? (id) => this.command("unpin", id) : null);
    return node("div", { class: "wblab-pictures" }, ...(curves ? [curves] : []), this.pins.element,
      ...(this.hides("probe") ? [] : [this.buildProbe()]), ...this.region("terms"));
  }

  buildProbe() {
    const { face, parts } = this;
    this.rows = new Distributions(this.id);
    parts.probeTitle = node("h4");
    const head = node("div", { class: "wblab-probehead" }, parts.probeTitle);
    if (face.examples.length > 1 && !this.hides("example")) {
      parts.example = node("select", { class: "wblab-box", "data-name": "example" },
        ...face.examples.map((name, i) => node("option", { value: i }, name)));
      parts.example.addEventListener("change", () => {
        this.exampleSent = this.command("example", Number(parts.example.value));
      });
      head.append(this.labelled("Example", parts.example, "wblab-off-stage"));
    }
    parts.probeText = node("p", { class: "wblab-context" });
    parts.place = node("div", { class: "wblab-place" }, this.rows.svg);
    this.root.style.setProperty("--wblab-teacher-fill", `url(#${this.id}-teacher)`);
    this.root.style.setProperty("--wblab-baseline-fill", `url(#${this.id}-baseline)`);
    this.root.style.setProperty("--wblab-oracle-fill", `url(#${this.id}-oracle)`);
    parts.probe = node("div", { class: "wblab-region wblab-probe", "data-region": "probe" },
      head, parts.probeText, parts.place, this.rows.readout);
    return parts.probe;
  }

  buildFoot() {
    this.records = new Records(this, { isFixed: this.face.follows });
    return node("div", { class: "wblab-foot wblab-off-stage" }, ...this.region("table"),
      ...this.records.elements, ...this.region("origin"));
  }

  // ---------------------------------------------------------------------- by hand

  command(name, value) {
    this.settle();
    return this.wire.do(name, value);
  }

  /** A knob moves. What needs no kernel follows at once. */
  moved(knob) {
    this.settle();
    if (knob.name === "temperature") this.rows?.draw(knob.value);
    this.wire.set(knob.name, knob.value);
  }

  settled(knob) {
    this.wire.settle(knob.name, knob.value);
  }

  refused(line, input) {
    this.complain(line, input);
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
    for (const input of this.root.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }

  present(on) {
    this.model.set("_presenter", on);
    this.model.save_changes();
  }

  /** Keys of a panel that has the focus; none of them reaches the notebook. */
  pressed(event) {
    const { target, key } = event;
    const isChord = event.ctrlKey || event.metaKey || event.altKey;
    // The page's own chords, such as the one that saves, are the page's; Enter would run a cell.
    if (!isChord || key === "Enter") event.stopPropagation();
    if (isChord) return;
    if (!this.model.get("_presenter") && target !== this.root) return;
    if (target.matches("input:not([type=range]), select, textarea, summary")) return;
    // A slider has its own arrows.
    if (target.matches("input[type=range]") && key.startsWith("Arrow")) return;
    const action = this.actionOf(key);
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || key.startsWith("Arrow")) action();
  }

  actionOf(key) {
    if (key === "Escape") return this.model.get("_presenter") ? () => this.present(false) : null;
    if (!this.transport) return null;
    const preset = /^[1-9]$/.test(key) && this.presets[Number(key) - 1];
    if (preset) return () => this.command("preset", preset.name);
    return {
      " ": () => this.transport.toggle(),
      ArrowRight: () => this.transport.give("step"),
      ArrowLeft: () => this.transport.back(),
      ArrowUp: () => this.knobs.temperature?.nudge(1),
      ArrowDown: () => this.knobs.temperature?.nudge(-1),
    }[key];
  }

  // ---------------------------------------------------------------------- from the kernel

  get temperature() {
    return this.knobs.temperature?.value ?? this.model.get("_values").settings.temperature ?? 1;
  }

  takeValues() {
    const { settings, pending, heard, example } = this.model.get("_values");
    for (const [name, knob] of Object.entries(this.knobs)) {
      if (!this.wire.isAnswered(name)) {
        if (knob.value === null) knob.show(this.wire.latest(name)); // made anew under the hand
      } else if (name in settings) knob.show(settings[name]);
      knob.markPending(pending.includes(name));
    }
    const waits = this.face.knobs.some(({ name }) => pending.includes(name) && !this.hides(name));
    write(this.parts.waits, waits ? "Press Reset to begin a run with these." : "");
    this.transport?.markPending(waits);
    if (this.parts.example && !(this.exampleSent > heard)) this.parts.example.value = example;
    if (this.rows && this.rows.temperature !== this.temperature) this.rows.draw(this.temperature);
    this.showQuestion();
  }

  isAsked() {
    return Boolean(this.face.question) && this.model.get("_values").answer === null && !this.face.follows;
  }

  showQuestion() {
    const { question } = this.face, { answer } = this.model.get("_values"), place = this.parts.question;
    const wanted = this.isAsked() ? "ask" : question && answer !== null ? `said ${answer}` : "";
    if (wanted === this.asked && place.childNodes.length) return;
    this.asked = wanted;
    if (wanted === "ask") place.replaceChildren(buildQuestion(question, this.id, (said) => this.command("answer", said)));
    else place.replaceChildren(...(wanted ? [node("p", { class: "wblab-said" }, "You said: ", node("strong", {}, answer))] : []));
    place.hidden = !wanted;
    keepKeys(place);
  }

  showStatus() {
    const { wire } = this, status = this.model.get("_status");
    this.root.dataset.state = wire.silent ? "silent" : status.state;
    this.words.show(status, wire.silent);
    this.transport?.show(status);
    this.pins.show(status.pins);
  }

  /** Have a region drawn at the next frame; once a second where motion is not wanted. */
  renew(name) {
    this.dirty.add(name);
    if (this.renewal !== undefined) return;
    const rest = this.still.matches ? (this.renewed ?? -CALM) + CALM - performance.now() : 0;
    this.renewal = setTimeout(() => { this.frame = requestAnimationFrame(() => this.drawDirty()); }, Math.max(0, rest));
  }

  drawDirty() {
    this.renewal = undefined;
    this.renewed = performance.now();
    const names = [...this.dirty];
    this.dirty.clear();
    for (const name of names) this.put(name);
  }

  put(name) {
    if (name === "probe") this.showProbe();
    else if (name === "link") this.records.showLink(this.model.get("_link"));
    else if (name === "script") this.records.showScript(this.model.get("_script"));
    else if (this.regions[name]) this.fill(this.regions[name], this.model.get(`_${name}`));
  }

  /** Python's text; the place never becomes lower by it, so that the page does not jump. */
  fill(place, text) {
    if (place.workbenchText === text) return;
    const height = place.offsetHeight;
    if (height) place.style.minHeight = `${height}px`;
    place.workbenchText = text;
    place.innerHTML = text;
    place.hidden = text === "" && !height;
  }

  showProbe() {
    if (!this.rows) return;
    const probe = this.model.get("_probe"), fits = this.rows.load(probe, this.model.get("_logits"));
    this.parts.probe.hidden = !this.rows.probe;
    if (!fits) return;
    write(this.parts.probeTitle, probe.title);
    this.writeText(probe.text);
    this.fit();
    this.rows.draw(this.temperature);
  }

  /** The question in words; what is asked for stands out. */
  writeText(text) {
    if (text === this.textShown && this.parts.probeText.childNodes.length) return;
    this.textShown = text;
    this.parts.probeText.replaceChildren(...text.split(/(\[[^\]\s]{1,12}\])/).map((piece, i) =>
      i % 2 ? node("mark", {}, piece) : piece));
  }

  // ---------------------------------------------------------------------- size

  showPresenter() {
    const on = Boolean(this.model.get("_presenter"));
    this.root.classList.toggle("wblab-presenting", on);
    const { presenter } = this.parts;
    if (presenter) {
      write(presenter, on ? "Leave presenter mode" : "Presenter mode");
      presenter.setAttribute("aria-pressed", String(on));
    }
    this.fitted = null;
    this.fit();
  }

  /** Draw for the width there is. */
  fit() {
    const { place } = this.parts, width = this.root.clientWidth;
    const presenting = this.root.classList.contains("wblab-presenting");
    const fitted = `${width} ${presenting}`;
    if (fitted !== this.fitted) {
      // Another width, other heights.
      for (const region of Object.values(this.regions)) region.style.minHeight = "";
      this.fitted = fitted;
    }
    this.root.classList.toggle("wblab-wide", width >= WIDE_ENOUGH);
    if (this.rows && !this.parts.probe.hidden)
      this.rows.resize(Math.floor(place.clientWidth), presenting ? TYPE_LARGE : TYPE);
  }
}

/** One for each model: anywidget calls this once a model, and gives each view another `model`. */
export default () => {
  let wire = null;
  function render({ model, el }) {
    const root = node("section", { class: "wblab", tabindex: 0, "data-lm-suppress-shortcuts": "true" });
    el.append(root);
    wire ??= new Wire(model);
    const panel = new Panel(model, root, wire);
    return () => {
      panel.close();
      root.remove();
    };
  }
  return { render };
};
