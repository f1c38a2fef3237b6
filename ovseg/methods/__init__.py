"""The methods, in the order in which they are shown. A new method is one file here and its name in `METHODS`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ovseg.backbones import BACKBONES
from ovseg.limits import quoted
from ovseg.methods.base import Method
from ovseg.methods.clipseg.method import CLIPSeg
from ovseg.methods.concept_attention.method import ConceptAttention
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.methods.fa_seg.method import FASeg
from ovseg.methods.freeseg_diff.method import FreeSegDiff
from ovseg.methods.goca.method import GoCA
from ovseg.methods.grounded_diffusion.method import GroundedDiffusion
from ovseg.methods.iseg.method import ISeg
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.sam3.method import SAM3
from ovseg.methods.seg4diff.method import Seg4Diff
from ovseg.methods.trained_segmenter.method import TrainedSegmenter
from ovseg.models import Models
from ovseg.types import named

METHODS: tuple[type[Method], ...] = (
    DiffSegmenter, OVDiff, FreeSegDiff, GroundedDiffusion, GoCA, ISeg, FASeg, Seg4Diff, ConceptAttention,
    TrainedSegmenter, CLIPSeg, SAM3,
)  # fmt: skip

__all__ = [
    "METHODS", "Method", "at_first", "check_setting", "find_method", "modes_of", "obstacle_to", "released_for",
    "runs_on", "suited_to", "what_runs", "words_on_released",
]  # fmt: skip


def find_method(name: str, kinds: Sequence[type[Method]] | None = None) -> type[Method]:
    """The method of this name among `kinds`, or among all.

    Raises:
        ValueError: there is none.
    """
    return named({kind.name: kind for kind in kinds or METHODS}, "method", name)


def check_setting(method: type[Method], name: str) -> None:
    """Raise ValueError unless the method has a setting of this name."""
    known = [field.name for field in method.settings()]
    if name not in known:
        raise ValueError(f"A setting of {method.title} must be one of {', '.join(known)}, but got {quoted(name)}.")


def suited_to(models: Models, method: type[Method], settings: Mapping[str, object] = MappingProxyType({})) -> Method:
    """The method with the settings that suit the backbone, and these on top.

    Raises:
        ValueError: a setting that the method does not have.
    """
    for name in settings:
        check_setting(method, name)
    return replace(method(), **{**method.suited(models.checkpoint), **settings})


def released_for(models: Models, kind: type[Method]) -> Method:
    """The released pipeline on a backbone, with what stands in for the parts that the backbone cannot have."""
    return replace(kind.as_released(), **kind.stand_ins(models.checkpoint))


def words_on_released(models: Models, kind: type[Method]) -> str:
    """What is not as released in the mode "released" on this backbone, in sentences; empty where everything is."""
    exact = kind.as_released()
    stand_ins = {n: value for n, value in kind.stand_ins(models.checkpoint).items() if value != getattr(exact, n)}
    changed = [f"{name} {_shown(getattr(exact, name))} is {_shown(value)} here" for name, value in stand_ins.items()]
    said = [
        f"The released code runs on {kind.released_on}, this backbone is {models.name}."
        * (kind.released_on not in ("", models.name)),
        f"{models.checkpoint.own_networks}: {', '.join(changed)}." if changed else "",
        *(sentence for name, sentence in kind.withheld.items() if name not in stand_ins),
    ]
    return " ".join(filter(None, said))


def _shown(value: object) -> str:
    return repr(value) if value != "" else "the backbone's own"


def modes_of(models: Models, kind: type[Method]) -> dict[str, Method]:
    """The method in each of its modes: as it suits the backbone, as its code was released, and its presets."""
    presets = {name: suited_to(models, kind, settings) for name, settings in kind.presets.items()}
    return {"suited": suited_to(models, kind), "released": released_for(models, kind), **presets}


def what_runs(models: Models) -> str:
    """Which methods can be run with these networks, and why not the others, in a sentence; loads the backbone."""
    why = {kind.title: obstacle_to(models, kind) or suited_to(models, kind).unfit(models) for kind in METHODS}
    runs = [title for title, obstacle in why.items() if not obstacle]
    return "; ".join([f"{', '.join(runs) or 'no method'} can be run", *(f"not {t}: {o}" for t, o in why.items() if o)])


def at_first(models: Models) -> tuple[type[Method], ...]:
    """What is compared where nobody names a method: of those listed first what can run, and has nothing to draw first."""
    kinds = [kind for kind in METHODS if kind.listed_first and (models.checkpoint.prototypes or not kind.draws_first)]
    return tuple(kind for kind in kinds if not obstacle_to(models, kind))


def runs_on(models: Models, kind: type[Method]) -> Models:
    """The first network of the board that a method runs on; the usual one where it runs on none.

    What was made for joint attention takes a network of joint attention where there is one, and so for cross-attention.
    """
    made_for = BACKBONES.get(kind.released_on)  # a stranger's method may name a network that is not in the table
    joint = made_for is not None and made_for.joint
    fit = (own for own in models.board if not obstacle_to(own, kind))
    return min(fit, key=lambda own: own.checkpoint.joint != joint, default=models)


def obstacle_to(models: Models, kind: type[Method]) -> str:
    """Why a method cannot be run with these networks, in a sentence; empty where it can. Loads nothing."""
    return " ".join(filter(None, (*map(models.obstacle, kind.needs), kind.lacks(models))))
