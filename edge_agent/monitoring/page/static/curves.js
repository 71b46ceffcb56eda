// Small curves as SVG. A curve is a band between the lowest and the highest values of each part.

import { h, svg } from "./dom.js";

const WIDTH = 600;
export const COLOURS = 6;

export function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(+value.toPrecision(3));
}

function range(lists, bounds) {
  const values = [...lists.flat(), ...bounds].filter((value) => value !== null);
  if (!values.length) return [0, 1];
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return [low, high];
}

// lines: [{ low: [], high: [] }]; values may be null where there are none.
export function plot(lines, { height = 120, from = null, to = null, marks = [], label = "" } = {}) {
  const [low, high] = range(lines.flatMap((line) => [line.low, line.high]), [from, to]);
  const y = (value) => height - 4 - (value - low) / (high - low) * (height - 8);
  const root = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const mark of marks) {
    root.append(svg("rect", { x: mark.from * WIDTH, width: Math.max(1, (mark.to - mark.from) * WIDTH), y: 0, height, class: `mark ${mark.kind ?? ""}` }));
  }
  lines.forEach((line, index) => {
    const x = (at) => line.high.length > 1 ? at / (line.high.length - 1) * WIDTH : WIDTH / 2;
    let run = [];
    const end = () => {
      if (run.length) {
        const over = run.map((at) => `${x(at).toFixed(1)},${y(line.high[at]).toFixed(1)}`);
        const under = run.map((at) => `${x(at).toFixed(1)},${y(line.low[at]).toFixed(1)}`).reverse();
        root.append(svg("polygon", { points: [...over, ...under].join(" "), class: `line line${index % COLOURS}` }));
      }
      run = [];
    };
    line.high.forEach((value, at) => value === null ? end() : run.push(at));
    end();
  });
  return { root, low, high };
}

// A curve with its name, latest value and range.
export function card(name, lines, { unit = "", latest = null, from = null, to = null, height = 90 } = {}) {
  const value = latest === null ? "–" : `${number(latest)}${unit ? ` ${unit}` : ""}`;
  const made = plot(lines, { height, from, to, label: `${name}: ${value}` });
  return h("figure", { class: "curve" },
    h("figcaption", {}, h("span", { text: name }), h("b", { text: value })), made.root,
    h("p", { class: "range", text: `${number(made.low)} to ${number(made.high)}${unit ? ` ${unit}` : ""}` }));
}

// names: what each colour stands for, in their order.
export function legend(names) {
  return h("ul", { class: "legend" }, names.map((name, index) =>
    h("li", {}, h("span", { class: `line${index % COLOURS}`, text: "■ ", "aria-hidden": "true" }), name)));
}
