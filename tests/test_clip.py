"""CLIP against open_clip's own network: its vectors, its probabilities and the features of its patches."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from ovseg.models import Models
from ovseg.pretrained.clip import Clip

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


@torch.inference_mode()
@pytest.mark.parametrize("layer", [-1, -2])
def test_keys_are_those_of_a_layers_attention_at_each_patch(
    with_clip: Models, pictures: list[np.ndarray], layer: int
) -> None:
    clip = with_clip.clip
    tower, states = clip._model.visual, []
    keys = clip.dense(pictures, "keys", layer)
    assert keys.shape == (2, tower.transformer.width, *tower.grid_size)
    block = tower.transformer.resblocks[layer]
    hook = block.register_forward_pre_hook(lambda _module, inputs: states.append(inputs[0]))
    squashed = [np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)) for image in pictures]
    mean, std = (torch.tensor(tower.preprocess_cfg[name]) for name in ("mean", "std"))
    clip._model.encode_image(((torch.from_numpy(np.stack(squashed)) / 255 - mean) / std).permute(0, 3, 1, 2))
    hook.remove()
    width = block.attn.embed_dim
    expected = block.ln_1(states[0]) @ block.attn.in_proj_weight[width : 2 * width].T
    expected = (expected + block.attn.in_proj_bias[width : 2 * width])[:, 1:]  # the class token stands first
    assert torch.allclose(keys.flatten(2).mT, expected, atol=1e-4)


@torch.inference_mode()
def test_values_reach_the_space_of_words(with_clip: Models, pictures: list[np.ndarray]) -> None:
    """Where attention is even over patches that are all alike, a patch's value is what the tower makes of the picture."""
    clip = with_clip.clip
    values = clip.dense(pictures, "values")
    assert values.shape == (2, clip.text_embeddings(["cat"]).shape[1], *clip._model.visual.grid_size)
    assert torch.allclose(clip.dense(pictures[:1], "values")[0], values[0], atol=1e-5)
    assert values.flatten(2).std(-1).mean() > 1e-3


def test_what_is_no_clip_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a folder with open_clip_config\.json, but there is none"):
        Clip(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="must be local-dir:FOLDER or NAME/TAG of open_clip's table, but got 'ViT-X/none'"):
        Clip("ViT-X/none")
