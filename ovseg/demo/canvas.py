"""The picture that people look at: a canvas that colours, hides, thresholds and names classes in the browser."""

import base64
import io

import gradio as gr
import numpy as np
from PIL import Image

from ovseg.output import view
from ovseg.types import Segmentation

TEMPLATE = """
<div class="ov-frame"><canvas class="ov-canvas" role="img" aria-label="masks over the picture"></canvas>
<div class="ov-tip"></div></div>
<div class="ov-empty">Masks appear here: give a picture and classes, then press Run.</div>
<div class="ov-legend"></div>
"""

STYLE = """
.ov-frame { position: relative; display: none; text-align: center; background: var(--background-fill-secondary); }
.ov-canvas { width: 100%; max-width: 640px; height: auto; image-rendering: auto; cursor: crosshair; display: inline-block; }
.ov-tip { position: absolute; pointer-events: none; display: none; padding: 2px 8px; border-radius: 4px;
  background: rgba(0,0,0,.78); color: white; font-size: 13px; white-space: nowrap; }
.ov-empty { padding: 72px 12px; text-align: center; color: var(--body-text-color-subdued);
  border: 1px dashed var(--border-color-primary); border-radius: 8px; }
.ov-legend { display: flex; flex-wrap: wrap; gap: 6px; padding: 8px 0; }
.ov-legend button { display: inline-flex; align-items: center; gap: 6px; padding: 3px 10px; border-radius: 14px;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-primary);
  color: var(--body-text-color); font-size: 13px; cursor: pointer; }
.ov-legend button.off { opacity: .45; text-decoration: line-through; }
.ov-legend i { width: 12px; height: 12px; border-radius: 3px; display: inline-block; }
"""

# Per pixel the map carries the best class and its score in 16 bits; the label is that class where the score is above the
# threshold. The best class does not depend on the threshold, so moving it needs neither network nor server.
SCRIPT = """
const canvas = element.querySelector('.ov-canvas'), frame = element.querySelector('.ov-frame');
const tip = element.querySelector('.ov-tip'), legend = element.querySelector('.ov-legend');
const empty = element.querySelector('.ov-empty'), context = canvas.getContext('2d', {willReadFrequently: true});
let shown = null, hovered = 0;

const load = url => new Promise((done, fail) => {
  const picture = new Image(); picture.onload = () => done(picture); picture.onerror = fail; picture.src = url; });
const pixels = picture => {
  const sheet = document.createElement('canvas'); sheet.width = picture.width; sheet.height = picture.height;
  const pen = sheet.getContext('2d', {willReadFrequently: true, colorSpace: 'srgb'});
  pen.drawImage(picture, 0, 0); return pen.getImageData(0, 0, picture.width, picture.height); };

function labelAt(k) {
  const map = shown.map.data, score = (map[4*k+1] * 256 + map[4*k+2]) / 65535;
  return shown.threshold !== null && score <= shown.threshold ? 0 : map[4*k]; }

function draw() {
  if (!shown) return;
  const out = new ImageData(new Uint8ClampedArray(shown.base.data), shown.base.width, shown.base.height);
  const counts = new Array(shown.legend.length).fill(0), total = out.data.length / 4;
  for (let k = 0; k < total; k++) {
    const label = labelAt(k); counts[label]++;
    if (label === 0 || shown.hidden.has(label)) continue;
    const colour = shown.colours[label];
    const strength = hovered && hovered !== label ? shown.opacity * 0.35 : shown.opacity;
    for (let c = 0; c < 3; c++) out.data[4*k+c] += (colour[c] - out.data[4*k+c]) * strength; }
  context.putImageData(out, 0, 0);
  shown.legend.forEach((entry, k) => {
    const share = legend.querySelector(`[data-label="${k}"] span`);
    if (share) share.textContent = `${entry.label} ${(100 * counts[k] / total).toFixed(1)} %`; }); }

function buildLegend() {
  legend.replaceChildren(...shown.legend.map((entry, k) => {
    const button = document.createElement('button'); button.type = 'button'; button.dataset.label = k;
    button.title = k ? 'Show or hide' : 'Where no class is above the threshold';
    const swatch = document.createElement('i'); swatch.style.background = entry.colour;
    button.append(swatch, document.createElement('span')); return button; })); }

async function show(value) {
  if (!value || !value.map) { shown = null; frame.style.display = 'none'; empty.style.display = 'block';
    legend.replaceChildren(); return; }
  const [base, map] = await Promise.all([load(value.image), load(value.map)]);
  canvas.width = base.width; canvas.height = base.height;
  frame.style.display = 'block'; empty.style.display = 'none';
  canvas.style.imageRendering = base.width < 320 ? 'pixelated' : 'auto';
  const colours = value.legend.map(e => [1, 3, 5].map(i => parseInt(e.colour.slice(i, i + 2), 16)));
  const view = element.view || {opacity: value.opacity, threshold: value.threshold};
  shown = {base: pixels(base), map: pixels(map), legend: value.legend, colours, hidden: new Set(),
    opacity: view.opacity, threshold: value.threshold};
  buildLegend(); draw(); element.dataset.ready = value.key; }

function place(event) {
  const box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height}; }

canvas.addEventListener('mousemove', event => {
  if (!shown) return;
  const at = place(event), x = Math.floor(at.x * canvas.width), y = Math.floor(at.y * canvas.height);
  const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
  const label = labelAt(within(y, canvas.height) * canvas.width + within(x, canvas.width));
  const outer = frame.getBoundingClientRect();
  tip.textContent = shown.legend[label].label; tip.style.display = 'block';
  tip.style.left = `${event.clientX - outer.left + 12}px`; tip.style.top = `${event.clientY - outer.top + 12}px`;
  if (label !== hovered) { hovered = label; draw(); } });
canvas.addEventListener('mouseleave', () => { tip.style.display = 'none'; hovered = 0; draw(); });
canvas.addEventListener('click', event => {
  if (shown) { const at = place(event); trigger('select', {index: [at.x, at.y], value: null}); } });
legend.addEventListener('click', event => {
  const button = event.target.closest('button'); if (!button || button.dataset.label === '0') return;
  const label = Number(button.dataset.label);
  shown.hidden.has(label) ? shown.hidden.delete(label) : shown.hidden.add(label);
  button.classList.toggle('off', shown.hidden.has(label)); draw(); });
element.addEventListener('ovseg-view', event => {
  element.view = event.detail;
  if (!shown) return;
  shown.opacity = event.detail.opacity;
  if (shown.threshold !== null) shown.threshold = event.detail.threshold;
  draw(); });
watch('value', () => show(props.value));
show(props.value);
"""


