// The Lab's distributions: what oracle, teacher, student and baseline say about one example, a row
// each, over the same columns. The softmax at T is taken here, so that T answers within a frame.
// This file is joined behind elements.js, distillation.js and explorer_charts.js.

const SAY_AFTER = 600; // ms until a screen reader hears of new numbers
const WHO_SAYS = {
  oracle: ["oracle", "the truth"], teacher: ["teacher", ""],
  student: ["student", "distilled"], baseline: ["baseline", "labels only"],
};
// Numbers stand above the bars where there are few columns, and wide ones (in type sizes).
const MOST_VALUES = 14, VALUES_FROM = 3.3;
const ROOMY_FROM = 38; // type sizes the rows must be wide for all of their words
const SCALES = [1, 1.5, 2, 3, 4, 5, 6, 8, 10]; // the top of a row, times a power of ten

/** Each row's probabilities; the oracle, which is the truth, is always at T = 1. */
export function chances({ rows, words }, logits, temperature) {
  const found = {};
  rows.forEach((row, i) => {
    const own = logits.subarray(i * words.length, (i + 1) * words.length);
    const logP = logSoftmax(own, row === "oracle" ? 1 : temperature);
    found[row] = { logP, p: exponentials(logP) };
  });
  return found;
}

function share(value) {
  return value > 0 && value < 0.0005 ? "< 0.1 %" : percent(value);
}

