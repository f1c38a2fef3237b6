/* Classes as chips under their text box: colour, synonyms, what the backbone does not know, what seems to be absent.
   The text box holds the truth; the chips follow it, and removing a chip changes its text. `props.value`:
   {box: elem_id, colours: [css], known: [word] or null, unknown: sentence start, present: {name: {present, score}}}. */

const list = element.querySelector(".ov-chips");
let shownText = null;
let shownValue = null;

function textBox() {
  return document.querySelector(`#${props.value.box} textarea, #${props.value.box} input`);
}

function classesOf(text) {
  const entries = text.replaceAll("\n", ",").split(",").filter((entry) => entry.trim());
  return entries.map((entry) => entry.split("|").map((phrase) => phrase.trim().replace(/\s+/g, " ")).filter(Boolean));
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

function note(text) {
  const small = document.createElement("small");
  small.textContent = text;
  return small;
}

function chip(phrases, number) {
  const { colours, known, unknown, present } = props.value;
  const item = document.createElement("li");
  const swatch = document.createElement("i");
  swatch.style.background = colours[number % colours.length];
  const name = document.createElement("span");
  name.textContent = phrases[0];
  item.append(swatch, name);
  if (phrases.length > 1) item.append(note(`or ${phrases.slice(1).join(", ")}`));
  const strange = known ? phrases.filter((phrase) => !known.includes(phrase.toLowerCase())) : [];
  if (strange.length) item.append(note(`${unknown} ${strange.map((word) => `“${word}”`).join(", ")}`));
  const seen = present[phrases[0]];
  if (seen) {
    item.classList.toggle("absent", !seen.present);
    item.append(note(seen.present ? seen.score : `not seen, ${seen.score}`));
  }
  const cross = document.createElement("button");
  cross.type = "button";
  cross.textContent = "×";
  cross.setAttribute("aria-label", `Remove ${phrases[0]}`);
  cross.addEventListener("click", () => remove(number));
  item.append(cross);
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
