/* The board: state, canvases and events. gr.HTML gives `element`, `props`, `trigger` and `watch`. */

import { confusion, countsOf, IGNORED, ious, labelsAbove, meanOverRows, relationShares, unpack } from "./board-maps.js";
import { greyOf, greyTables, inkOf, inkTables, paintInk, paintRelations, relationTable, rgbOf } from "./board-paint.js";
import { choices, chosen, frame, make, moved, pixelsOf, pixelUnder, press, swatch } from "./board-parts.js";
import { costText, iouText, percent, ranking, readingText, sharesText, stateText } from "./board-words.js";
import { differences } from "./board-differ.js";

const NARROW = 640;
const ERROR_NAMES = ["right", "missed", "wrongly claimed", "taken for another"];
const find = (name) => element.querySelector(name);
const parts = {
  empty: find(".ov-empty"), full: find(".ov-full"), legend: find(".ov-legend"), controls: find(".ov-controls"),
  names: find(".ov-names"), strip: find(".ov-strip"), live: find(".ov-live"), opacity: find(".ov-opacity"),
  threshold: find(".ov-threshold"), thresholdBox: find(".ov-threshold-box"), marks: find(".ov-marks"), own: find(".ov-own"),
  views: find(".ov-views"),
};
const help = `${element.id}-help`;
find(".ov-help").id = help;

/* How everything is drawn, and what is pointed at; kept while values come and go. */
const look = { opacity: 0.6, threshold: null, hidden: new Set(), background: false, outline: false, hatching: false, lit: null };
const shared = {
  value: null, picture: null, grey: null, truth: null, legend: [], errors: [], colours: [], tables: null, look, help,
  shows: (label) => !look.hidden.has(shared.legend[label].label), linked, ask,
};
const differ = differences(find(".ov-differ"), shared);
const decoded = new Map();
let cards = [];
let place = null;
let pinned = null;
let turn = 0;

/* ---- Values from the server ---- */

async function show(value) {
  const mine = ++turn;
  if (!value) return clear();
  const urls = [value.picture, value.truth, ...value.entries.flatMap((entry) => [entry.best, entry.runner_up])].filter(Boolean);
  for (const url of decoded.keys()) if (!urls.includes(url)) decoded.delete(url);
  for (const url of urls) if (!decoded.has(url)) decoded.set(url, pixelsOf(url));
  const pixels = new Map(await Promise.all(urls.map(async (url) => [url, await decoded.get(url)])));
  if (mine === turn) take(value, pixels);
}

function clear() {
  shared.value = null;
  parts.full.hidden = true;
  parts.empty.hidden = false;
  delete element.dataset.run;
}

function take(value, pixels) {
  const before = shared.value;
  const newRun = before?.run !== value.run;
  const newPicture = before?.picture !== value.picture || before.width !== value.width || before.height !== value.height;
  shared.value = value;
  shared.errors = value.errors;
  if (newRun) startRun();
  if (newPicture) takePicture(pixels.get(value.picture), value);
  const newLegend = newRun || JSON.stringify(before.legend) !== JSON.stringify(value.legend);
  if (newLegend) takeLegend(value.legend);
  if (newLegend || newPicture || before.truth !== value.truth) takeTruth(value, pixels);
  takeCards(value, pixels);
  parts.empty.hidden = true;
  parts.full.hidden = false;
  arrange();
  ask("colours");
  element.dataset.run = value.run;
}

function startRun() {
  look.threshold = null;
  look.hidden.clear();
  look.background = false;
  pinned = place = null;
}

function takePicture(pixels, { width, height }) {
  shared.picture = new Uint32Array(pixels.buffer);
  shared.grey = greyOf(shared.picture);
  cards = [];
  parts.strip.replaceChildren();
  differ.newPicture(width, height);
}

function takeTruth(value, pixels) {
  shared.truth = null;
  if (!value.truth) return;
  const grey = pixels.get(value.truth);
  const labels = Uint8Array.from({ length: value.width * value.height }, (_, k) => grey[4 * k]);
  const drawn = labels.map((label) => (label === IGNORED ? 0 : label));
  const ink = new Uint16Array(labels.length);
  inkOf(drawn, value.width, value.legend.map(({ hatch }) => hatch), ink);
  shared.truth = { key: "truth", title: "Truth", labels, ink };
}

function takeLegend(legend) {
  shared.legend = legend;
  shared.colours = legend.map(({ colour }) => rgbOf(colour));
  parts.legend.replaceChildren(...legend.map(chip));
}

/* ---- Legend and controls ---- */

