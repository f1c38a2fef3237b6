/* The legend's chips, the sliders and the buttons that act on all canvases. `shared` is the board's state (see board.js). */

import { isDone, setMode } from "./board-cards.js";
import { make, press, swatch } from "./board-parts.js";
import { percent } from "./board-words.js";

export function controls(find, shared) {
  const { look, ask, report } = shared;
  const legend = find(".ov-legend");
  const opacity = find(".ov-opacity");
  const opacityText = find(".ov-opacity-text");
  const threshold = find(".ov-threshold");
  const thresholdText = find(".ov-threshold-text");
  const own = find(".ov-own");
  const drawn = [...find(".ov-drawn").children];
  const views = [...find(".ov-views").children];

  function takeLegend() {
    legend.replaceChildren(...shared.legend.map(chip));
    refreshSwatches();
  }

  function chip({ label }, k) {
    const button = make("button", { type: "button", className: "ov-chip" }, make("span", { textContent: label }));
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
    find(".ov-marks").replaceChildren(...entries.map((entry) => {
      const mark = make("i");
      mark.style.setProperty("--at", entry.threshold);
      return mark;
    }));
  }

  function refreshThreshold() {
    const owned = withThreshold().map((entry) => entry.threshold);
    if (owned.length === 0) return;
    const same = owned.every((value) => value === owned[0]);
    threshold.value = look.threshold ?? owned[0];
    thresholdText.textContent = look.threshold !== null || same ? Number(threshold.value).toFixed(2) : "own";
    threshold.setAttribute("aria-valuetext", look.threshold === null ? "each method's own" : thresholdText.textContent);
    press(own, look.threshold === null);
  }

  function refresh() {
    [...legend.children].forEach((button, k) => press(button, k === 0 ? look.background : shared.shows(k)));
    for (const button of drawn) press(button, look[button.dataset.look]);
    opacity.value = look.opacity;
    opacityText.textContent = percent(look.opacity);
    refreshThreshold();
    const modes = new Set(shared.cards.filter(isDone).map((card) => card.mode));
    for (const button of views) press(button, modes.size === 1 && modes.has(button.dataset.view));
    find(".ov-views").hidden = !shared.truth || modes.size === 0;
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
  own.addEventListener("click", () => moveThreshold(null));
  for (const button of drawn) {
    button.addEventListener("click", () => {
      look[button.dataset.look] = !look[button.dataset.look];
      refreshSwatches();
      ask("labels");
    });
  }
  for (const button of views) {
    button.addEventListener("click", () => {
      for (const card of shared.cards.filter(isDone)) setMode(card, button.dataset.view);
      ask();
    });
  }
  return { takeLegend, takeThresholds, refresh };
}
