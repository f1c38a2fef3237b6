"""The pocket bundle's tokenizer: CLIP's, with no more merges than the words of the pocket world need.

A word is split as by the full list of BPE merges if the shorter list has every merge that is applied to the word. So pocket
words become the same tokens as in Stable Diffusion, and other words become more and shorter tokens.
"""

import gzip
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from jaxtyping import Int
from torch import Tensor
from transformers import CLIPTokenizer

from ovseg.files import as_json, write_whole
from ovseg.pocket.captions import OPENINGS, PLURALS
from ovseg.pocket.world import LABELS
from ovseg.words.notes import SYNONYMS

START, END = "<|startoftext|>", "<|endoftext|>"
PAD = "!"  # as in Stable Diffusion 2: a token of its own, so that padding can learn to mean nothing
CONTEXT_LENGTH = 32
COMMON_MERGES = 600  # first merges of the list that are always kept, so that unknown words are not split into letters
FUNCTION_WORDS = "a an the and in front of on under with behind two near by at photo picture image one three next to"


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Int[Tensor, "b tokens"]:
    """Token ids, padded to `CONTEXT_LENGTH`."""
    return tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids


def clip_merges() -> list[str]:
    """CLIP's merges in rank order, from the list that open_clip carries."""
    packed = files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    return gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]


def world_words() -> set[str]:
    """Every word that may occur in a caption of the pocket world."""
    phrases = [*LABELS, *OPENINGS, *(word for words in SYNONYMS.values() for word in words), *PLURALS.values()]
    phrases += [f"{name}s" for name in LABELS] + [f"{w}s" for words in SYNONYMS.values() for w in words]
    return {word for phrase in [*phrases, FUNCTION_WORDS] for word in phrase.split()}


def merges_of(word: str, ranks: dict[str, int]) -> set[str]:
    """The merges that BPE applies to one word, lowest rank first."""
    pieces, used = " ".join([*word[:-1], f"{word[-1]}</w>"]), set()
    while " " in pieces:
        pairs = [f"{left} {right}" for left, right in pairwise(pieces.split())]
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        used.add(best)
        pieces = re.sub(rf"(?<!\S){re.escape(best)}(?!\S)", best.replace(" ", ""), pieces)
    return used


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write `vocab.json` and `merges.txt` into `folder` and load them as a `CLIPTokenizer`."""
    from open_clip.tokenizer import bytes_to_unicode

    merges = clip_merges()
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    kept = set(merges[:COMMON_MERGES]).union(*(merges_of(word, ranks) for word in world_words()))
    chosen = [merge for merge in merges if merge in kept]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(m.replace(" ", "") for m in chosen), START, END]
    write_whole(folder / "vocab.json", as_json({token: k for k, token in enumerate(tokens)}, None))
    write_whole(folder / "merges.txt", ("\n".join(["#version: 0.2", *chosen]) + "\n").encode())
    return CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT_LENGTH, pad_token=PAD)
