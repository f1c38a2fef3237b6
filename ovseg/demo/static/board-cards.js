/* One card a method: its canvas, its state while it waits or works, and its figures. A card's `stale` says what must be made
   anew: "labels" everything, "view" its words and the painting, "colours" the painting alone, null nothing. `shared` is the board's state (see board.js). */

import { confusion, countsOf, ious, labelsAbove, meanOverRows, relationShares, unpack } from "./board-maps.js";
import { greyTables, paintInk, paintRelations, relationTable, rgbOf } from "./board-paint.js";
import { choices, chosen, frame, make, swatch } from "./board-parts.js";
import { costText, iouText, percent, sharesText, stateText } from "./board-words.js";

const ERROR_NAMES = ["right", "missed", "wrongly claimed", "other class"];

export function isDone(card) {
  return card.entry.state === "done";
}

export function setMode(card, mode) {
  card.mode = mode;
  if (card.stale !== "labels") card.stale = "view";
}

export function newCard(entry, shared) {
  const { width, height } = shared.value;
  const first = entry.key === "picture";
  const view = frame(width, height, shared.help);
  const card = {
    entry, view, mode: first ? "picture" : "masks", stale: "labels", best: null, runnerUp: null, least: -1, mean: "",
    map: { key: entry.key, title: entry.title, labels: new Uint8Array(width * height), ink: new Uint16Array(width * height) },
    title: make("h3"), mark: make("b"), state: make("div", { className: "ov-state" }),
    reading: make("p", { className: "ov-reading" }), figures: make("div", { className: "ov-figures" }),
  };
  const names = first ? [["picture", "Picture"], ["truth", "Truth"]] : [["masks", "Masks"], ["errors", "Errors"]];
  card.modes = choices(`View of ${entry.title}`, names, (mode) => {
    setMode(card, mode);
    shared.ask();
  });
  view.root.append(card.state);
  const header = make("header", {}, card.title, card.mark);
  card.root = make("article", { className: "ov-card" }, header, view.root, card.reading, card.figures, card.modes);
  card.root.dataset.key = entry.key;
  shared.linked(view, entry.key);
  return card;
}

export function takeEntry(card, entry, shared, pixels) {
  card.stale = "labels";
  card.entry = entry;
  card.map.title = card.title.textContent = card.title.title = entry.title;
  card.root.dataset.state = entry.state;
  const works = !isDone(card) && entry.state !== "picture";
  card.state.hidden = !works;
  if (works) fillState(card.state, entry);
  card.modes.hidden = !shared.truth || works;
  if (!shared.truth || works) card.mode = entry.key === "picture" ? "picture" : "masks";
  if (isDone(card)) takeMaps(card, shared.legend, pixels);
}

function takeMaps(card, legend, pixels) {
  const { best, runner_up: runnerUp, labels } = card.entry;
  const names = legend.map(({ label }) => label);
  if (card.source === best && card.names.join() === names.join()) return;
  Object.assign(card, { source: best, names });
  const toLegend = Uint8Array.from(labels, (label) => names.indexOf(label));
  card.best = unpack(pixels.get(best), toLegend);
  card.runnerUp = runnerUp ? unpack(pixels.get(runnerUp), toLegend) : null;
}

function fillState(box, entry) {
  box.replaceChildren(make("p", { textContent: stateText(entry) }));
  if (entry.state !== "running") return;
  const bar = make("progress", { max: 1, "aria-label": `${entry.title}: ${entry.stage}` });
  if (entry.share !== null) bar.value = entry.share;
  box.append(bar);
}

/* What is drawn, its alternative text and its figures. */
export function drawCard(card, shared) {
  const anew = card.stale !== "colours";
  if (card.stale === "labels" && isDone(card)) makeLabels(card, shared);
  card.stale = null;
  if (anew) chosen(card.modes, card.mode);
  const draw = isDone(card) ? { masks: paintMasks, errors: paintErrors }[card.mode] : paintPicture;
  draw(card, shared);
  card.view.flush();
  if (anew) describe(card, shared);
}

function makeLabels(card, { look, value, legend, truth, inkFor }) {
  const { threshold } = card.entry;
  card.least = threshold === null ? -1 : Math.round((look.threshold ?? threshold) * value.steps);
  card.counts = labelsAbove(card.best, card.least, legend.length, card.map.labels);
  inkFor(card.map.labels, card.map.ink);
  card.matrix = truth ? confusion(truth.labels, card.map.labels, value.asked) : null;
}

function paintPicture(card, { picture, truth, tables }) {
  if (card.mode === "truth") paintInk(picture, truth.ink, tables, card.view.out);
  else card.view.out.set(picture);
}

function paintMasks(card, { picture, tables }) {
  paintInk(picture, card.map.ink, tables, card.view.out);
}

function paintErrors(card, { grey, truth, value, errors, shows, look }) {
  const tables = greyTables(errors.map(rgbOf), look.opacity);
  paintRelations(grey, truth.labels, card.map.labels, relationTable(value.asked, shows), tables, card.view.out);
}

function describe(card, shared) {
  const say = isDone(card) ? { masks: describeMasks, errors: describeErrors }[card.mode] : describePicture;
  card.mean = isDone(card) && card.matrix ? iouText(meanOverRows(card.matrix, shared.value.asked)) : "";
  card.mark.textContent = card.mean && `IoU ${card.mean}`;
  card.mark.title = card.mean && "Mean IoU, in per cent, over the labels of the truth";
  card.cost = isDone(card) ? costText(card.entry, shared.look.threshold) : "";
  const { text, figures } = say(card, shared);
  card.view.describe(text);
  card.figures.replaceChildren(...figures);
}

function describePicture(card, { truth, legend }) {
  if (card.mode === "picture" || card.mode === "masks") {
    const text = card.entry.state === "picture" ? "The picture, without masks." : `${card.entry.title}: ${stateText(card.entry)}.`;
    return { text, figures: [] };
  }
  const counts = countsOf(truth.labels, legend.length);
  return { text: `The truth: ${sharesText(counts, legend)}.`, figures: shareFigures(counts, legend) };
}

function describeMasks(card, { legend, value }) {
  const shares = sharesText(card.counts, legend);
  if (!card.matrix) return { text: `${card.entry.title}: ${shares}.`, figures: shareFigures(card.counts, legend) };
  const each = ious(card.matrix, value.asked).map((iou, k) => ({ iou, ...legend[k] })).filter(({ iou }) => !Number.isNaN(iou));
  const figures = each.map(({ iou, colour, label }) => figure(colour, `${label} ${iouText(iou)}`));
  return { text: `${card.entry.title}: ${shares}. Mean IoU ${card.mean}.`, figures };
}

function describeErrors(card, { errors, value }) {
  const shares = relationShares(card.matrix, value.asked);
  const texts = shares.map((share, k) => `${ERROR_NAMES[k]} ${percent(share, 1)}`);
  const figures = texts.map((text, k) => figure(errors[k], text));
  return { text: `${card.entry.title}, errors: ${texts.join(", ")}.`, figures };
}

function shareFigures(counts, legend) {
  const all = counts.reduce((sum, number) => sum + number, 0);
  const there = legend.map((item, k) => ({ ...item, share: counts[k] / all })).filter(({ share }) => share > 0);
  return there.map(({ colour, label, share }) => figure(colour, `${label} ${percent(share)}`));
}

function figure(colour, text) {
  return make("span", {}, swatch({ colour }), text);
}
