// Zones, regions, masks and a meter's frame, drawn on the live picture, and the lines of the configuration for them.

import { address, h, read, send, svg } from "./dom.js";
import { Picture } from "./live.js";
import { Shapes } from "./shapes.js";

export const title = "Draw";
export const of = "live";
const KINDS = {
  zones: { text: "Zones", kind: "polygon", about: "What is outside of all zones is not reported. An object counts by the middle of its lower edge." },
  regions: { text: "Regions", kind: "box", about: "The model looks at each region by itself, at full resolution." },
  mask: { text: "Mask", kind: "polygon", about: "What is inside is painted black in kept samples." },
  meter: { text: "Meter", kind: "box", about: "One frame around all digits; it is divided evenly." },
};
const SIMPLE = /^[A-Za-z_][A-Za-z0-9_ -]*$/;

const quoted = (name) => SIMPLE.test(name) ? name : JSON.stringify(name);
const numbers = (list) => `[${list.join(", ")}]`;
const corners = (points) => numbers(points.map(numbers));

export function yaml(pipeline, drawing) {
  const lines = ["pipelines:", `  ${quoted(pipeline)}:`];
  const named = (shapes, indent, write) => Object.entries(shapes).forEach(([name, shape]) => lines.push(`${" ".repeat(indent)}${quoted(name)}: ${write(shape)}`));
  if (drawing.zones) {
    lines.push("    filters:", "      zones:");
    named(drawing.zones, 8, corners);
  }
  if (drawing.regions) {
    lines.push("    regions:");
    named(drawing.regions, 6, numbers);
  }
  if (drawing.mask) lines.push("    keep:", `      mask: ${numbers(drawing.mask.map(corners))}`);
  if (drawing.meter) lines.push("    meter:", `      box: ${numbers(drawing.meter)}`);
  return lines.join("\n");
}

