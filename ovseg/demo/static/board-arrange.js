/* Where the canvases stand: a grid as large as the window allows, one large with the others as a strip, or on a narrow page
   one at a time. */

import { isDone } from "./board-cards.js";
import { make, press } from "./elements.js";

const NARROW = 640;
const GAP = 12;
const CAPTION = 48; // what stands over and under a canvas
const LEAST = 320; // of a canvas's width in a window of WIDE, LESS in others
const LESS = 300;
const WIDE = 1280;
const BELOW = 20;
const STRIP = 150;

/* How many columns show so many canvases largest, and how wide each is. All are seen at once where each can then be as wide
   as `least`; else as many stand in a row as are that wide, and the page scrolls. `ratio` is a canvas's width by its height. */
export function columnsFor(count, ratio, room, least) {
  const across = (columns) => Math.floor((room.width - (columns - 1) * GAP) / columns);
  const down = (rows) => Math.floor(((room.height - (rows - 1) * GAP) / rows - CAPTION) * ratio);
  const choices = Array.from({ length: count }, (_, k) => ({ columns: k + 1, width: Math.min(across(k + 1), down(Math.ceil(count / (k + 1)))) }));
  const best = choices.reduce((one, other) => (other.width >= one.width ? other : one));
  if (best.width >= least) return best;
  const columns = Math.max(1, ...choices.map((one) => one.columns).filter((number) => across(number) >= least));
  return { columns, width: Math.min(across(columns), Math.max(down(1), least)) };
}

function fill(box, cards) {
  const roots = cards.map((card) => card.root);
  if (roots.length !== box.children.length || roots.some((one, k) => box.children[k] !== one)) box.replaceChildren(...roots);
}

/* `find` finds parts of the board, `shared` is its state; `shared.look.large` is the key of the canvas that is large, or null. */
export function arrangement(find, shared) {
  const { look } = shared;
  const root = find(".ov-board");
  const stage = find(".ov-stage");
  const strip = find(".ov-strip");
  const names = find(".ov-names");
  let masksShown = null;

  const narrow = () => root.clientWidth < NARROW;
  const wide = () => look.view === "agreement" || look.view === "slider";

  function arrange() {
    const { value } = shared;
    if (!shared.cards.length) return;
    const one = !narrow() && (wide() || look.large !== null);
    root.classList.toggle("ov-narrow", narrow());
    root.classList.toggle("ov-one", one);
    const isLarge = (card) => one && !wide() && card.entry.key === look.large;
    fill(find(".ov-main"), shared.cards.filter(isLarge));
    fill(strip, shared.cards.filter((card) => !isLarge(card)));
    const ratio = value.width / value.height;
    const top = document.fullscreenElement ? stage.getBoundingClientRect().top : stage.getBoundingClientRect().top + window.scrollY;
    const room = { width: stage.clientWidth, height: Math.max(window.innerHeight - top - BELOW, 360) };
    const { columns, width } = columnsFor(shared.cards.length, ratio, room, window.innerWidth < WIDE ? LESS : LEAST);
    const large = Math.floor(Math.min(room.width - STRIP - GAP, (room.height - CAPTION) * ratio));
    stage.style.setProperty("--columns", columns);
    stage.style.setProperty("--card", `${width}px`);
    stage.style.setProperty("--large", `${large}px`);
    root.classList.toggle("ov-crisp", (one ? large : width) * shared.zoom.scale > 1.2 * value.width);
    markName();
  }

  /* Show one canvas large, or, where it is so already or the key is null, all again. */
  function enlarge(key) {
    look.large = look.large === key ? null : key;
    arrange();
    shared.cards.find((card) => card.entry.key === key)?.view.canvas.focus({ preventScroll: true });
    shared.ask();
  }

  function number(digit) {
    const card = shared.cards[digit - 1];
    if (!card) return;
    if (narrow()) scrollTo(card, "instant");
    else if (look.large !== card.entry.key) enlarge(card.entry.key);
  }

  /* Whether a key was one of these. */
  function pressed(event, key) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "Enter" || event.key.toLowerCase() === "f") enlarge(key);
    else if (event.key === "Escape" && look.large !== null) enlarge(null);
    else if (event.key >= "1" && event.key <= "9") number(Number(event.key));
    else return false;
    return true;
  }

  /* On a narrow page the first masks of a run come into view, unless the visitor looks at another canvas. */
  function showMasks(run) {
    const card = shared.cards.find(isDone);
    if (!card || masksShown === run) return;
    masksShown = run;
    if (narrow() && strip.scrollLeft < 1) scrollTo(card, "instant");
  }

  function scrollTo(card, behavior) {
    strip.scrollTo({ left: card.root.offsetLeft - strip.offsetLeft, behavior });
  }

  function fillNames() {
    names.replaceChildren(...shared.cards.map((card) => {
      const button = make("button", { type: "button", textContent: card.entry.title });
      button.addEventListener("click", () => {
        const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
        scrollTo(card, still ? "instant" : "smooth");
      });
      return button;
    }));
  }

  function markName() {
    if (!narrow()) return;
    const away = shared.cards.map((card) => Math.abs(card.root.offsetLeft - strip.offsetLeft - strip.scrollLeft));
    const nearest = away.indexOf(Math.min(...away));
    [...names.children].forEach((button, k) => press(button, k === nearest));
  }

  strip.addEventListener("scroll", markName, { passive: true });
  find(".ov-whole").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()));
  document.addEventListener("fullscreenchange", () => shared.value && arrange());
  window.addEventListener("resize", () => shared.value && arrange());
  return { arrange, enlarge, pressed, showMasks, fillNames };
}
