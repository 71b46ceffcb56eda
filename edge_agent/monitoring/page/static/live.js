// One pipeline, large: what it sees and what it says. Others are a tap away.

import { legend, number, plot } from "./curves.js";
import { address, h, keep, read, seen, time, wait } from "./dom.js";

export const title = "Live";
const PICTURE_EVERY = 250, CURVE_EVERY = 1000, TEXT_EVERY = 400, RETRY_AFTER = 3000, SHOWN = 60;

function resultRows(latest) {
  const rows = latest.predictions.map((one) => {
    const name = one.label ?? (one.class_id === undefined ? "value" : `class ${one.class_id}`);
    const which = one.track_id === undefined ? name : `#${one.track_id} ${name}`;
    const row = h("li", {}, h("span", { text: one.region ? `${one.region}: ${which}` : which }));
    if (one.confidence !== undefined) {
      row.append(h("meter", { value: one.confidence, "aria-hidden": "true" }),
        h("b", { text: `${(one.confidence * 100).toFixed(1)} %` }));
    } else {
      row.append(h("span"), h("b", { text: one.value === undefined ? "" : String(+one.value.toPrecision(4)) }));
    }
    return row;
  });
  if (!rows.length && !latest.text && latest.task !== "text") rows.push(h("li", { text: "nothing found" }));
  if (latest.more) rows.push(h("li", { text: `and ${latest.more} more` }));
  return rows;
}

// Has a view fetch again and again, while somebody looks, until it is closed.
async function poll(view, every) {
  while (!view.closed) {
    await seen();
    try {
      await view.fetch();
      await wait(every);
    } catch {
      await wait(RETRY_AFTER);
    }
  }
}

// The next picture is requested when the one before has arrived: a slow connection gets fewer of them.
export class Picture {
  constructor(name, query = "") {
    this.name = name;
    this.query = query;
    this.number = 0;
    this.closed = false;
    this.image = h("img", { alt: `What ${name} sees`, hidden: true });
    this.root = h("figure", { class: "stage" }, this.image, h("figcaption", { text: "waiting for the next picture" }));
    poll(this, PICTURE_EVERY);
  }

  shape(size) {
    if (size) this.root.style.aspectRatio = `${size[0]} / ${size[1]}`;
  }

  async fetch() {
    const answer = await fetch(`pictures/${address(this.name)}?after=${this.number}${this.query}`);
    if (answer.status !== 200) return;
    this.number = Number(answer.headers.get("X-Number"));
    const old = this.image.src;
    this.image.src = URL.createObjectURL(await answer.blob());
    await this.image.decode();
    this.shape([this.image.naturalWidth, this.image.naturalHeight]);
    this.image.hidden = false;
    this.root.querySelector("figcaption").hidden = true;
    if (old) URL.revokeObjectURL(old);
  }

  close() {
    this.closed = true;
    if (this.image.src) URL.revokeObjectURL(this.image.src);
  }
}

// Readings and sound: the last minute, with what the model has said of each part.
class Curve {
  constructor(name) {
    this.name = name;
    this.closed = false;
    this.place = h("div", { class: "card", text: "waiting for readings" });
    this.root = h("div", { class: "moving" }, this.place);
    poll(this, CURVE_EVERY);
  }

  async fetch() {
    this.draw(await read(`series/${address(this.name)}`));
  }

  draw({ channels, low, high, every, results, threshold }) {
    if (!results.length && !channels.length) return;
    const span = (low[0]?.length ?? SHOWN / every) * every, at = (ago) => Math.max(0, 1 - ago / span);
    const usual = results.reduce((counts, one) => counts.set(one.label, (counts.get(one.label) ?? 0) + 1), new Map());
    const normal = [...usual].sort((one, other) => other[1] - one[1])[0]?.[0];
    const marks = results.filter((one) => one.label !== normal || one.label === "anomaly")
      .map((one) => ({ from: at(one.from), to: at(one.to), kind: one.label === "anomaly" ? "high" : "" }));
    const scores = Array(Math.round(span / every)).fill(null);
    for (const one of results) {
      const place = Math.floor(at(one.to) * (scores.length - 1));
      if (one.score !== null) scores[place] = Math.max(scores[place] ?? -Infinity, one.score);
    }
    // Between two results the score of the first holds.
    const held = scores.map(((before) => (score) => (before = score ?? before))(null));
    const latest = results.at(-1);
    this.place.replaceChildren(
      ...(channels.length ? [plot(channels.map((_, one) => ({ low: low[one], high: high[one] })), { height: 260, marks, label: `The last minute of ${this.name}` }).root, legend(channels)] : []),
      h("p", { class: "about", text: `score, last minute${threshold === null ? "" : `; an anomaly above ${number(threshold)}`}${latest ? `: ${latest.label} ${number(latest.score)}` : ""}` }),
      plot([{ low: held, high: held }, ...(threshold === null ? [] : [{ low: Array(held.length).fill(threshold), high: Array(held.length).fill(threshold) }])],
        { height: 90, from: 0, label: "The score of each window" }).root);
  }

