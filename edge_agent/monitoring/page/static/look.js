// A picture of a camera that no pipeline reads yet: taken when somebody looks, one camera after the other.

import { h, wait } from "./dom.js";

const BUSY = 409, AGAIN_AFTER = 1000, TRIES = 20;
let before = Promise.resolve();

export class Look {
  constructor(title) {
    this.image = h("img", { alt: `What ${title} sees`, hidden: true });
    this.caption = h("figcaption", { role: "status", text: "looking …" });
    this.root = h("figure", { class: "stage small" }, this.image, this.caption);
  }

  // closed: whether nobody looks any more.
  take(input, value, closed) {
    this.say("looking …");
    before = before.then(() => closed() ? null : this.ask(input, value, closed)).catch((error) => this.say(error.message));
    return before;
  }

  async ask(input, value, closed) {
    for (let tries = 0; tries < TRIES && !closed(); tries += 1) {
      const answer = await fetch("setup/look", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ input, value }) });
      if (answer.ok) return this.show(await answer.blob());
      const why = (await answer.text()).trim();
      if (answer.status !== BUSY) throw new Error(why);
      this.say(why);
      await wait(AGAIN_AFTER);
    }
  }

  async show(jpeg) {
    const old = this.image.src;
    this.image.src = URL.createObjectURL(jpeg);
    await this.image.decode();
    this.image.hidden = false;
    this.caption.hidden = true;
    if (old) URL.revokeObjectURL(old);
  }

  say(text) {
    this.image.hidden = true;
    this.caption.hidden = false;
    this.caption.textContent = text;
  }
}
