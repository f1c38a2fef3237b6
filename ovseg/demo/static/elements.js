/* Elements of the page, for all of its scripts. */

/* An element with properties, attributes (those with a dash, and role) and children; text is never taken for HTML. */
export function make(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "role" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}
