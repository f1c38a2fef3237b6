"""`Models`: loads every network lazily, once, and owns its device and dtype."""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from ovseg.assets import kept_in, variable
from ovseg.backbones import BACKBONES, Backbone, find_checkpoint, load_backbone
from ovseg.backbones.network_check import NetworkCheck, check_network
from ovseg.backbones.weights import is_cached
from ovseg.files import checksum, file_checksum
from ovseg.limits import quoted
from ovseg.shared_networks import OTHER, PARTS, SharedNetworks, device_named, short_name
from ovseg.types import named

if TYPE_CHECKING:
    from ovseg.pretrained.captioner import Captioner
    from ovseg.pretrained.clip import Clip
    from ovseg.pretrained.detector import SemanticDetector
    from ovseg.pretrained.dino import Dino
    from ovseg.pretrained.grounding import Grounding
    from ovseg.pretrained.lavis import LavisCaptioner
    from ovseg.pretrained.proposals import Proposals

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}

Loaded = TypeVar("Loaded")


def best_device() -> str:
    """The accelerator that torch finds, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Models:
    """The networks of one process. Making it loads nothing; each network is loaded when it is first asked for.

    Args:
        backbone: a name of `BACKBONES` or the path of a local diffusers folder; "+FILE" behind it adds a LoRA.
        device: "cpu", "cuda", "cuda:1", "mps"; the best there is if not given.
        dtype: one of `DTYPES`; half precision on accelerators and float32 on the CPU if not given.
        offload: the diffusion network's parts stay in the computer's memory, and come onto the device for their own passes.
        words: a file of encoded prompts, which is read in place of the diffusion network's text encoders.

    Raises:
        ValueError: the backbone, device or dtype is unknown.
    """

    def __init__(
        self,
        backbone: str = "pocket",
        device: str | None = None,
        dtype: str | None = None,
        *,
        offload: bool = False,
        words: str = "",
    ) -> None:
        self.name, self.checkpoint = backbone, find_checkpoint(backbone)
        self.device = device_named(device or best_device())
        default, self.offload = "float32" if self.device.type == "cpu" else self.checkpoint.half, offload
        self.words = words
        self.dtype = named(DTYPES, "dtype", dtype or default)
        self._shared = SharedNetworks()
        if offload and self.device.type == "cpu":
            raise ValueError("Offloading needs an accelerator to compute on, but the device is the CPU.")

    def join(self, other: "Models") -> None:
        """Let the networks of another backbone stand beside these. Networks that both use besides are loaded once."""
        other._shared = self._shared
        self._shared.members[:] = *self.board, other

    @property
    def board(self) -> tuple["Models", ...]:
        """The networks of each backbone of the board; those of the usual one are the first."""
        return tuple(self._shared.members) or (self,)

    @property
    def short_name(self) -> str:
        """What texts, titles and visitors call the backbone: its name, or the last part of a local folder's path."""
        return short_name(self.name)

    @property
    def board_name(self) -> str:
        """The same beside others; empty for the usual backbone, which need not be named."""
        return "" if self.short_name == self.board[0].short_name else self.short_name

    @property
    def is_small(self) -> bool:
        """Whether each backbone of the board is of a small world."""
        return all(models.checkpoint.is_small_world for models in self.board)

    @property
    def takes_turns(self) -> bool:
        """Whether the diffusion networks of the board have no room together, so that one may have to leave at any time."""
        return len(self.board) > 1 and not self._shared.have_room(self.board)

    def beside(self, name: str) -> "Models":
        """The networks that go with another backbone of the board, by its short name; these where no name is given.

        Raises:
            ValueError: none has that name.
        """
        if name in ("", self.short_name):
            return self
        others = {models.short_name: models for models in self.board}
        if name not in others:
            raise ValueError(
                f"A method's backbone must be one of those that were named at the start ({', '.join(others)}), but got"
                f" {quoted(name)}."
            )
        return others[name]

    def release(self) -> None:
        """Let the diffusion network go; it is loaded again when it is asked for."""
        with self._shared.lock:
            self.__dict__.pop("_backbone", None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def is_loaded(self) -> bool:
        """Whether the diffusion network is in memory."""
        return "_backbone" in vars(self)

    @property
    def dtype_name(self) -> str:
        """The precision as `DTYPES` calls it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def folder_name(self) -> str:
        """A name for folders of what belongs to the backbone: its own, or a local folder's with digits of its path."""
        if self.name in BACKBONES:
            return self.name
        path = Path(self.name).resolve()
        return f"{re.sub(r'[^A-Za-z0-9._-]', '_', path.name)}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"

    def on(self, device: str) -> "Models":
        """The same on another device, with nothing loaded."""
        return Models(self.name, device, self.dtype_name, offload=self.offload, words=self.words)

    def __reduce__(self) -> tuple:
        """Pickled as what to load, not as what is loaded: another process loads for itself."""
        told = ("offload", "words", "_shared")
        return Models, (self.name, str(self.device), self.dtype_name), {name: getattr(self, name) for name in told}

    def with_backbone(self, backbone: Backbone) -> "Models":
        """The same networks, with another one in the diffusion network's place."""
        other = object.__new__(type(self))  # a copy by `copy` is made as a pickled one is, with nothing loaded
        vars(other).update(vars(self), _backbone=backbone)
        vars(other).pop("network_check", None)
        return other

    @property
    def backbone(self) -> Backbone:
        """The diffusion network, loaded on first use; visitors who come meanwhile wait for the same one.

        Where the board's have no room together, the others leave first.
        """
        with self._shared.lock:
            if not self.is_loaded:
                self._shared.make_room(self)
            return self._backbone

    @cached_property
    def network_check(self) -> NetworkCheck:
        """Whether the diffusion network keeps to what is read from it; checked when it is first asked for."""
        return check_network(self.backbone)

    @property
    def clip(self) -> "Clip":
        """The picture-and-text network that goes with the backbone, loaded on first use."""
        return self.clip_named()

    def clip_named(self, source: str = "") -> "Clip":
        """A CLIP by what open_clip calls it, or the one that goes with the backbone where it is empty; loaded on first use.

        Raises:
            ValueError: there is no such CLIP, or it cannot be loaded.
        """
        from ovseg.pretrained.clip import Clip  # here, because open_clip takes seconds to import

        source = source or self.checkpoint.clip
        return self._shared.once("clip", (source, self.dtype), lambda: Clip(source, self.device, self.dtype))

    @property
    def dino(self) -> "Dino":
        """The self-supervised transformer that goes with the backbone, loaded on first use."""
        from ovseg.pretrained.dino import Dino

        source = self.checkpoint.dino
        return self._shared.once("dino", (source, self.dtype), lambda: Dino(source, self.device, self.dtype))

    @property
    def segmenter(self) -> "SemanticDetector":
        """The segmenter that was trained with masks on the backbone's world, loaded on first use."""
        from ovseg.pretrained.detector import SemanticDetector

        source = self.checkpoint.segmenter
        return self._shared.once("segmenter", source, lambda: SemanticDetector(source, self.device))

    def other(self, kind: Callable[[str, torch.device, torch.dtype], Loaded], source: str) -> Loaded:
        """A network that goes with no backbone, by its class and its folder or repository; loaded on first use.

        Raises:
            ValueError: it cannot be loaded.
        """
        return self._shared.once(OTHER, (kind, source, self.dtype), lambda: kind(source, self.device, self.dtype))

    @cached_property
    def prototype_folders(self) -> tuple[Path, Path | None]:
        """Where OVDiff's prototypes are kept, `OVSEG_PROTOTYPES` or a folder of the user's cache, and those that ship."""
        shipped = self.checkpoint.prototypes
        return kept_in("OVSEG_PROTOTYPES", "prototypes"), Path(shipped) if shipped else None

    def proposals(self, name: str) -> "Proposals":
        """What finds objects of any class in a picture: "maskcut", or "cutler" from the folder that `OVSEG_CUTLER` names.

        Raises:
            ValueError: CutLER, its folder or its libraries are not there.
        """
        from ovseg.pretrained.proposals import Cutler, by_maskcut, cutler_folder

        if name == "maskcut":
            return by_maskcut(self.dino)
        return Cutler(cutler_folder(), str(self.device))

    def captioner_obstacle(self, name: str = "") -> str:
        """Why the captioner of this name, or the backbone's, cannot be used here; empty where it can. Loads nothing."""
        from ovseg.pretrained import lavis

        if name in lavis.MODELS:
            return lavis.obstacle() or lavis.missing()
        return "" if name else self.obstacle("captioner")

    def has_captioner(self, name: str) -> bool:
        """Whether the captioner of this name can be loaded without a download. Loads nothing."""
        from ovseg.pretrained.lavis import MODELS

        source = self._source_of(name)
        is_loaded = self._shared.has("captioner", (source, self.dtype))
        if is_loaded or name in MODELS:  # LAVIS downloads when it is loaded, and does not say what it has
            return is_loaded
        return Path(source).is_dir() or is_cached(source, ("model.safetensors", "model.safetensors.index.json"))

    def has_clip(self, source: str) -> bool:
        """Whether this CLIP, by what open_clip calls it, can be loaded without a download. Loads nothing."""
        if self._shared.has("clip", (source, self.dtype)):
            return True
        from open_clip import get_pretrained_cfg  # here, because open_clip takes seconds to import

        name, _, tag = source.partition("/")
        repository = (get_pretrained_cfg(name, tag) or {}).get("hf_hub", "").strip("/")
        return bool(repository) and is_cached(repository, ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))

    def grounding_names(self) -> tuple[str, ...]:
        """The names of the grounding modules that go with the backbone. Loads nothing."""
        return tuple(sorted(path.parent.name for path in self.groundings.glob("*/config.json")))

    @property
    def groundings(self) -> Path:
        """The folder of the grounding modules that go with the backbone.

        `OVSEG_GROUNDING`, or what ships with the backbone, or a folder of its own in the user's cache.
        """
        if variable("OVSEG_GROUNDING"):
            return kept_in("OVSEG_GROUNDING", "grounding")
        if self.checkpoint.grounding:
            return Path(self.checkpoint.grounding)
        return kept_in("OVSEG_GROUNDING", "grounding") / self.folder_name

    def new_grounding(self, name: str) -> Path:
        """The folder where a grounding module of this name has to be, for `grounding` to find it; it need not exist.

        Raises:
            ValueError: the name is not that of a folder.
        """
        if name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"A module's name must be that of a folder, without a path, but got {quoted(name)}.")
        return self.groundings / name

    def grounding(self, name: str) -> "Grounding":
        """A trained grounding module, of a name in `groundings` or of a folder, loaded on first use.

        Raises:
            ValueError: there is no module, or it was trained on another backbone.

        Warns:
            UserWarning: on which backbone it was trained is not known; then only its widths say whether it fits.
        """
        folder = self.groundings / name
        folder = folder if (folder / "config.json").is_file() else Path(name)
        if not (folder / "config.json").is_file():
            known = ", ".join(self.grounding_names()) or "none"
            raise ValueError(f"A grounding module must be in {self.groundings}, which has {known}, but got {quoted(name)}.")
        load = partial(self._loaded_grounding, folder)
        return self._shared.once("grounding", (folder, self.name), load)  # by name: it is of one backbone alone

    def _loaded_grounding(self, folder: Path) -> "Grounding":
        from ovseg.pretrained.grounding import Grounding

        module = Grounding(folder, self.device)
        name, made_for = module.folder.name, module.training["backbone"]
        if made_for is None:
            warnings.warn(f"The grounding module {name} fits {module.training['fits']}.", stacklevel=4)
        elif made_for != self.backbone.fingerprint:
            raise ValueError(f"The grounding module must be trained on this backbone, but {name} was trained on another.")
        return module

    def obstacle(self, part: Literal["clip", "captioner", "dino", "grounding", "segmenter", "joint attention"]) -> str:
        """Why a part of the backbone or of what goes with it cannot be used; empty where it can. Loads nothing."""
        if part == "joint attention":
            return "" if self.checkpoint.joint else "In this backbone words and places do not share their attention."
        folder = self._folder_of(part)
        names = {
            "clip": "CLIP", "dino": "DINO", "grounding": "grounding module", "segmenter": "segmenter trained with masks",
        }  # fmt: skip
        none = f"This backbone has no {names.get(part, part)}"
        if not folder.name:
            return f"{none}."
        return f"{none} ({folder.parent.name}/{folder.name})." if folder.is_absolute() and not folder.is_dir() else ""

    def captioner(self, name: str = "") -> "Captioner | LavisCaptioner":
        """A captioner by its name in the table or its folder, or the one that goes with the backbone; loaded on first use.

        Raises:
            ValueError: there is no captioner of this name, or it cannot be loaded.
        """
        from ovseg.pretrained.captioner import CAPTIONERS, Captioner
        from ovseg.pretrained.lavis import MODELS, LavisCaptioner

        known = (*CAPTIONERS, *MODELS)
        if name and name not in known and not Path(name).is_dir():
            raise ValueError(f"The captioner must be one of {', '.join(known)}, but got {quoted(name)}.")
        source = self._source_of(name)
        in_lavis, device = name in MODELS, str(self.device)
        load = partial(LavisCaptioner, name, device) if in_lavis else partial(Captioner, source, device, self.dtype)
        return self._shared.once("captioner", (source, self.dtype), load)

    def loaded_captioner(self, name: str = "") -> "Captioner | LavisCaptioner | None":
        """The captioner of this name, or the backbone's, if it has been loaded; loads nothing."""
        return self._shared.loaded("captioner", (self._source_of(name), self.dtype))

    def _source_of(self, name: str) -> str:
        from ovseg.pretrained.captioner import CAPTIONERS

        return CAPTIONERS[name].source if name in CAPTIONERS else name or self.checkpoint.captioner

    def weight_files(self, networks: Iterable[str]) -> dict[str, str]:
        """A checksum of the weight files of the backbone and of each of these networks; loads nothing.

        It says whether files are the same ones. Networks that are not in a folder of this machine, or do not go with the
        backbone, are left out.

        Args:
            networks: such as "clip", "captioner", "dino", "grounding", "segmenter".
        """
        own = [part for part in networks if part in PARTS]
        folders = {"backbone": Path(self.checkpoint.source)} | {part: self._folder_of(part) for part in own}
        here = {part: folder for part, folder in folders.items() if folder.name and folder.is_dir()}  # "" names no folder
        files = {part: checksum(folder.rglob("*.safetensors"), folder) for part, folder in here.items()}
        return files | ({"lora": file_checksum(Path(self.checkpoint.lora))} if self.checkpoint.lora else {})

    def _folder_of(self, part: str) -> Path:
        """Where the weights of a network that goes with the backbone are, if they are in a folder."""
        return self.groundings if part == "grounding" else Path(getattr(self.checkpoint, part).removeprefix("local-dir:"))

    @cached_property
    def _backbone(self) -> Backbone:
        return load_backbone(self.name, self.device, self.dtype, offload=self.offload, words=self.words)