function chip({ label }, k) {
  const button = make("button", { type: "button", className: "ov-chip" }, make("span", { textContent: label }));
  button.dataset.label = label;
  const light = (lit) => () => { look.lit = lit; ask("colours"); };
  button.addEventListener("click", () => toggle(label, k));
  button.addEventListener("pointerenter", light(k));
  button.addEventListener("pointerleave", light(null));
  button.addEventListener("focus", () => button.matches(":focus-visible") && light(k)());
  button.addEventListener("blur", light(null));
  return button;
}

function toggle(label, k) {
  if (k === 0) look.background = !look.background;
  else if (!look.hidden.delete(label)) look.hidden.add(label);
  look.lit = null;
  ask("colours");
  report();
}

function refreshControls() {
  [...parts.legend.children].forEach((button, k) => {
    const { colour, hatch } = shared.legend[k];
    press(button, k === 0 ? look.background : shared.shows(k));
    const fresh = swatch(colour, look.hatching ? hatch : null);
    button.querySelector("canvas")?.remove();
    button.prepend(fresh);
  });
  for (const button of element.querySelectorAll("[data-look]")) press(button, look[button.dataset.look]);
  parts.opacity.value = look.opacity;
  parts.opacity.nextElementSibling.textContent = percent(look.opacity);
  refreshThreshold();
  const modes = new Set(methods().map((card) => card.mode));
  for (const button of parts.views.children) press(button, modes.size === 1 && modes.has(button.dataset.view));
  parts.views.hidden = !shared.truth;
}

function refreshThreshold() {
  const own = methods().filter(({ entry }) => entry.threshold !== null);
  parts.thresholdBox.hidden = own.length === 0;
  if (own.length === 0) return;
  parts.threshold.value = look.threshold ?? own[0].entry.threshold;
  const text = look.threshold === null ? ownText(own) : look.threshold.toFixed(2);
  parts.threshold.closest("label").querySelector("output").textContent = text;
  parts.threshold.setAttribute("aria-valuetext", text);
  parts.own.disabled = look.threshold === null;
  parts.marks.replaceChildren(...own.map(({ entry }) => {
    const mark = make("i", { title: `${entry.title}: ${entry.threshold}` });
    mark.style.setProperty("--at", entry.threshold);
    return mark;
  }));
}

function ownText(own) {
  const values = [...new Set(own.map(({ entry }) => entry.threshold.toFixed(2)))];
  return values.length === 1 ? values[0] : "each its own";
}

let reporting = 0;
function report() {
  clearTimeout(reporting);
  reporting = setTimeout(() => trigger("look", { threshold: look.threshold, opacity: look.opacity, hidden: [...look.hidden] }), 250);
}

/* ---- Canvases ---- */

function takeCards(value, pixels) {
  const entries = [{ key: "picture", title: "Picture", state: "picture" }, ...value.entries];
  const kept = new Map(cards.map((card) => [card.entry.key, card]));
  cards = entries.map((entry) => kept.get(entry.key) ?? newCard(entry, value));
  cards.forEach((card, k) => takeEntry(card, entries[k], value, pixels));
  const roots = cards.map((card) => card.root);
  if (roots.some((root, k) => parts.strip.children[k] !== root) || roots.length !== parts.strip.children.length) {
    parts.strip.replaceChildren(...roots);
  }
  fillNames();
  const maps = methods().map((card) => card.map);
  differ.setMaps(shared.truth ? [...maps, shared.truth] : maps);
}

function methods() {
  return cards.filter((card) => card.entry.state === "done");
}

function newCard(entry, { width, height }) {
  const view = frame(width, height, help);
  const card = {
    entry, view, mode: entry.key === "picture" ? "picture" : "masks", best: null, runnerUp: null, least: -1, stale: "labels",
    map: { key: entry.key, title: entry.title, labels: new Uint8Array(width * height), ink: new Uint16Array(width * height) },
    title: make("h3"), cost: make("span", { className: "ov-cost" }), state: make("div", { className: "ov-state" }),
    reading: make("p", { className: "ov-reading" }), figures: make("div", { className: "ov-figures" }),
  };
  const names = entry.key === "picture" ? [["picture", "Picture"], ["truth", "Truth"]] : [["masks", "Masks"], ["errors", "Errors"]];
  card.modes = choices(entry.title, names, (mode) => { card.mode = mode; card.stale = "colours"; ask(); });
  view.root.append(card.state);
  card.root = make("article", { className: "ov-card" }, make("header", {}, card.title, card.cost), view.root,
    card.reading, card.figures, card.modes);
  card.root.dataset.key = entry.key;
  linked(view, entry.key);
  return card;
}

