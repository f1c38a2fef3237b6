/* The methods: a line for each with its tick, a dialogue with its settings, and variants. `props.value`, `props.about` and
   `props.estimates` are told in method_panel.py; what a visitor turns goes into the value, which Run takes. */

import { make } from "./elements.js";

const LISTED = 4; // methods that stand there; others are folded
const about = JSON.parse(props.about);
const find = (name) => element.querySelector(name);
const lines = new Map();
let opener = null;
let tickedBefore = ticked();

/* ---- The value ---- */

function change(settings) {
  props.value = { ...props.value, ...settings };
  tickedBefore = ticked();
  refresh();
}

function ticked() {
  return props.value.variants.filter(({ used }) => used).length;
}

function held(name) {
  return props.value.settings[name];
}

function hold(name, settings) {
  change({ settings: { ...props.value.settings, [name]: { ...held(name), ...settings } } });
}

function use(name, used) {
  const names = about.map((one) => one.name).filter((one) => (one === name ? used : props.value.used.includes(one)));
  change({ used: names });
}

/* ---- Controls: each has `show(value)` ---- */

const CONTROLS = {
  switch(field, set) {
    const box = make("input", { type: "checkbox", onchange: () => set(box.checked) });
    return { parts: [box], show: (value) => { box.checked = value; } };
  },
  number(field, set) {
    const range = { min: field.low, max: field.high, step: field.step };
    const told = (part) => part.value === "" ? null : Number(part.value);
    const number = make("input", { type: "number", ...range, oninput: () => set(told(number)) });
    const slider = make("input", { type: "range", ...range, oninput: () => set(told(slider)), "aria-label": field.label });
    const show = (value) => {
      if (told(number) !== value) number.value = value;
      slider.value = value;
    };
    return { parts: [slider, number], show };
  },
  choice(field, set) {
    const options = field.choices.map(([textContent, value]) => make("option", { textContent, value }));
    const list = make("select", { onchange: () => set(list.value) }, ...options);
    return { parts: [list], show: (value) => { list.value = value; } };
  },
  text(field, set) {
    const box = make("input", { type: "text", oninput: () => set(box.value) });
    return { parts: [box], show: (value) => { if (box.value !== value) box.value = value; } };
  },
};

function control(method, field) {
  const set = (value) => hold(method.name, { values: { ...held(method.name).values, [field.name]: value } });
  const { parts, show } = CONTROLS[field.kind](field, set);
  const id = `setting-${method.name}-${field.name}`;
  const main = parts.at(-1);
  main.id = `${id}-value`;
  main.setAttribute("aria-describedby", `${id}-help`);
  const name = make("label", { textContent: field.label, htmlFor: main.id });
  const help = make("small", { id: `${id}-help`, textContent: field.help });
  return { field, show, root: make("div", { id, className: `ov-setting ov-${field.kind}` }, name, make("span", {}, ...parts), help) };
}

/* ---- A method's line and dialogue ---- */

function line(method) {
  const { name, title } = method;
  const box = make("input", { type: "checkbox", onchange: () => use(name, box.checked) });
  const called = make("span", { textContent: title });
  const estimate = make("output", { id: `estimate-${name}` });
  const opens = make("button", { type: "button", id: `open-${name}`, textContent: "⚙", title: `Settings of ${title}`, "aria-label": `Settings of ${title}` });
  opens.addEventListener("click", () => open(name));
  const root = make("div", { id: `use-${name}`, className: "ov-line" }, make("label", {}, box, called), estimate, opens);
  const note = make("small", { hidden: true });
  root.append(note);
  return { ...dialogue(method), method, root, box, called, note, estimate, opens };
}

/* A method as it is on the network that its settings name. */
function networkOf(method) {
  return method.networks.find(({ network }) => network === held(method.name).network) ?? method.networks[0];
}

/* The controls of a method on one network. */
function settingsOn(method, own) {
  const { name } = method;
  const modes = own.modes.map(([mode, textContent, values]) => {
    const box = make("input", { type: "radio", name: `mode-${name}`, value: mode, onchange: () => hold(name, { mode, values }) });
    return make("label", {}, box, textContent);
  });
  const controls = own.fields.map((field) => control(method, field));
  const group = (main, summary) => {
    const roots = controls.filter(({ field }) => field.main === main).map(({ root }) => root);
    return roots.length ? [make("details", { open: main }, make("summary", { textContent: summary }), ...roots)] : [];
  };
  const changed = make("fieldset", { id: `changed-${name}`, hidden: true });
  const root = make("div", { className: "ov-settings" },
    make("fieldset", { id: `mode-${name}` }, make("legend", { textContent: "Take all settings from" }), ...modes),
    changed, ...group(true, "Main settings"), ...group(false, "Advanced"));
  return { own, root, modes, controls, changed };
}

/* Which of several networks the method reads. */
function networkChoice(method) {
  const { name, networks } = method;
  const list = make("select", { id: `network-${name}-value` },
    ...networks.map(({ title, network }) => make("option", { textContent: title, value: network })));
  list.addEventListener("change", () => {
    const [mode, , values] = networks.find(({ network }) => network === list.value).modes[0];
    hold(name, { network: list.value, mode, values });
  });
  const root = make("div", { id: `network-${name}`, className: "ov-setting", hidden: networks.length === 1 },
    make("label", { textContent: "Network", htmlFor: list.id }), make("span", {}, list));
  return { root, list };
}

