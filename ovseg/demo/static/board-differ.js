/* The views "agreement" and "slider": how many of all agree, two maps by their difference, or two behind a slider. */

import { agreement, agreementOnClasses, confusion, meanOverEither, relationShares, votes } from "./board-maps.js";
import { kindColours, paintInk, paintRelations, paintVotes, relationTable } from "./board-paint.js";
import { frame, swatch } from "./board-parts.js";
import { iouText, percent } from "./board-words.js";
import { make, press } from "./elements.js";

/* From all but one agree to few: dark to light on the grey picture, in lightness steps that every eye sees. */
const FEWER = ["#2a788e", "#22a884", "#7ad151", "#fde725"];

function fewerColour(share) {
  return FEWER[Math.round(share * (FEWER.length - 1))];
}

/* `shared` is the board's state: pixels, dimmed, legend, look, tables, shows(label), help, and `linked(frame, key)`, which
   gives a frame the cross and the clicks of all. Maps are [{key, title, labels, ink}]. */
export function differences(section, shared) {
  const find = (name) => section.querySelector(name);
  const first = find(".ov-first");
  const second = find(".ov-second");
  const ways = [...section.querySelectorAll("[data-way]")];
  const curtain = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, className: "ov-curtain" });
  curtain.setAttribute("aria-label", "Where the slider stands");
  const corners = [make("span", { className: "ov-corner" }), make("span", { className: "ov-corner ov-right" })];
  let maps = [];
  let wanted = "votes";
  let view = null;
  let behind = null;
  let dragged = false;
  let counted = null;
  let tableOf = null;

  const way = () => (shared.look.view === "slider" ? "curtain" : methodsOnly().length > 2 ? wanted : "difference");
  const pick = (select) => maps.find(({ key }) => key === select.value);

  function setMaps(given) {
    maps = given;
    if (maps.length < 2) return;
    refill(first, 0);
    refill(second, 1);
  }

  function methodsOnly() {
    return maps.filter(({ key }) => key !== "truth");
  }

  /* A visitor's choice stays while it can; else the first two maps are compared. */
  function refill(select, standard) {
    const before = select.dataset.picked;
    select.replaceChildren(...maps.map(({ key, title }) => make("option", { value: key, textContent: title })));
    select.value = maps.some(({ key }) => key === before) ? before : maps[standard].key;
  }

  function newPicture({ width, height }) {
    view = frame(width, height, shared.help);
    behind = new Uint32Array(width * height);
    view.root.append(...corners);
    shared.linked(view, "difference");
    find(".ov-differ-card").replaceChildren(view.root, curtain);
  }

  function redraw() {
    section.hidden = maps.length < 2 || !["agreement", "slider"].includes(shared.look.view);
    if (section.hidden || !view) return;
    const now = way();
    for (const button of ways) press(button, button.dataset.way === now);
    ways[0].parentElement.hidden = now === "curtain" || methodsOnly().length < 3;
    curtain.hidden = corners[0].hidden = corners[1].hidden = now !== "curtain";
    for (const select of [first, second]) select.parentElement.hidden = now === "votes";
    view.drags = now === "curtain"; // the slider, not the picture
    view.canvas.style.touchAction = view.drags ? "pan-y" : "";
    view.lay(now === "curtain" ? shared.pixels : shared.dimmed);
    ({ difference: drawDifference, curtain: drawCurtain, votes: drawVotes })[now](pick(first), pick(second));
    view.flush();
    fillTable();
  }

  function drawDifference(first, second) {
    const [one, other] = second.key === "truth" ? [second, first] : [first, second];
    const count = shared.value.asked;
    const kinds = relationTable(count, shared.shows);
    paintRelations(one.labels, other.labels, kinds, kindColours(shared.errors, shared.look.opacity), view.out);
    const matrix = confusion(one.labels, other.labels, count);
    const [, onlyOne, onlyOther, unlike] = relationShares(matrix, count);
    const same = agreement(matrix, count);
    const onClasses = `and on ${percent(agreementOnClasses(matrix, count), 1)} of where either sees a class`;
    say(`${one.title} and ${other.title} say the same on ${percent(same, 1)} of the picture, ${onClasses}.`);
    fillKey([
      ["transparent", "the same", same],
      [shared.errors[1], `a class by ${one.title} alone`, onlyOne],
      [shared.errors[2], `a class by ${other.title} alone`, onlyOther],
      [shared.errors[3], "a class by both, not the same", unlike],
    ]);
  }

  function drawCurtain(one, other) {
    paintInk(one.ink, shared.tables, view.out);
    paintInk(other.ink, shared.tables, behind);
    const { width, height } = view;
    const edge = Math.round((curtain.value / 100) * width);
    for (let row = 0; row < height; row++) {
      view.out.set(behind.subarray(row * width + edge, (row + 1) * width), row * width + edge);
      if (edge > 0 && edge < width) view.out[row * width + edge] = 0xffffffff;
    }
    corners[0].textContent = one.title;
    corners[1].textContent = other.title;
    say(`Left of the line ${one.title}, right of it ${other.title}.`);
    fillKey([]);
  }

  function drawVotes() {
    const voters = methodsOnly();
    const given = voters.map(({ labels }) => labels);
    if (counted?.version !== shared.version) counted = { version: shared.version, ...votes(given, shared.value.asked) };
    const { at, counts } = counted;
    const colours = voters.slice(1).map((_, k) => fewerColour(k / Math.max(1, voters.length - 2)));
    const kindOf = Array.from(counts, (_, number) => voters.length - number - 1);
    kindOf[voters.length] = colours.length;
    paintVotes(at, kindOf, kindColours(colours, shared.look.opacity), view.out);
    say(`All ${voters.length} say the same on ${percent(counts[voters.length] / at.length, 1)} of the picture.`);
    const fewer = voters.slice(1).map((_, k) => voters.length - 1 - k);
    fillKey(fewer.map((number, k) => [colours[k], voteText(number), counts[number] / at.length]));
  }

  function voteText(number) {
    return number === 1 ? "no two say the same" : `${number} say the same`;
  }

  function say(text) {
    find(".ov-agreement").textContent = text;
    view.describe(text);
  }

  function fillKey(items) {
    find(".ov-key").replaceChildren(...items.map(([colour, text, share]) =>
      make("li", {}, swatch({ colour }), make("span", { textContent: `${text}: ${percent(share, 1)}` }))));
  }

  function fillTable() {
    if (tableOf === shared.version) return;
    tableOf = shared.version;
    const methods = methodsOnly();
    find(".ov-mutual").hidden = methods.length < 2;
    const head = make("tr", {}, make("th", { scope: "col", textContent: "Mutual IoU" }),
      ...methods.map(({ title }, k) => make("th", { scope: "col", textContent: String(k + 1), title })));
    const cell = (one, other, below) => make("td", { textContent: below ? iouText(mutual(one, other), 1) : "" });
    const rows = methods.map((one, k) => make("tr", {}, make("th", { scope: "row", textContent: `${k + 1} ${one.title}` }),
      ...methods.map((other, l) => cell(one, other, l < k))));
    find(".ov-mutual").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }

  function mutual(one, other) {
    const count = shared.value.asked;
    return meanOverEither(confusion(one.labels, other.labels, count), count);
  }

  function hangCurtain(event) {
    const box = view.canvas.getBoundingClientRect();
    curtain.value = (100 * (event.clientX - box.left)) / box.width;
    dragged = true;
    shared.ask("differ");
  }

  for (const select of [first, second]) {
    select.addEventListener("change", () => {
      select.dataset.picked = select.value;
      shared.ask("differ");
    });
  }
  for (const button of ways) {
    button.addEventListener("click", () => {
      wanted = button.dataset.way;
      shared.ask("differ");
    });
  }
  curtain.addEventListener("input", () => shared.ask("differ"));
  section.addEventListener("pointerdown", () => { dragged = false; });
  section.addEventListener("pointermove", (event) => {
    if (way() === "curtain" && event.buttons === 1 && event.target === view?.canvas) hangCurtain(event);
  });
  /* Letting go of the curtain is no click. */
  section.addEventListener("click", (event) => dragged && event.target === view?.canvas && event.stopPropagation(), true);
  return { setMaps, newPicture, redraw, view: () => (section.hidden ? null : view) };
}
