"""Prompts that share their beginnings, against encoding each by itself."""

import itertools

import open_clip
import pytest
import torch

from ovseg.models import Models
from ovseg.pretrained import prompt_tree
from ovseg.pretrained.prompt_tree import encode_tree, shares_prefixes

WORDS = ("cat", "potted plant", "dog", "traffic light", "boat")
SUBSETS = [
    " and ".join(f"a {word}" for word in part)
    for size in range(1, len(WORDS) + 1)
    for part in itertools.combinations(WORDS, size)
]


@torch.inference_mode()
def test_subsets_are_what_plain_encoding_gives(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, ran = with_clip.clip, []
    plain = clip.text_embeddings(SUBSETS)
    step = prompt_tree._step
    monkeypatch.setattr(
        prompt_tree, "_step", lambda block, state, before: ran.append(len(state)) or step(block, state, before)
    )
    shared = clip.subset_embeddings(SUBSETS)
    assert torch.allclose(shared, plain, atol=1e-5)
    layers = len(clip._model.transformer.resblocks)
    assert sum(ran) / layers < 0.2 * len(SUBSETS) * clip._model.context_length
    ran.clear()
    assert clip.subset_embeddings(SUBSETS) is shared and not ran


@torch.inference_mode()
def test_openais_layout_with_random_weights() -> None:
    """The text tower of ViT-B/32 as OpenAI's checkpoints have it, made smaller."""
    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32-quickgelu")["text_cfg"] | {"layers": 2, "width": 64, "heads": 2}
    text = open_clip.model._build_text_tower(32, open_clip.CLIPTextCfg(**config))
    assert shares_prefixes(text)
    tokens = open_clip.tokenize(SUBSETS, context_length=text.context_length)
    rows = [row[: int(row.argmax()) + 1].tolist() for row in tokens]
    assert torch.allclose(encode_tree(text, rows) @ text.text_projection, text(tokens), atol=1e-4)
