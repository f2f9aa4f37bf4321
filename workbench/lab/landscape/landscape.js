// A sweep over T and α: a heat map a variant, and what is behind the chosen cell. All of it is
// computed here, from the data that came with the widget. Joined behind elements.js and charts.js.

const MARKS = { better: "✓", "not better": "✗", inconclusive: "?" };
const TERMS = ["hard", "soft", "cosine", "hidden", "attention"];
const SEND_DELAY = 60, SAY_DELAY = 400; // ms
const HAIR = 1e-3;
// Times the median: a point beyond has the colour of the scale's end, or leaves the chart.
const FAR = 2, OUTSIDE = 4;
const BRIGHT = 0.179; // relative luminance at which black and white letters are equally clear

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const signed = (share) => `${share < 0 ? "−" : "+"}${(100 * Math.abs(share)).toFixed(1)} %`;
const range = (values) => [Math.min(...values), Math.max(...values)];

function channels(colour) { return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)); }

function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The ends of a scale. A few points far off on the bad side must not leave all others one colour. */
export function endsOf(values, figure, far = FAR) {
  if (!values.length) return [0, 1];
  const [low, high] = range(values);
  if (figure.better !== "lower" || low <= 0) return [low, high];
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length / 2;
  const median = (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
  return [low, Math.min(high, far * median)];
}

/** From a value to the colours of a cell and its letters; the good end is the bright one. */
export function colouring(means, figure, colours) {
  const [low, high] = endsOf(means, figure), lower = figure.better === "lower";
  const share = (value) => {
    if (!(high > low)) return 0.5;
    const at = lower && low > 0 ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return Math.min(1, Math.max(0, lower ? 1 - at : at));
  };
  const colour = (value) => {
    const place = share(value) * (colours.length - 1), first = Math.min(Math.floor(place), colours.length - 2);
    const [one, other] = [channels(colours[first]), channels(colours[first + 1])];
    const mixed = one.map((c, i) => Math.round(c + (other[i] - c) * (place - first)));
    return { paper: `rgb(${mixed.join(", ")})`, ink: luminance(mixed) > BRIGHT ? "#000000" : "#ffffff" };
  };
  return { low, high, colour, cut: means.some((mean) => mean > high) };
}

class View {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.data = model.get("_data");
    this.curve = null;
    this.place = 0;
    this.timers = {};
    this.index = new Map(this.data.points.map((point) => [String(point.at), point]));
    this.build();
    this.pull = () => { this.state = this.model.get("state"); this.show(); };
    model.on("change:state", this.pull);
    this.pull();
  }

  close() {
    Object.values(this.timers).forEach(clearTimeout);
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

  // ------------------------------------------------------------------ what is asked of the data

  get figure() { return this.data.figures.find((f) => f.key === this.state.figure); }
  get student() { return this.data.students.indexOf(this.state.student); }
  get variant() { return this.data.variants.findIndex((v) => v.name === this.state.variant); }
  get t() { return this.data.temperatures.indexOf(this.state.temperature); }
  get a() { return this.data.alphas.indexOf(this.state.alpha); }
  point(variant, student, t, a) { return this.index.get(String([variant, student, t, a])); }
  get chosen() { return this.point(this.variant, this.student, this.t, this.a); }
  number(value, figure = this.figure) { return value.toFixed(Math.abs(value) < 1000 ? figure.digits : 0).replace("-", "−"); }
  of(point, figure = this.figure) { return point?.figures[figure.key] ?? null; }
  means(students) {
    return this.data.points.filter((p) => students.includes(p.at[1])).map((p) => this.of(p)?.mean)
      .filter((mean) => mean !== undefined);
  }
  alone(student = this.student) {
    const known = this.data.points.find((p) => p.at[1] === student && (this.of(p)?.baseline ?? null) !== null);
    return known ? this.of(known).baseline : null;
  }

  // ------------------------------------------------------------------ what stays

  build() {
    const { data } = this, parts = this.parts = {}, picture = this.model.get("_picture");
    if (/^[0-9a-f]+$/.test(picture))
      this.root.append(node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`));
    parts.figure = this.menu(data.figures.map((f) => [f.key, f.name]), (figure) => this.change({ figure }));
    parts.student = this.menu(data.students.map((s) => [s, s]), (student) => this.change({ student }));
    parts.levels = node("p", { class: "wbg-levels" });
    parts.maps = node("div", { class: "wbg-maps" });
    this.maps = data.variants.map((variant, number) => this.buildMap(variant, number));
    parts.maps.append(...this.maps.map((map) => map.place));
    parts.legend = node("div", { class: "wbg-legend" });
    parts.best = node("p", { class: "wbg-faint" });
    parts.title = node("h4");
    parts.sentence = node("p");
    parts.link = node("input", { class: "wbg-box wbg-link", readonly: "", "aria-label": "link for the Lab" });
    parts.copy = node("button", { type: "button", class: "wbg-box wbg-button" }, "Copy for the Lab");
    parts.copy.addEventListener("click", () => this.copy());
    parts.said = node("span", { class: "wbg-faint", role: "status" });
    parts.curve = node("select", { class: "wbg-box", "aria-label": "curve" });
    parts.curve.addEventListener("change", () => { this.curve = parts.curve.value; this.show(); });
    parts.place = node("select", { class: "wbg-box", "aria-label": "place in the held-out data" });
    parts.place.addEventListener("change", () => { this.place = Number(parts.place.value); this.show(); });
    for (const name of ["curves", "answers", "ledger", "overT", "overAlpha", "contours"]) parts[name] = node("div");
    parts.size = node("input", { type: "range", min: 0, max: Math.max(0, data.students.length - 1), step: 1, "aria-label": "size, for the contours" });
    parts.size.addEventListener("input", () => this.change({ student: data.students[Number(parts.size.value)] }));
    parts.sizeIs = node("b");
    parts.live = node("p", { class: "wbg-unseen", "aria-live": "polite" });
    const { told } = data;
    this.root.append(
      node("div", { class: "wbg-row" }, node("b", { class: "wbg-heading" }, data.title),
        node("label", {}, "Figure", parts.figure), node("label", {}, "Student’s size", parts.student)),
      parts.levels, parts.maps, parts.legend, parts.best,
      this.section("behind", parts.title, parts.sentence,
        node("div", { class: "wbg-row" }, parts.copy, parts.link, parts.said),
        node("div", { class: "wbg-charts" },
          node("div", {}, node("div", { class: "wbg-row" }, node("b", {}, "While it learned"), parts.curve), parts.curves),
          node("div", {}, node("div", { class: "wbg-row" }, node("b", {}, "What it expects"), parts.place), parts.answers)),
        parts.ledger),
      this.section("slices", node("h4", {}, "Slices through the chosen cell"),
        node("p", { class: "wbg-faint" }, data.seeds > 1
          ? `Bands are 95 % intervals of the mean over ${data.seeds} seeds (Student’s t)${data.seeds < 3 ? "; with two seeds they are very wide, and so they should be" : ""}.`
          : "One seed: there is no band, and no difference can be told from chance."),
        node("div", { class: "wbg-charts" }, parts.overT, parts.overAlpha)),
      this.section("contours", node("h4", {}, "Contours, and how they move with the student’s size"),
        data.students.length > 1
          ? node("div", { class: "wbg-row" }, node("label", {}, "Size", parts.size), parts.sizeIs) : "",
        parts.contoursWords = node("p", { class: "wbg-faint" }), parts.contours),
      node("p", { class: "wbg-faint wbg-told" },
        `${data.steps.toLocaleString("en")} steps, ${data.seeds} ${data.seeds === 1 ? "seed" : "seeds"} · ${told.date} · ${told.machine} · `, node("code", {}, told.command)),
      parts.live);
    keepKeys(this.root);
  }

  section(name, ...children) { return node("section", { class: `wbg-section wbg-${name}` }, ...children); }

  menu(options, take) {
    const made = node("select", { class: "wbg-box" });
    for (const [value, text] of options) made.append(node("option", { value }, text));
    made.addEventListener("change", () => take(made.value));
    return made;
  }

  buildMap(variant, number) {
    const { temperatures, alphas } = this.data, cells = new Map(), body = node("tbody");
    for (const alpha of [...alphas].reverse()) {
      const a = alphas.indexOf(alpha), ends = variant.ends[alpha];
      const row = node("tr", {}, node("th", { scope: "row" }, `α = ${brief(alpha)}`, ...(ends ? [node("small", {}, ends)] : [])));
      temperatures.forEach((_, t) => {
        const cell = node("td", { role: "gridcell", tabindex: -1 }, node("span", { class: "wbg-value" }), node("span", { class: "wbg-marks" }));
        cell.addEventListener("click", () => this.go(number, t, a));
        cell.addEventListener("keydown", (event) => this.press(event, number, t, a));
        cells.set(`${t},${a}`, cell);
        row.append(cell);
      });
      body.append(row);
    }
    const head = node("tr", {}, node("td", {}), ...temperatures.map((t) => node("th", { scope: "col" }, `T = ${brief(t)}`)));
    const table = node("table", { role: "grid" }, body, node("tfoot", {}, head));
    const title = node("p", { class: "wbg-map-title", title: variant.source }, node("b", {}, variant.name), variant.words.slice(variant.name.length));
    return { place: node("div", { class: "wbg-map" }, title, table), table, cells, variant };
  }

  go(variant, t, a, focus = true) {
    const { data } = this;
    this.change({ variant: data.variants[variant].name, temperature: data.temperatures[t], alpha: data.alphas[a] });
    if (focus) this.maps[variant].cells.get(`${t},${a}`).focus();
  }

  /** Arrows walk over the maps, from one into the next. */
  press(event, variant, t, a) {
    const { temperatures, alphas, variants } = this.data;
    const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (to) {
      [t, a] = [t + to[0], Math.min(alphas.length - 1, Math.max(0, a + to[1]))];
      if (t < 0 && variant > 0) [variant, t] = [variant - 1, temperatures.length - 1];
      else if (t >= temperatures.length && variant < variants.length - 1) [variant, t] = [variant + 1, 0];
      t = Math.min(temperatures.length - 1, Math.max(0, t));
    } else if (event.key === "Home") t = 0;
    else if (event.key === "End") t = temperatures.length - 1;
    else if (event.key !== "Enter" && event.key !== " ") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the page's own
    event.preventDefault();
    event.stopPropagation();
    this.go(variant, t, a);
  }

  async copy() {
    const text = this.chosen?.link ?? "";
    try {
      await navigator.clipboard.writeText(text);
      write(this.parts.said, "Copied: Lab(\"…\") takes it.");
    } catch { // no leave for the clipboard: the text is there to be copied by hand
      this.parts.link.select();
      write(this.parts.said, "Selected: copy it with the keyboard.");
    }
  }

  // ------------------------------------------------------------------ what changes

  show() {
    const { parts, state } = this;
    parts.figure.value = state.figure;
    parts.student.value = state.student;
    this.showLevels();
    this.showMaps();
    this.showCell();
    this.showSlices();
    this.showContours();
    keepKeys(this.root);
    this.later("say", SAY_DELAY, () => write(parts.live, `${parts.title.textContent}. ${parts.sentence.textContent}`));
  }

  showLevels() {
    const { teacher, oracle } = this.data.levels, key = this.state.figure, alone = this.alone();
    const known = [["labels only", alone, "baseline"], ["teacher", teacher[key], "teacher"], ["oracle", oracle[key], "oracle"]];
    this.parts.levels.replaceChildren(`${capital(this.figure.name)} (${this.figure.better} is better):`,
      ...known.filter(([, value]) => (value ?? null) !== null).map(([name, value, role]) =>
        node("span", { class: "wbg-level" }, node("i", { class: `wbg-dash wbg-border-${role}`, "aria-hidden": "true" }), `${name} `, node("b", {}, this.number(value)))));
  }

  showMaps() {
    const { data, figure } = this, scale = colouring(this.means([this.student]), figure, data.colours);
    this.maps.forEach(({ table, cells, variant }, number) => {
      table.setAttribute("aria-label", `${figure.name} over T and α, ${variant.words}, student ${this.state.student}`);
      for (const [key, cell] of cells) {
        const [t, a] = key.split(",").map(Number), point = this.point(number, this.student, t, a), value = this.of(point);
        const chosen = number === this.variant && t === this.t && a === this.a;
        const published = variant.published[0] === data.temperatures[t] && variant.published[1] === data.alphas[a];
        const word = figure.headline && point?.state === "complete" ? point.verdict?.word : undefined;
        const { paper, ink } = value ? scale.colour(value.mean) : { paper: "", ink: "" };
        cell.className = `wbg-cell${chosen ? " wbg-chosen" : ""}${published ? " wbg-published" : ""}${value ? "" : " wbg-missing"}`;
        cell.style.background = paper;
        cell.style.color = ink;
        cell.tabIndex = chosen ? 0 : -1;
        cell.setAttribute("aria-selected", String(chosen));
        const state = point?.state ?? "not there";
        write(cell.firstChild, value ? this.number(value.mean) : state);
        write(cell.lastChild, [published ? "★" : "", MARKS[word] ?? ""].join(" ").trim() || " ");
        cell.setAttribute("aria-label", [`T = ${brief(data.temperatures[t])}, α = ${brief(data.alphas[a])}, ${variant.name}:`,
          value ? `${figure.name} ${this.number(value.mean)}` : state, word ? `, ${word} than labels only` : "", published ? ", the published point" : ""].join(" ").replace(/ ,/g, ","));
      }
    });
    this.showLegend(scale);
  }

  showLegend(scale) {
    const { data, figure, parts } = this, lower = figure.better === "lower";
    const [bad, good] = lower ? [scale.high, scale.low] : [scale.low, scale.high];
    const bar = node("span", { class: "wbg-bar", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${data.colours.join(", ")})`;
    const mark = (sign, text) => node("span", {}, node("b", {}, sign), ` ${text}`);
    parts.legend.replaceChildren(
      node("span", {}, `worse ${this.number(bad)}${scale.cut ? " and more" : ""} `, bar, ` ${this.number(good)} better`),
      mark("★", "published T and α"),
      ...(figure.headline ? [node("span", {}, "against labels only: ", mark("✓", "better"), "  ", mark("✗", "not better"), "  ", mark("?", "inconclusive"))] : []));
    const said = data.variants.map((variant, number) => {
      const cells = data.points.filter((p) => p.at[0] === number && p.at[1] === this.student && this.of(p));
      if (!cells.length) return "";
      const best = cells.reduce((one, other) => (this.of(other).mean < this.of(one).mean) === lower ? other : one);
      const [T, alpha] = variant.published;
      const there = data.temperatures.includes(T) && data.alphas.includes(alpha);
      return `${variant.words}: best ${this.number(this.of(best).mean)} at T = ${brief(data.temperatures[best.at[2]])}, α = ${brief(data.alphas[best.at[3]])}`
        + (there ? "." : `; published T = ${brief(T)}, α = ${brief(alpha)} is no cell of this grid.`);
    });
    write(parts.best, said.filter(Boolean).join(" "));
  }

  showCell() {
    const { parts, data, figure, state, chosen: point } = this, value = this.of(point);
    write(parts.title, `${state.variant}, T = ${brief(state.temperature)}, α = ${brief(state.alpha)}, student ${state.student}`);
    write(parts.sentence, value ? this.words(point, value) : `This point is ${point?.state ?? "not there"}. ${point?.error ?? ""}`);
    parts.link.value = point?.link ?? "";
    parts.copy.disabled = !point;
    write(parts.said, "");
    this.showCurves(point);
    this.showAnswers(point);
    this.showLedger(point, figure, data);
  }

  words(point, value) {
    const { figure } = this, interval = (ends) => `95 % ${this.number(ends[0])} to ${this.number(ends[1])}`;
    const said = [`${capital(figure.name)} ${this.number(value.mean)}${value.interval ? ` (${interval(value.interval)})` : ""}, seeds ${value.values.map((v) => this.number(v)).join(", ")}`];
    if (value.baseline !== null) said.push(`labels only ${this.number(value.baseline)}`);
    const { verdict } = point;
    if (figure.headline && verdict)
      said.push(`against it ${signed(verdict.mean)}${verdict.interval ? ` (95 % ${signed(verdict.interval[0])} to ${signed(verdict.interval[1])})` : ""}: ${verdict.word}`);
    return `${said.join("; ")}. ${point.state === "complete" ? "" : `This point is ${point.state}.`}`;
  }

  showCurves(point) {
    const { parts, data } = this, curve = point?.curve;
    if (!curve) return void parts.curves.replaceChildren(node("p", { class: "wbg-faint" }, "No curve is kept for this point."));
    const keys = [...Object.keys(curve.figures).filter((k) => curve.figures[k].some((v) => v !== null)), "loss"];
    const wanted = this.curve ?? this.state.figure, key = keys.includes(wanted) ? wanted : keys[0];
    const nameOf = (k) => data.figures.find((f) => f.key === k)?.name ?? (k === "loss" ? "loss of the batch" : k.replaceAll("_", " "));
    parts.curve.replaceChildren(...keys.map((k) => node("option", { value: k }, nameOf(k))));
    parts.curve.value = key;
    const pick = (from) => from && (key === "loss" ? from.loss_steps.map((s, i) => [s, from.loss[i]]) : from.steps.map((s, i) => [s, from.figures[key]?.[i] ?? null]))
      .filter(([, v]) => v !== null);
    const student = pick(curve), alone = key === "loss" ? [] : pick(data.baselines[this.student]) ?? [];
    if (!student.length) return void parts.curves.replaceChildren();
    const levels = ["teacher", "oracle"].map((role) => [role, key === "loss" ? null : data.levels[role][key] ?? null]);
    const all = [...student, ...alone].map(([, v]) => v).concat(levels.map(([, v]) => v).filter((v) => v !== null));
    const [low, high] = range(all), room = 0.06 * (high - low || 1);
    const plot = new Plot({
      title: `${capital(nameOf(key))}${key === "loss" ? "" : ", held out"}`, xName: "step",
      x: scaleOf(0, Math.max(...student.map(([s]) => s), 1)), y: scaleOf(Math.max(low - room, Math.min(0, low)), high + room),
      describe: `${nameOf(key)} by step: from ${brief(student[0][1])} to ${brief(student.at(-1)[1])}${alone.length ? `; labels only ends at ${brief(alone.at(-1)[1])}` : ""}`,
    });
    const end = (name, points) => `${name} ${brief(Number(points.at(-1)[1].toPrecision(3)))}`;
    for (const [role, value] of levels) plot.level(value, role, value === null ? "" : `${role} ${brief(Number(value.toPrecision(3)))}`);
    if (alone.length) plot.line(alone, "baseline", { marks: true, label: end("labels only", alone) });
    plot.line(student, "student", { marks: key !== "loss", label: end("student", student) });
    parts.curves.replaceChildren(plot.done());
  }

  showAnswers(point) {
    const { parts, data } = this, { places } = data;
    const place = places[this.place] ?? places[0];
    if (!place || !point?.answers.length) {
      parts.place.replaceChildren();
      return void parts.answers.replaceChildren(node("p", { class: "wbg-faint" }, "No answers are kept for this point."));
    }
    parts.place.replaceChildren(...places.map((one, i) => node("option", { value: i }, one.title)));
    parts.place.value = String(places.indexOf(place));
    const rows = Object.entries({ ...place.rows, student: point.answers[places.indexOf(place)] });
    const top = Math.max(...rows.flatMap(([, shares]) => shares)), pitch = 7 * rows.length + 8, left = 112;
    const height = 34 + place.words.length * pitch, wide = CHART.width - left - 56;
    const svg = drawn("svg", { viewBox: `0 0 ${CHART.width} ${height}`, class: "wbg-chart", role: "img",
      "aria-label": `after ${place.text}: ${place.words.map((w, i) => `${w} ${rows.map(([n, s]) => `${n} ${(100 * (s[i] ?? 0)).toFixed(0)} %`).join(", ")}`).join("; ")}` });
    let x = 2;
    for (const [name] of rows) {
      svg.append(drawn("rect", { x, y: 6, width: 12, height: 12, class: `wbg-fill-${name} wbg-edge` }), drawn("text", { x: x + 17, y: 16, class: "wbg-tick wbg-name" }, name));
      x += 36 + 8 * name.length;
    }
    place.words.forEach((word, i) => {
      const y = 30 + i * pitch, label = word.length > 14 ? `${word.slice(0, 13)}…` : word;
      svg.append(drawn("text", { x: left - 8, y: y + pitch / 2 + 1, class: `wbg-tick wbg-end${word === place.label ? " wbg-true" : ""}` }, word === place.label ? `${label} ◂` : label));
      rows.forEach(([name, shares], r) => svg.append(drawn("rect", { x: left, y: y + 7 * r, width: Math.max(0.5, wide * (shares[i] ?? 0) / top), height: 6.4, class: `wbg-fill-${name} wbg-edge` })));
      const said = rows.at(-1)[1][i] ?? 0;
      svg.append(drawn("text", { x: left + wide * Math.max(...rows.map(([, s]) => s[i] ?? 0)) / top + 6, y: y + pitch / 2 + 1, class: "wbg-tick" }, `${(100 * said).toFixed(said < 0.095 ? 1 : 0)} %`));
    });
    parts.answers.replaceChildren(node("p", { class: "wbg-question" }, place.text), svg,
      node("p", { class: "wbg-faint" }, "At T = 1; the number is the student’s", place.label === null ? "." : `, ◂ what stands there in the data.`));
  }

  showLedger(point) {
    const entries = Object.entries(point?.ledger ?? {});
    if (!entries.length) return void this.parts.ledger.replaceChildren();
    const bar = node("div", { class: "wbg-ledger", role: "img", "aria-label": `share of the gradient: ${entries.map(([n, e]) => `${n} ${(100 * e.share).toFixed(1)} %`).join(", ")}` });
    for (const [name, { share }] of entries) {
      const part = node("span", { class: `wbg-part wbg-term-${TERMS.includes(name) ? name : "other"}` }, share > 0.09 ? `${name} ${(100 * share).toFixed(share > 0.995 ? 0 : 1)} %` : "");
      part.style.width = `${100 * share}%`;
      part.title = `${name} ${(100 * share).toFixed(2)} %`;
      if (share > 0) bar.append(part);
    }
    const words = entries.map(([name, { weight, value, share }]) => `${name} ${brief(Number(weight.toPrecision(3)))} × ${brief(Number(value.toPrecision(3)))}, ${(100 * share).toFixed(1)} %`);
    this.parts.ledger.replaceChildren(node("p", {}, node("b", {}, "Ledger of the last step: "), "whose gradient reaches the student"), bar,
      node("p", { class: "wbg-faint" }, `weight × value, share: ${words.join(" · ")}`));
  }

  // ------------------------------------------------------------------ slices

  showSlices() {
    const { data, state } = this;
    this.parts.overT.replaceChildren(this.slice(data.temperatures, (variant, i) => this.point(variant, this.student, i, this.a), {
      title: `Against T, at α = ${brief(state.alpha)}`, xName: "T", logarithmic: data.temperatures[0] > 0, at: state.temperature,
      published: ([T, alpha]) => alpha === state.alpha ? T : null }));
    this.parts.overAlpha.replaceChildren(this.slice(data.alphas, (variant, i) => this.point(variant, this.student, this.t, i), {
      title: `Against α, at T = ${brief(state.temperature)}`, xName: "α", logarithmic: false, at: state.alpha,
      published: ([T, alpha]) => T === state.temperature ? alpha : null }));
  }

  slice(values, pick, { title, xName, logarithmic, at, published }) {
    const { data, figure } = this, alone = this.alone();
    const lines = data.variants.map((_, variant) => values.map((x, i) => [x, this.of(pick(variant, i))]).filter(([, f]) => f));
    const seen = lines.flat().flatMap(([, f]) => f.values).concat(alone === null ? [] : [alone]);
    if (!seen.length) return node("p", { class: "wbg-faint" }, "Nothing is measured on this slice.");
    const [low, high] = endsOf(seen, figure, OUTSIDE), room = 0.12 * (high - low || 1);
    const plot = new Plot({
      title: `${capital(figure.name)}`, xName, xTicks: values, x: scaleOf(values[0], values.at(-1), logarithmic), y: scaleOf(Math.max(low - room, Math.min(0, low)), high + room),
      describe: `${figure.name} ${title}: ${lines.map((line, v) => `${data.variants[v].name} ${line.map(([x, f]) => `${brief(x)}: ${this.number(f.mean)}`).join(", ")}`).join("; ")}`,
    });
    plot.cursor(at);
    lines.forEach((line, v) => plot.band(line.filter(([, f]) => f.interval).map(([x, f]) => [x, ...f.interval]), `variant${v % 3}`));
    plot.level(alone, "baseline", "labels only");
    plot.level(data.levels.teacher[figure.key], "teacher", "teacher");
    lines.forEach((line, v) => plot.line(line.map(([x, f]) => [x, f.mean]), `variant${v % 3}`, { marks: true, label: data.variants[v].name }));
    data.variants.forEach((variant, v) => {
      const here = lines[v].find(([x]) => x === published(variant.published));
      if (here && plot.holds(here[1].mean)) plot.star(here[0], here[1].mean);
    });
    return node("div", {}, node("b", {}, title), plot.done());
  }

  // ------------------------------------------------------------------ contours

  showContours() {
    const { data, parts, figure } = this, { temperatures, alphas } = data;
    parts.size.value = String(this.student);
    write(parts.sizeIs, this.state.student);
    parts.size.setAttribute("aria-valuetext", this.state.student);
    if (temperatures.length < 2 || alphas.length < 2 || temperatures[0] <= 0) {
      write(parts.contoursWords, "Contours need at least two values of T, above 0, and two of α.");
      return void parts.contours.replaceChildren();
    }
    const all = this.means(data.students.map((_, i) => i));
    if (!all.length) return void parts.contours.replaceChildren();
    const others = data.students.length > 1 ? " Dotted: the same line for the other sizes." : "";
    write(parts.contoursWords, `Thin lines are levels of ${figure.name}, the same for all sizes; the thick one is as good as labels only.${others} ★ published, ● best measured. Between measured points (small dots) the values are interpolated.`);
    const scale = colouring(all, figure, data.colours), levels = this.fixedLevels(all);
    parts.contours.className = "wbg-charts";
    parts.contours.replaceChildren(...data.variants.map((variant, v) => this.contourMap(variant, v, scale, levels)));
  }

  /** About seven round levels, for all sizes alike. */
  fixedLevels(means) {
    const [low, high] = endsOf(means, this.figure);
    return high > low ? ticksOn(scaleOf(low, high), 7).filter((level) => level > low && level < high) : [];
  }

  field(v, student) {
    const { temperatures, alphas } = this.data;
    const values = temperatures.map((_, t) => alphas.map((_, a) => this.of(this.point(v, student, t, a))?.mean ?? null));
    const logs = temperatures.map(Math.log), ends = [logs[0], logs.at(-1)], span = alphas.at(-1) - alphas[0];
    const at = between(logs, alphas, values);
    return (x, y) => at(ends[0] + x * (ends[1] - ends[0]), alphas[0] + y * span);
  }

  contourMap(variant, v, scale, levels) {
    const { data, figure } = this, { temperatures, alphas } = data, at = this.field(v, this.student), fine = 40;
    const plot = new Plot({
      title: variant.words, xName: "T", xTicks: temperatures, yTicks: alphas, size: { width: 420, height: 300, left: 44, right: 20 },
      x: scaleOf(temperatures[0], temperatures.at(-1), true), y: scaleOf(alphas[0], alphas.at(-1)),
      describe: `contours of ${figure.name} over T and α, ${variant.words}, student ${this.state.student}`,
    });
    const { left, right, top, bottom, width, height } = plot, wide = width - left - right, high = height - top - bottom;
    const place = ([x, y]) => [left + x * wide, top + (1 - y) * high];
    for (let i = 0; i < fine; i++)
      for (let j = 0; j < fine; j++) {
        const value = at((i + 0.5) / fine, (j + 0.5) / fine);
        if (value === null) continue;
        const [x, y] = place([i / fine, (j + 1) / fine]);
        plot.area.append(drawn("rect", { x, y, width: wide / fine + 1, height: high / fine + 1, "shape-rendering": "crispEdges", style: `fill:${scale.colour(value).paper}` }));
      }
    const path = (segments) => segments.map((ends) => ends.map((p, i) => `${i ? "L" : "M"}${place(p).map((c) => c.toFixed(1)).join(" ")}`).join("")).join("");
    for (const level of levels) {
      const segments = contour(at, level);
      if (!segments.length) continue;
      plot.area.append(drawn("path", { d: path(segments), class: "wbg-contour" }));
      const [x, y] = place(segments[Math.floor(segments.length / 2)][0]);
      plot.area.append(drawn("text", { x, y: y - 3, class: "wbg-contour-name wbg-middle" }, brief(level)));
    }
    data.students.forEach((_, student) => {
      const alone = this.alone(student);
      if (alone === null) return;
      // A hair on the good side: at α = 1 student and baseline are equal but for rounding.
      const segments = contour(this.field(v, student), alone * (figure.better === "lower" ? 1 - HAIR : 1 + HAIR));
      for (const name of ["halo", student === this.student ? "even" : "ghost"])
        plot.area.append(drawn("path", { d: path(segments), class: `wbg-contour-${name}` }));
    });
    for (const point of data.points.filter((p) => p.at[0] === v && p.at[1] === this.student && this.of(p)))
      plot.svg.append(drawn("circle", { cx: plot.across(temperatures[point.at[2]]), cy: plot.down(alphas[point.at[3]]), r: 2, class: "wbg-measured" }));
    const cells = data.points.filter((p) => p.at[0] === v && p.at[1] === this.student && this.of(p));
    if (cells.length) {
      const best = cells.reduce((one, other) => (this.of(other).mean < this.of(one).mean) === (figure.better === "lower") ? other : one);
      plot.svg.append(drawn("circle", { cx: plot.across(temperatures[best.at[2]]), cy: plot.down(alphas[best.at[3]]), r: 6, class: "wbg-best" }));
    }
    const [T, alpha] = variant.published;
    if (T >= temperatures[0] && T <= temperatures.at(-1) && alpha >= alphas[0] && alpha <= alphas.at(-1)) plot.star(T, alpha);
    return plot.done();
  }
}

function render({ model, el }) {
  const root = node("section", { class: "wbg", "aria-label": `landscape of ${model.get("_data").title} over T and α`, "data-lm-suppress-shortcuts": "true" });
  el.append(root);
  const view = new View(model, root);
  return () => { view.close(); root.remove(); };
}

export default { render };
