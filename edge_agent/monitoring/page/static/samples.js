// Kept samples: a gallery, and one sample to judge, to correct and to discard.

import { plot } from "./curves.js";
import { address, day, h, read, send, time } from "./dom.js";
import { Shapes, stage } from "./shapes.js";

export const title = "Samples";
const REASONS = ["confidence", "margin", "disagreement", "flicker", "anomaly", "probability", "finish_reason", "failed", "random", "command", "event"];
const STATES = [["", "all"], ["open", "not labelled"], ["labelled", "labelled"], ["discarded", "discarded"]];
const TIMES = [["", "any time"], ["3600", "last hour"], ["86400", "last day"], ["604800", "last week"]];
const QUICK = 8;

function choice(name, options, value, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) },
    options.map(([key, text]) => h("option", { value: key, text, selected: key === value })));
  return h("label", { class: "field" }, h("span", { text: name }), select);
}

function summary(one) {
  if (one.said?.discard) return "discarded";
  if (one.said) return one.said.label ?? ([...new Set((one.said.objects ?? []).map((object) => object.label))].join(", ") || "nothing in it");
  return one.labels.join(", ") || (typeof one.text === "string" ? "a request" : "nothing found");
}

// What a single reading was, and between what it was expected.
function reading(one) {
  const expected = one.expected ? `, expected ${one.expected.join(" to ")}` : "";
  return `${one.channel ?? "reading"} ${one.reading ?? one.value ?? ""}${expected}`;
}

function place(pipeline, one) {
  return `#samples/${address(pipeline, one.key)}`;
}

class List {
  constructor(root, view) {
    this.root = root;
    this.view = view;
    this.filter = { reason: "", label: "", state: "", since: "" };
    this.rows = [];
    this.more = "";
    this.known = [];
  }

  async load(pipeline, more = false) {
    const { since, ...filter } = this.filter;
    const query = new URLSearchParams({ ...filter, ...(since ? { since: Date.now() / 1000 - since } : {}), ...(more ? { before: this.more } : {}) });
    const found = await read(`samples.json${pipeline ? `/${address(pipeline)}` : ""}?${query}`);
    this.found = found;
    this.rows = more ? [...this.rows, ...found.samples] : found.samples;
    this.more = found.more;
    this.known = [...new Set([...this.known, ...this.rows.flatMap((row) => row.labels)])].sort();
  }

  async open(pipeline) {
    try {
      await this.load(pipeline);
      this.draw();
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "card bad", text: error.message }));
    }
  }

  draw() {
    const { pipelines, pipeline } = this.found;
    if (!pipelines.length) {
      this.root.replaceChildren(h("section", { class: "card" }, h("h2", { text: "No samples are kept" }),
        h("p", { text: "A pipeline with keep: in the configuration stores inputs that its model was unsure of. They are shown, and labelled, here." })));
      return;
    }
    const change = (key) => (value) => {
      this.filter[key] = value;
      this.open(pipeline);
    };
    const tabs = h("nav", { class: "tabs", "aria-label": "Pipelines" }, pipelines.map((name) => h("a", {
      href: `#samples/${address(name)}`, text: name, "aria-current": name === pipeline ? "true" : null })));
    tabs.hidden = pipelines.length < 2;
    const rows = this.rows.map((one) => h("a", { class: "thumb", href: place(pipeline, one) },
      typeof one.text === "string" ? h("q", { text: one.text })
        : h("img", { src: `samples/picture/${one.key}?pipeline=${address(pipeline)}&size=small`, alt: "", loading: "lazy", width: 320, height: 240,
          onerror: (event) => { event.target.classList.add("none"); } }),
      h("span", { class: one.said ? (one.said.discard ? "name gone" : "name good") : "name", text: (one.said && !one.said.discard ? "✓ " : "") + summary(one) }),
      h("span", { class: "when", text: `${one.reasons.join(", ")} · ${day(one.at)} ${time(one.at)}` })));
    this.root.replaceChildren(tabs,
      h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
        choice("rule", [["", "any rule"], ...REASONS.map((one) => [one, one])], this.filter.reason, change("reason")),
        choice("label", [["", "any label"], ...this.known.map((one) => [one, one])], this.filter.label, change("label")),
        choice("state", STATES, this.filter.state, change("state")),
        choice("kept in the", TIMES, this.filter.since, change("since"))),
      rows.length ? h("div", { class: "thumbs" }, rows) : h("p", { class: "card", text: "No sample fits." }),
      this.more ? h("button", { text: "Older ones", onclick: () => this.load(pipeline, true).then(() => this.draw()) }) : "");
  }
}

