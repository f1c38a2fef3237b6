/* What the board says: sentences about a place, a canvas, a method. */

export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)} %`;
}

export function iouText(iou, digits = 0) {
  return Number.isNaN(iou) ? "–" : (100 * iou).toFixed(digits);
}

export function secondsText(seconds) {
  return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

/* "0.3 s, 4 passes, threshold 0.50", or what of it is known; `moved` is the visitor's threshold, or null. */
export function costText({ seconds, passes, threshold }, moved) {
  const parts = [];
  if (seconds !== null) parts.push(secondsText(seconds));
  if (passes !== null) parts.push(passes === 1 ? "1 pass" : `${passes} passes`);
  if (threshold !== null) parts.push(`threshold ${(moved ?? threshold).toFixed(2)}`);
  return parts.join(", ");
}

export function stateText({ state, seconds, stage, sentence }) {
  if (state === "waiting") return seconds === null ? "Waits" : `Waits; takes about ${secondsText(seconds)}`;
  if (state === "running") return seconds === null ? stage : `${stage}; about ${secondsText(seconds)} left`;
  return sentence;
}

function scoreText(entry, step, steps) {
  const score = entry.low + ((entry.high - entry.low) * step) / steps;
  return score.toFixed(entry.high - entry.low < 0.2 ? 3 : 2).replace("-", "−");
}

/* The label at a pixel and the runner-up, each {label, text}; the threshold takes part where it is the background. */
export function ranking(method, k, steps) {
  const { entry, best, runnerUp, least } = method;
  const places = [{ label: best.labels[k], step: best.steps[k] }];
  if (runnerUp) places.push({ label: runnerUp.labels[k], step: runnerUp.steps[k] });
  if (least >= 0) places.splice(places.filter((place) => place.step > least).length, 0, { label: 0, step: least });
  return places.slice(0, 2).map(({ label, step }) => ({ label, text: scoreText(entry, step, steps) }));
}

/* "cat 0.62, then car 0.31" */
export function readingText(ranked, legend) {
  return ranked.map(({ label, text }) => `${legend[label].label} ${text}`).join(", then ");
}

/* "cat 34 %, car 12 %, background 54 %": the labels that are there, the largest first. */
export function sharesText(counts, legend) {
  const all = counts.reduce((sum, number) => sum + number, 0);
  const there = legend.map((item, k) => ({ name: item.label, share: counts[k] / all })).filter(({ share }) => share > 0);
  there.sort((one, other) => other.share - one.share);
  return there.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
}
