"""Look inside, as one component: what the browser gets of an `Attention`, and in which form.

Its value is one run; `token_maps`, `place` and `heads` are properties of the component that come when they are asked for.
All of it is JSON; maps are packed as 16-bit steps of their highest value, row by row, in base64.

    value: {"run", "picture": data URL, "width", "height", "heat": [[red, green, blue]],
            "tokens": [{"text", "kind", "thumb"}], "thumb": [rows, columns], "levels": [{"name", "short"}],
            "all": what the mean over them is called, "axis": what a level is, "grid": [rows, columns],
            "shares": {"rows", "columns", "high", "data"}, a map of each token,
            "strides": [{"stride", "rows", "columns", "weight"}],
            "layers": [{"number", "stride", "rows", "columns", "name"}], "token_maps"}
    token_maps: {"run", "token", "high", "layers": [maps of all levels]}
    place, heads: {"run", "text", "maps": [{"title", "rows", "columns", "high", "data"}]}

Events of the component:
- `token`, event.token: another token was pressed.
- `select`, event.index [x, y] in shares of the picture and event.value the level or None: a place was clicked.
- `heads`, event.layer from 1 and event.level: a layer's heads are asked for.
- `weigh`, event.weights: the weights of the resolutions, by stride, a moment after the last was moved.

While it shows a run, the component's element has the attributes data-run and data-token.
"""

import base64
from collections.abc import Mapping, Sequence

import gradio as gr
import numpy as np
import torch
from jaxtyping import Float

from ovseg.attention import Attention, Heads
from ovseg.demo.board import data_url
from ovseg.demo.static_files import script_of, static
from ovseg.maths.maps import resize
from ovseg.output import view
from ovseg.pictures import shrunk

SCRIPTS = ("elements", "board-maps", "board-paint", "board-parts", "inside-maps", "inside-table", "inside")
LONGEST_SIDE = 512  # pixels of the picture in the browser
THUMB = 28  # places of a token's small map along its longer side
STEPS = 65535


def inside_component(elem_id: str) -> gr.HTML:
    """The component. Its value is what `inside_value` returns, or None for nothing yet."""
    return gr.HTML(
        value=None, html_template=static("inside.html"), css_template=static("elements.css", "board.css", "inside.css"),
        js_on_load=script_of(SCRIPTS), elem_id=elem_id, apply_default_css=False, token_maps=None, place=None, heads=None,
    )  # fmt: skip


def inside_value(attention: Attention, run: str, weights: Mapping[int, float], token: int) -> dict:
    """What the browser gets of a run, with the maps of one token and the strides' first weights."""
    image = shrunk(attention.image, LONGEST_SIDE)
    count = len(attention.timesteps)
    thumb = view.fitted(attention.latent_hw, min(THUMB, max(attention.latent_hw)))[::-1]
    return {
        "run": run,
        "picture": data_url(image, "PNG"),
        "width": image.shape[1],
        "height": image.shape[0],
        "heat": view.HEAT.tolist(),
        "thumb": list(thumb),
        "tokens": [
            {"text": attention.token_name(k), "kind": one.kind, "thumb": _thumb(attention.fused(k, weights), thumb)}
            for k, one in enumerate(attention.tokens)
        ],
        "levels": [
            {"name": attention.level_name(k), "short": str(k + 1) if attention.is_drawn else f"{timestep:g}"}
            for k, timestep in enumerate(attention.timesteps)
        ],
        "all": f"mean of {count} {'steps' if attention.is_drawn else 'noise levels'}",
        "axis": "Sampling step" if attention.is_drawn else "Noise level",
        "grid": list(attention.latent_hw),
        "strides": [_grid(attention, each) | {"weight": float(weights.get(each, 0.0))} for each in attention.strides],
        "layers": [
            {"number": number, "name": site.name} | _grid(attention, site.stride)
            for number, site in enumerate(attention.cross, 1)
        ],
        "shares": _shares(attention, weights),
        "token_maps": token_maps(attention, run, token),
    }


def _grid(attention: Attention, stride: int) -> dict:
    rows, columns = attention.grid(stride)
    return {"stride": stride, "rows": rows, "columns": columns}


def _shares(attention: Attention, weights: Mapping[int, float]) -> dict:
    """What the places of the resolution that counts most attend to, by token: the mean over its layers and all levels."""
    stride = max(attention.strides, key=lambda one: weights.get(one, 0.0))
    return _maps(np.stack([attention.stride_maps(token)[stride] for token in range(len(attention.tokens))]))


def token_maps(attention: Attention, run: str, token: int) -> dict:
    """The maps of one token: of every layer at every level."""
    maps = [maps[:, token].astype(np.float32) for maps in attention.cross.values()]
    high = max(float(one.max()) for one in maps)
    return {"run": run, "token": token, "high": high, "layers": [_packed(one, high) for one in maps]}


def place_value(attention: Attention, run: str, x: float, y: float, level: int | None) -> dict:
    """What a place attends to at every resolution, at a level or at the mean of those that were kept.

    Args:
        x: share of the picture's width from the left; `y` is the share of its height from the top.

    Raises:
        ValueError: the place is outside.
    """
    if not attention.kept:
        text = "Self-attention was not kept: choose where to keep it, and press Look again."
        return {"run": run, "text": text, "maps": []}
    near = None if level is None else attention.kept_near(level)
    rows = attention.rows_from(x, y, None if near is None else [near])
    count = len(attention.kept)
    mean = attention.level_name(attention.kept[0]) if count == 1 else f"mean of {count} levels"
    where = f"{x:.0%} from the left, {y:.0%} from the top"
    text = f"What the place {where} attends to, {mean if near is None else attention.level_name(near)}:"
    maps = [{"title": f"{row.shape[0]} × {row.shape[1]}", **_maps(row)} for row in rows.values()]
    return {"run": run, "text": text, "maps": maps}


def heads_value(attention: Attention, run: str, heads: Heads, token: int) -> dict:
    """The map of one token in every head of a layer."""
    number = list(attention.cross).index(heads.site) + 1
    text = f"Heads of layer {number} at {attention.level_name(heads.level)}, “{attention.token_name(token)}”"
    maps = [{"title": f"Head {k}", **_maps(one.astype(np.float32))} for k, one in enumerate(heads.maps[:, token], 1)]
    return {"run": run, "text": text, "maps": maps}


def _maps(values: Float[np.ndarray, "*any y x"]) -> dict:
    high, (rows, columns) = float(values.max()), values.shape[-2:]
    return {"rows": rows, "columns": columns, "high": high, "data": _packed(values, high)}


def _packed(values: Float[np.ndarray, "*any y x"], high: float) -> str:
    steps = np.round(values / (high or 1.0) * STEPS).clip(0, STEPS).astype("<u2")
    return base64.b64encode(steps.tobytes()).decode()


def _thumb(fused: Float[np.ndarray, "y x"], grid: Sequence[int]) -> str:
    small = resize(torch.from_numpy(fused)[None], grid)[0].numpy()
    return base64.b64encode(np.round(small * 255).astype(np.uint8).tobytes()).decode()
