/* What the page does without the server: dialogues, the link in the address, Escape. Runs once, in the page's head. */

window.ovsegDialog = {
  opener: null,
  open(name) {
    document.querySelectorAll(".ov-dialog.open").forEach((other) => other.classList.remove("open"));
    this.opener = document.activeElement;
    const dialog = document.querySelector(`#dialog-${name}`);
    dialog.classList.add("open");
    dialog.querySelector("button, input")?.focus();
  },
  close(name) {
    document.querySelector(`#dialog-${name}`).classList.remove("open");
    this.opener?.focus();
  },
};

document.addEventListener("keydown", (event) => {
  const open = document.querySelector(".ov-dialog.open");
  if (event.key === "Escape" && open) window.ovsegDialog.close(open.id.replace("dialog-", ""));
});

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
  /* Put the query of a link into the address bar, and return it. */
  show(query) {
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    return query;
  },
  async copy(query) {
    this.show(query);
    try {
      await navigator.clipboard.writeText(location.href);
      return "Copied: the address of this page now holds what you chose.";
    } catch {
      return "The address of this page now holds what you chose: copy it from the address bar.";
    }
  },
};
