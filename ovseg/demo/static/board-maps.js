/* Label maps as typed arrays, one number a pixel: what stands where at a threshold, against a truth, against another map. */

export const IGNORED = 255;

/* A packed map's planes (see board.py) as labels of the legend and score steps; `toLegend` maps the entry's own indices. */
export function unpack(planes, toLegend) {
  const count = planes.length / 3;
  const labels = new Uint8Array(count);
  const steps = new Uint16Array(count);
  let step = 0;
  for (let k = 0; k < count; k++) {
    const code = planes[count + k] * 256 + planes[2 * count + k];
    step += (code >>> 1) ^ -(code & 1);
    labels[k] = toLegend[planes[k]];
    steps[k] = step;
  }
  return { labels, steps };
}

/* The label map into `out`: the best label where its step is above `least`, else background; returns each label's pixels. */
export function labelsAbove(best, least, count, out) {
  const { labels, steps } = best;
  const counts = new Uint32Array(count);
  for (let k = 0; k < out.length; k++) {
    const label = steps[k] > least ? labels[k] : 0;
    out[k] = label;
    counts[label]++;
  }
  return counts;
}

export function countsOf(labels, count) {
  const counts = new Uint32Array(256);
  for (let k = 0; k < labels.length; k++) counts[labels[k]]++;
  return counts.subarray(0, count);
}

/* A label as it counts where maps are set against each other: labels from `count` on were not asked for, and are background. */
export function asAsked(label, count) {
  return label < count ? label : 0;
}

/* Pixels of each label of `rows` by that of `columns`, as asked for. Where `rows` says nothing, a pixel is left out. */
export function confusion(rows, columns, count) {
  const matrix = new Uint32Array(count * count);
  for (let k = 0; k < rows.length; k++) {
    if (rows[k] === IGNORED) continue;
    matrix[asAsked(rows[k], count) * count + asAsked(columns[k], count)]++;
  }
  return matrix;
}

function sums(matrix, count) {
  const rows = new Float64Array(count);
  const columns = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) {
      rows[row] += matrix[row * count + column];
      columns[column] += matrix[row * count + column];
    }
  }
  return { rows, columns };
}

/* Intersection over union of each label; NaN where neither map has it. */
export function ious(matrix, count) {
  const { rows, columns } = sums(matrix, count);
  return Array.from(rows, (row, label) => {
    const both = matrix[label * count + label];
    const either = row + columns[label] - both;
    return either > 0 ? both / either : NaN;
  });
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
}

/* Mean IoU over the labels that the rows hold: the same labels for every method against one truth. */
export function meanOverRows(matrix, count) {
  const { rows } = sums(matrix, count);
  return mean(ious(matrix, count).filter((_, label) => rows[label] > 0));
}

/* Mean IoU over the labels that either map holds. */
export function meanOverEither(matrix, count) {
  return mean(ious(matrix, count).filter((iou) => !Number.isNaN(iou)));
}

export function agreement(matrix, count) {
  let same = 0;
  let all = 0;
  for (let k = 0; k < matrix.length; k++) all += matrix[k];
  for (let label = 0; label < count; label++) same += matrix[label * count + label];
  return same / all;
}

/* The same among the places where either map has a class, so that a large background does not raise it; 1 where none has. */
export function agreementOnClasses(matrix, count) {
  const classes = Uint32Array.from(matrix);
  classes[0] = 0;
  return classes.some((number) => number > 0) ? agreement(classes, count) : 1;
}

/* How two labels relate, as an index into `errors` colours; NOTHING stands where there is nothing to show. */
export const RIGHT = 0;
export const MISSED = 1;
export const CLAIMED = 2;
export const OTHER = 3;
export const NOTHING = 4;

export function relation(row, column) {
  if (row === column) return RIGHT;
  if (column === 0) return MISSED;
  return row === 0 ? CLAIMED : OTHER;
}

/* Shares of right, missed, claimed and other class, of the counted pixels. */
export function relationShares(matrix, count) {
  const pixels = new Float64Array(NOTHING);
  let all = 0;
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) {
      pixels[relation(row, column)] += matrix[row * count + column];
      all += matrix[row * count + column];
    }
  }
  return Array.from(pixels, (number) => number / all);
}

/* At each place the size of the largest group of maps that say the same, and how many places have each size. */
export function votes(maps, count) {
  const at = new Uint8Array(maps[0].length);
  const counts = new Uint32Array(maps.length + 1);
  for (let k = 0; k < at.length; k++) {
    let most = 1;
    for (let one = 0; one < maps.length - most; one++) {
      const label = asAsked(maps[one][k], count);
      let same = 1;
      for (let other = one + 1; other < maps.length; other++) if (asAsked(maps[other][k], count) === label) same++;
      if (same > most) most = same;
    }
    at[k] = most;
    counts[most]++;
  }
  return { at, counts };
}
