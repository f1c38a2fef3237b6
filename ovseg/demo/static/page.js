/* What the page does without the server: names of pictures, the link in the address. Runs once, in the page's head. */

import { make } from "./elements.js";

/* Gradio names the pictures of a gallery by their number; their captions say what they are. */
function nameThumbnails() {
  for (const button of document.querySelectorAll("button.thumbnail-item")) {
    const caption = button.querySelector(".caption-label")?.textContent.trim();
    if (caption && button.getAttribute("aria-label") !== caption) button.setAttribute("aria-label", caption);
  }
}

let naming = 0;
new MutationObserver(() => {
  cancelAnimationFrame(naming);
  naming = requestAnimationFrame(nameThumbnails);
}).observe(document.documentElement, { childList: true, subtree: true });

window.ovsegLink = {
  /* Put the query of a link into the address bar, and copy the address. */
  async copy(query) {
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    try {
      await navigator.clipboard.writeText(location.href);
      return "Copied: the address of this page now holds what you chose.";
    } catch {
      return "The address of this page now holds what you chose: copy it from the address bar.";
    }
  },
};

const OWN = "ovseg-own-picture";
const LARGEST = 1_500_000; // characters: a request may have few more

/* A visitor's own picture with its truth, kept in this browser alone, and sent again when the visitor comes back. */
window.ovsegOwn = {
  /* Keep the picture of a board, where what Run keeps (`last`, a query) says that it is the visitor's own. */
  keep(last, board) {
    const run = new URLSearchParams(last).get("own");
    if (!run) localStorage.removeItem(OWN);
    if (!run || board?.run !== run) return [];
    const text = JSON.stringify({ run, picture: board.picture, truth: board.truth });
    localStorage.removeItem(OWN); // that of another run
    if (text.length <= LARGEST) localStorage.setItem(OWN, text);
    return [];
  },
  /* What the server is told when the page opens: what Run kept, and the picture that goes with it, or "". */
  bring(last) {
    const text = localStorage.getItem(OWN) ?? "";
    const run = new URLSearchParams(last).get("own");
    return [last, run && text && JSON.parse(text).run === run ? text : ""];
  },
};

window.ovsegFiles = {
  /* Save a file that was made: its link stands there too. */
  save(file) {
    const [{ url: href, orig_name: download }] = [file].flat();
    make("a", { href, download }).click();
    return [];
  },
};

window.ovsegPlace = {
  /* The answer to a click: its tab is opened, and on a narrow page it comes into view. */
  show() {
    const tab = document.querySelector("#looks button[role=tab]");
    if (tab.getAttribute("aria-selected") !== "true") tab.click();
    if (window.innerWidth < 1100) document.querySelector("#place").scrollIntoView({ block: "start" });
    return [];
  },
};

/* Run becomes Stop and back: the keyboard stays at the one that is there. */
document.addEventListener("click", (event) => {
  if (!event.target.closest?.("#run, #stop")) return;
  setTimeout(() => {
    const there = [...document.querySelectorAll("#run, #stop")].find((button) => button.checkVisibility());
    if (document.activeElement === document.body) there?.focus();
  }, 300);
});
