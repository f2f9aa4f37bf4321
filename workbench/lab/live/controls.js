// The Lab's knobs: a slider with a number box, a box alone, a menu. A knob tells its panel of
// moves and knows nothing of the kernel. This file is joined behind elements.js and state.js.

const NOTCHES = 200; // of a logarithmic slider
const ROUND = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
const APPLIES_ON_RESET = "applies on reset";

/** A number in the shortest way that says it. */
function written(value) {
  const isFraction = typeof value === "number" && !Number.isInteger(value);
  return isFraction ? String(Number(value.toPrecision(6))) : String(value ?? "");
}

/** Round numbers between two, and those that the knob marks. */
function roundNumbers({ min, max, mark }) {
  const found = new Set(mark ? [min, max, mark.value] : [min, max]);
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++)
    for (const leading of ROUND) {
      const value = Number(`${leading}e${power}`);
      if (value > min && value < max) found.add(value);
    }
  return [...found].sort((a, b) => a - b);
}

/** What was typed into a number box; throws `Unusable`. */
function readTyped(knob, text) {
  if (knob.kind === "text") return text.trim();
  const trimmed = text.trim().replace(",", "."), value = Number(trimmed);
  const whole = Number.isInteger(knob.step) && Number.isInteger(knob.min);
  const low = knob.min ?? -Infinity, high = knob.max ?? Infinity;
  const fits = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)
    && value >= low && value <= high && !(whole && !Number.isInteger(value));
  if (fits) return value;
  const range = Number.isFinite(high) ? ` from ${written(low)} to ${written(high)}`
    : Number.isFinite(low) ? `, at least ${written(low)}` : "";
  throw new Unusable(`${knob.label} is ${quoted(trimmed)}; expected a ${whole ? "whole " : ""}number${range}`);
}

class Knob {
  /**
   * @param about the knob as the kernel describes it
   * @param id of its elements, unique on the page
   * @param panel `moved(knob)` while it moves, `settled(knob)` when it is let go,
   *     `refused(line, input)` when what was typed cannot be used
   */
  constructor(about, id, panel) {
    this.about = about;
    this.name = about.name;
    this.panel = panel;
    this.value = null;
    this.typing = false;
    this.tag = node("span", { class: "wblab-tag", id: `${id}-tag` });
    this.label = node("label", { for: id }, about.label);
    const control = { menu: () => this.buildMenu(), slider: () => this.buildSlider(),
      log: () => this.buildSlider(), number: () => this.buildBox(about.label),
      text: () => this.buildBox(about.label) }[about.kind]();
    this.control = control;
    control.id = id;
    control.setAttribute("data-name", about.name);
    control.setAttribute("aria-describedby", this.tag.id);
    if (this.slider) this.box = this.buildBox(`${about.label}, as a number`);
    if (about.placeholder) control.placeholder = about.placeholder;
    const suggestions = about.suggestions?.length ? [this.buildSuggestions(`${id}-list`)] : [];
    this.element = node("div", { class: `wblab-knob wblab-kind-${about.kind}`, "data-knob": about.name },
      node("div", { class: "wblab-knobname" }, this.label, this.tag),
      node("div", { class: "wblab-knobrow" }, control, ...(this.box ? [this.box] : [])),
      ...this.buildEnds(), ...suggestions);
    if (about.help) this.element.title = about.help;
  }

  buildSlider() {
    const { about } = this;
    this.log = about.kind === "log";
    if (this.log) this.rounds = roundNumbers(about);
    const [min, max, step] = this.log ? [0, NOTCHES, 1] : [about.min, about.max, about.step ?? "any"];
    this.slider = node("input", { type: "range", min, max, step });
    this.slider.addEventListener("input", () => this.take(this.ofSlider(), this.slider));
    // A pointer that is let go makes "change" as well, except where it was taken away.
    for (const end of ["change", "pointerup", "pointercancel"])
      this.slider.addEventListener(end, () => this.panel.settled(this));
    return this.slider;
  }

  buildBox(name) {
    const box = node("input", { type: "text", class: "wblab-box", autocomplete: "off", spellcheck: "false",
      inputmode: this.about.kind === "text" ? "text" : "decimal", "aria-label": name });
    const commit = () => {
      if (!this.typing) return;
      this.typing = false;
      try {
        this.take(readTyped(this.about, box.value));
        this.panel.settled(this);
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        this.panel.refused(error.message, box);
      }
    };
    box.addEventListener("input", () => { this.typing = true; });
    // Enter makes no "change" in JupyterLab, and makes one elsewhere: whichever is first counts.
    box.addEventListener("keydown", (event) => { if (event.key === "Enter") commit(); });
    box.addEventListener("change", commit);
    return box;
  }

