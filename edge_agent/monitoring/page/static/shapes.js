// Boxes and polygons over a picture: drawn, moved, corner by corner, with a mouse, a finger or the keyboard.

import { h, svg } from "./dom.js";

const LEAST = 4, STEP = 0.01;

export class Shapes {
  // size: width and height of the picture in its own pixels, which all coordinates are in.
  constructor(size, { editable = false, kind = "box", name = "", onchange = () => {}, onselect = () => {} } = {}) {
    [this.width, this.height] = size;
    this.editable = editable;
    this.kind = kind;
    this.name = name;
    this.onchange = onchange;
    this.onselect = onselect;
    this.shapes = [];
    this.selected = -1;
    this.pending = null;
    this.drag = null;
    this.unit = Math.max(this.width, this.height) / 100;
    this.root = svg("svg", {
      class: editable ? "shapes editable" : "shapes", viewBox: `0 0 ${this.width} ${this.height}`,
      role: "group", "aria-label": "Shapes on the picture",
    });
    if (editable) {
      this.root.addEventListener("pointerdown", (event) => this.down(event));
      this.root.addEventListener("pointermove", (event) => this.moved(event));
      this.root.addEventListener("pointerup", () => this.up());
      this.root.addEventListener("pointercancel", () => this.up());
      this.root.addEventListener("keydown", (event) => this.key(event));
    }
  }

  // shapes: [{ name, kind: "box" | "polygon", points: [[x, y], …] }]; a box has two opposite corners.
  set(shapes) {
    this.shapes = shapes.map((one) => ({ ...one, points: one.points.map((point) => [...point]) }));
    this.selected = Math.min(this.selected, this.shapes.length - 1);
    this.draw();
  }

  select(index) {
    this.selected = index;
    this.draw();
    this.onselect(index);
  }

  remove(index = this.selected) {
    if (index < 0) return;
    this.shapes.splice(index, 1);
    this.selected = -1;
    this.draw();
    this.onselect(-1);
    this.onchange();
  }

  // Ends a polygon that is being drawn.
  finish() {
    const points = this.pending;
    this.pending = null;
    if (points && points.length > 2) this.add({ name: this.name, kind: "polygon", points });
    else this.draw();
  }

  add(shape) {
    this.shapes.push(shape);
    this.select(this.shapes.length - 1);
    this.onchange();
  }

  at(event) {
    const matrix = this.root.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return this.inside([x, y]);
  }

  inside([x, y]) {
    return [Math.max(0, Math.min(this.width, x)), Math.max(0, Math.min(this.height, y))].map((one) => Math.round(one * 10) / 10);
  }

  down(event) {
    if (event.button) return;
    const point = this.at(event), { index, corner, between } = event.target.dataset ?? {};
    event.preventDefault();
    this.root.setPointerCapture(event.pointerId);
    if (this.pending) {
      this.pending.push(point);
      this.draw();
    } else if (between !== undefined) {
      this.shapes[this.selected].points.splice(Number(between) + 1, 0, point);
      this.drag = { corner: Number(between) + 1, last: point };
      this.draw();
    } else if (corner !== undefined) {
      this.drag = { corner: Number(corner), last: point };
    } else if (index !== undefined) {
      this.select(Number(index));
      this.drag = { corner: null, last: point };
    } else if (this.kind === "polygon") {
      this.pending = [point];
      this.draw();
    } else {
      this.shapes.push({ name: this.name, kind: "box", points: [point, [...point]] });
      this.selected = this.shapes.length - 1;
      this.drag = { corner: 2, last: point, isNew: true };
      this.draw();
    }
    this.root.querySelector(`[data-index="${this.selected}"]`)?.focus({ preventScroll: true });
  }

  moved(event) {
    if (!this.drag) return;
    const point = this.at(event), shape = this.shapes[this.selected];
    const { corner, last } = this.drag;
    if (corner === null) this.shift(shape, point[0] - last[0], point[1] - last[1]);
    else this.pull(shape, corner, point);
    this.drag.last = point;
    this.draw();
  }

