// The layer-map editor's view. Everything is computed here; the kernel is told the map as text,
// "0,2,-,6" or "scratch:4". The named maps come from Python, one for each number of layers.
// This file is joined behind elements.js.

const TOP = 34, BOX = 206, TEACHER_X = 2, STUDENT_X = 352, WIDTH = 560;
const DRAG_FROM = 5; // px; a shorter move is a click
const WRITE_DELAY = 80, SAY_DELAY = 500; // ms
const TOUCHABLE = "Click a teacher layer, then a student layer, or drag from one to the other. "
  + "Keyboard: Tab to a student layer; ↑ and ↓ choose its teacher layer, Delete makes it random.";
const PARTS = ["embeddings", "layers", "norm and head"];
let views = 0;

class Unusable extends Error {}

function number(value) {
  return value.toLocaleString("en-US");
}

/** Whole percents, with a decimal where they would read as nothing or all. */
function percent(part, whole) {
  if (whole === 0) return "–";
  const value = 100 * part / whole;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  if (value > 99.9 && value < 100) return "> 99.9 %";
  const decimals = value > 0 && value < 1 || value > 99 && value < 100 ? 1 : 0;
  return `${value.toFixed(decimals)} %`;
}

function counted(count) {
  return `${count} layer${count === 1 ? "" : "s"}`;
}

function same(one, other) {
  return one.length === other.length && one.every((layer, i) => layer === other[i]);
}

function shortened(text, longest) {
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}

// ---------------------------------------------------------------------- maps as text

function format({ map, scratch }) {
  return scratch ? `scratch:${map.length}` : map.map((layer) => layer ?? "-").join(",");
}

/** A map from text; throws Unusable with one line that says what to do. */
function parse(typed, teacherLayers, named, most) {
  const text = typed.replace(/\s+/g, "");
  const last = teacherLayers - 1;
  const [name, count] = text.split(/:(.*)/s);
  if (Object.hasOwn(named, name) && (count === undefined || /^\d{1,4}$/.test(count))) {
    const maps = named[name];
    const wanted = Number(count ?? (maps.length === 1 ? maps[0].length
      : Math.max(1, Math.floor(teacherLayers / 2))));
    const found = maps.find((map) => map.length === wanted);
    if (found) return { map: [...found], scratch: name === "scratch" };
    const can = maps.length === 1 ? maps[0].length : `1 to ${maps.length}`;
    throw new Unusable(`${shortened(text, 20)} asks for ${counted(wanted)}; of this teacher’s `
      + `${teacherLayers}, ${name} can give ${can}`);
  }
  if (text === "random")
    throw new Unusable("random is a recipe’s own, narrower student, which cannot be drawn here; "
      + "take scratch:4 for four random layers as wide as the teacher’s");
  if (name === "distilbert")
    throw new Unusable(`distilbert is 6 of 12 layers; this teacher has ${teacherLayers}; take 2i or spaced`);
  if (!/^(\d{1,4}|-)(,(\d{1,4}|-))*$/.test(text))
    throw new Unusable(`“${shortened(typed, 30)}” is no layer map; expected teacher layers such as `
      + "0,2,4 with - for a random layer, or a name such as 2i or first:4");
  const map = text.split(",").map((part) => (part === "-" ? null : Number(part)));
  const wrong = map.findIndex((layer) => layer !== null && layer > last);
  if (wrong >= 0)
    throw new Unusable(`layer ${map[wrong]} (student layer ${wrong}) is not there; the teacher’s `
      + `layers are numbered 0 to ${last}`);
  if (map.length > most)
    throw new Unusable(`the map has ${map.length} layers; this editor draws at most ${most}`);
  return { map, scratch: false };
}

// ---------------------------------------------------------------------- places on the paper