  /** What may be typed into a text box, as the browser offers it. */
  buildSuggestions(id) {
    this.control.setAttribute("list", id);
    return node("datalist", { id }, ...this.about.suggestions.map((value) => node("option", { value })));
  }

  buildMenu() {
    const { options } = this.about;
    const menu = node("select", { class: "wblab-box" },
      ...options.map(({ label }, i) => node("option", { value: i }, label)));
    menu.addEventListener("change", () => {
      this.take(options[Number(menu.value)].value, menu);
      this.panel.settled(this);
    });
    return menu;
  }

  /** What the ends mean, and a place between them. */
  buildEnds() {
    const { ends, mark, min, max } = this.about, named = ends?.some(Boolean);
    if (!this.slider || !(named || mark)) return [];
    const line = node("div", { class: "wblab-ends", "aria-hidden": "true" });
    if (mark) {
      const share = this.log ? Math.log(mark.value / min) / Math.log(max / min) : (mark.value - min) / (max - min);
      // The name stands on the side where there is room for it; 9 px is half of the thumb.
      const left = share < 0.5;
      const place = node("span", { class: `wblab-mark ${left ? "" : "wblab-before"}` },
        left ? `▲ ${mark.name}` : `${mark.name} ▲`);
      place.style[left ? "left" : "right"] =
        `calc(${100 * (left ? share : 1 - share)}% + ${9 - 18 * (left ? share : 1 - share)}px - 0.45em)`;
      line.append(place);
    }
    if (named) line.append(...ends.map((end) => node("span", {}, end)));
    return [line];
  }

  // -- value and place on the slider

  ofSlider() {
    const { min, max } = this.about, at = Number(this.slider.value);
    if (!this.log) return Number(at.toPrecision(12));
    const value = min * (max / min) ** (at / NOTCHES), near = Math.log(max / min) / NOTCHES / 2;
    return this.rounds.find((round) => Math.abs(Math.log(value / round)) <= near * 1.0001)
      ?? Number(value.toPrecision(3));
  }

  placeOf(value) {
    const { min, max } = this.about;
    return this.log ? Math.round(NOTCHES * Math.log(value / min) / Math.log(max / min)) : value;
  }

  /** The next round number up (1) or down (−1). */
  nudge(direction) {
    const { min, max, step } = this.about;
    const next = this.log
      ? direction > 0 ? this.rounds.find((r) => r > this.value) : this.rounds.findLast((r) => r < this.value)
      : Math.max(min, Math.min(max, Number((this.value + direction * (step ?? (max - min) / 100)).toPrecision(12))));
    if (next === undefined || next === this.value) return;
    this.take(next);
    this.panel.settled(this);
  }

  /** A value chosen here. */
  take(value, by = null) {
    this.show(value, by);
    this.panel.moved(this);
  }

  /** Show a value; the element that it comes from is left as it is. */
  show(value, by = null) {
    const changed = value !== this.value;
    this.value = value;
    const text = written(value);
    if (this.slider) {
      if (by !== this.slider && changed) this.slider.value = this.placeOf(value);
      this.slider.setAttribute("aria-valuetext", text);
      const { min, max } = this.slider;
      this.slider.style.setProperty("--wblab-share", (this.slider.value - min) / (max - min));
    }
    if (this.about.kind === "menu" && by === null)
      this.control.value = this.about.options.findIndex((option) => option.value === value);
    const box = this.box ?? (this.control.tagName === "INPUT" && !this.slider ? this.control : null);
    // What was typed and refused stays to be mended, until the value itself is another.
    const refused = box?.hasAttribute("aria-invalid") && !changed;
    if (!box || this.typing || refused) return;
    if (box.value !== text) box.value = text;
    box.removeAttribute("aria-invalid");
  }

  markPending(pending) {
    write(this.tag, pending ? APPLIES_ON_RESET : "");
    this.element.classList.toggle("wblab-pending", pending);
  }
}

/** A button that can say why it does nothing; it keeps the focus, unlike a disabled one. */
function button(name, text, press, className = "") {
  const made = node("button", { type: "button", class: `wblab-button ${className}`, "data-name": name }, text);
  made.addEventListener("click", () => press(made));
  return made;
}

function allow(made, reason) {
  if (reason) {
    made.setAttribute("aria-disabled", "true");
    made.title = reason;
  } else {
    made.removeAttribute("aria-disabled");
    made.removeAttribute("title");
  }
}
