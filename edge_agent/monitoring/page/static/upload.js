// Sends a model file to the device, piece by piece, and says what became of it.

import { address, bytes, h, read, send, wait } from "./dom.js";

const PIECE = 60000, LOOK_EVERY = 700;
const nameOf = (file) => file.name.toLowerCase().replace(/\.(tflite|onnx|zip)$/, "").replace(/[^a-z0-9.-]+/g, "-").replace(/^[.-]+/, "").slice(0, 64);

export class Upload {
  // done: called with the name of a model that can be used.
  constructor(done) {
    this.done = done;
    this.closed = false;
    this.file = h("input", { type: "file", accept: ".tflite,.onnx,.zip", onchange: () => this.chosen() });
    this.labels = h("input", { type: "file", accept: ".txt" });
    this.name = h("input", { maxlength: 64, autocomplete: "off" });
    this.bar = h("progress", { value: 0, max: 1, "aria-label": "Upload", hidden: true });
    this.status = h("p", { role: "status" });
    this.button = h("button", { text: "Send it to this device", disabled: true, onclick: () => this.run() });
    this.root = h("details", {}, h("summary", { text: "A model of your own" }),
      h("div", { class: "controls" },
        h("label", { class: "field" }, h("span", { text: "file: .tflite, .onnx, or .zip of a bundle" }), this.file),
        h("label", { class: "field" }, h("span", { text: "labels, one a line, if the file has none in it" }), this.labels),
        h("label", { class: "field" }, h("span", { text: "name" }), this.name), this.button, this.bar, this.status));
  }

  chosen() {
    const [file] = this.file.files;
    this.button.disabled = !file;
    if (file) this.name.value = nameOf(file);
  }

  say(text, kind = "") {
    this.status.textContent = text;
    this.status.className = kind;
  }

  async run() {
    const [file] = this.file.files, [labels] = this.labels.files;
    this.button.disabled = true;
    this.bar.hidden = false;
    try {
      const name = this.name.value.trim();
      const { key } = await send("setup/upload", { name, size: file.size, labels: labels ? await labels.text() : "" });
      for (let at = 0; at < file.size && !this.closed; at += PIECE) {
        this.say(`${bytes(at)} of ${bytes(file.size)}`);
        this.bar.value = at / file.size;
        await this.piece(key, at, file.slice(at, at + PIECE));
      }
      this.bar.removeAttribute("value");
      this.say("checking and trying it …");
      await this.checked(name);
    } catch (error) {
      this.say(error.message, "bad");
    }
    this.bar.hidden = true;
    this.button.disabled = false;
  }

  async piece(key, at, part) {
    const answer = await fetch(`setup/upload/${address(key)}?at=${at}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: part });
    if (!answer.ok) throw new Error((await answer.text()).trim());
  }

  async checked(name) {
    while (!this.closed) {
      const { upload } = await read("setup.json");
      if (upload.state === "ready") {
        this.say(`${name} is on this device`, "good");
        return this.done(name);
      }
      if (upload.state !== "checking") throw new Error(upload.problem || "the upload was given up");
      await wait(LOOK_EVERY);
    }
  }
}
