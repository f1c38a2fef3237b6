"""Weights under a short name, checks that numbers are finite, and seeded randomness."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from torch import Tensor

from ovseg.files import file_checksum

WEIGHT_FILE = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|open_clip_model|open_clip_pytorch_model)"
    r"(?P<half>\.fp16)?(-\d+-of-\d+)?(?P<half_behind>\.fp16)?\.(?P<kind>safetensors|bin)"
)
ROOT_FILES = (  # one of them lies in every repository
    "model_index.json", "config.json", "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)  # fmt: skip
# What the shipped files were called when names were made of the numbers of a loaded network. Prototypes and grounding
# modules that were made then hold these names, and stay valid as long as the files are the very same.
EARLIER_NAMES: Mapping[str, str] = {
    "fd88405407fc": "f4769e7daf2b", "6d43254a8340": "da58fbd40774", "d7e9e37f9d82": "8a2526948a8a",  # the pocket backbone
    "fe557c443fa0": "a11dbc6f4a9d", "2c07a3ec24b4": "12f93e94b7f5", "53b946afc86a": "cfb66a18fec7",  # CLIP, DINO, captioner
}  # fmt: skip


def name_of_weights(source: str | Path) -> str:
    """A short name for the weights of a folder or of a repository of the hub; the same in every precision.

    A folder's is the hash of its files: of those in full precision where it has both kinds. A repository's is its id with
    the revision that lies in the cache, whichever of its files are read.

    Raises:
        ValueError: the folder has no weights, or the repository was never fetched.
    """
    folder = Path(source)
    if not folder.is_dir():
        return f"{source}@{revision_of(str(source))[:12]}"
    total = hashlib.sha256()
    for path in weight_files(folder):
        total.update(bytes.fromhex(file_checksum(path)))
    name = total.hexdigest()[:12]
    return EARLIER_NAMES.get(name, name)


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder that hold its weights, in the order of their names.

    Of the same weights in several files safetensors count before pickles, and full precision before half.

    Raises:
        ValueError: there are none.
    """
    kinds: dict[tuple[bool, bool], list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := WEIGHT_FILE.fullmatch(path.name):
            rank = match["kind"] == "bin", bool(match["half"] or match["half_behind"])
            kinds.setdefault(rank, []).append(path)
    if not kinds:
        raise ValueError(f"The folder {folder} must hold weights (.safetensors or .bin), but holds none.")
    return kinds[min(kinds)]


def revision_of(repository: str) -> str:
    """The commit of a repository of the hub that lies in the cache.

    Raises:
        ValueError: there is none.
    """
    return _cached(repository).name


@contextmanager
def loading(what: str, *more: type[Exception]) -> Iterator[None]:
    """In the block a network is loaded: what the libraries raise is said in one sentence.

    Args:
        what: the network, to begin the sentence.
        more: other errors that mean the same.

    Raises:
        ValueError: it cannot be loaded.
    """
    try:
        yield
    except (OSError, SafetensorError, UnpicklingError, *more) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{what} must be on disk or on the hub, but loading it failed: {reason}") from error


def say_if_pickled(source: str) -> None:
    """Warn where the weights of a folder or a repository are a pickle. It is read with `weights_only`: it runs no code.

    Raises:
        ValueError: there are no weights.
    """
    folder = Path(source) if Path(source).is_dir() else _cached(source)
    if weight_files(folder)[0].suffix == ".bin":
        warnings.warn(
            f"The weights of {source} are a .bin file, not safetensors; numbers alone were read of it (weights_only).",
            stacklevel=3,
        )


UNUSED = re.compile(r".*\.swin\.layernorm\.(weight|bias)")  # of a backbone whose features are read before it


def check_complete(source: str, missing: Iterable[str]) -> None:
    """Check that a network found all its tensors: a library fills up what is missing with random numbers.

    Raises:
        ValueError: tensors are missing.
    """
    lacking = sorted(name for name in missing if not UNUSED.fullmatch(name))
    if lacking:
        raise ValueError(f"The weights of {source} must be whole, but {len(lacking)} tensors are not there: {lacking[0]}.")


def _cached(repository: str) -> Path:
    for name in ROOT_FILES:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path).parent
    raise ValueError(f"The repository {repository} must be in the cache of the hub, but it is not.")


def fingerprint(network: torch.nn.Module) -> str:
    """A short name for the weights of a network that was not read from files: the same on any device.

    Made from the name and shape of every tensor and the sum of its absolute values, rounded to three digits.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().abs().sum()):.3g}".encode())
    return total.hexdigest()[:12]


def check_finite(what: str, dtype: torch.dtype, *tensors: Tensor) -> None:
    """Check that numbers are numbers: in float16 what exceeds 65,504 is infinite, and masks made of it are empty.

    Args:
        what: what they are, in the plural, for the sentence.
        dtype: the precision that they were computed in.

    Raises:
        ValueError: one is infinite or not a number.
    """
    if all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        return
    name = str(dtype).removeprefix("torch.")
    advice = "use another number format (--dtype bfloat16 or float32)" if dtype == torch.float16 else "check the weights"
    raise ValueError(f"{what} must be finite, but in {name} some are not; please {advice}.")


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of this seed; on the CPU by default, so that all devices get the same noise."""
    return torch.Generator(device).manual_seed(seed)
