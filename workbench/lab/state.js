// State strings, as presets.py reads and writes them; no DOM.

export const DEFAULTS = Object.freeze({
  temperature: 2, alpha: 0.5, squared: true, direction: "forward", reduction: "token-mean",
  protein: 0, sequence: "", position: 0, teacher: Object.freeze({}), student: Object.freeze({}),
});
const DIRECTIONS = ["forward", "reverse", "jensen-shannon"];
const REDUCTIONS = ["token-mean", "batchmean", "element-mean", "sum"];
const FIRST_POSITION = 24;

/** A value that cannot be taken; the message is one line for the panel. */
export class Unusable extends Error {}

function quoted(text) {
  const line = String(text).replace(/[\x00-\x1f\x7f-\x9f]/g, " ");
  return line === "" ? "empty" : line.length > 40 ? line.slice(0, 39) + "…" : line;
}

/** A number within bounds, to four decimals. */
export function readNumber(name, text, low, high, example) {
  const trimmed = String(text).trim();
  const wanted = `a number from ${low} to ${high}, such as ${example}`;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed))
    throw new Unusable(`${name} is ${quoted(trimmed)}; expected ${wanted}`);
  const number = Math.round(Number(trimmed) * 1e4) / 1e4;
  if (!(number >= low && number <= high))
    throw new Unusable(`${name} is ${quoted(trimmed)}; expected ${wanted}`);
  return number + 0;
}

export function readWhole(name, text, low, high) {
  const trimmed = String(text).trim();
  if (!/^\d{1,9}$/.test(trimmed) || Number(trimmed) < low || Number(trimmed) > high)
    throw new Unusable(
      `${name} is ${quoted(trimmed)}; expected a whole number from ${low} to ${high}`);
  return Number(trimmed);
}

export function readSequence(text, limits) {
  const letters = String(text).replace(/\s+/g, "").toUpperCase();
  if (letters === "")
    throw new Unusable("The sequence is empty; expected amino acids, such as MKRILV");
  [...letters].forEach((letter, i) => {
    if (!limits.residues.includes(letter))
      throw new Unusable(`Letter ${i + 1} of the sequence is ${quoted(letter)}; `
        + `expected amino acids, ${limits.residues}`);
  });
  if (limits.longest && letters.length > limits.longest)
    throw new Unusable(`The sequence has ${letters.length} letters; `
      + `expected at most ${limits.longest}, as many as the models read`);
  return letters;
}

function readOneOf(name, text, choices) {
  if (!choices.includes(text))
    throw new Unusable(`${name} is ${quoted(text)}; expected one of ${choices.join(", ")}`);
  return text;
}

function readEdits(key, text, limits) {
  const found = {};
  for (const pair of text.split(",").filter(Boolean)) {
    const [index, logit = ""] = pair.split(":").map((piece) => piece.trim());
    if (!/^\d{1,6}$/.test(index))
      throw new Unusable(`${quoted(pair)} in ${key} is no logit; expected ${key}=3:2.5`);
    if (Number(index) in found)
      throw new Unusable(`${key} sets the logit ${Number(index)} twice; set it once`);
    found[Number(index)] = readNumber(
      `the logit ${Number(index)} in ${key}`, logit, -limits.logit, limits.logit, `${key}=3:2.5`);
  }
  return found;
}

/** The state that a string stands for; throws `Unusable`. */
export function parseState(text, limits) {
  const [low, high] = limits.temperature;
  const readers = {
    T: (v) => ["temperature", readNumber("T", v, low, high, "T=10")],
    alpha: (v) => ["alpha", readNumber("alpha", v, 0, 1, "alpha=0.1")],
    T2: (v) => ["squared", readOneOf("T2", v, ["on", "off"]) === "on"],
    direction: (v) => ["direction", readOneOf("direction", v, DIRECTIONS)],
    reduction: (v) => ["reduction", readOneOf("reduction", v, REDUCTIONS)],
    protein: (v) => ["protein", readWhole("protein", v, 0, limits.proteins - 1)],
    sequence: (v) => ["sequence", readSequence(v, limits)],
    position: (v) => ["position", readWhole("position", v, 1, 99999)],
    teacher: (v) => ["teacher", readEdits("teacher", v, limits)],
    student: (v) => ["student", readEdits("student", v, limits)],
  };
  const state = { ...DEFAULTS };
  const seen = new Set();
  for (const part of text.split(";").map((p) => p.trim()).filter(Boolean)) {
    const cut = part.indexOf("=");
    if (cut < 0) throw new Unusable(`${quoted(part)} is no part of a state; expected such as T=10`);
    const key = part.slice(0, cut).trim();
    if (!Object.hasOwn(readers, key))
      throw new Unusable(
        `${quoted(key)} is no key of a state; expected one of ${Object.keys(readers).join(", ")}`);
    if (seen.has(key)) throw new Unusable(`${key} is given twice; give it once`);
    seen.add(key);
    const [name, value] = readers[key](part.slice(cut + 1).trim());
    state[name] = value;
  }
  if (seen.has("protein") && seen.has("sequence"))
    throw new Unusable("Both protein and sequence are given; leave one of them out");
  return state;
}

/** The example alone, as a state string. */
export function sourceOf(state) {
  return state.sequence ? `sequence=${state.sequence}` : `protein=${state.protein}`;
}

/** The position shown where a state names none. */
export function firstPosition(positions) {
  return Math.min(FIRST_POSITION, positions);
}

/** A number without exponent or trailing zeros. */
export function plain(number) {
  const text = number.toFixed(4).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text;
}

/** The shortest string that stands for a state of an example with so many positions. */
export function formatState(state, positions) {
  const edits = (logits) => Object.keys(logits).map(Number).sort((a, b) => a - b)
    .map((index) => `${index}:${plain(logits[index])}`).join(",");
  const parts = [];
  const add = (key, given, text) => { if (given) parts.push(`${key}=${text}`); };
  add("T", state.temperature !== DEFAULTS.temperature, plain(state.temperature));
  add("alpha", state.alpha !== DEFAULTS.alpha, plain(state.alpha));
  add("T2", !state.squared, "off");
  add("direction", state.direction !== DEFAULTS.direction, state.direction);
  add("reduction", state.reduction !== DEFAULTS.reduction, state.reduction);
  add("protein", !state.sequence && state.protein !== DEFAULTS.protein, state.protein);
  add("sequence", state.sequence, state.sequence);
  add("position", state.position && state.position !== firstPosition(positions), state.position);
  add("teacher", Object.keys(state.teacher).length, edits(state.teacher));
  add("student", Object.keys(state.student).length, edits(state.student));
  return parts.join(";");
}
