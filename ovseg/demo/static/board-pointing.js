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

  function linked(view, key) {
    const { canvas } = view;
    canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && pointAt(pixelUnder(event, view)));
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && pointAt(null));
    canvas.addEventListener("click", (event) => {
      pointAt(pixelUnder(event, view));
      askWhy(view, key);
    });
    canvas.addEventListener("keydown", (event) => pressed(event, view, key));
  }

  function pressed(event, view, key) {
    const next = moved(event, place, view);
    if (next) pointAt(next);
    else if (event.key === "Escape") pointAt(null);
    else if (event.key === "Enter" || event.key === " ") askWhy(view, key);
    else return;
    event.preventDefault();
    if (next) live.textContent = shared.cards.filter(isDone).map((card) => `${card.entry.title}: ${readingAt(card)}`).join(". ");
  }

  function pointAt(next) {
    place = next;
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
      view.cross(place);
      view.pin(pinned);
    }
    for (const card of shared.cards) card.reading.replaceChildren(...(place === null ? quiet(card) : spoken(card)));
  }

  function quiet(card) {
    return card.entry.key === "picture" ? ["Point: what is there. Click: why."] : [card.cost];
  }

  function spoken(card) {
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
