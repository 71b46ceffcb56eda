// What has happened: events with their pictures, newest first, and how often each label was seen in the last day.

import { COLOURS, legend } from "./curves.js";
import { address, day, duration, h, keep, percent, read, svg, time, wait } from "./dom.js";
import { Player, recordingOf } from "./recordings.js";

export const title = "Events";
const EVERY = 3000, HEIGHT = 120;
const VERBS = { enter: "came", seen: "was seen", start: "began", alarm: "alarm", cross: "crossed", dwell: "stayed", leave: "left", end: "ended" };

function select(name, options, value, onchange) {
  const made = h("select", { onchange: () => onchange(made.value) },
    ["", ...options].map((key) => h("option", { value: key, text: key || `any ${name}`, selected: key === value })));
  return h("label", { class: "field" }, h("span", { text: name }), made);
}

const line = (one) => [one.label || one.kind, one.track_id === null ? "" : `#${one.track_id}`].filter(Boolean).join(" ");
const sentence = (one) => `${VERBS[one.kind] ?? one.kind}${one.zone ? ` · ${one.zone}` : ""}`;

// Columns of a quarter of an hour; a tap on one shows its events.
function timeline(found, chosen, width, onchoose) {
  const labels = Object.entries(found.labels), count = labels.length ? labels[0][1].length : 96;
  const totals = Array.from({ length: count }, (_, at) => labels.reduce((sum, [, row]) => sum + row[at], 0));
  const most = Math.max(1, ...totals), step = width / count;
  const root = svg("svg", { class: "timeline", viewBox: `0 0 ${width} ${HEIGHT + 18}`, role: "img",
    "aria-label": `The last 24 hours: ${labels.map(([name, row]) => `${name} ${row.reduce((sum, one) => sum + one, 0)}`).join(", ") || "nothing"}` });
  for (let at = 0; at < count; at += 1) {
    let top = HEIGHT;
    labels.forEach(([, row], index) => {
      const high = row[at] / most * (HEIGHT - 6);
      top -= high;
      if (high) root.append(svg("rect", { x: at * step + 0.5, width: step - 1, y: top, height: high, class: `bar line${index % COLOURS}` }));
    });
    const moment = new Date((found.begins + at * found.every) * 1000);
    if (moment.getHours() % 4 === 0 && moment.getMinutes() < found.every / 60 && (at + 6) * step < width) {
      root.append(svg("text", { x: at * step, y: HEIGHT + 15, text: `${moment.getHours()}:00` }));
    }
    const hit = svg("rect", { x: at * step, width: step, y: 0, height: HEIGHT, class: at === chosen ? "hit chosen" : "hit" }, svg("title", { text: `${time(moment)}: ${totals[at]}` }));
    hit.addEventListener("click", () => onchoose(at === chosen ? null : at));
    root.append(hit);
  }
  root.append(svg("line", { x1: 0, x2: width, y1: HEIGHT, y2: HEIGHT, class: "axis" }));
  return h("div", {}, root, legend(labels.map(([name, row]) => `${name} ${row.reduce((sum, one) => sum + one, 0)}`)));
}

