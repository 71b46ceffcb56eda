// Figures of the device, its models and its pipelines in the last hour, and the counters of each pipeline.

import { card, legend } from "./curves.js";
import { bytes, duration, h, keep, read, wait } from "./dom.js";

export const title = "Numbers";

const reasons = (counts) =>
  Object.entries(counts).filter(([, count]) => count).map(([reason, count]) => `${count} ${reason}`).join(", ");

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
  return [
    ...rows.map(([name, count, kind]) => h("tr", { class: kind }, h("th", { scope: "row", text: name }),
      h("td", { text: count.toLocaleString("en") }))),
    h("tr", {}, h("td", { colspan: 2, class: imbalance ? "bad" : "good", text: imbalance || "both sums balance" })),
  ];
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

function define(list, rows) {
  keep(list, rows, () => rows.flatMap(([name, value, kind]) =>
    [h("dt", { text: name }), h("dd", { text: value, class: kind || null })]));
}

const STAGES = ["queue", "preprocess", "inference", "postprocess"];
const CURVES_EVERY = 10000, LEAST_POINTS = 30;
// What is missing at the start has not been measured.
const filled = (row, points) => [...Array(Math.max(0, points - row.length)).fill(null), ...row];
const last = (row) => row?.length ? row.at(-1) : null;

// Each stage stands on those before it.
function stacked(rows, points) {
  const under = Array(points).fill(0);
  return STAGES.map((stage) => {
    const row = filled(rows[stage] ?? [], points);
    const low = row.map((value, at) => value === null ? null : under[at]);
    const high = row.map((value, at) => value === null ? null : (under[at] += value));
    return { low, high };
  });
}

function curves(history) {
  const points = Math.max(LEAST_POINTS, history.device.cpu?.length ?? 0), span = duration(Math.round(points * history.every / 60) * 60);
  const one = (name, row, options = {}) => card(name, [{ low: filled(row ?? [], points), high: filled(row ?? [], points) }], { latest: last(row), ...options });
  const { device } = history;
  const total = (rows) => STAGES.every((stage) => last(rows[stage]) === null) ? null : STAGES.reduce((sum, stage) => sum + (last(rows[stage]) ?? 0), 0);
  return [
    h("section", { class: "card wide" }, h("h2", { text: `Device, last ${span}` }), h("div", { class: "curves" },
      one("CPU, of one core", device.cpu, { unit: "%", from: 0, to: 100 }), one("memory", device.memory_mb, { unit: "MB", from: 0 }),
      one("temperature", device.temperature_c, { unit: "°C" }), one("outbox", device.outbox, { unit: "results", from: 0, to: 1 }))),
    ...Object.entries(history.pipelines).map(([name, rows]) => h("section", { class: "card wide" }, h("h2", { text: `${name}, last ${span}` }), h("div", { class: "curves" },
      one("results a second", rows.rate, { from: 0 }),
      card("time of an input", stacked(rows, points), { unit: "ms", latest: total(rows), from: 0 }),
      one("dropped a second", rows.dropped, { from: 0, to: 1 })), legend(STAGES))),
  ];
}

export function open(root, parts) {
  let closed = false, page = parts[0] === "counters";
  const facts = h("dl", { id: "facts" }), models = h("dl", { id: "models" });
  const counters = h("div", { class: "grid" }), drawn = h("div", { class: "grid" });
  const tabs = h("nav", { class: "tabs", "aria-label": "Numbers" });
  const figures = h("div", {}, h("div", { class: "grid" },
    h("section", { class: "card" }, h("h2", { text: "Device" }), facts),
    h("section", { class: "card" }, h("h2", { text: "Models" }), models)), drawn);
  root.append(tabs, figures, counters);
  const turn = () => {
    tabs.replaceChildren(...[["Figures", ""], ["Counters", "/counters"]].map(([text, place]) =>
      h("a", { href: `#numbers${place}`, text, "aria-current": page === (place !== "") ? "true" : null })));
    figures.hidden = page;
    counters.hidden = !page;
  };
  turn();
  (async () => {
    while (!closed) {
      if (!document.hidden) await read("history.json").then((history) => keep(drawn, history, () => curves(history))).catch(() => {});
      await wait(CURVES_EVERY);
    }
  })();
  return {
    move(next) {
      page = next[0] === "counters";
      turn();
    },
    show(status) {
      define(facts, deviceRows(status));
      define(models, [...modelRows(status.models), ...updateRows(status.update)]);
      keep(counters, [status.counters, status.imbalance], () => Object.entries(status.counters).map(([name, counts]) =>
        h("section", { class: "card" }, h("table", { class: "counters" }, h("caption", { text: name }),
          h("tbody", {}, counterRows(counts, status.imbalance[name]))))));
    },
    close() { closed = true; },
  };
}