function placesOf(teacherLayers, studentLayers) {
  const most = Math.max(teacherLayers, studentLayers);
  const pitch = Math.min(38, Math.max(22, 440 / (most + 2)));
  return {
    pitch,
    height: TOP + (most + 2) * pitch + 6,
    head: TOP + pitch / 2,
    embeddings: TOP + (most + 1.5) * pitch,
    layer: (i, layers) => TOP + pitch * (1 + most * (1 - (i + 0.5) / layers)),
  };
}

function curve(x1, y1, x2, y2) {
  const middle = (x1 + x2) / 2;
  return `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`;
}

/** A part of a model: frame, strip where it holds the teacher's weights, name, remark. */
class Part {
  constructor(side, name, attributes) {
    this.side = side;
    this.x = side === "teacher" ? TEACHER_X : STUDENT_X;
    this.group = drawn("g", { class: `wbl-part wbl-${side}`, ...attributes });
    this.frame = drawn("rect", { class: "wbl-frame", x: this.x + 1, width: BOX - 2, rx: 5 });
    this.strip = drawn("rect", { class: "wbl-strip", x: this.x + 6, width: 7 });
    this.name = drawn("text", { class: "wbl-name", x: this.x + 20 }, name);
    this.note = drawn("text", { class: "wbl-note", x: this.x + BOX - 8 });
    this.group.append(this.frame, this.strip, this.name, this.note);
  }

  put(y, pitch) {
    const height = pitch - 5;
    this.y = y;
    this.reach = height / 2;
    this.frame.setAttribute("y", y - height / 2);
    this.frame.setAttribute("height", height);
    this.strip.setAttribute("y", y - height / 2 + 5);
    this.strip.setAttribute("height", height - 10);
    this.name.setAttribute("y", y + 4.8);
    this.note.setAttribute("y", y + 4.8);
  }

  say(note, random) {
    write(this.note, note);
    this.group.classList.toggle("wbl-random", random);
  }
}

class Arrow {
  constructor(attributes, className) {
    this.group = drawn("g", { class: `wbl-arrow ${className}`, ...attributes });
    this.line = drawn("path", { class: "wbl-line" });
    this.point = drawn("path", { class: "wbl-point" });
    this.touch = drawn("path", { class: "wbl-touch" });
    this.group.append(this.touch, this.line, this.point);
  }

  put(start, end) {
    const x2 = STUDENT_X - 10;
    const path = curve(TEACHER_X + BOX + 2, start, x2, end);
    this.line.setAttribute("d", path);
    this.touch.setAttribute("d", path);
    this.point.setAttribute("d", `M${x2 - 1},${end - 6} L${STUDENT_X - 1},${end} L${x2 - 1},${end + 6} Z`);
  }

  show(shown) {
    this.group.setAttribute("visibility", shown ? "visible" : "hidden");
  }
}

// ---------------------------------------------------------------------- the panel

