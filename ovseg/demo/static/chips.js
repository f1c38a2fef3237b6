/* Classes as chips under their text box: colour, synonyms, what the backbone does not know, what seems to be absent.
   The text box holds the truth; the chips follow it, and removing a chip changes its text. `props.value`:
   {box: elem_id, colours: [css], known: [word] or null, unknown: sentence start, present: {name: {present, score}}}. */

import { make } from "./elements.js";

const list = element.querySelector(".ov-chips");
let shownText = null;
let shownValue = null;

function textBox() {
  return document.querySelector(`#${props.value.box} textarea, #${props.value.box} input`);
}

function classesOf(text) {
  const entries = text.split(/[,，、､﹐﹑︐︑،߸፣᠂᠈⸲⸴⹁꓾꘍꛵\n\r\v\f\u0085\u2028\u2029]/).filter((entry) => entry.trim());
  return entries.map((entry) => entry.split(/[|｜]/).map((phrase) => phrase.trim().replace(/\s+/g, " ")).filter(Boolean));
}

function write(text) {
  const box = textBox();
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

function remove(number) {
  const kept = classesOf(textBox().value).filter((_, k) => k !== number);
  write(kept.map((phrases) => phrases.join(" | ")).join(", "));
  refresh();
  textBox().focus();
}

function note(textContent) {
  return make("small", { textContent });
}

function chip(phrases, number) {
  const { colours, known, unknown, present } = props.value;
  const item = make("li", {}, make("i"), make("span", { textContent: phrases[0] }));
  item.firstChild.style.background = colours[number % colours.length];
  if (phrases.length > 1) item.append(note(`or ${phrases.slice(1).join(", ")}`));
  const strange = known ? phrases.filter((phrase) => !known.includes(phrase.toLowerCase())) : [];
  item.classList.toggle("unknown", strange.length === phrases.length);
  if (strange.length) item.append(note(`${unknown} ${strange.map((word) => `“${word}”`).join(", ")}`));
  const seen = present[phrases[0]];
  item.classList.toggle("absent", Boolean(seen && !seen.present));
  if (seen) item.append(note(seen.present ? seen.score : `not seen, ${seen.score}`));
  item.append(make("button", { type: "button", textContent: "×", "aria-label": `Remove ${phrases[0]}`, onclick: () => remove(number) }));
  return item;
}

function refresh() {
  const box = textBox();
  if (!box || (box.value === shownText && props.value === shownValue)) return;
  shownText = box.value;
  shownValue = props.value;
  list.replaceChildren(...classesOf(box.value).map(chip));
}

/* A text box that the server fills sends no event, so it is looked at now and then. */
setInterval(refresh, 200);
watch("value", refresh);
refresh();
