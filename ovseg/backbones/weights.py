"""Weights under a short name, checks that numbers are finite, and seeded randomness."""

import hashlib
import math
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ovseg.files import file_checksum, read_json

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
        return f"{split_revision(str(source))[0]}@{revision_of(str(source))[:12]}"
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


def split_revision(source: str) -> tuple[str, str | None]:
    """The repository that a source names, and the revision behind its @, if one is pinned."""
    repository, _, revision = source.partition("@")
    return repository, revision or None


def gigabytes_in(folder: Path) -> float:
    """What the weights of a pipeline's folder take in half precision, by the numbers that its files have.

    Of files that differ in their precision alone one counts. One that cannot be read counts nothing: loading says why.
    """
    numbers: dict[str, int] = {}
    for path in folder.glob("*/*.safetensors"):
        with suppress(SafetensorError, OSError), safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
            numbers[str(path).replace(".fp16", "")] = sum(map(math.prod, shapes))
    return 2 * sum(numbers.values()) / 1e9


def say_download(source: str, gigabytes: float) -> None:
    """Say how much of a repository of the hub will be fetched, and onto how much free disk, if it is not in the cache.

    Raises:
        ValueError: there is too little.
    """
    if Path(source).exists() or constants.HF_HUB_OFFLINE or is_cached(source):
        return
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free / 1e9
    size = f"About {gigabytes:.2g} GB of {split_revision(source)[0]} are fetched into {cache}"
    if free < gigabytes:
        raise ValueError(f"{size}, but that disk has {free:.1f} GB free; HF_HOME may name a folder on another one.")
    warnings.warn(f"{size}, which has {free:.0f} GB free.", stacklevel=3)


def is_cached(source: str, files: Iterable[str] = ROOT_FILES) -> bool:
    """Whether one of these files of a repository of the hub lies in the cache: as they stand, any of it."""
    repository, revision = split_revision(source)
    return any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in files)


@contextmanager
def loading(what: str, repository: str = "") -> Iterator[None]:
    """In the block a network is loaded: what the libraries raise is said in one sentence.

    Args:
        what: the network, to begin the sentence.
        repository: of the hub, where it is fetched from one.

    Raises:
        ValueError: it cannot be loaded.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever a damaged file leads them to
        if any(isinstance(cause, GatedRepoError) for cause in _causes(error)):
            page = f"https://huggingface.co/{split_revision(repository)[0]}"
            raise ValueError(
                f"{what} can be fetched by those alone who have agreed to its terms on {page}; then put a token of your"
                " account there (Settings, Access Tokens) into the variable HF_TOKEN."
            ) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{what} must be on disk or on the hub, but loading it failed: {reason}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def read_whole(kind: type, source: str, dtype: torch.dtype | None = None, **options: Any) -> torch.nn.Module:
    """A network of a class of transformers, read from a folder or a repository of the hub; numbers alone are read.

    Args:
        dtype: the precision; that of the files if not given. The class takes what `options` there are.

    Raises:
        ValueError: some of its tensors are not there.
    """
    reading = {"dtype": dtype, "weights_only": True, "output_loading_info": True}
    network, info = kind.from_pretrained(source, **reading, **options)
    check_complete(source, info["missing_keys"])
    say_if_pickled(source)
    return network


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


def check_file(path: Path) -> None:
    """Raise ValueError unless a file of a network is there: a library may go on without it, by what is usual elsewhere."""
    if not path.is_file():
        raise ValueError(f"The network in {path.parent} must be whole, but {path.name} is not there.")


TOKENIZERS = (  # the files of each format; special_tokens_map.json says what fills up a prompt where tokenizer.json does not
    ("tokenizer.json",), ("vocab.json", "merges.txt", "special_tokens_map.json"), ("vocab.txt",), ("spiece.model",),
)  # fmt: skip


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError unless a folder holds a tokenizer with all of its files, in one of its formats."""
    check_file(folder / "tokenizer_config.json")
    lacking = [[name for name in names if not (folder / name).is_file()] for names in TOKENIZERS]
    if all(lacking):
        begun = next((lack for lack, names in zip(lacking, TOKENIZERS, strict=True) if len(lack) < len(names)), lacking[0])
        check_file(folder / begun[0])


def check_padding(folder: Path) -> None:
    """Raise ValueError unless a tokenizer's files say what fills up a prompt: a library takes what is usual elsewhere."""
    files = [folder / name for name in ("tokenizer_config.json", "special_tokens_map.json") if (folder / name).is_file()]
    if not any(read_json(file).get("pad_token") for file in files):
        raise ValueError(f"The tokenizer in {folder} must say what fills up a prompt, but its files have no pad_token.")


UNUSED = re.compile(r".*\.swin\.layernorm\.(weight|bias)")  # of a backbone whose features are read before it


def check_complete(source: str, missing: Iterable[str]) -> None:
    """Raise ValueError unless a network found all its tensors: a library fills up what is missing with random numbers."""
    lacking = sorted(name for name in missing if not UNUSED.fullmatch(name))
    if lacking:
        raise ValueError(f"The weights of {source} must be whole, but {len(lacking)} tensors are not there: {lacking[0]}.")


def _cached(repository: str) -> Path:
    name, revision = split_revision(repository)
    for file in ROOT_FILES:
        path = try_to_load_from_cache(name, file, revision=revision)
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
    """Raise ValueError unless numbers are finite: in float16 what exceeds 65,504 is not, and masks made of it are empty.

    Args:
        what: what they are, in the plural, for the sentence.
        dtype: the precision that they were computed in.
    """
    if all(tensor.is_meta or bool(torch.isfinite(tensor).all()) for tensor in tensors):
        return
    name = str(dtype).removeprefix("torch.")
    advice = "use another number format (--dtype bfloat16 or float32)" if dtype == torch.float16 else "check the weights"
    raise ValueError(f"{what} must be finite, but in {name} some are not; please {advice}.")


def generator(seed: int) -> torch.Generator:
    """A random generator of this seed; on the CPU, so that all devices get the same noise."""
    return torch.Generator().manual_seed(seed)
