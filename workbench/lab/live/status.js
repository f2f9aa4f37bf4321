// The Lab's words about the run: its state, how far it is, the runs pinned beside it, the question
// that stands before it, and what it leaves behind as a line of text and as a script. This file is
// joined with elements.js and controls.js.

const SILENCE = "The kernel does not answer: restart it and run this cell again. The picture stays.";

class Status {
  constructor() {
    this.title = node("strong");
    this.sentence = node("span");
    this.remark = node("em");
    this.trace = node("pre");
    this.details = node("details", { class: "wblab-details" }, node("summary", {}, "Details"), this.trace);
    this.element = node("div", { class: "wblab-status" },
      node("span", { class: "wblab-light", "aria-hidden": "true" }),
      node("div", { class: "wblab-words" },
        node("p", { role: "status", "aria-live": "polite" }, this.title, " ", this.sentence, " ", this.remark),
        this.details));
    this.done = node("div");
    this.progress = node("div", { class: "wblab-progress", role: "progressbar",
      "aria-label": "progress of the run", "aria-valuemin": 0 }, this.done);
  }

  show({ state, title, sentence, remark, details, done, total }, silent) {
    write(this.title, silent ? "No answer." : title);
    write(this.sentence, silent ? SILENCE : sentence);
    write(this.remark, silent ? "" : remark);
    write(this.trace, details);
    this.details.hidden = !details;
    const share = state === "done" ? 1 : total ? Math.min(1, done / total) : 0;
    this.done.style.width = `${100 * share}%`;
    this.progress.setAttribute("aria-valuemax", total || 1);
    this.progress.setAttribute("aria-valuenow", total ? done : share);
  }
}

class Pins {
  /** @param unpin called with the id of a run to take away; null where that is not for the hand */
  constructor(unpin) {
    this.unpin = unpin;
    this.element = node("ul", { class: "wblab-pins", "aria-label": "pinned runs" });
  }

  show(pins) {
    const known = JSON.stringify(pins);
    if (known === this.known) return;
    this.known = known;
    this.element.replaceChildren(...pins.map((pin) => this.build(pin)));
    this.element.hidden = pins.length === 0;
    keepKeys(this.element);
  }

  build({ id, label }) {
    const made = node("li", {}, node("span", {}, label));
    if (!this.unpin) return made;
    const away = button(`unpin-${id}`, "×", () => this.unpin(id), "wblab-away");
    away.setAttribute("aria-label", `unpin ${label}`);
    away.title = `unpin ${label}`;
    made.append(away);
    return made;
  }
}

/** The question that stands before Play, until it is answered. */
function buildQuestion({ text, options }, id, answer) {
  const choices = options.map((option, i) => {
    const radio = node("input", { type: "radio", name: `${id}-answer`, value: i, "data-name": `answer-${i}` });
    return node("label", { class: "wblab-option" }, radio, option);
  });
  const send = button("answer", "Answer", () => {
    const chosen = choices.findIndex((choice) => choice.firstChild.checked);
    if (chosen >= 0) answer(options[chosen]);
  }, "wblab-primary");
  const look = () => allow(send, choices.some((choice) => choice.firstChild.checked) ? "" : "Choose an answer first");
  const made = node("fieldset", { class: "wblab-question" }, node("legend", {}, text),
    node("div", { class: "wblab-options" }, ...choices), send);
  made.addEventListener("change", look);
  look();
  return made;
}

// ---------------------------------------------------------------------- to take along

class Records {
  /**
   * @param panel `command(name, value)`, `hides(name)`, `labelled(text, control, className)`
   * @param isFixed whether the line can only be read
   */
  constructor(panel, { isFixed }) {
    this.panel = panel;
    this.elements = [];
    if (!panel.hides("link")) this.elements.push(this.buildLink(isFixed));
    if (!panel.hides("script")) this.elements.push(this.buildScript());
  }

  buildLink(isFixed) {
    const link = this.link = node("input", { type: "text", class: "wblab-box wblab-code",
      autocomplete: "off", spellcheck: "false", "data-name": "link" });
    const row = node("div", { class: "wblab-link" },
      this.panel.labelled("This state as text", link, "wblab-grow"));
    if (isFixed) link.readOnly = true;
    else {
      const go = () => this.panel.command("link", link.value.trim());
      link.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
      row.append(button("go", "Go there", go));
    }
    row.append(this.buildCopy("copy", "Copy", () => link.value, link));
    return row;
  }

  buildScript() {
    const script = this.script = node("pre", { tabindex: 0, role: "region",
      "aria-label": "Python that repeats this run" });
    return node("details", { class: "wblab-script" }, node("summary", {}, "This run as Python"),
      script, this.buildCopy("copy-script", "Copy the script", () => script.textContent, script));
  }

  buildCopy(name, text, content, source) {
    const select = () => {
      getSelection().selectAllChildren(source);
      source.select?.();
      write(made, "Selected: press Ctrl+C");
    };
    const made = button(name, text, () => {
      // Over plain http there is no clipboard; and it may be refused.
      if (!navigator.clipboard) select();
      else navigator.clipboard.writeText(content()).then(() => write(made, "Copied"), select);
    });
    made.addEventListener("blur", () => write(made, text));
    return made;
  }

  showLink(text) {
    // What is being typed is not taken away.
    if (this.link && this.link.getRootNode().activeElement !== this.link) this.link.value = text;
  }

  showScript(text) {
    if (this.script) write(this.script, text);
  }
}
