// Numbers as people write them, and a chart with a slot for each symbol. This file is joined
// behind elements.js.

const WIDTH = 640, LEFT = 54, RIGHT = 8, PLOT = WIDTH - LEFT - RIGHT;

/** Four significant digits, as people write them. */
function figure(value) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    const [mantissa, exponent] = size.toExponential(2).split("e");
    const sign = exponent.startsWith("-") ? "⁻" : "";
    return `${value < 0 ? "−" : ""}${mantissa}·10${sign}${raised(exponent.slice(1))}`;
  }
  if (size === 0) return "0";
  const text = size >= 1000 ? value.toFixed(0) : size >= 0.1
    ? value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3) : value.toPrecision(3);
  return text.replace("-", "−");
}

function raised(digits) {
  return [...digits].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(d)]).join("");
}

function percent(share) {
  const value = 100 * share;
  return value > 0 && value < 1 || value > 99 && value < 100
    ? `${value.toFixed(1)} %` : `${Math.round(value)} %`;
}

/** The next of 1, 2, 5, 10, ... times a power of ten that is not below a value. */
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((m) => m * power).find((c) => c >= value * (1 - 1e-9));
}

function ticksBetween(low, high, most = 5) {
  const raw = (high - low) / most;
  let step = roundUp(raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

// ---------------------------------------------------------------------- one chart

class Chart {
  /** Axes and slots; `update` is the caller's. */
  constructor(height, { top = 30, bottom = 24, title, describe }) {
    this.height = height;
    this.top = top;
    this.plot = height - top - bottom;
    this.svg = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${height}`, class: "wbx-chart", role: "group", "aria-label": describe,
    });
    this.title = drawn("text", { x: 2, y: 16, class: "wbx-title" }, title);
    this.band = drawn("rect", { class: "wbx-band", y: top - 4, height: this.plot + 8, visibility: "hidden" });
    this.ticks = Array.from({ length: 12 }, () => {
      const line = drawn("line", { x1: LEFT, x2: WIDTH - RIGHT, class: "wbx-grid" });
      const text = drawn("text", { x: LEFT - 7, class: "wbx-tick" });
      return { line, text };
    });
    this.zero = drawn("line", { x1: LEFT, x2: WIDTH - RIGHT, class: "wbx-zero" });
    this.body = drawn("g");
    this.svg.append(this.title, this.band,
      ...this.ticks.flatMap(({ line, text }) => [line, text]), this.body, this.zero);
    this.low = this.high = NaN;
  }

  legend(entries) {
    // Names stand on the right of the title line, each with its swatch.
    let x = WIDTH - RIGHT;
    for (const { name, look, width } of [...entries].reverse()) {
      x -= width;
      const swatch = drawn("rect", { x, y: 5, width: 13, height: 13, class: look });
      this.svg.append(swatch, drawn("text", { x: x + 18, y: 16, class: "wbx-name" }, name));
    }
  }

  y(value) {
    return this.top + this.plot * (this.high - value) / (this.high - this.low);
  }

  value(y) {
    return this.high - (y - this.top) / this.plot * (this.high - this.low);
  }

  scale(low, high) {
    if (low === this.low && high === this.high) return;
    this.low = low;
    this.high = high;
    const values = ticksBetween(low, high);
    this.ticks.forEach(({ line, text }, i) => {
      const shown = i < values.length;
      line.setAttribute("visibility", shown ? "visible" : "hidden");
      text.setAttribute("visibility", shown ? "visible" : "hidden");
      if (!shown) return;
      const y = this.y(values[i]);
      line.setAttribute("y1", y);
      line.setAttribute("y2", y);
      text.setAttribute("y", y + 4.5);
      text.textContent = String(Number(values[i].toPrecision(3))).replace("-", "−");
    });
    this.zero.setAttribute("y1", this.y(0));
    this.zero.setAttribute("y2", this.y(0));
  }

  /** Move a bar between zero and a value, cut off at the edges of the paper. */
  stretch(bar, value) {
    const end = this.y(Math.max(this.low, Math.min(this.high, value)));
    const zero = this.y(0);
    bar.setAttribute("y", Math.min(end, zero));
    bar.setAttribute("height", Math.abs(end - zero));
  }
}