function float32s(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

class Distributions {
  constructor(id) {
    this.id = id;
    this.svg = drawn("svg", { class: "wblab-rows", role: "img" });
    this.saysNow = node("span");
    this.aim = node("span", { class: "wblab-aimname" }, "the teacher’s height");
    this.readout = node("p", { class: "wblab-readout" }, this.saysNow, this.aim);
    this.body = drawn("g");
    this.svg.append(this.buildPatterns(), this.body);
    this.svg.addEventListener("pointerleave", () => this.pick(null));
    this.width = 0;
    this.temperature = 1;
    this.picked = null;
  }

  close() {
    clearTimeout(this.saying);
  }

  buildPatterns() {
    const all = drawn("defs");
    for (const [look, angle] of [["teacher", 45], ["baseline", -45]]) {
      const pattern = drawn("pattern", { id: `${this.id}-${look}`, width: 7, height: 7,
        patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle})` });
      pattern.append(drawn("rect", { width: 7, height: 7, class: `wblab-${look}-ground` }),
        drawn("rect", { width: 2, height: 7, class: "wblab-hatch" }));
      all.append(pattern);
    }
    const dots = drawn("pattern", { id: `${this.id}-oracle`, width: 6, height: 6, patternUnits: "userSpaceOnUse" });
    dots.append(drawn("rect", { width: 6, height: 6, class: "wblab-oracle-ground" }),
      drawn("circle", { cx: 3, cy: 3, r: 1, class: "wblab-oracle-dot" }));
    all.append(dots);
    return all;
  }

  /** Take an example and its logits; false where the two do not belong together yet. */
  load(probe, view) {
    const ready = probe && probe.words?.length > 0 && probe.rows.length > 0
      && view?.byteLength === 4 * probe.rows.length * probe.words.length;
    if (!ready) return false;
    this.probe = probe;
    this.logits = float32s(view);
    this.sharp = chances(probe, this.logits, 1);
    this.isShown = new Uint8Array(probe.words.length);
    for (const i of probe.shown) this.isShown[i] = 1;
    this.hasRest = Boolean(probe.rest) && probe.shown.length < probe.words.length;
    this.columns = probe.shown.map((i) => probe.words[i]);
    if (this.hasRest) this.columns.push(probe.rest);
    const built = JSON.stringify([probe.rows, probe.shown, this.columns, probe.label]);
    if (built !== this.built && this.width) this.build();
    return true;
  }

  /** Draw for so many pixels and a size of type; letters are never scaled. */
  resize(width, type) {
    if (width === this.width && type === this.type || width < 1) return;
    this.width = width;
    this.type = type;
    if (this.probe) this.build();
  }

  build() {
    const { probe, type, width } = this, { rows } = probe;
    this.built = JSON.stringify([rows, probe.shown, this.columns, probe.label]);
    const head = 1.9 * type, gap = 0.6 * type;
    this.roomy = width >= ROOMY_FROM * type;
    this.plot = 4.6 * type;
    this.left = (this.roomy ? 3.6 : 3) * type;
    this.top = 1.4 * type;
    this.pitch = (width - this.left - 2) / this.columns.length;
    const wide = this.columns.map((name) => name.length * 0.58 * type);
    const longest = Math.max(...this.columns.map((name) => name.length));
    // Two neighbours that touch; single letters never do.
    this.slanted = wide.some((one, i) => longest > 3 && i > 0 && (one + wide[i - 1]) / 2 > this.pitch - 6);
    this.tight = this.pitch < 1.2 * type;
    const foot = this.tight ? 2.7 * type : this.slanted ? Math.min(longest, 14) * 0.47 * type + 1.2 * type : 1.6 * type;
    const height = this.top + rows.length * (head + this.plot + gap) + foot;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    this.body.replaceChildren();
    this.floor = this.top + rows.length * (head + this.plot + gap) - gap;
    this.own = probe.label === null ? -1 : probe.shown.indexOf(probe.label);
    this.buildLabel();
    this.band = drawn("rect", { class: "wblab-band", width: this.pitch, y: this.top,
      height: this.floor - this.top, visibility: "hidden" });
    this.body.append(this.band);
    this.drawnRows = rows.map((who, i) =>
      this.buildRow(who, this.top + i * (head + this.plot + gap), head));
    this.buildNames();
    this.draw(this.temperature);
  }

  x(slot, share = 0) {
    return this.left + this.pitch * (slot + share);
  }

  /** The answer in the data: all of its chance on one column, at any T. */
  buildLabel() {
    if (this.own < 0) return;
    const mark = drawn("rect", { class: "wblab-labelled", x: this.x(this.own, 0.03), width: this.pitch * 0.94,
      y: this.top - 2, height: this.floor - this.top + 2 });
    const middle = Math.max(this.left + 1.2 * this.type, Math.min(this.width - 1.4 * this.type, this.x(this.own, 0.5)));
    this.body.append(mark, drawn("text", { class: "wblab-labelname", x: middle, y: this.top - 0.45 * this.type }, "label"));
  }

  buildRow(who, y, head) {
    const { type } = this, [name, more] = WHO_SAYS[who], base = y + head + this.plot;
    const row = { who, base, bars: [], values: [], marks: [],
      at: drawn("tspan", { class: "wblab-faint", dx: 7 }),
      figures: drawn("text", { class: "wblab-figures", x: this.width - 2, y: y + 0.95 * type }),
      tick: drawn("text", { class: "wblab-tick", x: this.left - 7, y: base - this.plot + 0.35 * type }) };
    const title = drawn("text", { class: "wblab-who", x: 1.5 * type, y: y + 0.95 * type });
    title.append(drawn("tspan", {}, name), row.at);
    row.more = more;
    this.body.append(
      drawn("rect", { class: `wblab-${who}`, x: 1, y: y + 0.15 * type, width: 0.95 * type, height: 0.95 * type }),
      title, row.figures, row.tick,
      drawn("line", { class: "wblab-grid", x1: this.left, x2: this.width - 2, y1: base - this.plot, y2: base - this.plot }),
      drawn("text", { class: "wblab-tick", x: this.left - 7, y: base + 0.1 * type }, "0"));
    if (this.own >= 0)
      this.body.append(drawn("rect", { class: "wblab-certain", x: this.x(this.own, 0.03), width: this.pitch * 0.94,
        y: base - this.plot, height: this.plot }));
    const width = Math.min(this.pitch * 0.66, 3.2 * type);
    this.columns.forEach((_, slot) => {
      const x = this.x(slot, 0.5) - width / 2;
      const bar = drawn("rect", { class: `wblab-${who}`, x, width });
      row.bars.push(bar);
      this.body.append(bar);
      if (who === "student" || who === "baseline") {
        const mark = drawn("line", { class: "wblab-aim", x1: x - 3, x2: x + width + 3, visibility: "hidden" });
        row.marks.push(mark);
        this.body.append(mark);
      }
      const value = drawn("text", { class: "wblab-value", x: this.x(slot, 0.5) });
      row.values.push(value);
      this.body.append(value);
    });
    this.body.append(drawn("line", { class: "wblab-base", x1: this.left, x2: this.width - 2, y1: base, y2: base }));
    return row;
  }

  buildNames() {
    const y = this.floor + (this.slanted ? 0.9 : 1.2) * this.type;
    this.columns.forEach((word, slot) => {
      const x = this.x(slot, this.slanted ? 0.62 : 0.5);
      // Between single letters, a word has a line of its own.
      const lower = this.tight && !this.slanted && word.length > 2;
      const text = drawn("text", { x: lower ? x - 0.5 * this.type : x, y: lower ? y + 1.1 * this.type : y,
        class: `wblab-word ${this.slanted ? "wblab-slanted" : ""} ${slot === this.own ? "wblab-true" : ""} ${this.tight ? "wblab-tight" : ""}` },
        this.slanted && word.length > 14 ? `${word.slice(0, 13)}…` : word);
      if (this.slanted) text.setAttribute("transform", `rotate(-38 ${x} ${y})`);
      const area = drawn("rect", { class: "wblab-area", x: this.x(slot), width: this.pitch, y: this.top,
        height: y - this.top });
      area.addEventListener("pointerenter", () => this.pick(slot));
      this.body.append(text, area);
    });
  }

  // -- numbers

  /** Of the columns; those without one of their own together in the last. */
  gathered(p) {
    const columns = this.probe.shown.map((i) => p[i]);
    if (this.hasRest) {
      // Not as a difference of sums: rounding would make it a negative probability.
      let rest = 0;
      for (let i = 0; i < p.length; i++) if (!this.isShown[i]) rest += p[i];
      columns.push(rest);
    }
    return columns;
  }

  /** Room for the sharper of T = 1 and the present T: softening is seen to flatten the bars. */
  highest(now) {
    let most = 0;
    for (const at of [this.sharp, now])
      for (const { p } of Object.values(at))
        for (const i of this.probe.shown) most = Math.max(most, p[i]);
    const wanted = Math.max(1.02 * most, 1e-6), power = 10 ** Math.floor(Math.log10(wanted));
    return Math.min(1, Number((SCALES.find((scale) => scale * power >= wanted) * power).toPrecision(3)));
  }

  draw(temperature) {
    this.temperature = temperature;
    if (!this.probe || !this.drawnRows) return;
    const now = this.now = chances(this.probe, this.logits, temperature);
    const high = this.high = this.highest(now), teacher = now.teacher && this.gathered(now.teacher.p);
    const columns = this.gatheredRows = {};
    for (const row of this.drawnRows) {
      const values = columns[row.who] = this.gathered(now[row.who].p);
      const up = (value) => row.base - this.plot * Math.min(1, value / high);
      const wide = this.columns.length <= MOST_VALUES && this.pitch >= VALUES_FROM * this.type;
      values.forEach((value, slot) => {
        const y = up(value);
        row.bars[slot].setAttribute("y", y);
        row.bars[slot].setAttribute("height", row.base - y);
        // A bar that is cut off says how far it goes.
        const cut = value > high * 1.0001;
        write(row.values[slot], cut ? `↑ ${Math.round(100 * value)} %` : wide ? share(value) : "");
        const above = row.marks[slot] && teacher ? Math.min(y, up(teacher[slot])) : y;
        row.values[slot].setAttribute("y", cut ? row.base - this.plot + 1.05 * this.type : above - 4);
        row.values[slot].classList.toggle("wblab-inside", cut);
        if (!row.marks[slot] || !teacher) return;
        row.marks[slot].setAttribute("visibility", "visible");
        row.marks[slot].setAttribute("y1", up(teacher[slot]));
        row.marks[slot].setAttribute("y2", up(teacher[slot]));
      });
      const at = row.who === "oracle" ? "always at T = 1" : `at T = ${written(temperature)}`;
      write(row.at, row.more && this.roomy ? `${row.more}, ${at}` : at);
      write(row.figures, this.figuresOf(row.who));
      write(row.tick, percent(high));
    }
    this.showPicked();
    const say = () => this.svg.setAttribute("aria-label", this.summary());
    clearTimeout(this.saying);
    if (this.svg.hasAttribute("aria-label")) this.saying = setTimeout(say, SAY_AFTER);
    else say();
  }

  figuresOf(who) {
    const { now } = this, { p, logP } = now[who];
    if (!now.teacher || who === "oracle" || who === "teacher") return `entropy ${figure(entropy(p, logP))} nats`;
    const far = figure(divergence(now.teacher.p, now.teacher.logP, logP));
    return this.roomy ? `KL from the teacher ${far} nats` : `KL ${far} nats`;
  }

  pick(slot) {
    this.picked = slot;
    this.showPicked();
  }

  showPicked() {
    if (!this.gatheredRows) return;
    const { own } = this;
    const slot = this.picked !== null && this.picked < this.columns.length ? this.picked : Math.max(own, 0);
    this.band.setAttribute("x", this.x(slot));
    this.band.setAttribute("visibility", this.picked === null ? "hidden" : "visible");
    const said = this.probe.rows.map((who) => `${who} ${share(this.gatheredRows[who][slot])}`);
    write(this.saysNow, `${this.columns[slot]}${slot === own ? " (the label)" : ""}: ${said.join(", ")}`);
  }

  summary() {
    const rows = this.probe.rows.map((who) => {
      const values = this.gatheredRows[who];
      const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]).slice(0, 3);
      return `${who}: ${order.map((i) => `${this.columns[i]} ${share(values[i])}`).join(", ")}`;
    });
    return `distributions at T = ${written(this.temperature)}, the likeliest of each. ${rows.join("; ")}`;
  }
}
