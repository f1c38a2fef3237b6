/* Look inside: tokens, the fused map with its controls, the table of all maps, what a place attends to, heads. gr.HTML gives
   `element`, `props`, `trigger` and `watch`. `props.value` is one run (inside_value in ovseg/demo/inside.py says what it
   holds); `props.token_maps`, `props.place` and `props.heads` come when they were asked for. */

import { frame, moved, pixelUnder, pixelsOf } from "./board-parts.js";
import { fused, meanOf, numbersOf, paintHeat, rangeOf, resized, unpacked } from "./inside-maps.js";
import { fillTable, mapName, markCell, smallMap } from "./inside-table.js";
import { make, press } from "./elements.js";

const REPORT_AFTER = 200;
const PLAY_EVERY = 700; // milliseconds
const find = (name) => element.querySelector(name);
const help = `${element.id}-help`;
find(".ov-in-help").id = help;

/* `level` is null for the mean over all; `cell` is {key, level} of the map that is shown large, or null for the fused one;
   `pinned` the place that was clicked, `place` the one that is pointed at. */
const look = { level: null, cell: null, place: null, pinned: null, rows: "strides", range: "own", opacity: 0.7, weights: new Map() };
let run = null;
let picture = null;
let maps = null;
let view = null;
let turn = 0;
let headsAsked = false;

const sizeOf = ({ rows, columns }) => [rows, columns];
const word = () => run.tokens[maps.token].text;
const levelName = (level) => (level === null ? run.all : run.levels[level].name);

/* ---- Values from the server ---- */

async function show(value) {
  const mine = ++turn;
  find(".ov-empty").hidden = Boolean(value);
  find(".ov-full").hidden = !value;
  if (!value) {
    run = null;
    delete element.dataset.run;
    return;
  }
  const pixels = run?.picture === value.picture ? picture : await pixelsOf(value.picture);
  if (mine !== turn) return;
  run = { ...value, shares: { ...value.shares, maps: unpacked(value.shares, value.shares.rows, value.shares.columns) } };
  picture = pixels;
  play(false);
  Object.assign(look, { level: null, cell: null, place: null, pinned: null });
  look.weights = new Map(value.strides.map(({ stride, weight }) => [stride, weight]));
  newFrame();
  newControls();
  showPlace(null);
  showHeads(null);
  takeMaps(value.token_maps);
  // On a narrow page the maps stand below the controls, out of sight.
  if (element.getBoundingClientRect().top > window.innerHeight) element.scrollIntoView({ block: "start" });
}

function takeMaps(given) {
  if (!run || !given || given.run !== run.run) return;
  const before = maps?.run === given.run ? maps.token : null;
  maps = { run: given.run, token: given.token, layers: run.layers.map((layer, k) => unpacked({ data: given.layers[k], high: given.high }, layer.rows, layer.columns)) };
  if (before === null) fillTokens();
  [...find(".ov-tokens").children].forEach((button, k) => press(button, k === maps.token));
  drawTable();
  drawBig();
  readOut();
  element.dataset.run = run.run;
  element.dataset.token = String(maps.token);
}

/* ---- Maps ---- */

function layerMap(k, level) {
  const own = maps.layers[k];
  return level === null ? meanOf(Array.from({ length: own.count }, (_, one) => own.at(one))) : own.at(level);
}

function strideMap(stride, level) {
  return meanOf(run.layers.flatMap((layer, k) => (layer.stride === stride ? [layerMap(k, level)] : [])));
}

function strideRows() {
  return run.strides.map((one) => ({
    key: `stride-${one.stride}`, title: `${one.rows} × ${one.columns}`, size: sizeOf(one), at: (level) => strideMap(one.stride, level), askHeads: null,
  }));
}

function layerRows() {
  return run.layers.map((layer, k) => ({
    key: `layer-${layer.number}`, title: `${layer.number}: ${layer.rows} × ${layer.columns}`, name: layer.name, size: sizeOf(layer),
    at: (level) => layerMap(k, level),
    askHeads: () => {
      headsAsked = true;
      trigger("heads", { layer: layer.number, level: look.level ?? run.levels.length >> 1 });
    },
  }));
}

function allRows() {
  return [...strideRows(), ...layerRows()];
}

function fusedMap(level) {
  const parts = run.strides.map((one) => ({ map: strideMap(one.stride, level), size: sizeOf(one), weight: look.weights.get(one.stride) }));
  return fused(parts, run.grid);
}

/* ---- Drawing ---- */

/* The fused map, or the one that was chosen in the table, over the picture. */
function drawBig() {
  const row = look.cell && allRows().find(({ key }) => key === look.cell.key);
  const map = row ? row.at(look.cell.level) : fusedMap(look.level);
  const bytes = new Uint8ClampedArray(view.out.buffer);
  const what = row ? `${row.title}, ${levelName(look.cell.level)}` : `all resolutions fused, ${levelName(look.level)}`;
  if (map === null) {
    bytes.set(picture);
    say("No resolution counts: give one a weight above 0.");
  } else {
    const size = row ? row.size : run.grid;
    const grown = resized(map, size, [run.height, run.width]);
    paintHeat(grown, run.heat, rangeOf(grown), bytes, picture, look.opacity);
    const [low, high] = rangeOf(map);
    say(`“${word()}”, ${what}${row ? `: ${low.toFixed(3)} to ${high.toFixed(3)}` : ""}`);
  }
  view.flush();
  markChosen();
}