class One {
  constructor(root, list, edit) {
    this.root = root;
    this.list = list;
    this.edit = edit;
  }

  async open(pipeline, key) {
    this.pipeline = pipeline;
    this.key = key;
    try {
      this.sample = await read(`samples/${key}?pipeline=${address(pipeline)}`);
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "card bad", text: error.message }), h("a", { href: `#samples/${address(pipeline)}`, text: "All samples" }));
      return;
    }
    this.objects = this.sample.objects;
    this.draw();
  }

  neighbour(step) {
    const rows = this.list.rows, at = rows.findIndex((one) => one.key === this.key);
    return at < 0 ? undefined : rows[at + step];
  }

  go(step) {
    const next = this.neighbour(step);
    if (next) location.hash = place(this.pipeline, next);
  }

  picture() {
    const { size, curve, text, answer } = this.sample;
    if (typeof text === "string") {
      return h("section", { class: "card" }, h("h2", { text: "Request" }), h("p", { class: "text", text }),
        typeof answer === "string" ? [h("h2", { text: "Answer" }), h("p", { class: "text", text: answer })] : null);
    }
    if (curve && curve.readings > 1) {
      return h("figure", { class: "card" }, plot(curve.low.map((low, at) => ({ low, high: curve.high[at] })), { height: 320, label: "The readings" }).root,
        h("figcaption", { text: `${curve.readings} readings of ${curve.channels.join(", ")}` }));
    }
    if (curve) return h("p", { class: "card", text: this.sample.predictions.map(reading).join(", ") || "One reading." });
    if (!size || !size[0]) return h("p", { class: "card", text: this.sample.error || "There is no picture of this sample." });
    const boxes = this.sample.has_objects;
    this.shapes = new Shapes(size, {
      editable: this.edit && boxes, name: this.field?.value ?? "",
      onchange: () => this.changed(),
      onselect: (index) => { if (index >= 0) this.field.value = this.shapes.shapes[index].name; },
    });
    this.shapes.set(boxes ? this.objects.map(({ label, box }) => ({ name: label, kind: "box", points: [box.slice(0, 2), box.slice(2)] })) : []);
    return stage(h("img", { src: `samples/picture/${this.key}?pipeline=${address(this.pipeline)}`, alt: `Sample of ${this.pipeline}: ${summary(this.sample)}` }), this.shapes);
  }

  changed() {
    this.say("not saved yet", "");
  }

  say(text, kind) {
    this.status.textContent = text;
    this.status.className = kind;
  }

  document(extra = {}) {
    if (this.sample.has_objects) {
      const objects = this.shapes.shapes.map(({ name, points }) => ({ label: name, box: points.flat() }));
      return { objects, ...extra };
    }
    return { ...(this.field.value.trim() ? { label: this.field.value.trim() } : {}), ...extra };
  }

  async save(extra, next) {
    const document = this.document(extra);
    if (!document.discard && document.label === undefined && document.objects === undefined) return this.say("which label?", "bad");
    try {
      const row = await send(`samples/${this.key}?pipeline=${address(this.pipeline)}`, document);
      const at = this.list.rows.findIndex((one) => one.key === this.key);
      if (at >= 0) this.list.rows[at] = row;
      if (next && this.neighbour(1)) return this.go(1);
      await this.open(this.pipeline, this.key);
      this.say(document.discard ? "discarded" : "saved", "good");
    } catch (error) {
      this.say(error.message, "bad");
    }
  }

  name(label) {
    this.field.value = label;
    if (!this.sample.has_objects) return this.changed();
    this.shapes.name = label;
    if (this.shapes.selected >= 0) {
      this.shapes.shapes[this.shapes.selected].name = label;
      this.shapes.draw();
      this.changed();
    }
  }

  controls() {
    const met = [...new Set([...this.sample.predictions.map((one) => one.label), ...this.list.known])].filter(Boolean);
    const known = [...new Set([...met, ...(this.list.found?.labels ?? [])])];
    const first = this.sample.has_objects ? this.objects[0]?.label : this.sample.label;
    this.field = h("input", { list: "labels", value: first ?? known[0] ?? "", maxlength: 200, autocomplete: "off", oninput: () => this.name(this.field.value) });
    this.status = h("p", { role: "status" });
    if (!this.edit) return h("p", { class: "about", text: "Labels can be changed here with http: {edit: true} and a token." });
    return h("div", { class: "controls" },
      h("label", { class: "field" }, h("span", { text: this.sample.has_objects ? "label of the chosen box" : "label" }), this.field),
      h("datalist", { id: "labels" }, known.map((value) => h("option", { value }))),
      h("div", { class: "quick" }, (known.length > 2 * QUICK ? met : known).slice(0, QUICK).map((text) => h("button", { type: "button", text, onclick: () => this.name(text) }))),
      this.sample.has_objects ? h("p", { class: "about", text: "Drag on the picture to draw a box; tap one to choose it, drag it or its corners. Arrow keys move it, with Shift they resize it, Delete removes it." }) : null,
      h("div", { class: "quick" },
        h("button", { type: "button", class: "primary", text: this.sample.said ? "Save" : "Right, next", title: "Enter", onclick: () => this.save({}, true) }),
        this.sample.has_objects ? h("button", { type: "button", text: "Remove box", onclick: () => this.shapes.remove() }) : null,
        h("button", { type: "button", text: this.sample.said?.discard ? "Keep it after all" : "Discard", title: "x", onclick: () => this.save(this.sample.said?.discard ? {} : { discard: true }, !this.sample.said?.discard) })),
      this.status);
  }

  draw() {
    const controls = this.controls(), { sample } = this;
    const link = (step, text) => {
      const next = this.neighbour(step);
      return next ? h("a", { class: "button", href: place(this.pipeline, next), text }) : h("button", { disabled: true, text });
    };
    this.root.replaceChildren(
      h("nav", { class: "tabs", "aria-label": "Samples" }, h("a", { href: `#samples/${address(this.pipeline)}`, text: "All samples" }), link(-1, "← newer"), link(1, "older →")),
      h("div", { class: "pipeline" }, this.picture(),
        h("section", { class: "card says" }, h("h2", { text: summary(sample) }),
          h("p", { class: "when", text: `${day(sample.at)} ${time(sample.at)}, kept for: ${sample.reasons.join(", ")}` }),
          sample.error ? h("p", { class: "bad", text: sample.error }) : null,
          h("ul", { class: "results" }, sample.predictions.slice(0, QUICK).map((one) => h("li", {}, h("span", { text: one.label ?? one.class_id ?? "value" }),
            h("span"), h("b", { text: one.confidence === undefined ? (one.value ?? "") : `${(one.confidence * 100).toFixed(0)} %` })))),
          controls,
          sample.history.length ? h("details", {}, h("summary", { text: `History (${sample.history.length})` }),
            h("ul", {}, sample.history.map((one) => h("li", { text: `${day(one.at)} ${time(one.at)}, ${one.by}: ${summary({ said: one, labels: [] })}` })))) : null)));
  }

  keyPressed(event) {
    if (!this.sample) return;
    if (event.target.closest("input, select, textarea") && event.key !== "Enter") return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") this.go(-1);
    else if (event.key === "ArrowRight") this.go(1);
    else if (event.key === "Enter" && this.edit && !event.target.closest("a, button, summary")) this.save({}, true);
    else if (event.key === "x" && this.edit) this.save({ discard: true }, true);
    else return;
    event.preventDefault();
  }
}

export function open(root, parts) {
  const list = new List(root), state = { parts, status: null, one: null, opened: "" };
  const keys = (event) => state.one?.keyPressed(event);
  addEventListener("keydown", keys);
  async function update() {
    const [pipeline, key] = state.parts, wanted = JSON.stringify(state.parts);
    if (!state.status || wanted === state.opened) return;
    state.opened = wanted;
    state.one = key ? new One(root, list, state.status.edit) : null;
    if (!key) return list.open(pipeline);
    if (!list.rows.length) await list.load(pipeline).catch(() => {});
    if (state.opened === wanted) await state.one.open(pipeline, key);
  }
  return {
    move(next) {
      state.parts = next;
      update();
    },
    show(status) {
      state.status = status;
      update();
    },
    close() { removeEventListener("keydown", keys); },
  };
}