class Drawing {
  constructor(root, pipeline, status, found) {
    this.pipeline = pipeline;
    this.found = found;
    this.changed = new Set();
    this.size = status.pipelines[pipeline].latest?.size ?? [16, 9].map((side) => side * 80);
    this.shapes = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, this.fromFile(kind)]));
    this.picture = new Picture(pipeline, "&plain=1");
    this.picture.shape(this.size);
    this.editor = new Shapes(this.size, { editable: true, onchange: () => this.took(), onselect: (at) => this.chose(at) });
    this.digits = svg("g", { class: "digits" });
    this.picture.root.append(this.editor.root);
    this.name = h("input", { maxlength: 64, autocomplete: "off", oninput: () => this.rename() });
    this.tabs = h("nav", { class: "tabs", "aria-label": "What is drawn" });
    this.about = h("p", { class: "about" });
    this.yaml = h("textarea", { readonly: true, rows: 12, spellcheck: "false", "aria-label": "Lines for the configuration file" });
    this.status = h("p", { role: "status" });
    this.end = h("button", { text: "Close the shape", onclick: () => this.editor.finish() });
    this.save = h("button", { class: "primary", text: `Write into ${found.file}`, onclick: () => this.write() });
    const why = status.edit ? "" : "Copy the lines into the configuration file. With http: {edit: true} and a token the page writes them there.";
    this.save.hidden = !status.edit;
    root.replaceChildren(h("nav", { class: "tabs", "aria-label": "Back" }, h("a", { href: `#live/${address(pipeline)}`, text: `← ${pipeline}` })), this.tabs,
      h("div", { class: "pipeline" }, this.picture.root, h("section", { class: "card controls" }, this.about,
        h("label", { class: "field" }, h("span", { text: "name" }), this.name),
        h("div", { class: "quick" }, this.end, h("button", { text: "Remove", onclick: () => this.editor.remove() })),
        this.yaml, h("p", { class: "about", text: why }), this.save, this.status)));
    this.turn(found.meter ? "meter" : "zones");
  }

  // In the file a shape is in pixels or, if no number is above 1, in fractions.
  fromFile(kind) {
    const scale = (points) => {
      const inside = points.flat().every((value) => value <= 1);
      return points.map(([x, y]) => inside ? [x * this.size[0], y * this.size[1]] : [x, y]);
    };
    const box = ([x1, y1, x2, y2]) => scale([[x1, y1], [x2, y2]]);
    const { zones, regions, mask, meter } = this.found;
    if (kind === "zones") return Object.entries(zones).map(([name, points]) => ({ name, kind: "polygon", points: scale(points) }));
    if (kind === "regions") return Object.entries(regions).map(([name, edges]) => ({ name, kind: "box", points: box(edges) }));
    if (kind === "mask") return mask.map((points, at) => ({ name: `mask ${at + 1}`, kind: "polygon", points: scale(points) }));
    return meter?.box ? [{ name: "digits", kind: "box", points: box(meter.box) }] : [];
  }

  turn(kind) {
    this.kind = kind;
    const usable = Object.entries(KINDS).filter(([name]) => (name !== "mask" || this.found.keeps) && (name !== "meter" || this.found.meter));
    this.tabs.replaceChildren(...usable.map(([name, { text }]) =>
      h("button", { text, "aria-pressed": name === kind ? "true" : "false", onclick: () => this.turn(name) })));
    this.about.textContent = `${KINDS[kind].about} ${KINDS[kind].kind === "polygon" ? "Tap corner by corner, then close the shape." : "Drag over the picture."} Corners can be dragged, and shapes moved with the arrow keys.`;
    this.editor.kind = KINDS[kind].kind;
    this.editor.selected = -1;
    this.editor.pending = null;
    this.editor.set(this.shapes[kind]);
    this.end.hidden = KINDS[kind].kind !== "polygon";
    this.name.parentElement.hidden = kind === "mask" || kind === "meter";
    this.fresh();
    this.show();
  }

  fresh() {
    const taken = new Set(this.editor.shapes.map((one) => one.name)), word = { zones: "zone", regions: "region", mask: "mask", meter: "digits" }[this.kind];
    let at = this.editor.shapes.length + 1;
    while (taken.has(`${word} ${at}`)) at += 1;
    this.editor.name = this.kind === "meter" ? "digits" : `${word} ${at}`;
    if (this.editor.selected < 0) this.name.value = this.editor.name;
  }

  chose(at) {
    if (at >= 0) this.name.value = this.editor.shapes[at].name;
    else this.fresh();
  }

  rename() {
    if (this.editor.selected < 0) {
      this.editor.name = this.name.value;
      return;
    }
    this.editor.shapes[this.editor.selected].name = this.name.value;
    this.editor.draw();
    this.took();
  }

  took() {
    if (this.kind === "meter" && this.editor.shapes.length > 1) {
      this.editor.set([this.editor.shapes.at(-1)]);
      this.editor.select(0);
    }
    this.shapes[this.kind] = this.editor.shapes;
    this.changed.add(this.kind);
    this.fresh();
    this.show();
    this.say("", "");
  }

  document() {
    const share = ([x, y]) => [x / this.size[0], y / this.size[1]].map((value) => Math.min(1, Math.round(value * 1e4) / 1e4));
    const box = (one) => one.points.map(share).flat(), polygon = (one) => one.points.map(share);
    const write = {
      zones: (shapes) => Object.fromEntries(shapes.map((one) => [one.name, polygon(one)])),
      regions: (shapes) => Object.fromEntries(shapes.map((one) => [one.name, box(one)])),
      mask: (shapes) => shapes.map(polygon),
      meter: (shapes) => shapes.length ? box(shapes[0]) : undefined,
    };
    return Object.fromEntries(Object.keys(KINDS).filter((kind) => this.changed.has(kind) || kind === this.kind)
      .map((kind) => [kind, write[kind](this.shapes[kind])]).filter(([kind, shapes]) => shapes !== undefined && (this.changed.has(kind) || Object.keys(shapes).length)));
  }

  show() {
    this.yaml.value = yaml(this.pipeline, this.document());
    this.save.disabled = !this.changed.size;
    // The windows of the digits, evenly divided.
    const frame = this.kind === "meter" && this.shapes.meter[0];
    this.digits.replaceChildren(...(frame ? Array.from({ length: this.found.meter.digits - 1 }, (_, at) => {
      const [[x1, y1], [x2, y2]] = frame.points, x = x1 + (x2 - x1) * (at + 1) / this.found.meter.digits;
      return svg("line", { x1: x, x2: x, y1, y2, class: "shape" });
    }) : []));
    this.editor.root.append(this.digits);
  }

  say(text, kind) {
    this.status.textContent = text;
    this.status.className = kind;
  }

  async write() {
    const names = this.editor.shapes.map((one) => one.name.trim());
    if (names.some((name) => !name) || new Set(names).size < names.length) return this.say("each shape needs a name of its own", "bad");
    this.save.disabled = true;
    this.say("checking and reloading …", "");
    try {
      const document = this.document();
      await send(`drawing/${address(this.pipeline)}`, Object.fromEntries(Object.entries(document).filter(([kind]) => this.changed.has(kind))));
      this.changed.clear();
      this.say("written, and in use", "good");
    } catch (error) {
      this.save.disabled = false;
      this.say(error.message, "bad");
    }
  }

  close() { this.picture.close(); }
}

export function open(root, parts) {
  let drawing = null, wanted = parts[0], asked = "";
  return {
    move(next) { wanted = next[0]; },
    async show(status) {
      if (asked === wanted) return;
      asked = wanted;
      drawing?.close();
      drawing = null;
      if (!status.pipelines[wanted]?.pictures) {
        root.replaceChildren(h("p", { class: "card", text: "Which pipeline? Choose one in Live, and Draw there." }));
        return;
      }
      try {
        drawing = new Drawing(root, wanted, status, await read(`drawing/${address(wanted)}`));
      } catch (error) {
        root.replaceChildren(h("p", { class: "card bad", text: error.message }));
      }
    },
    close() { drawing?.close(); },
  };
}
