/* Attention maps as arrays: unpacking, averaging, fusing resolutions, colours. Nothing here touches the page. */

const STEPS = 65535;

/* The numbers of a base64 text, as an array of this kind. */
export function numbersOf(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}

/* Maps that were packed one after the other: `at(k)` is map k in real numbers, row by row. */
export function unpacked({ data, high }, rows, columns) {
  const steps = numbersOf(data, Uint16Array);
  const size = rows * columns;
  return {
    count: steps.length / size,
    at: (k) => Float32Array.from(steps.subarray(k * size, (k + 1) * size), (step) => (step * high) / STEPS),
  };
}

export function meanOf(maps) {
  const out = new Float32Array(maps[0].length);
  for (const map of maps) for (let k = 0; k < out.length; k++) out[k] += map[k] / maps.length;
  return out;
}

export function rangeOf(map) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of map) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/* Stretched to 0 to 1; a constant map becomes 0. */
export function stretched(map) {
  const [low, high] = rangeOf(map);
  return high > low ? map.map((value) => (value - low) / (high - low)) : map.map(() => 0);
}

/* For each of `count` places of a longer axis its two neighbours on an axis of `size` places, and the second one's share. */
function neighbours(size, count) {
  return Array.from({ length: count }, (_, k) => {
    const place = Math.min(Math.max(((k + 0.5) * size) / count - 0.5, 0), size - 1);
    const first = Math.floor(place);
    return [first, Math.min(first + 1, size - 1), place - first];
  });
}

/* Bilinear, corners not aligned, as the server resizes. */
export function resized(map, [rows, columns], [toRows, toColumns]) {
  const out = new Float32Array(toRows * toColumns);
  const across = neighbours(columns, toColumns);
  neighbours(rows, toRows).forEach(([top, bottom, below], y) => {
    for (let x = 0; x < toColumns; x++) {
      const [left, right, after] = across[x];
      const above = map[top * columns + left] * (1 - after) + map[top * columns + right] * after;
      const under = map[bottom * columns + left] * (1 - after) + map[bottom * columns + right] * after;
      out[y * toColumns + x] = above * (1 - below) + under * below;
    }
  });
  return out;
}

/* Resolutions as one map, 0 to 1, on the grid: each expanded, stretched and weighed. `parts` are {map, size, weight}; null
   where no weight is above 0. */
export function fused(parts, grid) {
  const used = parts.filter(({ weight }) => weight > 0);
  const total = used.reduce((sum, { weight }) => sum + weight, 0);
  if (!used.length) return null;
  const out = new Float32Array(grid[0] * grid[1]);
  for (const { map, size, weight } of used) {
    const own = stretched(resized(map, size, grid));
    for (let k = 0; k < out.length; k++) out[k] += (own[k] * weight) / total;
  }
  return out;
}

/* A map's colours over a picture, both as RGBA bytes of one size, into `out`; without a picture the colours alone. */
export function paintHeat(map, stops, [low, high], out, picture = null, opacity = 1) {
  const spread = high - low;
  const last = stops.length - 1;
  for (let k = 0; k < map.length; k++) {
    const place = spread > 0 ? Math.min(Math.max((map[k] - low) / spread, 0), 1) * last : 0;
    const first = Math.min(Math.floor(place), last - 1);
    const part = place - first;
    for (let c = 0; c < 3; c++) {
      const colour = Math.round(stops[first][c] * (1 - part) + stops[first + 1][c] * part);
      out[4 * k + c] = picture ? Math.round(picture[4 * k + c] * (1 - opacity) + colour * opacity) : colour;
    }
    out[4 * k + 3] = 255;
  }
}
