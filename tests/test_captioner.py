from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionModel

from ovseg.models import Models
from ovseg.pocket.captions import names_in
from ovseg.pocket.train_captioner import (
    QUERIES,
    begin_with,
    build_captioner,
    build_processor,
    caption_loss,
    encode_captions,
    train_captioner,
)
from ovseg.pocket.train_clip import build_tower
from ovseg.pocket.train_codec import to_tensor
from ovseg.pocket.training import Budget
from ovseg.pocket.world import LABELS, THINGS, scene
from ovseg.pretrained.captioner import Captioner


def test_blip2_captions_and_goes_on_from_a_prefix(captioner_folder: Path, picture: np.ndarray) -> None:
    captioner = Captioner(str(captioner_folder))
    assert captioner.caption(picture) == captioner.caption(picture) != ""
    begun = captioner.caption(picture, "a photo of a cat", longest=3)
    assert begun.startswith("a photo of a cat") and len(begun.split()) <= 8
    assert captioner.caption(picture, beams=1)


def test_what_the_captioner_says_depends_on_the_picture_and_on_the_prefix(
    captioner_folder: Path, picture: np.ndarray
) -> None:
    captioner, read = Captioner(str(captioner_folder)), []
    words = captioner._model.get_input_embeddings()
    hook = words.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0][0].tolist()))
    try:
        captioner.caption(picture, "a photo of a cat", beams=1, longest=1)
    finally:
        hook.remove()
    assert "a photo of a cat" in captioner._processor.tokenizer.decode(read[0], skip_special_tokens=True)
    pictures = [scene("val", k, 64).image for k in range(6)]
    assert len({captioner.caption(image) for image in [picture, *pictures]}) > 1


def test_what_is_no_captioner_is_one_sentence(tiny_folder: Path, tmp_path: Path, with_clip: Models) -> None:
    with pytest.raises(ValueError, match="must be on disk or on the hub, but loading it failed"):
        Captioner(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"must be one of blip, blip-2, but .* is clip_text_model"):
        Captioner(str(tiny_folder / "text_encoder"))
    with pytest.raises(ValueError, match=r"captioner must be one of blip2, .*lavis-blip2, but got 'gpt'"):
        with_clip.captioner("gpt")
    assert with_clip.captioner() is with_clip.captioner()


def test_the_loss_reads_words_and_the_end_and_nothing_else() -> None:
    processor = build_processor(64)
    ids = encode_captions(processor, ("a cat", "a cat and a dog on grass"))
    words = [processor.tokenizer.decode(row[QUERIES:], skip_special_tokens=True).strip() for row in ids]
    assert words == ["a cat", "a cat and a dog on grass"]
    model = build_captioner(processor).eval()
    pictures = to_tensor(np.stack([scene("val", k, 64).image for k in range(2)]), "cpu")
    loss = caption_loss(model, pictures, ids).detach()
    assert 3 < float(loss) < 8  # about the log of the number of words
    padding = ids == processor.tokenizer.pad_token_id
    with torch.no_grad():
        logits = model(pixel_values=pictures, input_ids=ids, attention_mask=(~padding).long()).logits
    counted = ~padding[:, 1:] & (torch.arange(1, ids.shape[1]) > QUERIES)  # neither the picture's places nor the start
    by_hand = torch.nn.functional.cross_entropy(logits[:, :-1][counted], ids[:, 1:][counted])
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-4)


@torch.no_grad()
def test_the_captioner_begins_with_clips_image_tower(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower, model = CLIPVisionModel(build_tower(64)).eval(), build_captioner(build_processor(64)).eval()
    for weight in tower.parameters():
        weight.add_(torch.randn_like(weight) * 0.05)

    def alike(pictures: torch.Tensor) -> torch.Tensor:
        theirs = tower.post_layernorm(tower(pixel_values=pictures).last_hidden_state)
        return torch.nn.functional.cosine_similarity(model.vision_model(pixel_values=pictures).last_hidden_state, theirs, -1)

    pictures = to_tensor(np.stack([scene("val", k, 64).image for k in range(4)]), "cpu")
    assert alike(pictures).mean() < 0.5
    begin_with(model, tower, pictures)
    assert alike(pictures).mean() > 0.9
    # Where all patches deviate alike, nothing is lost.
    tower.embeddings.position_embedding.weight.zero_()
    tiled = torch.randn(1, 3, 16, 16).repeat(1, 1, 4, 4)
    begin_with(model, tower, tiled)
    assert torch.allclose(alike(tiled), torch.ones(1, 17), atol=1e-5)
    with pytest.raises(ValueError, match="run `train clip` first"):
        train_captioner(Budget(tmp_path, 1))


def test_things_are_found_in_captions_by_any_of_their_words() -> None:
    assert names_in("two kittens, a houseplant and a tv on a lawn", LABELS) == {"cat", "potted plant", "tv", "grass"}
    assert names_in("a potted plant", THINGS) == {"potted plant"} and names_in("", THINGS) == set()
    for index in range(60):
        item = scene("train", index, 32)
        assert names_in(item.caption, THINGS) == set(item.things)
