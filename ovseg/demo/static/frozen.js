/* The frozen page: the page's two components, with values that were made once. What a server would answer is looked up. */
/* global Board, Inside */

import { make } from "./elements.js";

const named = JSON.parse(document.querySelector("#pictures").textContent);
const values = {};
let shown = null;

/* Start a component in an element, as gr.HTML does; returns a function that sets one of its properties. */
function mounted(element, component, answers) {
  const props = {};
  const watching = [];
  element.innerHTML = component.html;
  component.start(element, props, (event, data) => answers[event]?.(data), (name, call) => watching.push([name, call]));
  return (name, value) => {
    props[name] = value;
    for (const [own, call] of watching) if (own === name) call();
  };
}

/* The scripts of pictures call this. */
window.ovsegFrozen = (name, value) => {
  values[name] = value;
  if (name === shown) fill(value);
};

const setBoard = mounted(document.querySelector("#board"), Board, {});
const setInside = mounted(document.querySelector("#inside"), Inside, {
  token: ({ token }) => setInside("token_maps", values[shown].tokens[token]),
  select: ({ index }) => {
    const rows = values[shown].places;
    const [column, row] = index.map((share) => Math.min(Math.max(Math.floor(share * rows.length), 0), rows.length - 1));
    setInside("place", rows[row][column]);
  },
});

function fill(value) {
  setBoard("value", value.board);
  setInside("value", value.inside);
  document.querySelector("#sentence").textContent = value.sentence;
  document.querySelector("#evidence div").replaceChildren(...value.evidence.map(evidenceOf));
}

function evidenceOf({ title, html }) {
  return make("details", {}, make("summary", { textContent: title }), make("div", { innerHTML: html }));
}

function show(name) {
  shown = name;
  for (const button of nav.children) button.setAttribute("aria-pressed", String(button.value === name));
  if (values[name]) return fill(values[name]);
  document.head.append(make("script", { src: `${name}.js` }));
}

const nav = document.querySelector("nav");
nav.append(...Object.entries(named).map(([value, textContent]) => {
  return make("button", { type: "button", value, textContent, onclick: () => show(value) });
}));
show(Object.keys(named)[0]);