function say(text) {
  find(".ov-in-said").textContent = text;
  view.describe(text);
}

function drawTable() {
  const rows = look.rows === "strides" ? strideRows() : layerRows();
  const every = look.range === "one" ? rows.flatMap((row) => [...run.levels.keys()].map((level) => rangeOf(row.at(level)))) : [];
  fillTable(find(".ov-in-table"), rows, {
    word: word(), stops: run.heat, levels: run.levels, levelName, axis: run.axis,
    oneRange: every.length ? [Math.min(...every.map(([low]) => low)), Math.max(...every.map(([, high]) => high))] : null,
    choose(key, level) {
      const again = look.cell?.key === key && look.cell.level === level;
      look.cell = again ? null : { key, level };
      drawBig();
    },
  });
  markChosen();
  find(".ov-in-table-title").textContent = `Every map of “${word()}”`;
  for (const button of element.querySelectorAll("[data-rows]")) press(button, button.dataset.rows === look.rows);
  for (const button of element.querySelectorAll("[data-range]")) press(button, button.dataset.range === look.range);
}

function markChosen() {
  markCell(find(".ov-in-table"), look.cell ? mapName(look.cell.key, look.cell.level) : null);
}

/* Probabilities at the place that is pointed at. */
function readOut() {
  view.cross(look.place);
  view.pin(look.pinned);
  const here = look.place ?? look.pinned;
  const reading = find(".ov-reading");
  if (!here) {
    reading.textContent = "Hover: how much of each place’s attention the token gets. Click: what a place attends to.";
    rank(null);
    return;
  }
  const parts = run.strides.map((one) => {
    const y = Math.min(Math.floor(((here.y + 0.5) / run.height) * one.rows), one.rows - 1);
    const x = Math.min(Math.floor(((here.x + 0.5) / run.width) * one.columns), one.columns - 1);
    return `${one.rows} × ${one.columns}: ${strideMap(one.stride, look.level)[y * one.columns + x].toFixed(3)}`;
  });
  reading.textContent = `“${word()}” here: ${parts.join(", ")}`;
  rank(here);
}

/* The tokens that a place attends to, most first, with bars: start, end and padding are among them. */
function rank(here) {
  const { rows, columns, maps: every } = run.shares;
  const place = here && Math.floor(((here.y + 0.5) / run.height) * rows) * columns + Math.floor(((here.x + 0.5) / run.width) * columns);
  const shares = here ? run.tokens.map(({ text }, k) => ({ text, share: every.at(k)[place] })) : [];
  find(".ov-in-ranked").title = `Mean of all levels, ${rows} × ${columns}`;
  find(".ov-in-ranked").replaceChildren(...shares.sort((one, other) => other.share - one.share).map(({ text, share }) => {
    const bar = make("i");
    bar.style.width = `${(100 * share).toFixed(1)}%`;
    return make("li", {}, make("span", { textContent: text }), bar, make("small", { textContent: `${(100 * share).toFixed(0)} %` }));
  }));
}

/* ---- Tokens and controls ---- */

function fillTokens() {
  const buttons = run.tokens.map((token, k) => {
    const map = Float32Array.from(numbersOf(token.thumb, Uint8Array));
    const button = make("button", { type: "button", className: "ov-token" });
    const thumb = smallMap(map, run.thumb, [0, 255], run.heat, "");
    thumb.setAttribute("aria-hidden", "true");
    button.append(thumb, make("span", { textContent: token.text }));
    button.classList.toggle("ov-mark", token.kind !== "word");
    button.addEventListener("click", () => trigger("token", { token: k }));
    return button;
  });
  find(".ov-tokens").replaceChildren(...buttons);
}

function newFrame() {
  view = frame(run.width, run.height, help);
  const { canvas } = view;
  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && pointAt(pixelUnder(event, view)));
  canvas.addEventListener("pointerleave", () => pointAt(null));
  canvas.addEventListener("click", (event) => ask(pixelUnder(event, view)));
  canvas.addEventListener("keydown", (event) => {
    const to = moved(event, look.place ?? look.pinned, view);
    if (to) pointAt(to);
    else if (event.key === "Enter") ask(look.place ?? { x: run.width >> 1, y: run.height >> 1 });
    else if (event.key === "Escape") pointAt(null);
    if (to || event.key === "Enter") event.preventDefault();
  });
  find(".ov-in-frame").replaceChildren(view.root);
}

function pointAt(place) {
  look.place = place;
  readOut();
}

/* Ask the server what a place attends to, at the level that is shown. */
function ask(place) {
  look.pinned = place;
  readOut();
  find(".ov-in-place-said").textContent = "…";
  trigger("select", { index: [(place.x + 0.5) / run.width, (place.y + 0.5) / run.height], value: look.level });
}

