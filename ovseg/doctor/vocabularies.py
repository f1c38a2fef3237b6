"""The files of published tokenizers: CLIP's real vocabulary, which ships inside open_clip, and small ones of other kinds."""

import gzip
import json
from pathlib import Path

import open_clip

CLIP_MERGES = 49152 - 256 - 2  # of the file's, as CLIP's own code reads it; the rest are not used
SENTENCES = (
    "a photo of a cat and a dog on green grass under a blue sky", "a man riding a wave on top of a surfboard",
    "a picture of two people sitting at a wooden table with plates of food", "a brown dog lying on a white kitchen floor",
    "a red bus driving down a city street next to tall buildings", "an old t-shirt and a teddy bear's hat, an hour ago",
)  # fmt: skip


def letters_of_bytes() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary, the printable ones first (Radford et al. 2019)."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(code) for code in own] + [chr(256 + k) for k in range(256 - len(own))]


def write_clip_vocabulary(folder: Path, pad: str = "<|endoftext|>") -> None:
    """The tokenizer files of Stable Diffusion's repositories: vocab.json, merges.txt and the two old configurations.

    Args:
        pad: what empty places are filled with; "!" in Stable Diffusion 2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : CLIP_MERGES + 1]
    letters = letters_of_bytes()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": _old_token("<|startoftext|>"), "eos_token": _old_token("<|endoftext|>")}
    special |= {"unk_token": _old_token("<|endoftext|>"), "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    config = {
        **{name: {"__type": "AddedToken", **_old_token(special[name]["content"])} for name in ("bos_token", "eos_token")},
        "unk_token": {"__type": "AddedToken", **_old_token("<|endoftext|>")}, "pad_token": pad, "add_prefix_space": False,
        "do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
        "name_or_path": "openai/clip-vit-large-patch14", "special_tokens_map_file": "./special_tokens_map.json",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def _old_token(content: str) -> dict[str, object]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
