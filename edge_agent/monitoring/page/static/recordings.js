// The recording of a moment: its pictures one by one, its sound, its readings as a curve, and what the model has said.

import { legend, plot } from "./curves.js";
import { address, day, h, read, svg, time, wait } from "./dom.js";

export const title = "Recording";
export const of = "events";
const FASTEST = 100, SLOWEST = 2000, STEP = 200;

export class Player {
  // at: the moment to begin with, in seconds since the epoch.
  constructor(pipeline, recording, at) {
    Object.assign(this, { pipeline, recording, closed: false, playing: false, frame: -1, sound: null, url: "" });
    const { frames, begins, ends, curve } = recording;
    this.at = Math.min(ends, Math.max(begins, at));
    this.image = h("img", { alt: `Recording of ${pipeline}` });
    this.when = h("p", { class: "when" });
    this.says = h("p", {});
    this.slider = h("input", { type: "range", min: 0, max: Math.max(0.01, ends - begins), step: 0.01, "aria-label": "Place in the recording", oninput: () => this.seek(begins + Number(this.slider.value)) });
    this.button = h("button", { class: "primary", text: "Play", onclick: () => this.playing ? this.stop() : this.play() });
    this.cursor = svg("line", { y1: 0, y2: "100%", class: "cursor" });
    this.root = h("div", {}, frames.length ? h("figure", { class: "stage" }, this.image) : null, curve ? this.curve(curve) : null,
      h("section", { class: "card controls" }, this.slider, h("div", { class: "quick" }, this.button), this.when, this.says,
        h("p", { class: "about", text: `${recording.name}: recorded for ${recording.reason}` })));
    this.show();
  }

  curve({ channels, low, high }) {
    const lines = channels.map((_, one) => ({ low: low[one], high: high[one] }));
    const { root } = plot(lines, { height: 220, marks: this.marks(), label: `Readings of ${this.pipeline}` });
    root.append(this.cursor);
    return h("div", { class: "card moving" }, root, legend(channels));
  }

  // Where the model has said something else than what it mostly says.
  marks() {
    const { results, begins, ends } = this.recording, counts = new Map(), span = Math.max(0.01, ends - begins);
    for (const [, label] of results) counts.set(label, (counts.get(label) ?? 0) + 1);
    const usual = [...counts].sort((one, other) => other[1] - one[1])[0]?.[0];
    return results.flatMap(([moment, label], at) => label === usual && label !== "anomaly" ? [] : [{
      from: Math.max(0, ((results[at - 1]?.[0] ?? begins) - begins) / span), to: (moment - begins) / span, kind: label === "anomaly" ? "high" : "" }]);
  }

  seek(at) {
    this.at = at;
    if (this.sound) this.sound.currentTime = at - this.recording.begins;
    this.show();
  }

  show() {
    const { frames, results, begins, ends } = this.recording;
    const last = (list, moment) => Math.max(0, list.findLastIndex((one) => moment(one) <= this.at + 0.005));
    this.slider.value = this.at - begins;
    const where = (this.at - begins) / Math.max(0.01, ends - begins) * 600;
    this.cursor.setAttribute("x1", where);
    this.cursor.setAttribute("x2", where);
    this.when.textContent = `${day(this.at * 1000)} ${time(this.at * 1000)}, ${(this.at - begins).toFixed(1)} of ${(ends - begins).toFixed(1)} s`;
    const said = results[last(results, ([moment]) => moment)];
    this.says.textContent = said ? `${said[1]}${said[2] === null ? "" : ` ${+said[2].toPrecision(3)}`}` : "";
    if (!frames.length) return Promise.resolve();
    const number = last(frames, ([, moment]) => moment);
    if (number === this.frame) return Promise.resolve();
    this.frame = number;
    this.image.src = `recordings/frame/${address(this.recording.name)}?pipeline=${address(this.pipeline)}&at=${frames[number][0]}`;
    return this.image.decode().catch(() => {});
  }

  stop() {
    this.playing = false;
    this.button.textContent = "Play";
    this.sound?.pause();
  }

  async play() {
    const { begins, ends } = this.recording;
    this.playing = true;
    this.button.textContent = "Pause";
    if (this.at >= ends) this.at = begins;
    await this.hear();
    while (this.playing && !this.closed && this.at < ends) {
      const began = performance.now(), pause = this.pause();
      await wait(pause);
      if (!this.playing || this.closed) return;
      const passed = (performance.now() - began) / 1000;
      this.at = Math.min(ends, this.sound && !this.sound.ended ? begins + this.sound.currentTime : this.sound ? ends : this.at + Math.min(passed, pause / 1000 * 1.5));
      await this.show();
    }
    this.stop();
  }

  // Milliseconds until the next picture, or for which a curve stands still.
  pause() {
    const next = this.recording.frames[this.frame + 1];
    return next && !this.recording.curve ? Math.max(FASTEST, Math.min(SLOWEST, (next[1] - this.at) * 1000)) : STEP;
  }

  // The whole sound is fetched at once: it is small, and is then sought in without further requests.
  async hear() {
    if (!this.recording.sound) return;
    try {
      if (!this.sound) {
        const answer = await fetch(`recordings/sound/${address(this.recording.name)}?pipeline=${address(this.pipeline)}`);
        if (!answer.ok) throw new Error((await answer.text()).trim());
        this.url = URL.createObjectURL(await answer.blob());
        this.sound = new Audio(this.url);
      }
      this.sound.currentTime = this.at - this.recording.begins;
      await this.sound.play();
    } catch (error) {
      this.says.textContent = `no sound: ${error.message}`;
      this.sound = null;
    }
  }

  close() {
    this.closed = true;
    this.stop();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

export const recordingOf = (pipeline, at) => read(`recordings/${address(pipeline)}?at=${address(String(at))}`);

export function open(root, [pipeline, at]) {
  let player = null, closed = false;
  const back = h("nav", { class: "tabs", "aria-label": "Back" }, h("a", { href: "#events", text: "← Events" }));
  root.append(back);
  recordingOf(pipeline, at).then((recording) => {
    if (closed) return;
    player = new Player(pipeline, recording, Number(at));
    root.append(player.root);
  }).catch((error) => root.append(h("p", { class: "card", text: error.message })));
  return {
    show() {},
    close() {
      closed = true;
      player?.close();
    },
  };
}
