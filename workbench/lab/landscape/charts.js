// Small charts with two axes, as SVG. Joined behind elements.js.

const CHART = { width: 460, height: 260, left: 52, right: 118, top: 30, bottom: 40 };
const LABEL_GAP = 16;
const DIGIT = 7.5; // width of a digit of a tick

/** A scale: from a value to a share of the axis, 0 to 1. */
function scaleOf(low, high, logarithmic) {
  if (!(high > low)) [low, high] = logarithmic ? [low / 1.5, low * 1.5] : [low - 0.5, low + 0.5];
  const place = logarithmic ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  return Object.assign(place, { low, high, logarithmic });
}

/** Round values on a scale, about `most` of them. */
function ticksOn(scale, most) {
  const { low, high, logarithmic } = scale, found = [];
  if (logarithmic && high / low > 4) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const lead of [1, 2, 5]) found.push(lead * 10 ** power);
    const inside = found.filter((v) => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9));
    if (inside.length > 1) return inside;
  }
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((c) => c >= raw * (1 - 1e-9));
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) values.push(i * step);
  return values;
}

/** A number as short as it can be said. */
function brief(value) {
  return String(Number(value.toPrecision(Math.abs(value) < 1 ? 3 : 4))).replace("-", "−");
}

/** Two axes with a grid; x and y are scales. `ticks` says where the lines are, by axis. */
class Plot {
  constructor({ x, y, xTicks, yTicks, title, xName, describe, size = {} }) {
    Object.assign(this, CHART, size, { x, y });
    this.labels = [];
    this.svg = drawn("svg", {
      viewBox: `0 0 ${this.width} ${this.height}`, class: "wbg-chart", role: "img", "aria-label": describe,
    });
    const right = this.width - this.right, bottom = this.height - this.bottom;
    this.svg.append(drawn("text", { x: 2, y: 16, class: "wbg-chart-title" }, title));
    for (const value of yTicks ?? ticksOn(y, 5)) {
      const at = this.down(value);
      this.svg.append(drawn("line", { x1: this.left, x2: right, y1: at, y2: at, class: "wbg-grid" }),
        drawn("text", { x: this.left - 9, y: at + 4, class: "wbg-tick wbg-end" }, brief(value)));
    }
    let free = -Infinity; // where the number before ends
    for (const value of xTicks ?? ticksOn(x, 5)) {
      const at = this.across(value), text = brief(value), half = DIGIT * text.length / 2;
      this.svg.append(drawn("line", { x1: at, x2: at, y1: bottom, y2: bottom + 4, class: "wbg-axis" }));
      if (at - half < free) continue;
      this.svg.append(drawn("text", { x: at, y: bottom + 18, class: "wbg-tick wbg-middle" }, text));
      free = at + half + 2;
    }
    this.svg.append(drawn("line", { x1: this.left, x2: right, y1: bottom, y2: bottom, class: "wbg-axis" }),
      drawn("text", { x: right, y: this.height - 4, class: "wbg-tick wbg-end" }, xName));
    // What lies beyond the axes is cut off; letters and marks at the edge are not.
    this.area = drawn("svg", {
      x: this.left, y: this.top, width: right - this.left, height: bottom - this.top,
      viewBox: `${this.left} ${this.top} ${right - this.left} ${bottom - this.top}`, class: "wbg-area",
    });
    this.svg.append(this.area);
  }

  across(value) { return this.left + this.x(value) * (this.width - this.left - this.right); }
  down(value) { return this.height - this.bottom - this.y(value) * (this.height - this.top - this.bottom); }
  holds(value) { return value >= this.y.low * (1 - 1e-9) && value <= this.y.high * (1 + 1e-9); }

  path(points) {
    return points.map(([x, y], i) => `${i ? "L" : "M"}${this.across(x).toFixed(1)} ${this.down(y).toFixed(1)}`).join("");
  }

  line(points, name, { marks = false, label = "" } = {}) {
    if (!points.length) return;
    this.area.append(drawn("path", { d: this.path(points), class: `wbg-line wbg-${name}` }));
    if (marks) for (const [x, y] of points) if (this.holds(y)) this.svg.append(this.mark(x, y, name));
    const [, last] = points.at(-1);
    if (label) this.labels.push({ at: this.down(Math.min(Math.max(last, this.y.low), this.y.high)), text: label, name });
  }

