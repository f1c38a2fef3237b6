/* One place on all canvases: a cross where one points, a pin where one clicked, and what each method says there. */

import { isDone } from "./board-cards.js";
import { IGNORED } from "./board-maps.js";
import { moved, pixelUnder, swatch } from "./board-parts.js";
import { ranking, readingText } from "./board-words.js";

/* `views()` are the frames of all canvases; `shared` is the board's state (see board.js); `live` is read to who cannot see;
   `select(event)` tells the server of a click. */
export function pointing(shared, views, live, select) {
  let place = null;
  let pinned = null;
  let byKeys = false;

  function linked(view, key) {
    const { canvas } = view;
    canvas.addEventListener("pointermove", (event) => isMoved(event) && pointAt(pixelUnder(event, view)));
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !byKeys && pointAt(null));
    canvas.addEventListener("click", (event) => {
      if (event.detail > 1) return; // the second of a double click
      pointAt(pixelUnder(event, view));
      askWhy(view, key);
    });
    canvas.addEventListener("keydown", (event) => pressed(event, view, key));
  }

  // A page that scrolls under a mouse at rest sends moves too: they take no place from the keys.
  function isMoved({ pointerType, movementX, movementY }) {
    return pointerType === "mouse" && (movementX !== 0 || movementY !== 0);
  }

  function pressed(event, view, key) {
    const next = moved(event, place, view);
    if (next) pointAt(next, true);
    else if (event.key === "Escape" && place !== null && shared.look.large === null) pointAt(null);
    else if (event.key === " ") askWhy(view, key);
    else return;
    event.preventDefault();
    if (next) live.textContent = shared.cards.filter(isDone).map((card) => `${card.entry.title}: ${readingAt(card)}`).join(". ");
  }

  function pointAt(next, keys = false) {
    place = next;
    byKeys = keys;
    shared.ask();
  }

  function askWhy({ width, height }, key) {
    if (place === null) pointAt({ x: width >> 1, y: height >> 1 });
    pinned = place;
    select({ index: [(place.x + 0.5) / width, (place.y + 0.5) / height], value: key });
  }

  function reset() {
    place = pinned = null;
  }

  function draw() {
    for (const view of views()) {
      view.cross(place, shared.zoom);
      view.pin(pinned, shared.zoom);
    }
    for (const card of shared.cards) {
      const spoken = place === null ? [] : said(card);
      card.reading.replaceChildren(...spoken);
      card.reading.hidden = spoken.length === 0;
      card.figures.hidden = spoken.length > 0;
    }
  }

  function said(card) {
    if (isDone(card)) return [swatch(shared.legend[card.map.labels[pixel()]]), readingAt(card)];
    return card.entry.key === "picture" && shared.truth ? truthAt() : [];
  }

  function pixel() {
    return place.y * shared.value.width + place.x;
  }

  function readingAt(card) {
    return readingText(ranking(card, pixel(), shared.value.steps), shared.legend);
  }

  function truthAt() {
    const label = shared.truth.labels[pixel()];
    if (label === IGNORED) return ["The truth says nothing here."];
    return [swatch(shared.legend[label]), `truth: ${shared.legend[label].label}`];
  }

  return { linked, draw, reset };
}