function newControls() {
  find(".ov-in-levels-title").textContent = run.axis;
  find(".ov-in-level").max = run.levels.length - 1;
  find(".ov-in-level").setAttribute("aria-label", run.axis);
  find(".ov-in-opacity").value = look.opacity;
  find(".ov-in-opacity-text").value = look.opacity.toFixed(2);
  find(".ov-in-weights").replaceChildren(...run.strides.map(weightSlider));
  showLevel();
}

function weightSlider({ stride, rows, columns }) {
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: look.weights.get(stride) });
  slider.dataset.stride = stride;
  const number = make("output", { textContent: look.weights.get(stride).toFixed(2) });
  slider.addEventListener("input", () => {
    look.weights.set(stride, Number(slider.value));
    number.textContent = Number(slider.value).toFixed(2);
    look.cell = null;
    soon();
    report();
  });
  return make("div", { className: "ov-slider" }, make("label", {}, make("span", { textContent: `${rows} × ${columns}` }), slider, number));
}

/* Draw the large map anew, once a frame: the table does not change with the controls. */
let asked = null;
function soon() {
  asked ??= requestAnimationFrame(() => {
    asked = null;
    drawBig();
    readOut();
  });
}

let reporting = 0;
function report() {
  clearTimeout(reporting);
  reporting = setTimeout(() => trigger("weigh", { weights: Object.fromEntries(look.weights) }), REPORT_AFTER);
}

function showLevel() {
  find(".ov-in-level-name").textContent = look.level === null ? run.all : run.levels[look.level].name;
  find(".ov-in-level").value = look.level ?? run.levels.length >> 1;
  find(".ov-in-level").classList.toggle("ov-in-idle", look.level === null);
  press(find(".ov-in-every"), look.level === null);
}

let asking = 0;
function setLevel(level) {
  look.level = level;
  look.cell = null;
  showLevel();
  soon();
  clearTimeout(asking);
  if (look.pinned) asking = setTimeout(() => ask(look.pinned), REPORT_AFTER);
}

/* Noise levels or sampling steps one after the other, until the visitor chooses one. */
let playing = 0;
function play(on) {
  clearInterval(playing);
  playing = on ? setInterval(() => setLevel(look.level === null ? 0 : (look.level + 1) % run.levels.length), PLAY_EVERY) : 0;
  find(".ov-in-play").textContent = on ? "Pause" : "Play";
  press(find(".ov-in-play"), on);
}

find(".ov-in-play").addEventListener("click", () => play(!playing));
find(".ov-in-level").addEventListener("input", (event) => {
  play(false);
  setLevel(Number(event.target.value));
});
find(".ov-in-every").addEventListener("click", () => setLevel(look.level === null ? Number(find(".ov-in-level").value) : null));
find(".ov-in-opacity").addEventListener("input", (event) => {
  look.opacity = Number(event.target.value);
  find(".ov-in-opacity-text").value = look.opacity.toFixed(2);
  soon();
});
for (const name of ["rows", "range"]) {
  for (const button of element.querySelectorAll(`[data-${name}]`)) {
    button.addEventListener("click", () => {
      look[name] = button.dataset[name];
      drawTable();
    });
  }
}

/* ---- What a place attends to, and heads ---- */

/* Maps over the picture, each with its title: [{title, rows, columns, data, high}]; `mark` is a place in pixels, or null. */
function fillStrip(strip, shown, mark) {
  const figures = shown.map(({ title, rows, columns, data, high }) => {
    const own = frame(run.width, run.height, help);
    const map = unpacked({ data, high }, rows, columns).at(0);
    const grown = resized(map, [rows, columns], [run.height, run.width]);
    const [low, most] = rangeOf(map);
    paintHeat(grown, run.heat, rangeOf(grown), new Uint8ClampedArray(own.out.buffer), picture, 0.7);
    own.flush();
    own.pin(mark);
    own.canvas.tabIndex = -1;
    own.describe(`${title}: ${low.toFixed(3)} to ${most.toFixed(3)}`);
    return make("figure", {}, own.root, make("figcaption", {}, make("b", { textContent: title }), ` ${low.toFixed(3)} to ${most.toFixed(3)}`));
  });
  strip.replaceChildren(...figures);
}

function showPlace(place) {
  const here = place && place.run === run.run ? place : null;
  find(".ov-in-place-said").textContent = here ? here.text : "Click the picture: what this place attends to, at every resolution.";
  fillStrip(find(".ov-in-place .ov-in-strip"), here ? here.maps : [], look.pinned);
}

function showHeads(heads) {
  const here = heads && heads.run === run.run ? heads : null;
  find(".ov-in-heads").hidden = !here;
  if (!here) return;
  find(".ov-in-heads-title").textContent = here.text;
  fillStrip(find(".ov-in-heads .ov-in-strip"), here.maps, null);
  if (headsAsked) find(".ov-in-heads").scrollIntoView({ block: "nearest" });
  headsAsked = false;
}

watch("value", () => show(props.value));
watch("token_maps", () => takeMaps(props.token_maps));
watch("place", () => run && showPlace(props.place));
watch("heads", () => run && showHeads(props.heads));
show(props.value);
