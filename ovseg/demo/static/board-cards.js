/* One card a method: its canvas, its state while it waits or works, and its figures. A card's `stale` says what must be made
   anew: "labels" everything, "view" its words and the painting, "colours" the painting alone, null nothing. `shared` is the board's state (see board.js). */

import { confusion, countsOf, ious, labelsAbove, meanOverRows, relationShares, unpack } from "./board-maps.js";
import { kindColours, paintInk, paintRelations, relationTable } from "./board-paint.js";
import { frame, swatch } from "./board-parts.js";
import { costText, iouText, percent, secondsText, sharesText, stateText } from "./board-words.js";
import { make, press } from "./elements.js";

const ERROR_NAMES = ["right", "missed", "false positive", "other"];

export function isDone(card) {
  return card.entry.state === "done";
}

/* What a card shows: the picture or its truth, masks, or errors where a truth is known. */
export function modeOf(card, { look, truth }) {
  if (!isDone(card)) return truth && card.entry.key === "picture" && look.truth ? "truth" : "picture";
  return look.view === "errors" && truth ? "errors" : "masks";
}

export function newCard(entry, shared) {
  const { width, height } = shared.value;
  const view = frame(width, height, shared.help);
  const card = {
    entry, view, stale: "labels", best: null, runnerUp: null, least: -1, mean: "",
    map: { key: entry.key, title: entry.title, labels: new Uint8Array(width * height), ink: new Uint16Array(width * height) },
    title: make("h3"), mark: make("b"), cost: make("small"), state: make("div", { className: "ov-state" }),
    reading: make("p", { className: "ov-reading" }), figures: make("div", { className: "ov-figures" }),
  };
  view.root.append(card.state);
  const header = make("header", {}, card.title, card.cost, card.mark);
  if (entry.key === "picture") header.append(card.truth = truthButton(shared));
  card.root = make("article", { className: "ov-card" }, header, view.root, card.figures, card.reading);
  card.root.dataset.key = entry.key;
  shared.linked(view, entry.key);
  return card;
}

function truthButton({ look, ask }) {
  const button = make("button", { type: "button", textContent: "Truth", className: "ov-truth" });
  button.addEventListener("click", () => {
    look.truth = !look.truth;
    ask("views");
  });
  return button;
}

export function takeEntry(card, entry, shared, pixels) {
  card.stale = "labels";
  card.entry = entry;
  card.map.title = card.title.textContent = card.title.title = entry.title;
  card.root.dataset.state = entry.state;
  card.root.toggleAttribute("data-apart", Boolean(entry.apart));
  const works = !isDone(card) && entry.state !== "picture";
  card.state.hidden = !works;
  if (works) fillState(card.state, entry);
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
  const mode = modeOf(card, shared);
  card.view.lay(mode === "errors" ? shared.dimmed : shared.pixels);
  ({ masks: paintMasks, errors: paintErrors, truth: paintTruth, picture: paintNothing })[mode](card, shared);
  card.view.flush();
  if (anew) describe(card, shared, mode);
}

function makeLabels(card, { look, value, legend, truth, inkFor }) {
  const { threshold } = card.entry;
  card.least = threshold === null ? -1 : Math.round((look.threshold ?? threshold) * value.steps);
  card.counts = labelsAbove(card.best, card.least, legend.length, card.map.labels);
  inkFor(card.map.labels, card.map.ink);
  card.matrix = truth ? confusion(truth.labels, card.map.labels, value.asked) : null;
}

function paintNothing({ view }) {
  view.out.fill(0);
}

function paintTruth({ view }, { truth, tables }) {
  paintInk(truth.ink, tables, view.out);
}

function paintMasks({ map, view }, { tables }) {
  paintInk(map.ink, tables, view.out);
}

function paintErrors({ map, view }, { truth, value, errors, shows, look }) {
  paintRelations(truth.labels, map.labels, relationTable(value.asked, shows), kindColours(errors, look.opacity), view.out);
}

function describe(card, shared, mode) {
  card.mean = isDone(card) && card.matrix ? iouText(meanOverRows(card.matrix, shared.value.asked)) : "";
  card.mark.textContent = card.mean && `IoU ${card.mean}`;
  card.mark.title = card.mean && "Mean IoU, in per cent, over the labels of the truth";
  const seconds = isDone(card) && card.entry.seconds !== null ? secondsText(card.entry.seconds) : "";
  card.cost.textContent = [seconds, card.entry.apart].filter(Boolean).join(" · ");
  card.cost.title = isDone(card) ? costText(card.entry, shared.look.threshold) : "";
  if (card.truth) {
    card.truth.hidden = !shared.truth;
    press(card.truth, mode === "truth");
  }
  const { text, figures } = ({ masks: describeMasks, errors: describeErrors, truth: describeTruth, picture: describePicture })[mode](card, shared);
  card.view.describe(text);
  card.figures.replaceChildren(...figures);
}

function describePicture({ entry }) {
  if (entry.state !== "picture") return { text: `${entry.title}: ${stateText(entry)}.`, figures: [] };
  return { text: "The picture, without masks.", figures: ["Hover to read the label, click to see why."] };
}

function describeTruth(card, { truth, legend }) {
  const counts = countsOf(truth.labels, legend.length);
  return { text: `The truth: ${sharesText(counts, legend)}.`, figures: shareFigures(counts, legend) };
}

function describeMasks(card, { legend, value }) {
  const shares = sharesText(card.counts, legend);
  if (!card.matrix) return { text: `${card.entry.title}: ${shares}.`, figures: shareFigures(card.counts, legend) };
  const each = ious(card.matrix, value.asked).map((iou, k) => ({ iou, ...legend[k] })).filter(({ iou }) => !Number.isNaN(iou));
  const figures = ["IoU", ...each.map(({ iou, colour, label }) => figure(colour, `${label} ${iouText(iou)}`))];
  return { text: `${card.entry.title}: ${shares}. Mean IoU ${card.mean}.`, figures };
}

function describeErrors(card, { errors, value }) {
  const shares = relationShares(card.matrix, value.asked);
  const texts = shares.map((share, k) => `${ERROR_NAMES[k]} ${percent(share, 1)}`);
  const wrong = texts.map((text, k) => figure(errors[k], text.replace(" %", ""))).slice(1); // short: a card may be narrow
  return { text: `${card.entry.title}, errors: ${texts.join(", ")}.`, figures: ["%", ...wrong] };
}

function shareFigures(counts, legend) {
  const all = counts.reduce((sum, number) => sum + number, 0);
  const there = legend.map((item, k) => ({ ...item, share: counts[k] / all })).filter(({ share }) => share > 0);
  return [...there.map(({ colour, label, share }) => figure(colour, `${label} ${percent(share)}`)), "of the picture"];
}

function figure(colour, text) {
  return make("span", {}, swatch({ colour }), text);
}
