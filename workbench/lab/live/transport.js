// The Lab's commands: play, steps, the way back, and what begins anew. This file is joined behind
// elements.js, state.js and controls.js.

const SEEDS = 3, STEPS = 50, MOST_STEPS = 1e6;
/** Why a command cannot be given, where the state alone says it. */
const NOT_IN = {
  preparing: "Wait until everything is prepared",
  finishing: "Wait until the last figures are in",
  done: "This run is finished: press Reset for another",
  failed: "This run has failed: press Reset for another",
  closed: "This panel is closed: run its cell again",
  following: "Another process trains this run",
};
const IS_MOVING = ["running", "preparing", "finishing"];

class Transport {
  /**
   * @param panel `command(name, value)`, `hides(name)`, `labelled(text, control)`
   */
  constructor(panel) {
    this.panel = panel;
    this.parts = {};
    this.element = node("div", { class: "wblab-transport", role: "group", "aria-label": "run" },
      ...this.buildGroups().filter((group) => group.childElementCount));
  }

  /** Those of these commands' elements that are not hidden. */
  group(name, ...pairs) {
    const shown = pairs.filter(([command]) => !this.panel.hides(command)).map(([, make]) => make());
    return node("div", { class: `wblab-group wblab-${name}` }, ...shown);
  }

  make(command, text, press, className) {
    this.parts[command] = button(command, text, press, className);
    return this.parts[command];
  }

  buildGroups() {
    const { panel, parts } = this, give = (command, value) => () => this.give(command, value?.());
    const sign = node("span", { class: "wblab-sign", "aria-hidden": "true" });
    parts.sign = sign;
    parts.playName = node("span");
    return [
      this.group("go",
        ["play", () => {
          const play = this.make("play", "", () => this.toggle(), "wblab-primary");
          play.append(sign, parts.playName);
          return play;
        }],
        ["step", () => this.make("step", "Step", give("step"))],
        ["steps", () => {
          parts.count = node("input", { type: "text", class: "wblab-box wblab-count", inputmode: "numeric",
            "aria-label": "number of steps", autocomplete: "off", "data-name": "count", value: STEPS });
          const run = () => this.runSteps();
          parts.count.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
          return node("span", { class: "wblab-joined" }, parts.count, this.make("steps", "steps", run));
        }]),
      this.group("back",
        [this.panel.hides("rewind") ? "branch" : "rewind", () => {
          parts.kept = node("select", { class: "wblab-box", "data-name": "kept" });
          parts.kept.addEventListener("change", () => { this.chosen = Number(parts.kept.value); });
          return panel.labelled("Kept step", parts.kept);
        }],
        ["rewind", () => this.make("rewind", "Rewind", give("rewind", () => Number(parts.kept.value)))],
        ["branch", () => this.make("branch", "Branch", give("branch", () => Number(parts.kept.value)))]),
      this.group("anew",
        ["reset", () => this.make("reset", "Reset", give("reset"))],
        ["pin", () => this.make("pin", "Pin", give("pin"))],
        ["seeds", () => this.make("seeds", `Seeds ×${SEEDS}`, give("seeds", () => SEEDS))]),
    ];
  }

  // -- commands

  /** Why a command cannot be given now; empty if it can. */
  reason(command) {
    const { state, allowed, kept } = this.status;
    if (command === "rewind" || command === "branch") {
      if (!kept.length) return "No step is kept yet";
    }
    if (allowed.includes(command)) return "";
    if (command === "play" && this.panel.isAsked()) return "Answer the question first";
    return NOT_IN[state] ?? "Not now";
  }

  give(command, value) {
    const reason = this.panel.hides(command) ? "" : this.reason(command);
    if (reason) this.panel.complain(`${reason}.`);
    else if (!this.panel.hides(command)) this.panel.command(command, value);
  }

  get verb() {
    return IS_MOVING.includes(this.status.state) ? "pause" : "play";
  }

  toggle() {
    if (!this.panel.hides("play")) this.give(this.verb);
  }

  runSteps() {
    const box = this.parts.count, text = box.value.trim(), count = Number(text);
    if (!/^\d{1,7}$/.test(text) || count < 1 || count > MOST_STEPS) {
      this.panel.complain(`The number of steps is ${quoted(text)}; expected a whole number from 1 to ${MOST_STEPS}`, box);
      return;
    }
    box.removeAttribute("aria-invalid");
    this.give("steps", count);
  }

  /** To the last kept step before the present one. */
  back() {
    const { kept, step } = this.status, before = kept.filter((one) => one < step);
    if (before.length) this.give("rewind", Math.max(...before));
    else if (!this.panel.hides("rewind")) this.panel.complain("No earlier step is kept.");
  }

  // -- what is shown

  show(status) {
    this.status = status;
    const { parts } = this;
    if (parts.play) {
      const pauses = this.verb === "pause";
      write(parts.sign, pauses ? "❚❚" : "▶");
      write(parts.playName, pauses ? "Pause" : "Play");
      allow(parts.play, this.reason(this.verb));
    }
    for (const command of ["step", "steps", "rewind", "branch", "reset", "pin", "seeds"])
      if (parts[command]) allow(parts[command], this.reason(command));
    if (parts.kept) this.showKept(status.kept);
  }

  showKept(kept) {
    const { parts } = this, known = String(kept);
    if (known === this.known) return;
    this.known = known;
    parts.kept.replaceChildren(...(kept.length ? kept.map((step) => node("option", { value: step }, `${step}`))
      : [node("option", { value: "" }, "none yet")]));
    // The newest, until somebody has chosen one that is still there.
    if (kept.length) parts.kept.value = kept.includes(this.chosen) ? this.chosen : kept.at(-1);
  }

  markPending(pending) {
    this.parts.reset?.classList.toggle("wblab-wanted", pending);
  }
}
