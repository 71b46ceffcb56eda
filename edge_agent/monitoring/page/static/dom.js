// What all views use: elements, texts, requests. Text never becomes markup: it is set as text or as an attribute.

export const byId = (id) => document.getElementById(id);
export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export const seen = () => document.hidden
  ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })) : null;

function set(made, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
}

// An element with attributes, `text`, listeners (`onclick`) and children.
export function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  set(made, properties);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(name, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(made, properties);
  made.append(...children.flat());
  return made;
}

// Replaces what is in a list only where it has changed, so that neither focus nor selection is lost each second.
export function keep(parent, key, make) {
  const text = JSON.stringify(key);
  if (parent.kept === text) return;
  parent.kept = text;
  parent.replaceChildren(...make());
}

export async function read(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.text()).trim() || `${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

export async function send(address, document) {
  const answer = await fetch(address, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(document),
  });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `${answer.status}`);
  return answer.json();
}

export function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [[size, unit], next] = [units[at], units[at + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : "");
}

export function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export const percent = (share) => `${(share * 100).toFixed(0)} %`;
export const time = (moment) => new Date(moment).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const day = (moment) => new Date(moment).toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" });
export const address = (...parts) => parts.map(encodeURIComponent).join("/");
