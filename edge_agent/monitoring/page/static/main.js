// The frame of the page: which view is shown, and the state of the agent once a second while the page is seen.

import { byId, h, read, seen, wait } from "./dom.js";
import * as draw from "./draw.js";
import * as events from "./events.js";
import * as live from "./live.js";
import * as numbers from "./numbers.js";
import * as recordings from "./recordings.js";
import * as samples from "./samples.js";
import * as setup from "./setup.js";

const STATE_EVERY = 1000, RETRY_AFTER = 3000;
// A view has a `title`, maybe `of`: the view that leads to it, and `open(root, parts)`, which returns `show(status)` and `close()`.
const VIEWS = { live, events, samples, numbers, setup, draw, recordings };
let view = null, shown = "", status = null;

function go() {
  const [name, ...parts] = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (name === "main") return;
  const wanted = VIEWS[name] ? name : "live";
  for (const link of byId("views").children) {
    if (link.dataset.view === (VIEWS[wanted].of ?? wanted)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown === wanted && view.move) {
    view.move(parts);
  } else {
    view?.close();
    byId("main").replaceChildren();
    byId("main").className = wanted;
    view = VIEWS[wanted].open(byId("main"), parts);
    shown = wanted;
  }
  if (status) view.show(status);
}

function verdict(state) {
  if (state.paused) return ["paused: the battery is low", "bad"];
  if (state.hung.length) return [`hung: ${state.hung.join(", ")}`, "bad"];
  if (!state.broker.connected) return ["no broker", "bad"];
  const failed = Object.entries(state.pipelines).filter(([, one]) => one.problem).map(([name]) => name);
  return failed.length ? [`online, not working: ${failed.join(", ")}`, "bad"] : ["online", "good"];
}

function say(text, kind) {
  if (byId("state").textContent !== text) byId("state").textContent = text;
  byId("state").className = kind;
}

async function run() {
  byId("views").append(...Object.entries(VIEWS).filter(([, { of }]) => !of).map(([name, { title }]) =>
    h("a", { href: `#${name}`, "data-view": name, text: title })));
  addEventListener("hashchange", go);
  go();
  for (;;) {
    await seen();
    try {
      status = await read("status.json");
      document.title = byId("device").textContent = status.device_id;
      say(...verdict(status));
      if (!location.hash && !Object.keys(status.pipelines).length && status.edit) location.hash = "#setup";
      view.show(status);
      await wait(STATE_EVERY);
    } catch (error) {
      say(`no connection to the agent (${error.message})`, "bad");
      await wait(RETRY_AFTER);
    }
  }
}

run();
