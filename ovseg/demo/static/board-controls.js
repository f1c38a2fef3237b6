/* The legend's chips, the sliders and the buttons that act on all canvases. `shared` is the board's state (see board.js). */

import { isDone } from "./board-cards.js";
import { swatch } from "./board-parts.js";
import { percent } from "./board-words.js";
import { make, press } from "./elements.js";

export function controls(find, shared) {
  const { look, ask, report } = shared;
  const legend = find(".ov-legend");
  const opacity = find(".ov-opacity");
  const opacityText = find(".ov-opacity-text");
  const threshold = find(".ov-threshold");
  const thresholdText = find(".ov-threshold-text");
  const own = find(".ov-own");
  const offsets = find(".ov-offsets");
  const drawn = [...find(".ov-drawn").children];
  const views = [...find(".ov-views").children];

  function takeLegend() {
    legend.replaceChildren(...shared.legend.map(chip));
    refreshSwatches();
  }

  function chip({ label }, k) {
    const button = make("button", { type: "button", className: "ov-chip" }, make("span", { textContent: label }));
    if (k >= shared.value.asked) button.append(make("small", { textContent: "from the caption" }));
    button.dataset.label = label;
    const light = (lit) => () => {
      look.lit = lit;
      ask("colours");
    };
    button.addEventListener("click", () => toggle(label, k));
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && light(k)());
    button.addEventListener("pointerleave", light(null));
    button.addEventListener("focus", () => button.matches(":focus-visible") && light(k)());
    button.addEventListener("blur", light(null));
    return button;
  }

  function toggle(label, k) {
    if (k === 0) look.background = !look.background;
    else if (!look.hidden.delete(label)) look.hidden.add(label);
    look.lit = null;
    ask("colours");
    report();
  }

  function refreshSwatches() {
    [...legend.children].forEach((button, k) => {
      button.querySelector(".ov-swatch")?.remove();
      button.prepend(swatch(shared.legend[k], look.hatching));
    });
  }

  function withThreshold() {
    return shared.cards.filter((card) => isDone(card) && card.entry.threshold !== null).map((card) => card.entry);
  }

  function takeThresholds() {
    const entries = withThreshold();
    find(".ov-threshold-box").hidden = entries.length === 0;
    takeOffsets();
    find(".ov-marks").replaceChildren(...entries.map((entry) => {
      const mark = make("i");
      mark.style.setProperty("--at", entry.threshold);
      return mark;
    }));
  }

  /* How much higher the threshold of a class is than the others'. Two scores a pixel do not tell what then wins: the server is
     asked once the slider rests. */
  function offsetOf({ label }) {
    const range = make("input", { type: "range", min: -0.5, max: 0.5, step: 0.01, value: look.offsets[label] ?? 0 });
    const text = make("output");
    const tell = () => { text.textContent = `${range.value > 0 ? "+" : ""}${Number(range.value).toFixed(2)}`; };
    range.addEventListener("input", tell);
    range.addEventListener("change", () => {
      look.offsets = { ...look.offsets, [label]: Number(range.value) };
      if (!look.offsets[label]) delete look.offsets[label];
      press(own, isOwn());
      report();
    });
    tell();
    return make("label", { className: "ov-slider" }, label, range, text);
  }

  function takeOffsets() {
    const found = new Set(withThreshold().flatMap(({ labels }) => labels.slice(1)));
    offsets.hidden = found.size === 0;
    const key = [shared.value.run, ...found].join();
    if (offsets.dataset.of === key) return; // masks of the same run: the slider that is held stays
    offsets.dataset.of = key;
    offsets.querySelector("div").replaceChildren(...shared.legend.filter(({ label }) => found.has(label)).map(offsetOf));
  }

  function isOwn() {
    return look.threshold === null && Object.keys(look.offsets).length === 0;
  }

  function refreshThreshold() {
    const owned = withThreshold().map((entry) => entry.threshold);
    if (owned.length === 0) return;
    const same = owned.every((value) => value === owned[0]);
    threshold.value = look.threshold ?? owned[0];
    thresholdText.textContent = look.threshold !== null || same ? Number(threshold.value).toFixed(2) : "default";
    threshold.setAttribute("aria-valuetext", look.threshold === null ? "each method's default" : thresholdText.textContent);
    press(own, isOwn());
  }

  function refresh() {
    [...legend.children].forEach((button, k) => press(button, k === 0 ? look.background : shared.shows(k)));
    for (const button of drawn) press(button, look[button.dataset.look]);
    opacity.value = look.opacity;
    opacityText.textContent = percent(look.opacity);
    refreshThreshold();
    const done = shared.cards.filter(isDone).length;
    const possible = { masks: done > 0, errors: done > 0 && shared.truth, agreement: done > 1, slider: done + Boolean(shared.truth) > 1 };
    for (const button of views) {
      press(button, button.dataset.view === look.view);
      button.hidden = !possible[button.dataset.view];
    }
    find(".ov-views").hidden = done === 0;
    if (!possible[look.view]) show("masks");
  }

  function show(view) {
    if (look.view === view) return;
    look.view = view;
    ask("views");
  }

  function moveThreshold(value) {
    look.threshold = value;
    ask("labels");
    report();
  }

  opacity.addEventListener("input", () => {
    look.opacity = Number(opacity.value);
    ask("colours");
    report();
  });
  threshold.addEventListener("input", () => moveThreshold(Number(threshold.value)));
  own.addEventListener("click", () => {
    look.offsets = {};
    delete offsets.dataset.of;
    takeOffsets();
    moveThreshold(null);
  });
  for (const button of drawn) {
    button.addEventListener("click", () => {
      look[button.dataset.look] = !look[button.dataset.look];
      refreshSwatches();
      ask("labels");
    });
  }
  for (const button of views) button.addEventListener("click", () => show(button.dataset.view));
  return { takeLegend, takeThresholds, refresh };
}
