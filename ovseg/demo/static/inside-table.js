/* The table of small maps: a row for each resolution or layer, a column for each level and one for their mean. */

import { paintHeat, rangeOf } from "./inside-maps.js";
import { make, press } from "./elements.js";

/* A canvas with a map in its own resolution. */
export function smallMap(map, [rows, columns], range, stops, words) {
  const canvas = make("canvas", { className: "ov-in-small", width: columns, height: rows, role: "img", "aria-label": words });
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  const image = new ImageData(columns, rows);
  paintHeat(map, stops, range, image.data);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/* The name of a cell of the table. */
export function mapName(key, level) {
  return `${key}/${level ?? "mean"}`;
}

/* Press the cell of this name, and no other. */
export function markCell(table, name) {
  for (const button of table.querySelectorAll(".ov-in-cell")) press(button, button.dataset.map === name);
}

function cell(row, level, look) {
  const map = row.at(level);
  const [low, high] = rangeOf(map);
  const words = `“${look.word}”, ${row.title}, ${look.levelName(level)}: ${low.toFixed(3)} to ${high.toFixed(3)}`;
  const button = make("button", { type: "button", className: "ov-in-cell", title: words });
  button.append(smallMap(map, row.size, look.oneRange ?? [low, high], look.stops, words));
  button.dataset.map = mapName(row.key, level);
  button.addEventListener("click", () => look.choose(row.key, level));
  return make("td", {}, button);
}

/* Fill the table. `rows` are {key, title, size, at(level), askHeads or null}; a level is a number, or null for the mean. */
export function fillTable(table, rows, look) {
  const levels = [null, ...look.levels.keys()];
  const head = levels.map((level) => make("th", { scope: "col", textContent: level === null ? "mean" : look.levels[level].short }));
  const lines = rows.map((row) => {
    const name = make("th", { scope: "row" }, make("span", { textContent: row.title, title: row.name ?? "" }));
    if (row.askHeads) {
      const heads = make("button", { type: "button", className: "ov-in-heads-ask", textContent: "Heads", "aria-label": `Heads apart: ${row.title}` });
      heads.addEventListener("click", row.askHeads);
      name.append(heads);
    }
    return make("tr", {}, name, ...levels.map((level) => cell(row, level, look)));
  });
  const corner = make("th", { scope: "col", textContent: look.axis });
  table.replaceChildren(make("thead", {}, make("tr", {}, corner, ...head)), make("tbody", {}, ...lines));
}
