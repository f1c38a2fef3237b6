/* Pieces of the page: elements, decoded pictures, and the frame of one canvas with its cross and pin. */

import { hatchTile } from "./board-paint.js";
import { make, press } from "./elements.js";

const SWATCH = 28;
const WHOLE = { scale: 1, x: 0, y: 0 };

/* The pixels of a data URL as RGBA bytes, exactly as they were packed: no colour management, no alpha. */
export async function pixelsOf(url) {
  const blob = await (await fetch(url)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const sheet = make("canvas", { width: bitmap.width, height: bitmap.height });
  const pen = sheet.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  return pen.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

/* A packed map's bytes. */
export async function planesOf(url) {
  const { body } = await fetch(url);
  return new Uint8Array(await new Response(body.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
}

/* A small square in a class's colour: an item of the legend, with its hatching if it is to be drawn. */
export function swatch({ colour, line, hatch }, hatched = false) {
  const made = make(hatched ? "canvas" : "i", { className: "ov-swatch", "aria-hidden": "true" });
  made.style.background = colour;
  if (!hatched || hatch === null) return made;
  made.width = made.height = SWATCH;
  const pen = made.getContext("2d");
  pen.fillStyle = line;
  const { side, pixels } = hatchTile(hatch, [SWATCH / 2, SWATCH / 7]);
  for (let y = 0; y < SWATCH; y++) {
    for (let x = 0; x < SWATCH; x++) if (pixels[(y % side) * side + (x % side)]) pen.fillRect(x, y, 1, 1);
  }
  return made;
}

/* Buttons of which one is pressed: [[name, text], ...]; `choose(name)` is called by a press. */
export function choices(label, names, choose) {
  const group = make("div", { className: "ov-toggles", role: "group", "aria-label": label });
  for (const [name, text] of names) {
    const button = make("button", { type: "button", textContent: text });
    button.dataset.choice = name;
    button.addEventListener("click", () => choose(name));
    group.append(button);
  }
  return group;
}

export function chosen(group, name) {
  for (const button of group.children) press(button, button.dataset.choice === name);
}

/* A canvas in a frame that keeps the picture's shape, over another with what lies below, and over both the cross of the place
   that is pointed at and the pin of the last click. `out` is one Uint32 a pixel, and `flush` puts it on the screen. */
export function frame(width, height, help) {
  const under = make("canvas", { className: "ov-under", width, height, "aria-hidden": "true" });
  const canvas = make("canvas", { className: "ov-canvas", width, height, tabIndex: 0, role: "img", "aria-describedby": help });
  const [ground, context] = [under, canvas].map((sheet) => sheet.getContext("2d", { willReadFrequently: true }));
  const image = new ImageData(width, height);
  const vertical = make("i", { className: "ov-cross ov-vertical", hidden: true });
  const horizontal = make("i", { className: "ov-cross ov-horizontal", hidden: true });
  const pin = make("i", { className: "ov-pin", hidden: true });
  const root = make("div", { className: "ov-frame" }, under, canvas, vertical, horizontal, pin);
  root.style.setProperty("--ratio", width / height);
  let lies = null;

  /* Where a place lies in the frame at a zoom, in per cent. */
  const at = (place, { scale, x, y }) => ({ left: 100 * scale * ((place.x + 0.5) / width - x), top: 100 * scale * ((place.y + 0.5) / height - y) });
  const inside = ({ left, top }) => left >= 0 && left <= 100 && top >= 0 && top <= 100;
  return {
    root, canvas, width, height,
    out: new Uint32Array(image.data.buffer),
    flush: () => context.putImageData(image, 0, 0),
    lay(pixels) {
      if (lies === pixels) return;
      lies = pixels;
      ground.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
    },
    cross(place, zoom = WHOLE) {
      vertical.hidden = horizontal.hidden = place === null;
      if (place === null) return;
      vertical.style.left = `${at(place, zoom).left}%`;
      horizontal.style.top = `${at(place, zoom).top}%`;
    },
    pin(place, zoom = WHOLE) {
      pin.hidden = place === null || !inside(at(place, zoom));
      if (pin.hidden) return;
      pin.style.left = `${at(place, zoom).left}%`;
      pin.style.top = `${at(place, zoom).top}%`;
    },
    describe: (text) => canvas.setAttribute("aria-label", text),
  };
}

/* The pixel {x, y} under a pointer. */
export function pixelUnder(event, { canvas, width, height }) {
  const box = canvas.getBoundingClientRect();
  const within = (share, size) => Math.min(Math.max(Math.floor(share * size), 0), size - 1);
  return { x: within((event.clientX - box.left) / box.width, width), y: within((event.clientY - box.top) / box.height, height) };
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/* Where an arrow key moves a place, or null if it is another key. The first press starts in the middle. */
export function moved(event, place, { width, height }) {
  const arrow = ARROWS[event.key];
  if (!arrow) return null;
  if (place === null) return { x: width >> 1, y: height >> 1 };
  const stride = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 64));
  const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
  return { x: within(place.x + arrow[0] * stride, width), y: within(place.y + arrow[1] * stride, height) };
}
