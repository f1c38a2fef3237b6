/* The board: its state, what a new value changes, and one drawing a frame. gr.HTML gives `element`, `props`, `trigger` and
   `watch`. */

import { arrangement } from "./board-arrange.js";
import { drawCard, isDone, newCard, takeEntry } from "./board-cards.js";
import { controls } from "./board-controls.js";
import { differences } from "./board-differ.js";
import { IGNORED } from "./board-maps.js";
import { dimmedOf, hatchMasks, inkOf, inkTables, reachOf, rgbOf } from "./board-paint.js";
import { pixelsOf, planesOf } from "./board-parts.js";
import { pointing } from "./board-pointing.js";
import { zooming } from "./board-zoom.js";

const REPORT_AFTER = 250;
const find = (name) => element.querySelector(name);
const strip = find(".ov-strip");
const help = `${element.id}-help`;
find(".ov-help").id = help;

/* How everything is drawn: `view` is "masks", "errors", "agreement" or "slider"; `threshold` is null while each method keeps
   its own, `offsets` says by label how much higher the thresholds of classes are, `hidden` holds names of labels, `lit` is the label that stands out, or null, `large` the key of the canvas that is
   large, or null, and `truth` says whether the picture's canvas shows the truth. */
const look = {
  view: "masks", opacity: 0.45, threshold: null, offsets: {}, hidden: new Set(), background: false, outline: true, hatching: false, lit: null,
  large: null, truth: false,
};
const zoomed = zooming(find(".ov-board"), zoomChanged);

/* What the parts of the board share. `pixels` and `dimmed` are the picture and what lies under errors, one Uint32 a pixel;
   `truth` is {labels, drawn, ink} or null, drawn being labels with background where the truth says nothing; `version` counts
   changes of label maps. */
const shared = {
  value: null, pixels: null, dimmed: null, truth: null, legend: [], errors: [], inks: [], masks: null, version: 0, reach: 0, tables: null, cards: [],
  look, help, ask, report, zoom: zoomed.zoom,
  shows: (label) => !look.hidden.has(shared.legend[label].label),
  inkFor: (labels, ink) => inkOf(labels, shared.value.width, look.hatching ? shared.masks : null, shared.reach, ink),
  linked(view, key) {
    zoomed.linked(view);
    pointed.linked(view, key);
    view.root.addEventListener("dblclick", () => placed.enlarge(key));
    view.canvas.addEventListener("keydown", (event) => (zoomed.pressed(event) || placed.pressed(event, key)) && event.preventDefault());
  },
};
const placed = arrangement(find, shared);
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
  for (const url of urls) if (!decoded.has(url)) decoded.set(url, url.startsWith("data:image/") ? pixelsOf(url) : planesOf(url));
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
  find(".ov-note-line").textContent = value.note ?? "";
  if (changed("run")) startRun();
  if (["picture", "width", "height"].some(changed)) takePicture(pixels.get(value.picture));
  if (changed("legend")) takeLegend(value.legend);
  if (["legend", "width", "height"].some(changed)) shared.masks = null;
  if (["picture", "truth", "legend"].some(changed)) takeTruth(pixels.get(value.truth));
  takeCards(value, pixels);
  find(".ov-empty").hidden = true;
  find(".ov-full").hidden = false;
  placed.arrange();
  placed.showMasks(value.run);
  ask("colours");
  element.dataset.run = value.run;
}

function startRun() {
  const moved = look.threshold !== null || Object.keys(look.offsets).length > 0;
  look.threshold = null;
  look.offsets = {};
  if (moved) report();
  look.hidden.clear();
  look.background = false;
  pointed.reset();
  zoomed.reset();
}

function takePicture(pixels) {
  shared.pixels = new Uint32Array(pixels.buffer);
  shared.dimmed = dimmedOf(shared.pixels);
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
  const maps = shared.cards.filter(isDone).map((card) => card.map);
  differ.setMaps(shared.truth ? [...maps, shared.truth] : maps);
  controlled.takeThresholds();
  placed.fillNames();
}

/* ---- Drawing: all that is stale, once a frame ---- */

let asked = null;
let differStale = false;

/* Draw soon: after "labels" every map is made anew, after "views" its words, after "colours" painted, after "differ" the
   difference alone, and without a word what is stale, and the cross. */
function ask(what) {
  if (what === "labels") for (const card of shared.cards) card.stale = "labels";
  if (what === "views") for (const card of shared.cards) if (card.stale !== "labels") card.stale = "view";
  if (what === "views") placed.arrange();
  if (what === "colours") for (const card of shared.cards) card.stale ??= "colours";
  if (what) differStale = true;
  asked ??= requestAnimationFrame(draw);
}

/* At another zoom lines of the outline are as wide on the screen as before. */
function zoomChanged() {
  if (!shared.value) return;
  placed.arrange();
  ask(lineReach() === shared.reach ? undefined : "labels");
}

function lineReach() {
  return look.outline ? reachOf(shared.value.width, shared.value.height, shared.zoom.scale) : 0;
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
  shared.reach = lineReach();
  shared.version++;
  if (look.hatching) shared.masks ??= hatchMasks(legend, value.lines, value.width, value.height);
  if (truth) shared.inkFor(truth.drawn, truth.ink);
}

function views() {
  return [...shared.cards.map((card) => card.view), differ.view()].filter(Boolean);
}

let reporting = 0;
function report() {
  clearTimeout(reporting);
  const { threshold, opacity, offsets } = look;
  const tell = () => trigger("look", { threshold, opacity, offsets, hidden: [...look.hidden], run: shared.value?.run });
  reporting = setTimeout(tell, REPORT_AFTER);
}

new ResizeObserver(() => shared.value && placed.arrange()).observe(element);
watch("value", () => show(kept(props.value)));
watch("step", () => {
  const value = ofRun.get(props.step?.run);
  if (value) show(kept(grown(value, props.step)));
});
show(kept(props.value));
