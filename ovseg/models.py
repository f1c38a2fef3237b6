"""`Models`: loads every network lazily, once, and owns its device and dtype."""

import hashlib
import re
import threading
import warnings
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from huggingface_hub import try_to_load_from_cache

from ovseg.assets import ASSETS, kept_in, variable
from ovseg.backbones import BACKBONES, Backbone, find_checkpoint, load_backbone
from ovseg.files import checksum
from ovseg.limits import quoted
from ovseg.types import named

if TYPE_CHECKING:
    from ovseg.pretrained.captioner import Captioner
    from ovseg.pretrained.clip import Clip
    from ovseg.pretrained.dino import Dino
    from ovseg.pretrained.grounding import Grounding
    from ovseg.pretrained.lavis import LavisCaptioner
    from ovseg.pretrained.proposals import CutlerWeights, Proposals

SHIPPED = ASSETS / "pocket" / "prototypes"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


def best_device() -> str:
    """The accelerator that torch finds, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Models:
    """The networks of one process. Making it loads nothing; each network is loaded when it is first asked for.

    Args:
        backbone: a name of `BACKBONES` or the path of a local diffusers folder.
        device: "cpu", "cuda", "cuda:1", "mps"; the best there is if not given.
        dtype: one of `DTYPES`; half precision on accelerators and float32 on the CPU if not given.

    Raises:
        ValueError: the backbone, device or dtype is unknown.
    """

    def __init__(self, backbone: str = "pocket", device: str | None = None, dtype: str | None = None) -> None:
        self.name, self.checkpoint = backbone, find_checkpoint(backbone)
        self.device = _device(device or best_device())
        default = "float32" if self.device.type == "cpu" else "float16"
        self.dtype = named(DTYPES, "dtype", dtype or default)
        self._lock, self._clip_lock, self._captioner_lock, self._dino_lock = (threading.Lock() for _ in range(4))
        self._grounding_lock = threading.Lock()
        self._captioners: dict[str, Captioner | LavisCaptioner] = {}
        self._groundings: dict[Path, Grounding] = {}
        self._clips: dict[str, Clip] = {}

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

    def __reduce__(self) -> tuple:
        """Pickled as what to load, not as what is loaded: another process loads for itself."""
        return Models, (self.name, str(self.device), self.dtype_name)

    @property
    def backbone(self) -> Backbone:
        """The diffusion network, loaded on first use; visitors who come meanwhile wait for the same one."""
        with self._lock:
            return self._backbone

    @property
    def clip(self) -> "Clip":
        """The picture-and-text network that goes with the backbone, loaded on first use."""
        with self._clip_lock:
            return self._clip

    def clip_named(self, source: str = "") -> "Clip":
        """A CLIP by what open_clip calls it, or the one that goes with the backbone where it is empty; loaded on first use.

        Raises:
            ValueError: there is no such CLIP, or it cannot be loaded.
        """
        if source in ("", self.checkpoint.clip):
            return self.clip
        from ovseg.pretrained.clip import Clip

        with self._clip_lock:
            if source not in self._clips:
                self._clips[source] = Clip(source, self.device, self.dtype)
            return self._clips[source]

    @property
    def dino(self) -> "Dino":
        """The self-supervised transformer that goes with the backbone, loaded on first use."""
        with self._dino_lock:
            return self._dino

    @cached_property
    def prototype_folders(self) -> tuple[Path, Path | None]:
        """Where OVDiff's prototypes are kept, `OVSEG_PROTOTYPES` or a folder of the user's cache, and the shipped ones."""
        return kept_in("OVSEG_PROTOTYPES", "prototypes"), SHIPPED

    def proposals(self, name: str) -> "Proposals":
        """What finds objects of any class in a picture: "maskcut", or "cutler" from the folder that `OVSEG_CUTLER` names.

        Raises:
            ValueError: CutLER, its folder or its libraries are not there.
        """
        from ovseg.pretrained.proposals import Cutler, by_maskcut

        if name == "maskcut":
            return by_maskcut(self.dino)
        return Cutler(_cutler_folder(), str(self.device))

    def cutler_weights(self) -> "CutlerWeights":
        """The file of CutLER's weights in the folder that `OVSEG_CUTLER` names.

        Raises:
            ValueError: that is not set.
        """
        from ovseg.pretrained.proposals import CutlerWeights

        return CutlerWeights(_cutler_folder())

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
        if source in self._captioners or name in MODELS:  # LAVIS downloads when it is loaded, and does not say what it has
            return source in self._captioners
        return Path(source).is_dir() or _is_cached(source, ("model.safetensors", "model.safetensors.index.json"))

    def has_clip(self, source: str) -> bool:
        """Whether this CLIP, by what open_clip calls it, can be loaded without a download. Loads nothing."""
        if source in self._clips:
            return True
        from open_clip import get_pretrained_cfg  # here, because open_clip takes seconds to import

        name, _, tag = source.partition("/")
        repository = (get_pretrained_cfg(name, tag) or {}).get("hf_hub", "").strip("/")
        return bool(repository) and _is_cached(repository, ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))

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
        """A trained grounding module, loaded on first use.

        Args:
            name: of a folder in `groundings`, or the path of any folder.

        Raises:
            ValueError: there is no module, or it was trained on another backbone.

        Warns:
            UserWarning: on which backbone it was trained is not known; then only its widths say whether it fits.
        """
        from ovseg.pretrained.grounding import Grounding

        folder = self.groundings / name
        folder = folder if (folder / "config.json").is_file() else Path(name)
        if not (folder / "config.json").is_file():
            known = ", ".join(self.grounding_names()) or "none"
            raise ValueError(f"A grounding module must be in {self.groundings}, which has {known}, but got {quoted(name)}.")
        with self._grounding_lock:
            if folder not in self._groundings:
                loaded = Grounding(folder, self.device)
                if loaded.training["backbone"] is None:
                    warnings.warn(f"The grounding module {folder.name} fits {loaded.training['fits']}.", stacklevel=2)
                elif loaded.training["backbone"] != self.backbone.fingerprint:
                    raise ValueError(
                        f"The grounding module must be trained on this backbone, but {folder.name} was trained on another."
                    )
                self._groundings[folder] = loaded
            return self._groundings[folder]

    def obstacle(self, part: Literal["clip", "captioner", "dino", "grounding"]) -> str:
        """Why a network that goes with the backbone cannot be used here; empty where it can. Loads nothing."""
        folder = self._folder_of(part)
        is_missing = folder.is_absolute() and not folder.is_dir()
        names = {"clip": "CLIP", "dino": "DINO", "grounding": "grounding module"}
        return f"This backbone has no {names.get(part, part)} ({folder.parent.name}/{folder.name})." if is_missing else ""

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
        with self._captioner_lock:
            if source not in self._captioners:
                in_lavis = name in MODELS
                self._captioners[source] = (
                    LavisCaptioner(name, str(self.device)) if in_lavis else Captioner(source, self.device, self.dtype)
                )
            return self._captioners[source]

    def loaded_captioner(self, name: str = "") -> "Captioner | LavisCaptioner | None":
        """The captioner of this name, or the backbone's, if it has been loaded; loads nothing."""
        with self._captioner_lock:
            return self._captioners.get(self._source_of(name))

    def _source_of(self, name: str) -> str:
        from ovseg.pretrained.captioner import CAPTIONERS

        return CAPTIONERS[name].source if name in CAPTIONERS else name or self.checkpoint.captioner

    def weight_files(self, networks: Iterable[str]) -> dict[str, str]:
        """A checksum of the weight files of the backbone and of each of these networks; loads nothing.

        It says whether files are the same ones. Networks that are not in a folder of this machine are left out.

        Args:
            networks: some of "clip", "captioner", "dino", "grounding".
        """
        folders = {"backbone": Path(self.checkpoint.source)} | {part: self._folder_of(part) for part in networks}
        return {part: checksum(folder.rglob("*.safetensors"), folder) for part, folder in folders.items() if folder.is_dir()}

    def _folder_of(self, part: str) -> Path:
        """Where the weights of a network that goes with the backbone are, if they are in a folder."""
        return self.groundings if part == "grounding" else Path(getattr(self.checkpoint, part).removeprefix("local-dir:"))

    @cached_property
    def _clip(self) -> "Clip":
        from ovseg.pretrained.clip import Clip  # here, because open_clip takes seconds to import

        return Clip(self.checkpoint.clip, self.device, self.dtype)

    @cached_property
    def _dino(self) -> "Dino":
        from ovseg.pretrained.dino import Dino

        return Dino(self.checkpoint.dino, self.device, self.dtype)

    @cached_property
    def _backbone(self) -> Backbone:
        return load_backbone(self.name, self.device, self.dtype)


def _is_cached(repository: str, files: Iterable[str]) -> bool:
    """Whether one of these files of a repository of the hub is on this machine."""
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)


def _cutler_folder() -> Path:
    folder = variable("OVSEG_CUTLER")
    if folder is None:
        raise ValueError(
            "CutLER needs its folder in the variable OVSEG_CUTLER, but that is not set: its licence (CC BY-NC-SA 4.0, not"
            " for commercial use) keeps it out of this project. Fetch it yourself, or take masks=maskcut."
        )
    return Path(folder)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"The device must be one that torch can use here, but {name!r} is not: {reason}") from error
    return device
