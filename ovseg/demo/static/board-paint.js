/* Label maps into colours. A pixel's ink is 4 * label + 2 if it lies on a mask's edge + 1 if a line of the hatching crosses
   it; a table says what each ink makes of each of the picture's values, so that opacity, hiding, outline and hatching change
   the table and never the ink. Colours are [red, green, blue]. */

import { asAsked, IGNORED, NOTHING, relation } from "./board-maps.js";

const VALUES = 256;
const TABLE = 3 * VALUES;
const ERROR_STRENGTH = 0.85;
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

/* Ink of every pixel into `out` (Uint16Array). `masks` are the hatchings of the labels, or null while none is drawn; edges
   are looked for only if `outline`. */
export function inkOf(labels, width, masks, outline, out) {
  for (let k = 0; k < out.length; k++) out[k] = 4 * labels[k];
  if (masks) for (let k = 0; k < out.length; k++) if (labels[k]) out[k] += masks[labels[k]][k];
  if (outline) addEdges(labels, width, out);
}

function addEdges(labels, width, out) {
  const height = labels.length / width;
  const reach = Math.max(1, Math.round(Math.max(width, height) / 300));
  const down = reach * width;
  for (let y = 0, k = 0; y < height; y++) {
    const above = y >= reach;
    const below = y < height - reach;
    for (let x = 0; x < width; x++, k++) {
      const label = labels[k];
      if (label === 0) continue;
      const edge =
        (x >= reach && labels[k - reach] !== label) || (x < width - reach && labels[k + reach] !== label) ||
        (above && labels[k - down] !== label) || (below && labels[k + down] !== label);
      if (edge) out[k] += 2;
    }
  }
}

function fillTable(tables, ink, colour, alpha) {
  for (let channel = 0; channel < 3; channel++) {
    const start = ink * TABLE + channel * VALUES;
    for (let value = 0; value < VALUES; value++) {
      tables[start + value] = Math.round(value * (1 - alpha) + colour[channel] * alpha);
    }
  }
}

/* What each ink makes of the picture. `inks` are {colour, line} of each label, line being its hatching's; `look`: opacity,
   background, outline, hatching, lit (a label that stands out, or null); `hidden` (label) says which labels do not show. */
export function inkTables(inks, look, hidden) {
  const tables = new Uint8Array(inks.length * 4 * TABLE);
  inks.forEach(({ colour, line }, label) => {
    const shows = label === 0 ? look.background : !hidden(label);
    const faded = look.lit !== null && look.lit !== label ? UNLIT : 1;
    const alpha = shows ? look.opacity * faded : 0;
    for (let part = 0; part < 4; part++) {
      const edge = look.outline && part >= 2 && shows;
      const crossed = look.hatching && part % 2 === 1 && !edge;
      fillTable(tables, 4 * label + part, crossed ? line : colour, edge ? faded : alpha);
    }
  });
  return tables;
}

/* The picture (one Uint32 a pixel) under its ink, into `out`. */
export function paintInk(picture, ink, tables, out) {
  for (let k = 0; k < out.length; k++) {
    const value = picture[k];
    const table = ink[k] * TABLE;
    out[k] =
      0xff000000 | (tables[table + 2 * VALUES + ((value >> 16) & 255)] << 16) |
      (tables[table + VALUES + ((value >> 8) & 255)] << 8) | tables[table + (value & 255)];
  }
}

/* Brightness of every pixel, dimmed: what lies under errors and differences. */
export function greyOf(picture) {
  const grey = new Uint8Array(picture.length);
  for (let k = 0; k < picture.length; k++) {
    const value = picture[k];
    grey[k] = 0.65 * (0.299 * (value & 255) + 0.587 * ((value >> 8) & 255) + 0.114 * ((value >> 16) & 255));
  }
  return grey;
}

/* For each kind and each grey one Uint32 pixel; the last kind shows the grey itself. */
export function greyTables(colours, opacity) {
  const strength = ERROR_STRENGTH * Math.min(1, opacity / 0.6);
  const tables = new Uint32Array((colours.length + 1) * VALUES);
  [...colours, null].forEach((colour, kind) => {
    for (let value = 0; value < VALUES; value++) {
      const mixed = colour ? colour.map((c) => Math.round(value * (1 - strength) + c * strength)) : [value, value, value];
      tables[kind * VALUES + value] = 0xff000000 | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
    }
  });
  return tables;
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

/* How the labels of `columns` relate to those of `rows`, over the grey picture into `out`; where `rows` says nothing, grey. */
export function paintRelations(grey, rows, columns, kinds, tables, out) {
  for (let k = 0; k < out.length; k++) {
    const kind = rows[k] === IGNORED ? NOTHING : kinds[rows[k] * 256 + columns[k]];
    out[k] = tables[kind * VALUES + grey[k]];
  }
}

/* How many agree, over the grey picture into `out`; `kindOf` maps a number of votes to a kind of the tables. */
export function paintVotes(grey, votesAt, kindOf, tables, out) {
  for (let k = 0; k < out.length; k++) out[k] = tables[kindOf[votesAt[k]] * VALUES + grey[k]];
}
