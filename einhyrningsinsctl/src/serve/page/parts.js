// Elements, words and plots: what the page is made of. It knows nothing of a pool.

const GAP_MS = 90e3; // a curve has a gap where there was no sample for longer

export const $ = (id) => document.getElementById(id);
export const show = (node, is) => { node.hidden = !is; };

/** An element with attributes, and texts or elements in it. */
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
export function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
/** Makes these the children of a node. Those that are the same stay, and what is selected in them. */
export function setChildren(node, ...children) {
  while (node.children.length > children.length) node.lastElementChild.remove();
  children.forEach((child, number) => {
    const old = node.children[number];
    if (!old) node.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  });
}

// --- words and numbers
export function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor(s % 3600 / 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s % 86400 / 3600)}h`;
}
export function bytes(count) {
  const units = ["B", "K", "M", "G", "T"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count < 9.95 && unit > 1 ? count.toFixed(1) : Math.round(count)}${units[unit]}`;
}
export const percent = (value) => `${value < 9.95 ? value.toFixed(1) : Math.round(value)} %`;
export const known = (value, words) => (value === undefined || value === null ? "-" : words(value));
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
export function moment(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock(ms) : date.toLocaleString([], { hour12: false, dateStyle: "medium", timeStyle: "short" });
}
export const count = (number, one, many) => `${number} ${number === 1 ? one : many || one + "s"}`;

// --- plots
export function top(values, least) {
  const highest = Math.max(least, ...values);
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 5, 10].map((step) => step * power).find((value) => value >= highest);
}
export function topBytes(values) {
  const highest = Math.max(1 << 20, ...values);
  return 2 ** Math.ceil(Math.log2(highest));
}
/** Keeps its elements, so that nothing flickers and whoever reads them aloud is not interrupted. */
export function plot(holder, key, kind) {
  let node = holder.querySelector(`:scope > [data-key="${key}"]`);
  if (!node) {
    node = el("figure", { class: `plot ${kind}`, "data-key": key },
      el("figcaption", { class: "head" }, el("span", { class: "name" }), el("span", { class: "value" })),
      svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" }),
      el("div", { class: "axis", "aria-hidden": "true" }, el("span"), el("span"), el("span")));
    holder.append(node);
  }
  return node;
}
export function drawPlot(node, points, { name, value, of, highest, words }) {
  setText(node.querySelector(".name"), name);
  setText(node.querySelector(".value"), value);
  const known = points.map((point) => [point.at_ms, of(point)]).filter(([, value]) => typeof value === "number");
  const begin = points.length ? points[0].at_ms : 0;
  const end = points.length ? points[points.length - 1].at_ms : 1;
  const span = Math.max(60e3, end - begin);
  const max = highest(known.map(([, value]) => value));
  const x = (at) => 100 - 100 * (end - at) / span;
  const y = (value) => 98 - 96 * value / max;
  const runs = [];
  for (const each of known) {
    const run = runs[runs.length - 1];
    if (run && each[0] - run[run.length - 1][0] <= GAP_MS) run.push(each);
    else runs.push([each]);
  }
  const line = (run) => run.map(([at, value]) => `${x(at).toFixed(2)},${y(value).toFixed(2)}`).join(" L");
  const shapes = runs.flatMap((run) => [
    svg("path", { class: "area", d: `M${x(run[0][0]).toFixed(2)},98 L${line(run)} L${x(run[run.length - 1][0]).toFixed(2)},98 Z` }),
    // A single sample is a dot: a line to itself with round ends.
    svg("path", { class: "curve", d: run.length > 1 ? `M${line(run)}` : `M${line(run)} h0` }),
  ]);
  const picture = node.querySelector("svg");
  const peak = known.length ? words(Math.max(...known.map(([, value]) => value))) : "-";
  picture.setAttribute("aria-label", `${name}: ${value}; at most ${peak} in the last ${age(span)}`);
  picture.replaceChildren(...shapes);
  const [from, middle, to] = node.querySelectorAll(".axis span");
  setText(from, `${age(span)} ago`);
  setText(middle, `scale to ${words(max)}`);
  setText(to, "now");
}
