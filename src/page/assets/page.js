// What the pages can do beyond what they can without a script: refresh themselves, and pick a range on a chart.
"use strict";

// How often a page is fetched again, in milliseconds.
const EVERY = 10000;
const SVG = "http://www.w3.org/2000/svg";

const main = () => document.getElementById("main");
const query = () => new URLSearchParams(location.search);
// Somebody draws over a chart.
let drawing = false;
// Nothing moves under the hand of who picks a range.
const isPicking = () => drawing || document.querySelector(".picker:not([hidden])") !== null;

// ---- Refresh ----

// A fixed time does not change.
const canRefresh = () => main() !== null && !query().has("from") && !query().has("to");

// What stays when everything is replaced: which element has the focus, and which parts are open or scrolled.
function keyOf(element) {
  if (!element || !main().contains(element)) return null;
  if (element.id) return "#" + CSS.escape(element.id);
  const near = element.closest("[id]:not(main)");
  const inside = near ? "#" + CSS.escape(near.id) + " " : "";
  const href = element.getAttribute("href");
  if (href !== null) return inside + 'a[href="' + CSS.escape(href) + '"]';
  const label = element.getAttribute("aria-label");
  if (label !== null) return inside + '[aria-label="' + CSS.escape(label) + '"]';
  return element.localName === "summary" && near ? inside + "summary" : null;
}

function isTyping() {
  const active = document.activeElement;
  const selection = document.getSelection();
  const reading = selection && !selection.isCollapsed && main().contains(selection.anchorNode);
  return reading || (active && main().contains(active) && active.matches("input, select, textarea"));
}

function replace(fresh) {
  const old = main();
  const focus = keyOf(document.activeElement);
  const open = [...old.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
  const scrolled = [...old.querySelectorAll(".scroll")].map((part) => [part.scrollLeft, part.scrollTop]);
  const [left, top] = [window.scrollX, window.scrollY];
  old.replaceChildren(...document.adoptNode(fresh).childNodes);
  for (const [id, was] of open) {
    const details = document.getElementById(id);
    if (details) details.open = was;
  }
  old.querySelectorAll(".scroll").forEach((part, index) => {
    if (scrolled[index]) [part.scrollLeft, part.scrollTop] = scrolled[index];
  });
  offerPicking();
  if (focus) old.querySelector(focus)?.focus({ preventScroll: true });
  window.scrollTo(left, top);
}

async function refresh(button) {
  if (document.hidden || isPicking() || isTyping()) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    const text = await answer.text();
    // Meanwhile somebody may have begun to type, or switched it off.
    if (!answer.ok || isPicking() || isTyping() || button.getAttribute("aria-pressed") !== "true") {
      return told(answer.ok);
    }
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.getElementById("main");
    if (!fresh) return told(false);
    replace(fresh);
    document.title = page.title;
    told(true);
  } catch {
    told(false);
  }
}

// The page itself says of when it is; that it no longer gets newer has to be told.
function told(well) {
  const note = document.getElementById("live-note");
  const text = well ? "" : "no new page";
  // A note that is written again is read out again.
  if (note && note.textContent !== text) note.textContent = text;
}

function offerRefresh() {
  const header = document.querySelector("header");
  if (!header || !canRefresh()) return;
  const button = document.createElement("button");
  button.type = "button";
  button.id = "live";
  button.textContent = "Live refresh";
  const set = (on) => {
    button.setAttribute("aria-pressed", String(on));
    try {
      sessionStorage.setItem("live", on ? "on" : "off");
    } catch {
      // Without a store it is on again on the next page.
    }
  };
  let before = null;
  try {
    before = sessionStorage.getItem("live");
  } catch {
    // As above.
  }
  set(before !== "off");
  button.addEventListener("click", () => {
    set(button.getAttribute("aria-pressed") !== "true");
    if (button.getAttribute("aria-pressed") === "true") refresh(button);
  });
  const note = document.createElement("span");
  note.id = "live-note";
  note.setAttribute("role", "status");
  header.append(button, " ", note);
  const due = () => button.getAttribute("aria-pressed") === "true" && refresh(button);
  setInterval(due, EVERY);
  document.addEventListener("visibilitychange", () => document.hidden || due());
}

// ---- A range on a chart ----

