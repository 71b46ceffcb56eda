"use strict";

// State once a second, pictures four times a second at most, and nothing while the page is not seen.
const STATE_EVERY = 1000, PICTURE_EVERY = 250, RETRY_AFTER = 3000;
const cards = new Map();
const byId = (id) => document.getElementById(id);
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const seen = () => document.hidden
  ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })) : null;

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [[size, unit], next] = [units[at], units[at + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : "");
}

function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function define(list, rows) {
  list.replaceChildren(...rows.flatMap(([name, value, kind]) => [element("dt", name), element("dd", value, kind)]));
}

function reasons(counts) {
  return Object.entries(counts).filter(([, count]) => count).map(([reason, count]) => `${count} ${reason}`).join(", ");
}

// Two sums that everybody can add up: where inputs have gone, and where results have gone.
function counterRows(counts, imbalance) {
  const sum = (numbers) => Object.values(numbers).reduce((total, number) => total + number, 0);
  const because = (numbers) => reasons(numbers) ? ` (${reasons(numbers)})` : "";
  const rows = [
    ["captured", counts.captured, "sum"],
    ["= inferred", counts.inferred], ["+ in progress", counts.in_progress],
    [`+ dropped${because(counts.dropped)}`, sum(counts.dropped)],
    ["produced", counts.produced, "sum"],
    ["= acknowledged by the broker", counts.acknowledged], ["+ queued", counts.queued],
    [`+ discarded${because(counts.discarded)}`, sum(counts.discarded)],
  ];
  if (counts.withheld) rows.push(["withheld by the publish options", counts.withheld]);
  const made = rows.map(([name, count, kind]) => {
    const row = element("tr", "", kind);
    row.append(element("td", name), element("td", count.toLocaleString("en")));
    return row;
  });
  const verdict = element("tr");
  verdict.append(element("td", imbalance || "both sums balance", imbalance ? "bad" : "good"), element("td"));
  return [...made, verdict];
}

function resultRows(latest) {
  return latest.predictions.map((one) => {
    const row = element("li");
    const name = one.label ?? (one.class_id === undefined ? "value" : `class ${one.class_id}`);
    const which = one.track_id === undefined ? name : `#${one.track_id} ${name}`;
    row.append(element("span", one.region ? `${one.region}: ${which}` : which));
    if (one.confidence !== undefined) {
      const bar = element("meter");
      bar.value = one.confidence;
      row.append(bar, element("b", `${(one.confidence * 100).toFixed(1)} %`));
    } else {
      row.append(element("span"), element("b", one.value === undefined ? "" : String(+one.value.toPrecision(4))));
    }
    return row;
  });
}

class Card {
  constructor(name) {
    this.name = name;
    this.root = byId("pipeline").content.firstElementChild.cloneNode(true);
    this.find("h2").textContent = name;
    this.find("img").alt = `What ${name} sees`;
    this.number = 0;
    this.inView = this.gone = this.looking = false;
    this.observer = new IntersectionObserver(([entry]) => { this.inView = entry.isIntersecting; });
    this.observer.observe(this.root);
    byId("pipelines").append(this.root);
  }

  find(selector) { return this.root.querySelector(selector); }

  show(pipeline, counts, imbalance) {
    const now = performance.now();
    const rate = this.before ? (counts.inferred - this.before.inferred) / (now - this.before.now) * 1000 : NaN;
    if (!this.before || now - this.before.now > 5000) this.before = { inferred: counts.inferred, now };
    const pace = Number.isFinite(rate) ? `, ${rate.toFixed(1)} a second` : "";
    const ended = pipeline.ended ? ", ended" : "";
    this.find(".about").textContent = `${pipeline.source} → ${pipeline.model} (${pipeline.task})${pace}${ended}`;
    this.find(".problem").textContent = pipeline.problem;
    this.find(".problem").hidden = !pipeline.problem;
    this.find(".counters tbody").replaceChildren(...counterRows(counts, imbalance));
    this.find("figure").hidden = !pipeline.pictures;
    const latest = pipeline.latest;
    if (latest) {
      this.find(".when").textContent = `result ${latest.seq}, ${new Date(latest.captured_at).toLocaleString()}`;
      const rows = resultRows(latest);
      if (!rows.length && !latest.text) rows.push(element("li", "nothing found"));
      if (latest.more) rows.push(element("li", `and ${latest.more} more`));
      this.find(".results").replaceChildren(...rows);
      this.find(".text").hidden = !latest.text;
      this.find(".text").textContent = latest.text;
      const times = latest.timing_ms;
      this.find(".timing").textContent = ["queue", "preprocess", "inference", "postprocess"]
        .map((stage) => `${stage} ${times[stage].toFixed(1)}`).join(" + ") + ` = ${times.total.toFixed(1)} ms`;
    }
    if (pipeline.pictures && !this.looking) this.look();
  }

