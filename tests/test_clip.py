"""CLIP against open_clip's own network; prompts that share their beginnings against encoding each by itself."""

import itertools
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from ovseg.models import Models
from ovseg.pretrained import prompt_tree
from ovseg.pretrained.clip import Clip
from ovseg.pretrained.prompt_tree import encode_tree, shares_prefixes

PROMPTS = ["a photo of a cat", "a potted plant"]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, hw + (3,), dtype=np.uint8) for hw in ((60, 90), (64, 64))]


@torch.inference_mode()
def test_vectors_are_open_clips_with_length_1(with_clip: Models, pictures: list[np.ndarray]) -> None:
    clip = with_clip.clip
    model, look = open_clip.create_model_from_pretrained(clip.source)
    seen = model.eval().encode_image(torch.stack([look(Image.fromarray(image)) for image in pictures]))
    read = model.encode_text(open_clip.get_tokenizer(clip.source)(PROMPTS))
    assert not torch.allclose(seen.norm(dim=1), torch.ones(2), atol=0.1)
    assert not torch.allclose(read.norm(dim=1), torch.ones(2), atol=0.1)
    seen, read = (rows / rows.norm(dim=1, keepdim=True) for rows in (seen, read))
    assert torch.allclose(clip.image_embeddings(pictures), seen, atol=1e-5)
    assert torch.allclose(clip.text_embeddings(PROMPTS), read, atol=1e-5)
    assert torch.allclose(clip.similarity(pictures, PROMPTS), seen @ read.T, atol=1e-5)
    scores = (model.logit_scale.exp() * seen @ read.T).softmax(1)
    assert torch.allclose(clip.probabilities(pictures, PROMPTS), scores, atol=1e-4)


@torch.inference_mode()
def test_a_name_is_the_mean_of_its_templates_with_length_1(with_clip: Models) -> None:
    clip, templates = with_clip.clip, ["a photo of a {}", "a {} on grass", "{}"]
    rows = clip.class_embeddings(["cat", "potted plant"], templates)
    for name, row in zip(["cat", "potted plant"], rows, strict=True):
        mean = clip.text_embeddings([template.replace("{}", name) for template in templates]).mean(0)
        assert mean.norm() < 0.999 and torch.allclose(row, mean / mean.norm(), atol=1e-5)


def test_what_is_no_clip_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a folder with open_clip_config\.json, but there is none"):
        Clip(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="must be local-dir:FOLDER or NAME/TAG of open_clip's table, but got 'ViT-X/none'"):
        Clip("ViT-X/none")


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