def mask_canvas(elem_id: str) -> gr.HTML:
    """The canvas as a component: its value is what `canvas_value` returns, or None for nothing."""
    # A function, not a subclass: gradio writes a stub file beside every module that subclasses a component.
    return gr.HTML(
        value=None,
        html_template=TEMPLATE,
        css_template=STYLE,
        js_on_load=SCRIPT,
        elem_id=elem_id,
        apply_default_css=False,
    )


def redraw_script(elem_id: str) -> str:
    """Browser code for sliders (opacity, threshold) that redraws a canvas without asking the server."""
    return (
        "(opacity, threshold) => { for (const inner of document.querySelectorAll('#" + elem_id + ", #" + elem_id + " *'))"
        " inner.dispatchEvent(new CustomEvent('ovseg-view', {detail: {opacity, threshold}})); return [opacity, threshold]; }"
    )


def canvas_value(segmentation: Segmentation, opacity: float, key: str) -> dict:
    """What the canvas draws: the picture, the map of best classes and scores, the legend."""
    return {
        "image": _data_url(Image.fromarray(segmentation.image), "JPEG" if segmentation.image.size > 400_000 else "PNG"),
        "map": _data_url(Image.fromarray(best_class_map(segmentation)), "PNG"),
        "legend": view.legend(segmentation),
        "opacity": opacity,
        "threshold": segmentation.threshold,
        "key": key,
    }


def best_class_map(segmentation: Segmentation) -> np.ndarray:
    """uint8 (H, W, 3): best label, and its score in 16 bits, high byte first; background only if it has its own score."""
    first = 0 if segmentation.threshold is None else 1
    best = segmentation.scores[first:].argmax(0) + first
    score = np.take_along_axis(segmentation.scores, best[None], 0)[0]
    steps = (score.clip(0, 1) * 65535).round().astype(np.uint16)
    return np.stack([best, steps >> 8, steps & 255], -1).astype(np.uint8)


def _data_url(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
