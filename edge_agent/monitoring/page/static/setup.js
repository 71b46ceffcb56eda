// Sets up a pipeline: an input that is here, a model for it, a look at what it does, and keep it or not.

import { address, h, read, send, wait } from "./dom.js";
import { Look } from "./look.js";
import { Upload } from "./upload.js";

export const title = "Set up";
const EVERY = 1000, DETECTORS = ["detection", "pose", "segmentation"];
const OTHERS = [
  { kind: "address", title: "A network camera", takes: "pictures", ask: "Address, rtsp:// or http://", value: "rtsp://" },
  { kind: "pictures", title: "Pictures over MQTT", takes: "pictures", ask: "Topic", value: "lab/images" },
  { kind: "readings", title: "Readings over MQTT", takes: "readings", ask: "Topic", value: "lab/readings" },
];
const megabytes = (size) => `${(size / 1e6).toFixed(1)} MB`;

class SetUp {
  constructor(root, edit) {
    this.root = root;
    this.edit = edit;
    this.chosen = null;
    this.model = null;
    this.step = 1;
    this.added = "";
    this.values = { place: "", labels: "person", name: "yard" };
    this.status = h("p", { role: "status" });
    this.looks = new Map();
    this.upload = new Upload((name) => this.uploaded(name));
  }

  async look() {
    try {
      this.here = await read("setup.json");
      if (this.edit) this.here.inputs.filter(({ takes }) => takes === "pictures").forEach((one) => this.picture(one.title, "found"));
      this.draw();
    } catch (error) {
      this.root.replaceChildren(h("p", { class: "card bad", text: error.message }));
    }
  }

  // A picture of a camera; each is taken once, and again when that is asked for.
  picture(value, input, again = false) {
    const key = `${input} ${value}`, known = this.looks.get(key), look = known ?? new Look(value);
    this.looks.set(key, look);
    if (!known || again) look.take(input, value, () => this.closed || document.hidden);
    return look.root;
  }

  async uploaded(name) {
    this.model = { name };
    await this.look();
  }

  say(text, kind = "") {
    this.status.textContent = text;
    this.status.className = kind;
  }

  field(text, key) {
    return h("label", { class: "field" }, h("span", { text }), h("input", { value: this.values[key], maxlength: 200, autocomplete: "off", oninput: (event) => { this.values[key] = event.target.value; } }));
  }

  choice(group, items, chosen, onchoose) {
    return h("div", { class: "choices", role: "radiogroup", "aria-label": group }, items.map(({ key, text, more, picture }) =>
      h("label", { class: "choice" }, h("input", { type: "radio", name: group, value: key, checked: key === chosen, onchange: () => onchoose(key) }),
        h("span", {}, h("b", { text }), more ? h("span", { class: "about", text: more }) : null), picture)));
  }

  inputs() {
    return [...this.here.inputs.map((one) => ({ ...one, kind: "found", key: `found ${one.title}` })), ...OTHERS.map((one) => ({ ...one, key: one.kind }))];
  }

  stepInput() {
    const items = this.inputs();
    return [h("h2", { text: "1. Where do pictures, sound or readings come from?" }),
      this.here.inputs.length ? null : h("p", { class: "about", text: "No camera and no microphone is connected to this device, or its user may not open them: edge-agent doctor tells." }),
      this.choice("Input", items.map((one) => ({ key: one.key, text: one.title, more: one.takes, picture: this.looks.get(one.key)?.root })), this.chosen?.key, (key) => {
        this.chosen = items.find((one) => one.key === key);
        this.values.place = this.chosen.value ?? this.chosen.title;
        this.model = null;
        this.draw();
      }),
      this.chosen?.ask ? this.field(this.chosen.ask, "place") : null,
      this.chosen?.kind === "address" ? h("button", { text: "Look", onclick: () => { this.picture(this.values.place.trim(), "address", true); this.seen = this.values.place.trim(); this.draw(); } }) : null,
      this.chosen?.kind === "address" && this.seen ? this.looks.get(`address ${this.seen}`).root : null];
  }