  up() {
    if (!this.drag) return;
    const shape = this.shapes[this.selected], isNew = this.drag.isNew;
    this.drag = null;
    if (shape.kind === "box") {
      const [[x1, y1], [x2, y2]] = shape.points;
      shape.points = [[Math.min(x1, x2), Math.min(y1, y2)], [Math.max(x1, x2), Math.max(y1, y2)]];
      const flat = Math.abs(x1 - x2) < LEAST || Math.abs(y1 - y2) < LEAST;
      if (flat && isNew) {
        this.shapes.pop();
        this.selected = -1;
        this.draw();
        this.onselect(-1);
        return;
      }
      if (flat) shape.points[1] = this.inside([shape.points[0][0] + LEAST, shape.points[0][1] + LEAST]);
    }
    this.draw();
    if (isNew) this.onselect(this.selected);
    this.onchange();
  }

  // The corners of a box: 0 upper left, 1 upper right, 2 lower right, 3 lower left.
  pull(shape, corner, [x, y]) {
    if (shape.kind === "polygon") {
      shape.points[corner] = [x, y];
      return;
    }
    const column = corner === 1 || corner === 2 ? 1 : 0, row = corner > 1 ? 1 : 0;
    shape.points[column][0] = x;
    shape.points[row][1] = y;
  }

  shift(shape, across, down) {
    const xs = shape.points.map(([x]) => x), ys = shape.points.map(([, y]) => y);
    const right = Math.max(-Math.min(...xs), Math.min(this.width - Math.max(...xs), across));
    const low = Math.max(-Math.min(...ys), Math.min(this.height - Math.max(...ys), down));
    shape.points = shape.points.map(([x, y]) => this.inside([x + right, y + low]));
  }

  // Arrows move, with Shift they pull the lower right corner; Delete removes.
  key(event) {
    const index = Number(event.target.dataset.index ?? -1), shape = this.shapes[index];
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!shape) return;
    if (way) {
      const [across, down] = [way[0] * STEP * this.width, way[1] * STEP * this.height];
      if (event.shiftKey && shape.kind === "box") {
        const [[x1, y1], [x2, y2]] = shape.points;
        shape.points[1] = this.inside([Math.max(x1 + LEAST, x2 + across), Math.max(y1 + LEAST, y2 + down)]);
      } else {
        this.shift(shape, across, down);
      }
      this.selected = index;
      this.draw();
      this.onchange();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.remove(index);
    } else if (event.key === "Enter" || event.key === " ") {
      this.select(index);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.root.querySelector(`[data-index="${index}"]`)?.focus({ preventScroll: true });
  }

  corners(shape) {
    if (shape.kind === "polygon") return shape.points;
    const [[x1, y1], [x2, y2]] = shape.points;
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
  }

  draw() {
    const focused = document.activeElement?.dataset?.index;
    const parts = this.shapes.flatMap((shape, index) => {
      const chosen = index === this.selected, corners = this.corners(shape);
      const line = svg("polygon", {
        points: corners.map((point) => point.join(",")).join(" "), class: chosen ? "shape chosen" : "shape",
        "data-index": index, tabindex: this.editable ? 0 : null, role: "img",
        "aria-label": `${shape.name || "no name"}, ${shape.kind} ${index + 1}`,
      });
      const top = corners.reduce((best, point) => point[1] < best[1] ? point : best);
      const text = svg("text", { x: top[0], y: Math.max(top[1] - this.unit * 0.6, this.unit * 2.6), "font-size": this.unit * 2.6, text: shape.name });
      return [line, text];
    });
    const chosen = this.editable && this.shapes[this.selected];
    if (chosen) {
      const corners = this.corners(chosen);
      if (chosen.kind === "polygon") {
        corners.forEach(([x, y], at) => {
          const [u, v] = corners[(at + 1) % corners.length];
          parts.push(svg("circle", { cx: (x + u) / 2, cy: (y + v) / 2, r: this.unit * 1.1, class: "between", "data-between": at }));
        });
      }
      corners.forEach(([x, y], at) => parts.push(svg("circle", { cx: x, cy: y, r: this.unit * 1.8, class: "corner", "data-corner": at })));
    }
    if (this.pending) {
      parts.push(svg("polyline", { points: this.pending.map((point) => point.join(",")).join(" "), class: "shape chosen pending" }));
      this.pending.forEach(([x, y]) => parts.push(svg("circle", { cx: x, cy: y, r: this.unit, class: "corner" })));
    }
    this.root.replaceChildren(...parts);
    if (focused !== undefined) this.root.querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
  }
}

// A picture with shapes over it, both in the same place at any size of the window.
export function stage(image, shapes) {
  const root = h("figure", { class: "stage" }, image, shapes.root);
  root.style.aspectRatio = `${shapes.width} / ${shapes.height}`;
  return root;
}