function takeEntry(card, entry, value, pixels) {
  card.stale ??= "colours";
  card.entry = entry;
  card.map.title = card.title.textContent = entry.title;
  card.root.dataset.state = entry.state;
  const ready = entry.state === "done";
  card.cost.textContent = ready ? costText(entry) : "";
  card.state.hidden = ready || entry.state === "picture";
  if (!card.state.hidden) fillState(card.state, entry);
  card.modes.hidden = !shared.truth || !(ready || entry.state === "picture");
  if (!shared.truth) card.mode = entry.key === "picture" ? "picture" : "masks";
  if (!ready) return;
  const names = value.legend.map(({ label }) => label);
  if (card.source === entry.best && card.names?.join() === names.join()) return;
  Object.assign(card, { source: entry.best, names, stale: "labels" });
  const toLegend = Uint8Array.from(entry.labels, (label) => names.indexOf(label));
  card.best = unpack(pixels.get(entry.best), toLegend);
  card.runnerUp = entry.runner_up ? unpack(pixels.get(entry.runner_up), toLegend) : null;
}

function fillState(box, entry) {
  const text = make("p", { textContent: stateText(entry) });
  box.replaceChildren(text);
  if (entry.state !== "running") return;
  const bar = make("progress", { max: 1, "aria-label": `${entry.title}: ${entry.stage}` });
  if (entry.share !== null) bar.value = entry.share;
  box.append(bar);
}

/* ---- Drawing: all that is stale, once a frame ---- */

let asked = null;
let differStale = false;

/* Draw soon: after "labels" every map is made anew, after "colours" only painted, after "differ" only the difference. */
function ask(what) {
  if (what === "labels") for (const card of cards) card.stale = "labels";
  if (what === "colours") for (const card of cards) card.stale ??= "colours";
  if (what) differStale = true;
  asked ??= requestAnimationFrame(draw);
}

function draw() {
  asked = null;
  if (!shared.value) return;
  const stale = cards.filter((card) => card.stale);
  if (stale.length) shared.tables = inkTables(shared.colours, look, (label) => !shared.shows(label));
  for (const card of stale) drawCard(card);
  if (stale.length) refreshControls();
  if (differStale) differ.redraw();
  differStale = false;
  point();
}

function drawCard(card) {
  if (card.stale === "labels" && card.entry.state === "done") makeLabels(card);
  card.stale = null;
  chosen(card.modes, card.mode);
  if (card.entry.state !== "done") drawPicture(card);
  else if (card.mode === "errors") drawErrors(card);
  else drawMasks(card);
  card.view.flush();
}

function makeLabels(card) {
  const { threshold } = card.entry;
  card.least = threshold === null ? -1 : Math.round((look.threshold ?? threshold) * shared.value.steps);
  labelsAbove(card.best, card.least, card.map.labels);
  inkOf(card.map.labels, card.view.width, shared.legend.map(({ hatch }) => hatch), card.map.ink);
  card.counts = countsOf(card.map.labels, shared.legend.length);
  card.matrix = shared.truth ? confusion(shared.truth.labels, card.map.labels, shared.value.asked) : null;
}

function drawPicture(card) {
  const truth = card.entry.key === "picture" && card.mode === "truth";
  if (truth) paintInk(shared.picture, shared.truth.ink, shared.tables, card.view.out);
  else card.view.out.set(shared.picture);
  const counts = truth ? countsOf(shared.truth.labels, shared.legend.length) : null;
  const state = card.entry.state === "picture" ? "The picture, without masks." : stateText(card.entry);
  card.view.describe(truth ? `The truth: ${sharesText(counts, shared.legend)}.` : `${card.entry.title}: ${state}`);
  const shares = truth ? items([...counts].map((number, k) => [k, number / card.view.out.length])) : [];
  card.figures.replaceChildren(...shares);
}

function drawMasks(card) {
  paintInk(shared.picture, card.map.ink, shared.tables, card.view.out);
  const shares = sharesText(card.counts, shared.legend);
  const mean = card.matrix ? iouText(meanOverRows(card.matrix, shared.value.asked)) : null;
  card.view.describe(`${card.entry.title}: ${shares}.${mean === null ? "" : ` Mean IoU ${mean}.`}`);
  if (mean === null) {
    card.figures.replaceChildren(...items([...card.counts].map((number, k) => [k, number / card.view.out.length])));
    return;
  }
  const each = ious(card.matrix, shared.value.asked).map((iou, k) => figure(shared.legend[k].colour, shared.legend[k].label, iou));
  card.figures.replaceChildren(make("b", { textContent: `IoU ${mean}` }), ...each.filter(Boolean));
}

function items(shares) {
  return shares.filter(([, share]) => share > 0).map(([k, share]) =>
    make("span", {}, swatch(shared.legend[k].colour), `${shared.legend[k].label} ${percent(share)}`));
}

function figure(colour, label, iou) {
  return Number.isNaN(iou) ? null : make("span", {}, swatch(colour), `${label} ${iouText(iou)}`);
}