  stepModel() {
    const models = this.here.models[this.chosen.takes];
    this.model = models.find((one) => one.name === this.model?.name) ?? models[0];
    const { pull } = this.here;
    return [h("h2", { text: `2. Which model, for ${this.chosen.takes}?` }),
      this.choice("Model", models.map((one) => ({ key: one.name, text: one.name, more: `${one.description}. ${one.task}, ${megabytes(one.size)}, ${one.licence}${one.here ? ", on this device" : ""}` })), this.model.name, (key) => {
        this.model = models.find((one) => one.name === key);
        this.draw();
      }),
      pull.name ? h("p", {}, `Downloading ${pull.name} `, h("progress", { value: pull.done, max: pull.total || 1, "aria-label": "Download" })) : null,
      pull.problem ? h("p", { class: "bad", text: pull.problem }) : null,
      !this.model.here && !pull.name ? h("button", { class: "primary", text: `Download, ${megabytes(this.model.size)}`, onclick: () => this.pull() }) : null,
      this.upload.root];
  }

  stepName() {
    return [h("h2", { text: "3. What is it called?" }), this.field("name, such as the place", "name"),
      DETECTORS.includes(this.model.task) ? this.field("labels that matter, with commas between; empty: all", "labels") : null,
      h("button", { class: "primary", text: "Try it", disabled: !this.model.here, onclick: () => this.add() })];
  }

  draw() {
    if (!this.edit) {
      this.root.replaceChildren(h("section", { class: "card" }, h("h2", { text: "Setting up" }),
        h("p", { text: "With http: {edit: true} and a token in the configuration, pipelines are set up here. In a terminal, edge-agent init asks the same questions." })));
      return;
    }
    if (this.added) {
      this.root.replaceChildren(h("section", { class: "card controls" }, h("h2", { text: `${this.added} runs` }),
        h("p", { text: "Look at it: is it right?" }),
        h("div", { class: "quick" }, h("a", { class: "button primary", href: `#live/${address(this.added)}`, text: "Look" }),
          h("button", { text: "Keep it, add another", onclick: () => { this.added = ""; this.chosen = null; this.look(); } }),
          h("button", { text: "Remove it again", onclick: () => this.remove() })), this.status));
      return;
    }
    const focus = document.activeElement, again = focus?.type === "radio" ? [focus.name, focus.value] : null;
    this.root.replaceChildren(h("section", { class: "card controls" }, this.stepInput()),
      ...(this.chosen ? [h("section", { class: "card controls" }, this.stepModel()), h("section", { class: "card controls" }, this.stepName(), this.status)] : []));
    if (again) [...this.root.querySelectorAll("input")].find((one) => one.name === again[0] && one.value === again[1])?.focus();
  }

  async pull() {
    try {
      await send("setup/model", { model: this.model.name });
      do {
        this.here = await read("setup.json");
        this.draw();
        await wait(EVERY);
      } while (this.here.pull.name && !this.closed);
      await this.look();
    } catch (error) {
      this.say(error.message, "bad");
    }
  }

  async add() {
    this.say("checking, and starting …");
    try {
      const labels = DETECTORS.includes(this.model.task) ? this.values.labels.split(",").map((one) => one.trim()).filter(Boolean) : [];
      await send("setup/pipeline", { name: this.values.name, model: this.model.name, input: this.chosen.kind, value: this.values.place, labels });
      this.added = this.values.name.trim();
      this.say("");
      this.draw();
    } catch (error) {
      this.say(error.message, "bad");
    }
  }

  async remove() {
    try {
      await send("setup/remove", { name: this.added });
      this.added = "";
      await this.look();
    } catch (error) {
      this.say(error.message, "bad");
    }
  }
}

export function open(root) {
  let made = null;
  return {
    move() {},
    show(status) {
      if (made) return;
      made = new SetUp(root, status.edit);
      made.look();
    },
    close() { if (made) made.closed = made.upload.closed = true; },
  };
}