export function open(root, parts) {
  const filter = { pipeline: "", label: "", zone: "" };
  let player = null, played = null, chosen = null, last = null, closed = false, names = [], recorded = new Set(), rows = [], more = false, opened = parts[0];
  const bars = h("section", { class: "card", "aria-label": "The last 24 hours" }), choices = h("form", { class: "filters", onsubmit: (event) => event.preventDefault() });
  const list = h("div", { class: "thumbs" }), further = h("button", { text: "Earlier ones", hidden: true });
  const large = h("dialog", { class: "large", "aria-label": "Event" });
  root.append(bars, choices, list, further, large);

  const between = () => chosen === null || !last ? {} : { since: last.begins + chosen * last.every, until: last.begins + (chosen + 1) * last.every };

  async function load(before) {
    const query = new URLSearchParams({ ...filter, ...between(), ...(before ? { before } : {}) });
    const [found, line_] = await Promise.all([read(`events.json?${query}`), read(`timeline.json?pipeline=${address(filter.pipeline)}`)]);
    if (closed) return;
    last = line_;
    const old = rows.filter((one) => before || !found.events.length || one.number < found.events.at(-1).number);
    rows = before ? [...rows, ...found.events] : [...found.events, ...(chosen === null && found.more ? old : [])];
    more = before || !old.length ? found.more : more;
    draw(found.choices);
  }

  const again = () => {
    rows = [];
    load().catch(() => {});
  };

  function draw(known) {
    keep(bars, [last, chosen], () => [timeline(last, chosen, Math.max(300, bars.clientWidth - 34), (at) => {
      chosen = at;
      again();
    })]);
    keep(choices, [known, names, filter], () => [
      select("label", known.label, filter.label, (value) => { filter.label = value; again(); }),
      select("zone", known.zone, filter.zone, (value) => { filter.zone = value; again(); }),
      select("pipeline", names, filter.pipeline, (value) => { filter.pipeline = value; again(); })]);
    keep(list, rows, () => rows.length ? rows.map((one) => h("a", { class: "thumb", href: `#events/${one.number}` },
      one.has_picture ? h("img", { src: `events/picture/${one.number}`, alt: "", loading: "lazy", width: 320, height: 240 }) : null,
      h("span", { class: "name", text: line(one) }),
      h("span", { class: "about", text: `${sentence(one)}${one.seconds ? `, ${duration(one.seconds)}` : ""}` }),
      h("span", { class: "when", text: `${one.pipeline} · ${day(one.at * 1000)} ${time(one.at * 1000)}` })))
      : [h("p", { class: "card wide", text: "Nothing has happened yet, or nothing that fits. Events are remembered in memory, since the agent has started." })]);
    further.hidden = !more;
    show();
  }

  function show() {
    const at = rows.findIndex((one) => String(one.number) === opened), one = rows[at];
    replay(one);
    if (!one) {
      if (large.open) large.close();
      return;
    }
    keep(large, [one, at, rows.length, player !== null], () => [
      player ? player.root : one.has_picture ? h("img", { src: `events/picture/${one.number}`, alt: `${line(one)}, ${one.pipeline}` }) : h("p", { text: "There is no picture of this event any more." }),
      h("p", {}, h("b", { text: line(one) }), ` ${sentence(one)}`),
      h("p", { class: "when", text: `${one.pipeline}, ${day(one.at * 1000)} ${time(one.at * 1000)}${one.seconds ? `, for ${duration(one.seconds)}` : ""}${one.confidence === null ? "" : `, ${percent(one.confidence)}`}` }),
      h("div", { class: "quick" },
        h("button", { text: "← newer", disabled: at === 0, onclick: () => go(at - 1) }),
        h("button", { text: "older →", disabled: at === rows.length - 1, onclick: () => go(at + 1) }),
        player ? h("a", { class: "button", href: `#recordings/${address(one.pipeline, String(one.at))}`, text: "Larger" }) : null,
        h("button", { class: "primary", text: "Close", onclick: () => large.close() }))]);
    if (!large.open) large.showModal();
  }

  // Where the moment of the event was recorded, the recording takes the place of its picture.
  function replay(one) {
    if (played === (one?.number ?? null)) return;
    player?.close();
    [player, played] = [null, one?.number ?? null];
    if (!one || !recorded.has(one.pipeline)) return;
    recordingOf(one.pipeline, one.at).then((recording) => {
      if (closed || played !== one.number) return;
      player = new Player(one.pipeline, recording, one.at);
      show();
    }).catch(() => {});
  }

  const go = (at) => { if (rows[at]) location.hash = `#events/${rows[at].number}`; };
  further.addEventListener("click", () => load(rows.at(-1)?.number).catch(() => {}));
  large.addEventListener("close", () => { if (!closed && location.hash.startsWith("#events/")) location.hash = "#events"; });
  large.addEventListener("keydown", (event) => {
    const at = rows.findIndex((one) => String(one.number) === opened);
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") go(at - 1);
    if (event.key === "ArrowRight") go(at + 1);
  });

  (async () => {
    while (!closed) {
      if (!document.hidden) await load().catch(() => {});
      await wait(EVERY);
    }
  })();
  return {
    move(next) {
      opened = next[0];
      show();
    },
    show(status) {
      names = Object.keys(status.pipelines);
      recorded = new Set(status.recorded);
    },
    close() {
      closed = true;
      player?.close();
      if (large.open) large.close();
    },
  };
}