class Editor {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.teacher = model.get("_teacher");
    this.named = model.get("_named");
    this.presets = model.get("_presets");
    this.most = model.get("_most");
    this.id = `wbl${++views}`;
    this.armed = null; // { side, index }: waits for a layer of the other side
    this.grip = null; // what the pointer holds
    this.chosen = null; // name last taken from the menu: two names may be the same map
    this.timers = {};
    this.build();
    this.pull = this.pull.bind(this);
    model.on("change:text", this.pull);
    this.pull();
  }

  close() {
    Object.values(this.timers).forEach(clearTimeout);
    this.model.off("change:text", this.pull);
  }

  pull() {
    const text = this.model.get("text");
    if (this.state && text === format(this.state)) return;
    clearTimeout(this.timers.write); // the kernel's word is newer than ours
    this.state = parse(text, this.teacher.layers, this.named, this.most);
    this.armed = null;
    this.settle();
    this.show();
  }

  later(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  // -- changes

  /** Take a state made here. */
  take(state) {
    this.settle();
    this.state = state;
    this.show();
    this.later("write", WRITE_DELAY, () => {
      this.model.set("text", format(this.state));
      this.model.save_changes();
    });
  }

  assign(place, layer) {
    const map = [...this.state.map];
    map[place] = layer;
    this.armed = null;
    this.take({ map, scratch: false });
  }

  resize(count) {
    const map = this.state.map.slice(0, count);
    while (map.length < count) map.push(null);
    this.armed = null;
    this.take({ map, scratch: this.state.scratch });
  }

  choose(name) {
    const maps = this.named[name];
    if (!maps) return;
    // As many layers as the student has now, if the name can give them.
    const wanted = Math.min(this.state.map.length, maps.length) - 1;
    this.chosen = name;
    this.armed = null;
    this.take({ map: [...maps[wanted]], scratch: name === "scratch" });
  }

  read(input) {
    try {
      const state = parse(input.value, this.teacher.layers, this.named, this.most);
      this.armed = null;
      this.take(state);
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      write(this.parts.error, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
      this.parts.error.hidden = false;
      this.parts.hint.hidden = true;
      input.setAttribute("aria-invalid", "true");
    }
  }

  settle() {
    write(this.parts.error, "");
    this.parts.error.hidden = true;
    this.parts.hint.hidden = false;
    this.parts.text.removeAttribute("aria-invalid");
  }

  // -- pointer and keyboard

  /** A click: the first chooses a layer, one on the other side completes the arrow. */
  tap(side, index) {
    if (this.armed && this.armed.side !== side) {
      const [place, layer] = side === "student" ? [index, this.armed.index] : [this.armed.index, index];
      this.assign(place, layer);
    } else {
      const again = this.armed && this.armed.index === index;
      this.armed = again ? null : { side, index };
      this.showArmed();
    }
  }

  point(event) {
    const matrix = this.svg.getScreenCTM();
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
  }

  /** The layer under a point, on one side; with some room around each box. */
  under(side, { x, y }) {
    const parts = side === "teacher" ? this.teacherParts : this.studentParts;
    const index = parts.findIndex((part) =>
      x > part.x - 20 && x < part.x + BOX + 20 && Math.abs(y - part.y) <= part.reach + 2);
    return index < 0 ? null : index;
  }

  down(event) {
    const held = event.target.closest("[data-side]");
    if (!held || event.button !== 0) return;
    event.preventDefault();
    const side = held.dataset.side, index = Number(held.dataset.index);
    this.grip = { side, index, x: event.clientX, y: event.clientY, moved: false };
    this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    const grip = this.grip;
    if (!grip) return;
    if (Math.hypot(event.clientX - grip.x, event.clientY - grip.y) > DRAG_FROM) grip.moved = true;
    if (!grip.moved) return;
    const at = this.point(event);
    const aim = grip.side === "teacher" ? "student" : "teacher";
    grip.target = this.under(aim, at);
    const fromTeacher = aim === "student";
    const own = (fromTeacher ? this.teacherParts : this.studentParts)[grip.index];
    const other = grip.target === null ? null
      : (fromTeacher ? this.studentParts : this.teacherParts)[grip.target];
    const end = other ? [fromTeacher ? STUDENT_X - 2 : TEACHER_X + BOX + 2, other.y] : [at.x, at.y];
    const start = [fromTeacher ? TEACHER_X + BOX + 2 : STUDENT_X - 2, own.y];
    this.ghost.setAttribute("d", curve(...start, ...end));
    this.ghost.setAttribute("visibility", "visible");
    this.mark(other);
  }

  up(event) {
    const grip = this.grip;
    this.letGo();
    if (!grip) return;
    const side = grip.side === "arrow" ? "student" : grip.side;
    if (!grip.moved) {
      if (side === "student") this.studentParts[grip.index].group.focus();
      this.tap(side, grip.index);
    } else if (grip.target !== null) {
      const [place, layer] = side === "teacher" ? [grip.target, grip.index] : [grip.index, grip.target];
      this.assign(place, layer);
      this.studentParts[place].group.focus({ focusVisible: false });
    }
    event.preventDefault();
  }

  letGo() {
    this.grip = null;
    this.ghost.setAttribute("visibility", "hidden");
    this.mark(null);
  }

  mark(part) {
    if (this.marked) this.marked.group.classList.remove("wbl-target");
    if (part) part.group.classList.add("wbl-target");
    this.marked = part;
  }

  key(event, place) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = this.state.map[place], last = this.teacher.layers - 1;
    const up = () => this.assign(place, now === null ? 0 : Math.min(last, now + 1));
    const down = () => this.assign(place, now === null ? last : Math.max(0, now - 1));
    const activate = () => this.tap("student", place);
    const clear = () => this.assign(place, null);
    const disarm = () => { this.armed = null; this.letGo(); this.showArmed(); };
    const action = {
      ArrowUp: up, ArrowRight: up, ArrowDown: down, ArrowLeft: down,
      Home: () => this.assign(place, 0), End: () => this.assign(place, last),
      Delete: clear, Backspace: clear, Enter: activate, " ": activate, Escape: disarm,
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  // ---------------------------------------------------------------------- making the elements

  build() {
    const parts = this.parts = {};
    const picture = this.model.get("_picture");
    if (/^[0-9a-f]+$/.test(picture))
      // A rule, not an attribute: the picture may come, or come again, after this.
      this.root.append(node("style", {}, `[data-workbench-picture="${picture}"] { display: none; }`));
    parts.error = node("p", { class: "wbl-error", role: "alert" });
    parts.error.hidden = true;
    parts.hint = node("p", { class: "wbl-hint", "aria-live": "polite" });
    parts.live = node("p", { class: "wbl-unseen", "aria-live": "polite" });
    this.root.append(
      this.buildControls(), parts.error, parts.hint,
      node("div", { class: "wbl-main" }, this.buildDrawing(), this.buildAccount()), parts.live);
    keepKeys(this.root);
  }

  labelled(text, control, more = "") {
    control.id = `${this.id}-${this.controls = (this.controls ?? 0) + 1}`;
    return node("span", { class: `wbl-field ${more}` }, node("label", { for: control.id }, text), control);
  }

  buildControls() {
    const parts = this.parts;
    parts.preset = node("select", { class: "wbl-box" }, node("option", { value: "" }, "a map by hand"));
    for (const [name, label] of this.presets) parts.preset.append(node("option", { value: name }, label));
    parts.preset.addEventListener("change", () => this.choose(parts.preset.value));
    parts.story = node("p", { class: "wbl-story" });
    const button = (sign, name, change) => {
      const made = node("button", { type: "button", class: "wbl-box wbl-button", "aria-label": name, title: name }, sign);
      made.addEventListener("click", () => this.resize(this.state.map.length + change));
      return made;
    };
    parts.fewer = button("−", "take the highest student layer away", -1);
    parts.more = button("+", "add a student layer on top, random", 1);
    parts.count = node("output", { class: "wbl-count", "aria-label": "number of student layers" });
    parts.text = node("input", {
      type: "text", class: "wbl-box wbl-code", size: 26, autocomplete: "off", spellcheck: "false",
    });
    // Enter makes no "change" in JupyterLab, and makes one elsewhere: whichever is first counts.
    let taken = false;
    const take = () => {
      if (!taken) this.read(parts.text);
      taken = true;
    };
    parts.text.addEventListener("input", () => { taken = false; });
    parts.text.addEventListener("change", take);
    parts.text.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
    return node("div", {},
      node("div", { class: "wbl-row" }, this.labelled("Map", parts.preset), parts.story),
      node("div", { class: "wbl-row" },
        node("span", { class: "wbl-field", role: "group", "aria-label": "number of student layers" },
          node("b", {}, "Student layers"), parts.fewer, parts.count, parts.more),
        this.labelled("As text", parts.text, "wbl-grow")));
  }

  buildDrawing() {
    const { teacher } = this;
    this.svg = drawn("svg", {
      class: "wbl-drawing", role: "group", "aria-label": "layers of teacher and student", width: WIDTH,
    });
    this.arrows = drawn("g");
    this.boxes = drawn("g");
    this.ghost = drawn("path", { class: "wbl-ghost", visibility: "hidden" });
    this.studentTitle = drawn("text", { class: "wbl-title", x: STUDENT_X, y: 18 });
    const title = `Teacher ${shortened(teacher.title, 18)}: ${counted(teacher.layers)}`;
    this.svg.append(drawn("text", { class: "wbl-title", x: TEACHER_X, y: 18 }, title),
      this.studentTitle, this.arrows, this.boxes, this.ghost);
    this.fixed = {};
    for (const name of ["norm and head", "embeddings"]) {
      const sides = ["teacher", "student"].map((side) => new Part(side, name,
        { role: "img", "aria-label": `${name} of the ${side}` }));
      const arrow = new Arrow({}, "wbl-always");
      this.fixed[name] = { sides, arrow };
      this.arrows.append(arrow.group);
      this.boxes.append(...sides.map((part) => part.group));
    }
    this.teacherParts = Array.from({ length: teacher.layers }, (_, i) => {
      const part = new Part("teacher", `layer ${i}`, {
        role: "button", tabindex: -1, "data-side": "teacher", "data-index": i,
      });
      this.activatable(part, "teacher", i);
      this.boxes.append(part.group);
      return part;
    });
    this.studentParts = [];
    this.mapArrows = [];
    this.svg.addEventListener("pointerdown", (event) => this.down(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.up(event));
    this.svg.addEventListener("pointercancel", () => this.letGo());
    return node("div", { class: "wbl-scroll" }, this.svg);
  }

  /** Screen readers press without a pointer. */
  activatable(part, side, index) {
    part.group.addEventListener("click", (event) => {
      if (event.detail === 0) this.tap(side, index);
    });
  }

  buildStudent(count) {
    while (this.studentParts.length > count) {
      this.studentParts.pop().group.remove();
      this.mapArrows.pop().group.remove();
    }
    while (this.studentParts.length < count) {
      const i = this.studentParts.length;
      const part = new Part("student", `layer ${i}`, {
        role: "slider", tabindex: 0, "data-side": "student", "data-index": i,
        "aria-label": `student layer ${i}, begins with teacher layer`, "aria-orientation": "vertical",
        "aria-valuemin": -1, "aria-valuemax": this.teacher.layers - 1,
      });
      part.group.addEventListener("keydown", (event) => this.key(event, i));
      this.activatable(part, "student", i);
      const arrow = new Arrow({ "data-side": "arrow", "data-index": i }, "wbl-movable");
      this.studentParts.push(part);
      this.mapArrows.push(arrow);
      this.boxes.append(part.group);
      this.arrows.append(arrow.group);
    }
    keepKeys(this.boxes);
  }

  buildAccount() {
    const parts = this.parts;
    const cell = (key) => (parts[key] = node("td"));
    const head = (text) => node("th", { scope: "col" }, text);
    const row = (name, key) => node("tr", key === "all" ? { class: "wbl-total" } : {},
      node("th", { scope: "row" }, name), cell(`${key}-number`), cell(`${key}-share`), cell(`${key}-copied`));
    const bar = (who, label) => {
      parts[`${who}-size`] = node("span", { class: "wbl-size" });
      const track = node("div", { class: "wbl-bar", "aria-hidden": "true" });
      return [node("p", { class: "wbl-bartitle" }, node("b", {}, label), parts[`${who}-size`]), track];
    };
    const [teacherTitle, teacherBar] = bar("teacher", "Teacher");
    const [studentTitle, studentBar] = bar("student", "Student");
    parts.teacherBar = node("div", { class: "wbl-copied" });
    teacherBar.append(parts.teacherBar);
    parts.copiedBar = node("div", { class: "wbl-copied" });
    parts.randomBar = node("div", { class: "wbl-fresh" });
    studentBar.append(parts.copiedBar, parts.randomBar);
    parts.legend = node("p", { class: "wbl-legend" });
    parts.table = node("table", {},
      node("caption", {}, "Parameters of the student"),
      node("thead", {}, node("tr", {}, node("td"), head("number"), head("share"), head("copied"))),
      node("tbody", {}, ...PARTS.map((name) => row(name, name)), row("student", "all")));
    parts.command = node("code", { class: "wbl-command" });
    parts.remark = node("p", { class: "wbl-remark" });
    return node("div", { class: "wbl-side" },
      teacherTitle, teacherBar, studentTitle, studentBar, parts.legend, parts.table, parts.remark,
      node("p", { class: "wbl-take" }, "On the command line: ", parts.command));
  }

  // ---------------------------------------------------------------------- showing

  account() {
    const { map, scratch } = this.state, { teacher } = this;
    const taken = map.filter((layer) => layer !== null).length;
    const found = {
      "embeddings": { number: teacher.embeddings, copied: scratch ? 0 : teacher.embeddings },
      "layers": { number: map.length * teacher.per_layer, copied: taken * teacher.per_layer },
      "norm and head": { number: teacher.head, copied: scratch ? 0 : teacher.head },
    };
    const sum = (key) => PARTS.reduce((total, name) => total + found[name][key], 0);
    return { ...found, all: { number: sum("number"), copied: sum("copied") } };
  }

  show() {
    const { state, parts, teacher } = this, { map, scratch } = state;
    this.buildStudent(map.length);
    const places = placesOf(teacher.layers, map.length);
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${places.height}`);
    this.svg.setAttribute("height", places.height);
    write(this.studentTitle, `Student: ${counted(map.length)}`);
    for (const [name, { sides, arrow }] of Object.entries(this.fixed)) {
      const y = name === "embeddings" ? places.embeddings : places.head;
      sides.forEach((part) => part.put(y, places.pitch));
      const said = scratch ? "random" : "copied";
      sides[1].say(said, scratch);
      sides[1].group.setAttribute("aria-label", `${name} of the student: ${said}`);
      arrow.put(y, y);
      arrow.show(!scratch);
    }
    this.teacherParts.forEach((part, i) => {
      part.put(places.layer(i, teacher.layers), places.pitch);
      const uses = map.filter((layer) => layer === i).length;
      part.say(uses === 0 ? "not used" : uses === 1 ? "" : `${uses} times`, false);
      part.group.classList.toggle("wbl-unused", uses === 0);
      const users = map.flatMap((layer, place) => (layer === i ? [place] : []));
      part.group.setAttribute("aria-label", `teacher layer ${i}, `
        + (uses ? `copied into student layer ${users.join(", ")}` : "not used"));
    });
    this.studentParts.forEach((part, place) => {
      const layer = map[place], random = layer === null;
      const said = random ? "random" : `from layer ${layer}`;
      part.put(places.layer(place, map.length), places.pitch);
      part.say(said, random);
      part.group.setAttribute("aria-valuenow", layer ?? -1);
      part.group.setAttribute("aria-valuetext", random ? "random" : `layer ${layer}`);
      this.mapArrows[place].show(!random);
      if (!random) this.mapArrows[place].put(this.teacherParts[layer].y, part.y);
    });
    this.showControls();
    this.showAccount();
    this.showArmed();
  }

  showControls() {
    const { state, parts } = this, { map, scratch } = state;
    const fits = (name) => (name === "scratch") === scratch && this.named[name].some((m) => same(m, map));
    const name = this.chosen && fits(this.chosen) ? this.chosen : this.presets.map(([n]) => n).find(fits);
    parts.preset.value = name ?? "";
    const story = this.presets.find(([n]) => n === name);
    write(parts.story, story ? story[2] : "");
    const text = format(state);
    if (parts.text.value !== text) parts.text.value = text;
    write(parts.count, String(map.length));
    parts.fewer.disabled = map.length <= 1;
    parts.more.disabled = map.length >= this.most;
  }

  showAccount() {
    const { parts, teacher } = this, account = this.account(), { all } = account;
    const whole = teacher.embeddings + teacher.layers * teacher.per_layer + teacher.head;
    for (const name of [...PARTS, "all"]) {
      write(parts[`${name}-number`], number(account[name].number));
      write(parts[`${name}-share`], percent(account[name].number, all.number));
      write(parts[`${name}-copied`], percent(account[name].copied, account[name].number));
    }
    write(parts["teacher-size"], `${number(whole)} parameters`);
    const times = whole / all.number;
    write(parts["student-size"], `${number(all.number)} parameters, `
      + (times >= 1 ? `${times.toFixed(1)} × smaller` : `${(1 / times).toFixed(1)} × larger`));
    const longest = Math.max(whole, all.number);
    parts.teacherBar.style.width = `${100 * whole / longest}%`;
    parts.copiedBar.style.width = `${100 * all.copied / longest}%`;
    parts.randomBar.style.width = `${100 * (all.number - all.copied) / longest}%`;
    const random = all.number - all.copied;
    parts.randomBar.hidden = random === 0;
    write(parts.legend, `copied ${number(all.copied)} (${percent(all.copied, all.number)}), `
      + `random ${number(random)} (${percent(random, all.number)})`);
    write(parts.remark, this.remark());
    write(parts.command, `--init ${format(this.state)}`);
    this.later("say", SAY_DELAY, () => write(parts.live, this.summary()));
  }

  /** One thing worth noticing about this map. */
  remark() {
    const { map, scratch } = this.state;
    const taken = map.filter((layer) => layer !== null);
    if (scratch) return "Nothing is copied: this start has its teacher’s shape and none of its knowledge.";
    if (!taken.length) return "All layers are random; embeddings, final norm and head are still copied.";
    if (new Set(taken).size < taken.length)
      return "A layer is used more than once: its copies start equal and part as they learn.";
    if (taken.some((layer, i) => i > 0 && layer < taken[i - 1]))
      return "The order differs from the teacher’s: a layer meets what it never saw in training.";
    return "Copies, not references: the teacher keeps its own weights.";
  }

  showArmed() {
    const { armed } = this;
    for (const [side, parts] of [["teacher", this.teacherParts], ["student", this.studentParts]])
      parts.forEach((part, i) => {
        const on = armed !== null && armed.side === side && armed.index === i;
        part.group.classList.toggle("wbl-armed", on);
        if (side === "teacher") part.group.setAttribute("aria-pressed", String(on));
      });
    write(this.parts.hint, armed === null ? TOUCHABLE : armed.side === "teacher"
      ? `Teacher layer ${armed.index} is chosen. Click the student layer that is to begin with it; once more on it to let go.`
      : `Student layer ${armed.index} is chosen. Click the teacher layer it is to begin with; once more on it to let go.`);
  }

  summary() {
    const { map } = this.state, account = this.account(), { all } = account;
    return `Layer map ${format(this.state).replaceAll("-", "random")}: student with ${counted(map.length)}, `
      + `${number(all.number)} parameters, ${percent(all.copied, all.number)} copied; `
      + `embeddings ${percent(account.embeddings.number, all.number)}.`;
  }
}

function render({ model, el }) {
  const root = node("section", {
    class: "wbl", "aria-label": "layer map editor", "data-lm-suppress-shortcuts": "true",
  });
  el.append(root);
  const editor = new Editor(model, root);
  return () => {
    editor.close();
    root.remove();
  };
}

export default { render };