  close() { this.closed = true; }
}

// A language model: what it was asked, and its answer as it comes.
class Conversation {
  constructor(name) {
    this.name = name;
    this.closed = false;
    this.version = 0;
    this.known = new Map();
    this.list = h("ol", { class: "talk", "aria-label": "Conversation" }, h("li", { class: "about", text: "nothing has been asked yet" }));
    this.root = h("div", { class: "card" }, this.list);
    poll(this, TEXT_EVERY);
  }

  async fetch() {
    const { version, ids, exchanges } = await read(`conversation/${address(this.name)}?after=${this.version}`);
    if (version < this.version) this.known.clear();
    this.version = version < this.version ? 0 : version;
    for (const one of exchanges) {
      const made = this.exchange(one);
      this.known.get(one.id)?.replaceWith(made);
      this.known.set(one.id, made);
    }
    for (const id of [...this.known.keys()].filter((one) => !ids.includes(one))) this.known.delete(id);
    const shown = ids.map((id) => this.known.get(id)).filter(Boolean);
    if (shown.length && (shown.length !== this.list.children.length || shown.some((one, at) => one !== this.list.children[at]))) this.list.replaceChildren(...shown);
  }

  exchange({ question, text, finish_reason: ended, tokens, asked_at: at }) {
    return h("li", {}, h("p", { class: "question", text: question || "(readings)" }),
      h("p", { class: ended ? "answer" : "answer writing", text }),
      h("p", { class: "when", text: `${time(at * 1000)}${ended ? `, ${tokens} tokens, ${ended}` : ", writing …"}` }));
  }

  close() { this.closed = true; }
}

function stageOf(name, facts) {
  if (facts.pictures) return new Picture(name);
  return facts.task === "text" ? new Conversation(name) : new Curve(name);
}

class Pipeline {
  constructor(name, facts) {
    this.name = name;
    this.before = null;
    this.stage = stageOf(name, facts);
    this.about = h("p", { class: "about" });
    this.problem = h("p", { class: "bad" });
    this.when = h("p", { class: "when", text: "no result yet" });
    this.results = h("ul", { class: "results" });
    this.text = h("p", { class: "text" });
    this.timing = h("p", { class: "timing" });
    this.root = h("article", { class: "pipeline", "aria-label": name }, this.stage?.root,
      h("section", { class: "card says" }, h("h2", { text: name }), this.about, this.problem, this.when,
        this.results, this.text, this.timing,
        facts.pictures ? h("p", {}, h("a", { class: "button", href: `#draw/${address(name)}`, text: "Draw zones" })) : null));
  }

  show(facts, counts) {
    const now = performance.now();
    const rate = this.before ? (counts.inferred - this.before.inferred) / (now - this.before.now) * 1000 : NaN;
    if (!this.before || now - this.before.now > 5000) this.before = { inferred: counts.inferred, now };
    const pace = Number.isFinite(rate) ? `, ${rate.toFixed(1)} a second` : "";
    this.about.textContent = `${facts.source} → ${facts.model} (${facts.task})${pace}${facts.ended ? ", ended" : ""}`;
    this.problem.textContent = facts.problem;
    this.problem.hidden = !facts.problem;
    const latest = facts.latest;
    this.text.hidden = !latest?.text || facts.task === "text";
    if (!latest) return;
    if (facts.pictures && !this.stage.number) this.stage.shape(latest.size);
    this.when.textContent = `result ${latest.seq}, ${time(latest.captured_at)}`;
    keep(this.results, latest.predictions, () => resultRows(latest));
    this.text.textContent = latest.text;
    const times = latest.timing_ms;
    this.timing.textContent = ["queue", "preprocess", "inference", "postprocess"]
      .map((stage) => `${stage} ${times[stage].toFixed(1)}`).join(" + ") + ` = ${times.total.toFixed(1)} ms`;
  }

  close() { this.stage?.close(); }
}

export function open(root, parts) {
  let wanted = parts[0], current = null;
  const tabs = h("nav", { class: "tabs", "aria-label": "Pipelines" }), place = h("div");
  root.append(tabs, place);
  return {
    move(next) { wanted = next[0]; },
    show(status) {
      const names = Object.keys(status.pipelines);
      const name = names.includes(wanted) ? wanted : names[0];
      tabs.hidden = names.length < 2;
      keep(tabs, [names, name], () => names.map((one) => h("a", {
        href: `#live/${address(one)}`, text: one, "aria-current": one === name ? "true" : null,
      })));
      if (current?.name !== name) {
        current?.close();
        current = name === undefined ? null : new Pipeline(name, status.pipelines[name]);
        const nothing = status.paused ? "All pipelines are paused." : "No pipeline runs.";
        place.replaceChildren(current ? current.root : h("p", { class: "card" }, nothing, " ", h("a", { href: "#setup", text: "Set one up" })));
      }
      current?.show(status.pipelines[name], status.counters[name]);
    },
    close() { current?.close(); },
  };
}

