"""The files of `Attention`: the same from the page and the command line, in a folder or in one zip."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from ovseg.attention import Attention, Heads, Inspection, Plan, draw_inside, look_inside, plan_drawing, plan_looking
from ovseg.backbones.base import Sampling
from ovseg.files import as_json, as_npz
from ovseg.maths.maps import of_strides
from ovseg.models import Models
from ovseg.output import view
from ovseg.output.cost import Cost, measuring
from ovseg.output.run_card import device_name, versions
from ovseg.output.sheet import Panel, Sheet, typeset
from ovseg.progress import Report
from ovseg.scene import from_image

CELL, SMALL_CELL = 256, 144  # pixels of the longer side of a picture on the two sheets
MOST_ON_SHEET = 24  # tokens; all are in the other files

README = """\
What this folder holds.

picture.png     the picture
tokens/         for each token its map over the picture: all resolutions fused, the mean over all levels
tokens.png      the same on one sheet, with the map of each resolution below it
levels.png      for each word and each level the fused map
attention.npz   everything: cross-attention, and what self-attention is computed of; its own README names the axes
run.json        how it was made: sentence, tokens, layers, levels, weights of the resolutions, network, seed, versions
"""

ARRAYS = """\
What a text-to-image diffusion model attends to in one picture. All arrays begin with the axis level; axes_NAME holds the
names of the axes of the array NAME.

Axes
  level   {levels}; timesteps holds the timestep of each
  token   one for each entry of tokens; token_kinds says which are words of the prompt. All padding together is one token,
          so the values of a place sum to 1 over the tokens
  layer   the number in an array's name, from 1 in the order of computing; layers holds the network's own names, and
          layer_strides the stride of each: latent places for each place of its grid, along one side
  y, x    places of the layer's grid, from the upper left corner; stretched over the picture, the grid covers it

Arrays
  cross_NN            (level, token, y, x) the probability with which place (y, x) attends to the token, mean over heads
  self_query_NN, self_key_NN
                      (kept, head, place, channel) what self-attention is computed of; place is y * columns + x, and
                      kept counts the levels of kept_levels; keys behind those of the places are of words, in a network
                      where places and words share a softmax
  heads_NN            (head, token, y, x) cross_NN at level heads_level with its heads apart, if they were asked for
  fused               (token, y, x) all resolutions fused with the weights fused_weights of fused_strides, mean over levels
  noised              (level, channel, y, x) what the network was given at each level
  picture             (row, column, RGB)

What a place attends to, mean over the heads of layer NN, at level kept_levels[k]:
    logits = numpy.einsum("hc,hnc->hn", self_query_NN[k, :, place].astype("f4"), self_key_NN[k].astype("f4"))
    row = scipy.special.softmax(logits, -1).mean(0)[: rows * columns].reshape(rows, columns)
