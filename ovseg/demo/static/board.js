/* The board: its state, what a new value changes, one drawing a frame, and the arrangement. gr.HTML gives `element`, `props`,
   `trigger` and `watch`. */

import { drawCard, isDone, newCard, takeEntry } from "./board-cards.js";
import { controls } from "./board-controls.js";
import { differences } from "./board-differ.js";
import { IGNORED } from "./board-maps.js";
import { greyOf, hatchMasks, inkOf, inkTables, rgbOf } from "./board-paint.js";
import { make, pixelsOf, press } from "./board-parts.js";
import { pointing } from "./board-pointing.js";

const NARROW = 640;
const REPORT_AFTER = 250;
const find = (name) => element.querySelector(name);
const root = find(".ov-board");
const strip = find(".ov-strip");
const names = find(".ov-names");
const help = `${element.id}-help`;
find(".ov-help").id = help;

/* How everything is drawn: `threshold` is null while each method keeps its own, `hidden` holds names of labels, `lit` is the
   label that stands out, or null. */
const look = { opacity: 0.6, threshold: null, hidden: new Set(), background: false, outline: false, hatching: false, lit: null };

/* What the parts of the board share. `picture` has one Uint32 a pixel, `grey` one byte; `truth` is {labels, drawn, ink} or
   null, drawn being labels with background where the truth says nothing; `version` counts changes of label maps. */
const shared = {
  value: null, picture: null, grey: null, truth: null, legend: [], errors: [], inks: [], masks: null, version: 0, tables: null, cards: [], look, help,
  ask, report,
  shows: (label) => !look.hidden.has(shared.legend[label].label),
  inkFor: (labels, ink) => inkOf(labels, shared.value.width, look.hatching ? shared.masks : null, look.outline, ink),
  linked: (view, key) => pointed.linked(view, key),
};
const pointed = pointing(shared, views, find(".ov-live"), (event) => trigger("select", event));
const differ = differences(find(".ov-differ"), shared);
const controlled = controls(find, shared);

/* ---- Values from the server ---- */

const decoded = new Map();
let turn = 0;

/* The last two values, by their run: a value that comes late, such as that of the page's opening, ends no run that goes on. */
const ofRun = new Map();

function kept(value) {
  if (value) {
    ofRun.delete(value.run); // behind the others
    ofRun.set(value.run, value);
  }
  if (ofRun.size > 2) ofRun.delete(ofRun.keys().next().value);
  return value;
}

/* A value with one more method done: maps that a step does not bring are those that are here. */
function grown(value, step) {
  const here = new Map(value.entries.map((entry) => [entry.key, entry]));
  return { ...value, legend: step.legend, entries: step.entries.map((entry) => ({ ...here.get(entry.key), ...entry })) };
}

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
  shared.cards = [];
  strip.replaceChildren();
  find(".ov-full").hidden = true;
  find(".ov-empty").hidden = false;
  delete element.dataset.run;
}

function take(value, pixels) {
  const before = shared.value;
  const changed = (name) => !before || (before[name] !== value[name] && JSON.stringify(before[name]) !== JSON.stringify(value[name]));
  shared.value = value;
  shared.errors = value.errors;
  if (changed("run")) startRun();
  if (["picture", "width", "height"].some(changed)) takePicture(pixels.get(value.picture));
  if (changed("legend")) takeLegend(value.legend);
  if (["legend", "width", "height"].some(changed)) shared.masks = null;
  if (["picture", "truth", "legend"].some(changed)) takeTruth(pixels.get(value.truth));
  takeCards(value, pixels);
  find(".ov-empty").hidden = true;
  find(".ov-full").hidden = false;
  arrange();
  showMasks(value.run);
  ask("colours");
  element.dataset.run = value.run;
}

function startRun() {
  look.threshold = null;
  look.hidden.clear();
  look.background = false;
  pointed.reset();
}

function takePicture(pixels) {
  shared.picture = new Uint32Array(pixels.buffer);
  shared.grey = greyOf(shared.picture);
  shared.cards = [];
  differ.newPicture(shared.value);
}

function takeLegend(legend) {
  shared.legend = legend;
  shared.inks = legend.map(({ colour, line }) => ({ colour: rgbOf(colour), line: rgbOf(line) }));
  controlled.takeLegend();
}