  // The next picture is requested when the previous one has arrived: a slow connection gets fewer of them.
  async look() {
    this.looking = true;
    while (!this.gone) {
      await seen();
      try {
        if (this.inView) await this.fetchPicture();
        await wait(PICTURE_EVERY);
      } catch {
        await wait(RETRY_AFTER);
      }
    }
  }

  async fetchPicture() {
    const answer = await fetch(`pictures/${encodeURIComponent(this.name)}?after=${this.number}`);
    if (answer.status !== 200) return;
    this.number = Number(answer.headers.get("X-Number"));
    const image = this.find("img"), old = image.src;
    image.src = URL.createObjectURL(await answer.blob());
    await image.decode();
    image.hidden = false;
    this.find("figcaption").hidden = true;
    if (old) URL.revokeObjectURL(old);
  }

  remove() {
    this.gone = true;
    this.observer.disconnect();
    this.root.remove();
  }
}

function deviceRows(status) {
  const { broker, outbox, thermal, battery } = status;
  const rows = [
    ["broker", broker.problem || `${broker.address}, connected`, broker.problem ? "bad" : "good"],
    ["outbox", `${outbox.on_disk} ${outbox.on_disk === 1 ? "result" : "results"} on disk, ${bytes(outbox.bytes)} of ${bytes(outbox.max_size)}`],
    ["temperature", thermal.temperature_c === null ? "no sensor" : `${thermal.temperature_c} °C`],
  ];
  if (outbox.problem) rows.push(["outbox", outbox.problem, "bad"]);
  if (thermal.throttled) rows.push(["CPU", "held back for its heat or its power supply", "bad"]);
  if (thermal.factor < 1) rows.push(["live sources", `slowed down to ${thermal.factor * 100} %`, "bad"]);
  if (battery.percentage !== undefined) rows.push(["battery", `${battery.percentage} %${battery.plugged ? ", plugged in" : ""}`]);
  rows.push(["edge-agent", `${status.version}, up for ${duration(status.uptime_s)}`]);
  return rows;
}

function modelRows(models) {
  return Object.entries(models).map(([name, facts]) => {
    const { in_use: used, asked, fallback } = facts.accelerator;
    const why = fallback ? `, not ${asked[0]}: ${fallback}` : "";
    return [name, `${facts.task}, version ${facts.version}, ${facts.engine} on ${used}${why}`, fallback ? "bad" : ""];
  });
}

const UPDATE_TROUBLE = ["refused", "failed", "undecided", "rolled back", "damaged"];

function updateRows(update) {
  if (!update) return [];
  const rows = Object.entries(update.models).map(([name, { step, version, reason }]) => {
    const text = [step, version].filter(Boolean).join(" ");
    return [`update of ${name}`, reason ? `${text}: ${reason}` : text, UPDATE_TROUBLE.includes(step) ? "bad" : ""];
  });
  if (update.error) rows.push(["update check", update.error, "bad"]);
  return rows;
}

function verdict(status) {
  if (status.paused) return ["paused: the battery is low", "bad"];
  if (status.hung.length) return [`hung: ${status.hung.join(", ")}`, "bad"];
  if (!status.broker.connected) return ["no broker", "bad"];
  const failed = Object.entries(status.pipelines).filter(([, one]) => one.problem).map(([name]) => name);
  return failed.length ? [`online, not working: ${failed.join(", ")}`, "bad"] : ["online", "good"];
}

function say(text, kind) {
  byId("state").textContent = text;
  byId("state").className = kind;
}

function show(status) {
  document.title = byId("device").textContent = status.device_id;
  say(...verdict(status));
  for (const [name, card] of cards) {
    if (!(name in status.pipelines)) {
      card.remove();
      cards.delete(name);
    }
  }
  for (const [name, pipeline] of Object.entries(status.pipelines)) {
    if (!cards.has(name)) cards.set(name, new Card(name));
    cards.get(name).show(pipeline, status.counters[name], status.imbalance[name]);
  }
  define(byId("facts"), deviceRows(status));
  define(byId("models"), [...modelRows(status.models), ...updateRows(status.update)]);
}

async function run() {
  for (;;) {
    await seen();
    try {
      const answer = await fetch("status.json");
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      show(await answer.json());
      await wait(STATE_EVERY);
    } catch (error) {
      say(`no connection to the agent (${error.message})`, "bad");
      await wait(RETRY_AFTER);
    }
  }
}

run();