"""


@dataclass(frozen=True)
class Inside:
    """What is written: an attention, the weights that fuse its resolutions, and how it was made."""

    attention: Attention
    weights: Mapping[int, float]  # for each stride how much it counts
    made_by: Mapping[str, object]  # the card of `attention_card`
    heads: Heads | None = None  # a layer with its heads apart, if any


@dataclass(frozen=True, eq=False)
class Look:
    """A look inside: of a picture at noise levels, or of one that is drawn meanwhile."""

    inspection: Inspection
    seed: int
    sampling: Sampling | None = None
    image: np.ndarray | None = None
    levels: tuple[int, ...] = ()
    network: str = ""  # that is looked into; empty for the usual one

    def plan(self, models: Models) -> Plan:
        """What it takes.

        Raises:
            ValueError: it cannot be done, or takes too much memory.
        """
        own = models.beside(self.network)
        if self.sampling:
            plan = plan_drawing(own, self.inspection, self.sampling)
        else:
            plan = plan_looking(own, self.image.shape[:2], self.inspection, self.levels)
        plan.check(self.inspection.most_bytes)
        return plan

    def run(self, models: Models, report: Report) -> Inside:
        """What was gathered, with the weights that suit the backbone."""
        own, settings = models.beside(self.network), {"self-attention at": self.inspection.keep}
        if self.sampling:
            settings |= {name: getattr(self.sampling, name) for name in ("steps", "guidance", "negative")}
        with measuring(own.device) as cost:
            if self.sampling:
                _, attention = draw_inside(own, self.inspection, self.sampling, self.seed, report)
            else:
                scene = from_image(own, self.image, self.seed)
                attention = look_inside(own, scene, self.inspection, self.levels, report)
        return Inside(attention, usual_weights(own), attention_card(own, attention, cost, settings))


def usual_weights(models: Models) -> dict[int, float]:
    """For each stride with cross-attention how much it counts unless somebody chooses: what suits the backbone."""
    known = of_strides(models.checkpoint.grid_weights)
    strides = sorted({site.stride for site in models.backbone.sites if site.kind == "cross"})
    weights = {stride: known.get(stride, 0.0) for stride in strides}
    return weights if any(weights.values()) else dict.fromkeys(strides, 1.0)


def attention_card(models: Models, attention: Attention, cost: Cost, settings: Mapping[str, object]) -> dict:
    """A JSON-ready record of how attention was gathered.

    Args:
        settings: what was chosen besides, such as the steps and the guidance of a drawing.
    """
    return {
        "prompt": attention.prompt,
        "seed": attention.seed,
        "levels": "sampling steps" if attention.is_drawn else "noise levels",
        "timesteps": list(attention.timesteps),
        "settings": dict(settings),
        "backbone": {"name": models.short_name, "device": str(models.device), "dtype": models.dtype_name},
        "weights": models.backbone.fingerprint,
        "bytes": attention.nbytes,
        "cost": asdict(cost),
        "machine": {"device": device_name(models.device)},
        "versions": versions(),
    }


def files_of_attention(inside: Inside) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files, one after the other.

    Raises:
        ValueError: no resolution has a weight above 0.
    """
    attention, weights = inside.attention, inside.weights
    yield "picture.png", view.png(attention.image)
    for token in range(len(attention.tokens)):
        over = view.heat_overlay(attention.image, attention.fused(token, weights))
        word = "".join(c if c.isalnum() else "-" for c in attention.token_name(token))
        yield f"tokens/{token:02d}-{word}.png", view.png(over)
    yield "tokens.png", view.png(typeset(tokens_sheet(attention, weights)))
    yield "levels.png", view.png(typeset(levels_sheet(attention, weights)))
    yield "attention.npz", as_npz(arrays_of(inside))
    yield "run.json", as_json(_card(inside))
    yield "README.txt", README.encode()


def arrays_of(inside: Inside) -> dict[str, np.ndarray]:
    """Everything as named arrays, with their README and the names of their axes."""
    attention = inside.attention
    arrays: dict[str, np.ndarray] = {}
    axes: dict[str, tuple[str, ...]] = {}

    def put(name: str, array: np.ndarray, *names: str) -> None:
        arrays[name], axes[f"axes_{name}"] = array, names

    for number, maps in enumerate(attention.cross.values(), 1):
        put(f"cross_{number:02d}", maps, "level", "token", "y", "x")
    for number, states in enumerate(attention.states.values(), 1):
        put(f"self_query_{number:02d}", states.query.numpy(), "kept", "head", "place", "channel")
        put(f"self_key_{number:02d}", states.keys_in_order().numpy(), "kept", "head", "place", "channel")
    if inside.heads:
        number = list(attention.cross).index(inside.heads.site) + 1
        put(f"heads_{number:02d}", inside.heads.maps, "head", "token", "y", "x")
        arrays["heads_level"] = np.array(inside.heads.level)
    fused = [attention.fused(token, inside.weights) for token in range(len(attention.tokens))]
    put("fused", np.stack(fused), "token", "y", "x")
    put("noised", attention.noised, "level", "channel", "y", "x")
    put("picture", attention.image, "row", "column", "RGB")
    levels = "the sampling steps of the drawn picture" if attention.is_drawn else "the noise levels"
    facts = {
        "README": np.array(ARRAYS.format(levels=levels)),
        "prompt": np.array(attention.prompt),
        "tokens": np.array([attention.token_name(k) for k in range(len(attention.tokens))]),
        "token_kinds": np.array([token.kind for token in attention.tokens]),
        "timesteps": np.array(attention.timesteps),
        "kept_levels": np.array(attention.kept, np.int64),
        "layers": np.array([site.name for site in attention.cross]),
        "layer_strides": np.array([site.stride for site in attention.cross]),
        "self_layers": np.array([site.name for site in attention.states], np.str_),
        "self_layer_strides": np.array([site.stride for site in attention.states], np.int64),
        "fused_strides": np.array(list(inside.weights), np.int64),
        "fused_weights": np.array(list(inside.weights.values()), np.float64),
    }
    return facts | arrays | {name: np.array(names) for name, names in axes.items()}


