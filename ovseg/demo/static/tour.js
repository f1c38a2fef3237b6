/* A tour of the worked example: six stops, each lights its part of the page. Its button in the header stands out at a first visit. */

import { make } from "./elements.js";

const KEY = "ovseg-tour";
const INSIDE = "Look inside";
const COMPARE = "Compare";
const STOPS = [
  [INSIDE, "#inside .ov-in-levels", "The picture is noised", "Its latent gets noise of a seed, more at a higher level. The network looks at each noised picture once."],
  [INSIDE, "#inside .ov-tokens", "What a word attends to", "Each word of the sentence has a map: where places attend to it. Press a word to see its own."],
  [INSIDE, "#inside .ov-in-weights", "Resolutions", "The network has such maps at several grids. They are fused by these weights; move one and see."],
  [INSIDE, "#inside .ov-in-place", "Self-attention of a place", "Places attend to places too. Click the large map: what that place belongs to lights up here."],
  [COMPARE, "#gallery", "Their product", "Methods multiply the two: the word's map, spread along self-attention, fills the whole thing."],
  [COMPARE, "#board", "The mask", "Above a threshold the strongest word wins. Zoom, change the threshold, point anywhere, or run your own."],
];

let at = -1;
let card = null;

function tabOf(name) {
  return [...document.querySelectorAll("button[role=tab]")].find((tab) => tab.textContent.trim() === name);
}

/* The part of the page, once it is there and in view, while the tour stands at this stop; the maps may still be made. */
async function found(selector, number) {
  while (at === number) {
    const target = [...document.querySelectorAll(selector)].find((one) => one.checkVisibility());
    if (target) return target;
    await new Promise((done) => setTimeout(done, 100));
  }
  return null;
}

function leave() {
  document.querySelector(".ov-lit")?.classList.remove("ov-lit");
  card?.remove();
  card = null;
  at = -1;
}

async function stop(number) {
  leave();
  at = number;
  const [tab, selector, title, text] = STOPS[number];
  tabOf(tab)?.click();
  const last = number === STOPS.length - 1;
  const button = (textContent, onclick) => make("button", { type: "button", textContent, onclick });
  const onward = button(last ? "Done" : "Next", () => (last ? leave() : stop(number + 1)));
  const back = number ? [button("Back", () => stop(number - 1))] : [];
  card = make("section", { className: "ov-tour", role: "dialog", "aria-label": `Tour, ${number + 1} of ${STOPS.length}: ${title}` },
    make("small", { textContent: `${number + 1} of ${STOPS.length}` }), make("strong", { textContent: title }),
    make("p", { textContent: text }), button("Leave", leave), ...back, onward);
  document.body.append(card);
  onward.focus({ preventScroll: true });
  const target = await found(selector, number);
  target?.classList.add("ov-lit");
  target?.scrollIntoView({ block: "center", behavior: "instant" });
}

document.addEventListener("keydown", (event) => {
  if (card && event.key === "Escape") leave();
});

/* The offer, once the header is there: a button, which stands out until it was pressed. */
function offer() {
  const link = document.querySelector("#header #link");
  if (!link || document.querySelector(".ov-tour-offer")) return;
  const onclick = () => {
    localStorage.setItem(KEY, "seen");
    button.classList.remove("ov-new");
    stop(0);
  };
  const title = "Six stops on the worked example";
  const button = make("button", { type: "button", textContent: "Tour", title, className: "ov-tour-offer", onclick });
  button.classList.toggle("ov-new", !localStorage.getItem(KEY));
  link.after(button);
}

new MutationObserver(offer).observe(document.documentElement, { childList: true, subtree: true });
