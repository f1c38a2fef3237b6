/* Label maps into colours, over the picture or the dimmed picture that lies below. A pixel's ink is 4 * label + what is there: 0
   the mask's fill, 1 a line of its hatching, 2 its edge, 3 the halo outside of that edge; a table says which colour each ink
   has, so that opacity and hiding change the table and never the ink. Colours are [red, green, blue], pixels one Uint32. */

import { asAsked, IGNORED, NOTHING, relation } from "./board-maps.js";

const USUAL_OPACITY = 0.45;
const ERROR_STRENGTH = 0.85;
const HALO = 0.8;
const UNLIT = 0.25;

export function rgbOf(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

/* The hatchings, in the order of `view.hatch`: / \ horizontal, vertical, dots, +, x, dashes. `step` is the distance of lines
   and `thick` their width; the long multiple keeps remainders positive. */
const HATCHINGS = [
  (x, y, step, thick) => (x + y) % step < thick,
  (x, y, step, thick) => (x - y + 64 * step) % step < thick,
  (x, y, step, thick) => y % step < thick,
  (x, y, step, thick) => x % step < thick,
  (x, y, step, thick) => x % step < 1.6 * thick && y % step < 1.6 * thick,
  (x, y, step, thick) => x % step < thick || y % step < thick,
  (x, y, step, thick) => (x + y) % step < thick || (x - y + 64 * step) % step < thick,
  (x, y, step, thick) => y % step < thick && (x + (Math.floor(y / step) % 2) * step) % (2 * step) < step,
];

/* One square of a hatching that repeats without a seam, 1 where a line runs; null is no hatching. */
export function hatchTile(hatch, [step, thick]) {
  if (hatch === null) return { side: 1, pixels: new Uint8Array(1) };
  const side = 2 * step;
  const pixels = new Uint8Array(side * side);
  const crossed = HATCHINGS[hatch];
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) pixels[y * side + x] = crossed(x, y, step, thick) ? 1 : 0;
  return { side, pixels };
}

/* A hatching on a whole picture: 1 where a line runs. */
function hatchMask(hatch, size, width, height) {
  const { side, pixels } = hatchTile(hatch, size);
  const mask = new Uint8Array(width * height);
  for (let y = 0, k = 0; y < height; y++) {
    const row = (y % side) * side;
    for (let x = 0; x < width; x++, k++) mask[k] = pixels[row + (x % side)];
  }
  return mask;
}

/* The masks of the labels' hatchings; labels with the same hatching share one. `size` is the lines' distance and width. */
export function hatchMasks(legend, size, width, height) {
  const made = new Map();
  for (const { hatch } of legend) if (!made.has(hatch)) made.set(hatch, hatchMask(hatch, size, width, height));
  return legend.map(({ hatch }) => made.get(hatch));
}

/* How many pixels of the picture the lines of an outline are wide, at a zoom; as `view.outline` has it. */
export function reachOf(width, height, zoom) {
  return Math.max(1, Math.round(Math.max(width, height) / 300 / zoom));
}

/* Ink of every pixel into `out` (Uint16Array). `masks` are the hatchings of the labels, or null while none is drawn; `reach`
   is how wide the outline's lines are, 0 while none is drawn. */
export function inkOf(labels, width, masks, reach, out) {
  for (let k = 0; k < out.length; k++) out[k] = 4 * labels[k];
  if (masks) for (let k = 0; k < out.length; k++) if (labels[k]) out[k] += masks[labels[k]][k];
  if (reach) addEdges(labels, width, reach, out);
}

function addEdges(labels, width, reach, out) {
  const height = labels.length / width;
  for (let y = 0, k = 0; y < height; y++) {
    const up = -Math.min(y, reach) * width;
    const down = Math.min(height - 1 - y, reach) * width;
    for (let x = 0; x < width; x++, k++) {
      const label = labels[k];
      const left = labels[k - Math.min(x, reach)];
      const right = labels[k + Math.min(width - 1 - x, reach)];
      const above = labels[k + up];
      const below = labels[k + down];
      if (left === label && right === label && above === label && below === label) continue;
      out[k] = label ? 4 * label + 2 : 4 * (left || right || above || below) + 3;
    }
  }
}

function pixelOf([red, green, blue], alpha) {
  return ((Math.round(255 * alpha) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/* Black beside light colours, white beside dark ones. */
function haloOf([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 127.5 ? [0, 0, 0] : [255, 255, 255];
}

/* The colour of each ink. `inks` are {colour, line} of each label, line being its hatching's; `look`: opacity, background, lit
   (a label that stands out, or null); `hidden` (label) says which labels do not show. */
export function inkTables(inks, look, hidden) {
  const tables = new Uint32Array(inks.length * 4);
  inks.forEach(({ colour, line }, label) => {
    const shows = label === 0 ? look.background : !hidden(label);
    const strength = shows ? (look.lit !== null && look.lit !== label ? UNLIT : 1) : 0;
    const fill = look.opacity * strength;
    tables.set([pixelOf(colour, fill), pixelOf(line, fill), pixelOf(colour, strength), pixelOf(haloOf(colour), HALO * strength)], 4 * label);
  });
  return tables;
}

export function paintInk(ink, tables, out) {
  for (let k = 0; k < out.length; k++) out[k] = tables[ink[k]];
}

/* The picture in dim grey: what lies under errors and differences. */
export function dimmedOf(picture) {
  return picture.map((value) => {
    const grey = 0.65 * (0.299 * (value & 255) + 0.587 * ((value >> 8) & 255) + 0.114 * ((value >> 16) & 255));
    return pixelOf([grey, grey, grey], 1);
  });
}

/* The colour of each kind; null, and a last kind beyond these, show what lies below. */
export function kindColours(colours, opacity) {
  const strength = ERROR_STRENGTH * Math.min(1, opacity / USUAL_OPACITY);
  return Uint32Array.from([...colours, null], (colour) => (colour ? pixelOf(rgbOf(colour), strength) : 0));
}

/* The kind of every pair of labels, at 256 * row + column: as `relation`, but NOTHING for classes that do not show. */
export function relationTable(count, shows) {
  const kinds = new Uint8Array(256 * 256).fill(NOTHING);
  for (let row = 0; row < IGNORED; row++) {
    for (let column = 0; column < 256; column++) {
      const pair = [asAsked(row, count), asAsked(column, count)];
      const classes = pair.filter((label) => label > 0);
      if (classes.length === 0 || classes.some(shows)) kinds[row * 256 + column] = relation(...pair);
    }
  }
  return kinds;
}

/* How the labels of `columns` relate to those of `rows`, into `out`; nothing where `rows` says nothing. */
export function paintRelations(rows, columns, kinds, colours, out) {
  for (let k = 0; k < out.length; k++) {
    const kind = rows[k] === IGNORED ? NOTHING : kinds[rows[k] * 256 + columns[k]];
    out[k] = colours[kind];
  }
}

/* How many agree, into `out`; `kindOf` maps a number of votes to a kind of the colours. */
export function paintVotes(votesAt, kindOf, colours, out) {
  for (let k = 0; k < out.length; k++) out[k] = colours[kindOf[votesAt[k]]];
}