// The chart's own numbers: seconds since 1970 at the edges of the plot, and where these are in the drawing.
function scaleOf(svg) {
  const [from, to, left, right] = ["from", "to", "left", "right"].map((name) => Number(svg.dataset[name] ?? NaN));
  if (![from, to, left, right].every(Number.isFinite) || from >= to || left >= right) return null;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  return {
    from,
    to,
    time: (x) => Math.round(from + ((clamp(x, left, right) - left) / (right - left)) * (to - from)),
    x: (time) => left + ((clamp(time, from, to) - from) / (to - from)) * (right - left),
  };
}

const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

function go(from, to) {
  if (from === to) return;
  const wanted = query();
  wanted.delete("range");
  wanted.set("from", iso(Math.min(from, to)));
  wanted.set("to", iso(Math.max(from, to)));
  location.search = wanted.toString();
}

// The part of a chart that is picked, drawn over it.
function mark(svg, scale, from, to) {
  let shade = svg.querySelector(".picked");
  if (!shade) {
    shade = document.createElementNS(SVG, "rect");
    shade.setAttribute("class", "picked");
    svg.append(shade);
  }
  const [left, right] = [scale.x(Math.min(from, to)), scale.x(Math.max(from, to))];
  const box = svg.viewBox.baseVal;
  shade.setAttribute("x", left);
  shade.setAttribute("width", Math.max(right - left, 1));
  shade.setAttribute("y", box ? box.y : 0);
  shade.setAttribute("height", box && box.height ? box.height : svg.clientHeight);
}

function unmark(svg) {
  svg.querySelector(".picked")?.remove();
}

// Where the pointer is, in the drawing's own pixels.
function within(svg, event) {
  const matrix = svg.getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()).x : 0;
}

function pickByPointer(svg, scale) {
  let start = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("a")) return;
    start = scale.time(within(svg, event));
    drawing = true;
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (start !== null) mark(svg, scale, start, scale.time(within(svg, event)));
  });
  const end = (picked) => (event) => {
    if (start === null) return;
    const [from, to] = [start, scale.time(within(svg, event))];
    start = null;
    drawing = false;
    unmark(svg);
    // A click is no range.
    if (picked && Math.abs(scale.x(from) - scale.x(to)) > 3) go(from, to);
  };
  svg.addEventListener("pointerup", end(true));
  svg.addEventListener("pointercancel", end(false));
}

// A mark that arrow keys move, with its time in words.
function slider(name, scale, value, changed) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const told = document.createElement("span");
  Object.assign(input, { type: "range", min: scale.from, max: scale.to });
  input.step = Math.max(1, Math.round((scale.to - scale.from) / 200));
  input.value = value;
  const tell = () => {
    const time = iso(Number(input.value));
    input.setAttribute("aria-valuetext", time);
    told.textContent = name + " " + time;
  };
  input.addEventListener("input", () => {
    tell();
    changed();
  });
  tell();
  label.append(told, input);
  return [label, input];
}

function pickByKeyboard(figure, svg, scale) {
  const toggle = document.createElement("button");
  const picker = document.createElement("div");
  const show = document.createElement("button");
  const third = (scale.to - scale.from) / 3;
  toggle.type = show.type = "button";
  toggle.className = "pick";
  toggle.textContent = "Pick a range";
  toggle.setAttribute("aria-expanded", "false");
  show.textContent = "Show this range";
  picker.className = "picker";
  picker.hidden = true;
  const times = () => [Number(from.value), Number(to.value)];
  const changed = () => mark(svg, scale, ...times());
  const [fromLabel, from] = slider("From", scale, Math.round(scale.from + third), changed);
  const [toLabel, to] = slider("To", scale, Math.round(scale.to - third), changed);
  picker.append(fromLabel, toLabel, show);
  const open = (on) => {
    picker.hidden = !on;
    toggle.setAttribute("aria-expanded", String(on));
    if (on) {
      changed();
      from.focus();
    } else {
      unmark(svg);
      toggle.focus();
    }
  };
  toggle.addEventListener("click", () => open(picker.hidden));
  show.addEventListener("click", () => go(...times()));
  picker.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target !== show) go(...times());
    if (event.key === "Escape") open(false);
  });
  const caption = figure.querySelector("figcaption");
  figure.insertBefore(toggle, caption);
  figure.insertBefore(picker, caption);
}

function offerPicking() {
  for (const figure of document.querySelectorAll("figure.chart")) {
    const svg = figure.querySelector("svg");
    const scale = svg && scaleOf(svg);
    if (!scale) continue;
    pickByPointer(svg, scale);
    pickByKeyboard(figure, svg, scale);
  }
}

offerRefresh();
offerPicking();