function takeTruth(pixels) {
  shared.truth = null;
  if (!pixels) return;
  const labels = new Uint8Array(pixels.length / 4);
  for (let k = 0; k < labels.length; k++) labels[k] = pixels[4 * k];
  const drawn = labels.map((label) => (label === IGNORED ? 0 : label));
  shared.truth = { key: "truth", title: "Truth", labels, drawn, ink: new Uint16Array(labels.length) };
}

function takeCards(value, pixels) {
  const entries = [{ key: "picture", title: "Picture", state: "picture" }, ...value.entries];
  const kept = new Map(shared.cards.map((card) => [card.entry.key, card]));
  shared.cards = entries.map((entry) => kept.get(entry.key) ?? newCard(entry, shared));
  shared.cards.forEach((card, k) => takeEntry(card, entries[k], shared, pixels));
  const roots = shared.cards.map((card) => card.root);
  if (roots.length !== strip.children.length || roots.some((one, k) => strip.children[k] !== one)) strip.replaceChildren(...roots);
  const maps = shared.cards.filter(isDone).map((card) => card.map);
  differ.setMaps(shared.truth ? [...maps, shared.truth] : maps);
  controlled.takeThresholds();
  fillNames();
}

/* ---- Drawing: all that is stale, once a frame ---- */

let asked = null;
let differStale = false;

/* Draw soon: after "labels" every map is made anew, after "colours" painted, after "differ" the difference alone, and without
   a word what is stale, and the cross. */
function ask(what) {
  if (what === "labels") for (const card of shared.cards) card.stale = "labels";
  if (what === "colours") for (const card of shared.cards) card.stale ??= "colours";
  if (what) differStale = true;
  asked ??= requestAnimationFrame(draw);
}

function draw() {
  asked = null;
  if (!shared.value) return;
  const stale = shared.cards.filter((card) => card.stale);
  if (stale.some((card) => card.stale === "labels")) prepareLabels();
  if (stale.length) shared.tables = inkTables(shared.inks, look, (label) => !shared.shows(label));
  for (const card of stale) drawCard(card, shared);
  if (stale.length) controlled.refresh();
  if (differStale) differ.redraw();
  differStale = false;
  pointed.draw();
}

function prepareLabels() {
  const { legend, truth, value } = shared;
  shared.version++;
  if (look.hatching) shared.masks ??= hatchMasks(legend, value.lines, value.width, value.height);
  if (truth) shared.inkFor(truth.drawn, truth.ink);
}

function views() {
  return [...shared.cards.map((card) => card.view), differ.view()];
}

let reporting = 0;
function report() {
  clearTimeout(reporting);
  const tell = () => trigger("look", { threshold: look.threshold, opacity: look.opacity, hidden: [...look.hidden] });
  reporting = setTimeout(tell, REPORT_AFTER);
}

/* ---- Arrangement: a grid, or one canvas at a time ---- */

function arrange() {
  const narrow = element.clientWidth < NARROW;
  root.classList.toggle("ov-narrow", narrow);
  const before = narrow ? strip : find(".ov-legend");
  if (before.nextElementSibling !== find(".ov-controls")) before.after(find(".ov-controls"));
  markName();
}

/* On a narrow page the first masks of a run come into view, unless the visitor looks at another canvas. */
let masksShown = null;
function showMasks(run) {
  const card = shared.cards.find(isDone);
  if (!card || masksShown === run) return;
  masksShown = run;
  if (root.classList.contains("ov-narrow") && strip.scrollLeft < 1) scrollToCard(card, "instant");
}

function scrollToCard(card, behavior) {
  strip.scrollTo({ left: card.root.offsetLeft - strip.offsetLeft, behavior });
}

function fillNames() {
  names.replaceChildren(...shared.cards.map((card) => {
    const button = make("button", { type: "button", textContent: card.entry.title });
    button.addEventListener("click", () => {
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      scrollToCard(card, still ? "instant" : "smooth");
    });
    return button;
  }));
  markName();
}

function markName() {
  const away = shared.cards.map((card) => Math.abs(card.root.offsetLeft - strip.offsetLeft - strip.scrollLeft));
  const nearest = away.indexOf(Math.min(...away));
  [...names.children].forEach((button, k) => press(button, k === nearest));
}

strip.addEventListener("scroll", markName, { passive: true });
new ResizeObserver(() => shared.value && arrange()).observe(element);
watch("value", () => show(kept(props.value)));
watch("step", () => {
  const value = ofRun.get(props.step?.run);
  if (value) show(kept(grown(value, props.step)));
});
show(kept(props.value));