function dialogue(method) {
  const { name, title } = method;
  const network = networkChoice(method);
  const why = make("p", { id: `why-not-${name}`, hidden: true });
  const settings = new Map();
  const place = make("div", { className: "ov-settings" });
  const add = make("button", { type: "button", id: `add-${name}`, textContent: "Add these settings as a variant" });
  add.addEventListener("click", () => trigger("variant", { method: name, before: lines.get(name).before }));
  const close = make("button", { type: "button", id: `close-${name}`, textContent: "Close", onclick: shut });
  const paper = make("a", { href: `https://arxiv.org/abs/${method.arxiv}`, textContent: method.paper });
  const dialog = make("div", { id: `dialog-${name}`, className: "ov-dialog", role: "dialog", "aria-label": `Settings of ${title}`, hidden: true },
    make("header", {}, make("h3", { textContent: title }), close),
    make("p", {}, `${method.authors}. `, paper, `. ${method.venue}.`), network.root, why, place, add);
  return { dialog, network, why, settings, place, add, before: null };
}

/* The controls that show a method's settings, made when they are first wanted: for the network that the settings name. */
function controlsOf({ method, settings, place }) {
  const own = networkOf(method);
  if (!settings.has(own.network)) settings.set(own.network, settingsOn(method, own));
  const made = settings.get(own.network);
  if (place.firstChild !== made.root) place.replaceChildren(made.root);
  return made;
}

/* What differs from what suits the network, each with a tick that puts it back. */
function fillChanged(method, { own, changed }) {
  const [, , tuned] = own.modes[0];
  const { values } = held(method.name);
  const differing = own.fields.filter(({ name }) => values[name] !== tuned[name]);
  changed.hidden = differing.length === 0;
  changed.replaceChildren(make("legend", { textContent: "Differs from what is tuned for this model (untick to put it back)" }),
    ...differing.map(({ name, label }) => {
      const back = () => hold(method.name, { values: { ...held(method.name).values, [name]: tuned[name] } });
      const box = make("input", { type: "checkbox", checked: true, onchange: back });
      return make("label", {}, box, `${label}: ${values[name]} (tuned: ${tuned[name]})`);
    }));
}

function open(name) {
  shut();
  opener = document.activeElement;
  const shown = lines.get(name);
  shown.before = held(name);
  shown.dialog.hidden = false;
  shown.dialog.querySelector("button").focus();
}

function shut() {
  const shown = [...lines.values()].find(({ dialog }) => !dialog.hidden);
  if (!shown) return;
  shown.dialog.hidden = true;
  opener?.focus();
}

/* ---- Showing the value ---- */

function refresh() {
  for (const one of lines.values()) refreshLine(one);
  const folded = about.slice(LISTED).some(({ name }) => props.value.used.includes(name));
  if (folded) find("#more-methods").open = true;
  fillVariants();
}

function refreshLine(one) {
  const { name, title, usual } = one.method;
  const { network, mode, values } = held(name);
  const shown = controlsOf(one);
  const { obstacle, note, modes, fields } = shown.own;
  const [, , tuned] = modes[0];
  one.box.checked = props.value.used.includes(name);
  one.box.disabled = Boolean(obstacle) && !one.box.checked;
  one.called.textContent = network ? `${title} on ${network}` : title;
  one.note.hidden = !(obstacle || note);
  one.note.textContent = [note, obstacle].filter(Boolean).join(". ");
  one.note.id = `${obstacle ? "obstacle" : "note"}-${name}`;
  one.network.list.value = network;
  one.why.hidden = !obstacle;
  one.why.textContent = obstacle;
  one.add.disabled = Boolean(obstacle);
  one.opens.classList.toggle("ov-turned", network !== usual || fields.some((field) => values[field.name] !== tuned[field.name]));
  shown.modes.forEach((label) => { label.firstChild.checked = label.firstChild.value === mode; });
  for (const { field, show } of shown.controls) show(values[field.name]);
  fillChanged(one.method, shown);
  one.estimate.textContent = props.estimates[network ? `${name} on ${network}` : name] ?? "";
}

function fillVariants() {
  const { variants } = props.value;
  find(".ov-variants").hidden = variants.length === 0;
  find(".ov-variants").replaceChildren(...variants.map(({ title, used }, number) => {
    const tick = () => change({ variants: variants.map((one, k) => (k === number ? { ...one, used: box.checked } : one)) });
    const box = make("input", { type: "checkbox", checked: used, onchange: tick });
    return make("label", {}, box, title);
  }));
}

for (const method of about) lines.set(method.name, line(method));
const roots = [...lines.values()].map(({ root }) => root);
find(".ov-lines").replaceChildren(...roots.slice(0, LISTED));
find("#more-methods .ov-lines").replaceChildren(...roots.slice(LISTED));
find("#more-methods").hidden = roots.length <= LISTED;
find("#other-networks").hidden = about[0].networks.length === 1;
find("#other-networks").addEventListener("click", () => trigger("others"));
find(".ov-dialogs").replaceChildren(...[...lines.values()].map(({ dialog }) => dialog));
document.addEventListener("keydown", (event) => event.key === "Escape" && shut());
watch("value", () => {
  if (ticked() > tickedBefore) shut(); // a variant was added: it stands among the methods
  tickedBefore = ticked();
  refresh();
});
watch("estimates", refresh);
refresh();