def tokens_sheet(attention: Attention, weights: Mapping[int, float]) -> Sheet:
    """The picture, and for each token its fused map with that of each resolution below it."""
    small = _small(attention.image, CELL)
    columns = [[Panel(small, "Picture", attention.prompt)]]
    for token in range(len(attention.tokens))[:MOST_ON_SHEET]:
        over = view.heat_overlay(small, attention.fused(token, weights))
        column = [Panel(over, attention.token_name(token), "fused")]
        for stride, values in attention.stride_maps(token).items():
            rows, wide = attention.grid(stride)
            note = f"{rows} x {wide}, {values.min():.3f} to {values.max():.3f}"
            column.append(Panel(view.heat_overlay(small, values), "", note))
        columns.append(column)
    counted = ", ".join(f"{weights.get(stride, 0.0):g}" for stride in attention.strides)
    sentences = [
        f"Cross-attention of “{attention.prompt}”, mean over heads, layers and {_levels_in_words(attention)}."
        f" Weights of the resolutions, finest first: {counted}."
    ]
    return Sheet(columns, sentences=sentences, most_columns=6)


def levels_sheet(attention: Attention, weights: Mapping[int, float]) -> Sheet:
    """For each word of the prompt a row of its fused maps, one for each level."""
    small = _small(attention.image, SMALL_CELL)
    words = (attention.words or tuple(range(len(attention.tokens))))[:MOST_ON_SHEET]
    columns = []
    for level, timestep in enumerate(attention.timesteps):
        above = f"step {level + 1}" if attention.is_drawn else f"t = {timestep:g}"
        panels = []
        for row, token in enumerate(words):
            over = view.heat_overlay(small, attention.fused(token, weights, [level]))
            panels.append(Panel(over, above if row == 0 else "", attention.token_name(token)))
        columns.append(panels)
    sentence = f"Cross-attention of “{attention.prompt}” at {_levels_in_words(attention)}, resolutions fused."
    return Sheet(columns, sentences=[sentence], most_columns=10)


def _levels_in_words(attention: Attention) -> str:
    count = len(attention.timesteps)
    if attention.is_drawn:
        return "1 sampling step" if count == 1 else f"{count} sampling steps"
    return attention.level_name(0) if count == 1 else f"{count} noise levels"


def _small(image: np.ndarray, longest: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(view.fitted(image.shape[:2], longest), Image.Resampling.LANCZOS))


def _card(inside: Inside) -> dict[str, object]:
    attention = inside.attention
    return dict(inside.made_by) | {
        "fused with": {str(stride): weight for stride, weight in inside.weights.items()},
        "tokens": [{"token": attention.token_name(k), "kind": t.kind} for k, t in enumerate(attention.tokens)],
        "layers": [
            {"number": number, "name": site.name, "stride": site.stride, "grid": list(attention.grid(site.stride))}
            for number, site in enumerate(attention.cross, 1)
        ],
        "kept levels": list(attention.kept),
    }