  /** From a lower to an upper end: [x, low, high] each. */
  band(points, name) {
    if (points.length < 2) return;
    const upper = points.map(([x, , high]) => [x, high]), lower = points.map(([x, low]) => [x, low]).reverse();
    this.area.append(drawn("path", { d: `${this.path([...upper, ...lower])}Z`, class: `wbg-band wbg-fill-${name}` }));
  }

  /** A level with its name at the right, where it is on the paper. */
  level(value, name, label) {
    if (value === null || value === undefined || !this.holds(value)) return;
    const ends = [[this.x.low, value], [this.x.high, value]];
    this.line(ends, name, { label });
  }

  mark(x, y, name) {
    const [cx, cy] = [this.across(x), this.down(y)];
    if (name === "variant1" || name === "baseline")
      return drawn("rect", { x: cx - 4, y: cy - 4, width: 8, height: 8, class: `wbg-mark wbg-fill-${name}` });
    if (name === "variant2")
      return drawn("path", { d: `M${cx} ${cy - 5}l5 9h-10Z`, class: `wbg-mark wbg-fill-${name}` });
    return drawn("circle", { cx, cy, r: 4.3, class: `wbg-mark wbg-fill-${name}` });
  }

  star(x, y) {
    this.svg.append(drawn("text", { x: this.across(x), y: this.down(y) + 6, class: "wbg-star wbg-middle" }, "★"));
  }

  /** A thin line at a value of x, such as the chosen T. */
  cursor(x) {
    const at = this.across(x);
    this.area.append(drawn("line", { x1: at, x2: at, y1: this.top, y2: this.height - this.bottom, class: "wbg-cursor" }));
  }

  /** Names at the right, moved apart where they would touch. */
  done() {
    const right = this.width - this.right, bottom = this.height - this.bottom;
    const sorted = this.labels.sort((a, b) => a.at - b.at);
    let before = this.top - LABEL_GAP;
    const heights = sorted.map(({ at }) => (before = Math.max(at, before + LABEL_GAP)));
    const over = Math.max(0, (heights.at(-1) ?? 0) - bottom);
    for (let i = heights.length - 1, limit = bottom; over && i >= 0; i--, limit -= LABEL_GAP)
      heights[i] = Math.min(heights[i], limit);
    sorted.forEach(({ at, text, name }, i) => {
      this.svg.append(
        drawn("path", { d: `M${right + 3} ${at}L${right + 12} ${heights[i]}h14`, class: `wbg-line wbg-lead wbg-${name}` }),
        drawn("text", { x: right + 31, y: heights[i] + 4, class: "wbg-tick wbg-name" }, text));
    });
    return this.svg;
  }
}

/** A function between the values of a grid, bilinear in the axes' own scales; null where one is missing. */
function between(xs, ys, values) {
  const find = (axis, v) => {
    let i = 0;
    while (i < axis.length - 2 && v > axis[i + 1]) i++;
    return [i, (v - axis[i]) / (axis[i + 1] - axis[i])];
  };
  return (x, y) => {
    const [i, a] = find(xs, x), [j, b] = find(ys, y);
    const corners = [values[i][j], values[i + 1][j], values[i][j + 1], values[i + 1][j + 1]];
    if (corners.some((c) => c === null)) return null;
    const [p, q, r, s] = corners;
    return (p * (1 - a) + q * a) * (1 - b) + (r * (1 - a) + s * a) * b;
  };
}

/** Where a function on the unit square crosses a level: segments, by marching squares. */
export function contour(at, level, fine = 48) {
  const found = [], grid = [];
  for (let i = 0; i <= fine; i++) {
    grid.push([]);
    for (let j = 0; j <= fine; j++) grid[i].push(at(i / fine, j / fine));
  }
  const cross = (i, j, k, l) => {
    const share = (level - grid[i][j]) / (grid[k][l] - grid[i][j]);
    return [(i + (k - i) * share) / fine, (j + (l - j) * share) / fine];
  };
  for (let i = 0; i < fine; i++)
    for (let j = 0; j < fine; j++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      if (corners.some(([a, b]) => grid[a][b] === null)) continue;
      const ends = [];
      corners.forEach(([a, b], n) => {
        const [c, d] = corners[(n + 1) % 4];
        if (grid[a][b] < level !== grid[c][d] < level) ends.push(cross(a, b, c, d));
      });
      for (let n = 0; n + 1 < ends.length; n += 2) found.push([ends[n], ends[n + 1]]);
    }
  return found;
}