function drawErrors(card) {
  const { asked: count } = shared.value;
  const tables = greyTables(shared.errors.map(rgbOf), look.opacity);
  const kinds = relationTable(count, shared.shows);
  paintRelations(shared.grey, shared.truth.labels, card.map.labels, kinds, tables, card.view.out);
  const shares = relationShares(card.matrix, count).slice(0, ERROR_NAMES.length);
  const texts = shares.map((share, k) => `${ERROR_NAMES[k]} ${percent(share, 1)}`);
  card.view.describe(`${card.entry.title}, errors: ${texts.join(", ")}.`);
  card.figures.replaceChildren(...texts.map((text, k) => make("span", {}, swatch(shared.errors[k]), text)));
}

/* ---- Pointing: one place on all canvases ---- */

function linked(view, key) {
  const { canvas } = view;
  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && pointAt(pixelUnder(event, view)));
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && pointAt(null));
  canvas.addEventListener("click", (event) => { pointAt(pixelUnder(event, view)); askWhy(view, key); });
  canvas.addEventListener("keydown", (event) => pressed(event, view, key));
}

function pressed(event, view, key) {
  const next = moved(event, place, view);
  if (next) pointAt(next);
  else if (event.key === "Escape") pointAt(null);
  else if (event.key === "Enter" || event.key === " ") askWhy(view, key);
  else return;
  event.preventDefault();
  if (next) parts.live.textContent = methods().map((card) => `${card.entry.title}: ${readingAt(card)}`).join(". ");
}

function askWhy({ width, height }, key) {
  if (place === null) pointAt({ x: width >> 1, y: height >> 1 });
  pinned = place;
  for (const view of views()) view.pin(pinned);
  trigger("select", { index: [(place.x + 0.5) / width, (place.y + 0.5) / height], value: key });
}

function views() {
  return [...cards.map((card) => card.view), differ.view()];
}

function pointAt(next) {
  place = next;
  ask();
}

function point() {
  for (const view of views()) {
    view.cross(place);
    view.pin(pinned);
  }
  for (const card of cards) {
    card.reading.replaceChildren();
    if (place === null) card.reading.textContent = card.entry.key === "picture" ? "Point: what is seen there. Click: why." : "";
    else if (card.entry.state === "done") card.reading.append(swatch(colourAt(card)), readingAt(card));
    else if (card.entry.key === "picture" && shared.truth) card.reading.append(...truthAt());
  }
}

function pixelIndex() {
  return place.y * shared.value.width + place.x;
}

function colourAt(card) {
  return shared.legend[card.map.labels[pixelIndex()]].colour;
}

function readingAt(card) {
  return readingText(ranking(card, pixelIndex(), shared.value.steps), shared.legend);
}

function truthAt() {
  const label = shared.truth.labels[pixelIndex()];
  if (label === IGNORED) return ["The truth says nothing here."];
  return [swatch(shared.legend[label].colour), `truth: ${shared.legend[label].label}`];
}

/* ---- Arrangement: a grid, or one canvas at a time ---- */

function arrange() {
  const narrow = element.clientWidth < NARROW;
  find(".ov-board").classList.toggle("ov-narrow", narrow);
  const after = narrow ? parts.strip : parts.legend;
  if (after.nextElementSibling !== parts.controls) after.after(parts.controls);
  markName();
}

function fillNames() {
  parts.names.replaceChildren(...cards.map((card) => {
    const button = make("button", { type: "button", textContent: card.entry.title });
    button.addEventListener("click", () => {
      const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
      parts.strip.scrollTo({ left: card.root.offsetLeft - parts.strip.offsetLeft, behavior: smooth ? "smooth" : "instant" });
    });
    return button;
  }));
  markName();
}

function markName() {
  const shown = Math.round(parts.strip.scrollLeft / Math.max(1, parts.strip.clientWidth));
  [...parts.names.children].forEach((button, k) => press(button, k === shown));
}

parts.strip.addEventListener("scroll", markName, { passive: true });
new ResizeObserver(() => shared.value && arrange()).observe(element);

parts.opacity.addEventListener("input", () => { look.opacity = Number(parts.opacity.value); ask("colours"); report(); });
parts.threshold.addEventListener("input", () => { look.threshold = Number(parts.threshold.value); ask("labels"); report(); });
parts.own.addEventListener("click", () => { look.threshold = null; ask("labels"); report(); });
for (const button of element.querySelectorAll("[data-look]")) {
  button.addEventListener("click", () => { look[button.dataset.look] = !look[button.dataset.look]; ask("colours"); });
}
for (const button of parts.views.children) {
  button.addEventListener("click", () => {
    for (const card of cards) if (card.entry.key !== "picture") card.mode = button.dataset.view;
    ask("colours");
  });
}

watch("value", () => show(props.value));
show(props.value);
