"""Words in prompts with the real vocabulary of CLIP: where they stand, which tokens are theirs, and what does not fit."""

from pathlib import Path

import open_clip
import pytest
import torch
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ovseg.backbones.base import Sampling, query_states
from ovseg.backbones.phrases import filled
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.doctor.vocabularies import write_clip_vocabulary
from ovseg.factory.orders import Order
from ovseg.methods.diffsegmenter.method import DiffSegmenter, shortened
from ovseg.models import Models
from ovseg.pocket.bundle import build_pipeline
from ovseg.pretrained.captioner import as_sentence, rejoined
from ovseg.words.classes import indefinite, parse_classes, prompt_of


@pytest.fixture(scope="module")
def real_words(models: Models, tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    """The tiny network with a text encoder for CLIP's own 49,408 tokens and 77 places."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip_words")
    write_clip_vocabulary(folder)
    text = CLIPTextConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    parts = models.backbone.pipeline
    pipeline = build_pipeline(parts.vae, CLIPTextModel(text), CLIPTokenizer.from_pretrained(folder), parts.unet)
    return StableDiffusion(pipeline, "real words", "cpu")


def words_at(backbone: StableDiffusion, prompt: str, columns: tuple[int, ...]) -> list[str]:
    tokenizer = backbone.pipeline.tokenizer
    return tokenizer.convert_ids_to_tokens([tokenizer(prompt).input_ids[k] for k in columns])


SENTENCES = [
    "a photo of a cat and a dog", "men's room, t-shirt", "café au lait", "O'Neill's 4x4 hi-fi", "the dogs' tails -- well",
]  # fmt: skip


def test_the_vocabulary_is_clips_own(real_words: StableDiffusion) -> None:
    own = open_clip.get_tokenizer("ViT-L-14")(SENTENCES)
    for sentence, expected in zip(SENTENCES, own.tolist(), strict=True):
        ids = real_words.pipeline.tokenizer(sentence).input_ids
        assert ids == expected[: len(ids)]


@pytest.mark.parametrize(
    ("template", "word", "tokens"),
    [
        ("a photograph of {}", "photograph", ["photograph</w>"]),
        ("a {} in a picture", "picture", ["picture</w>"]),
        ("a photo of a {}", "hair-drier", ["hair</w>", "-</w>", "drier</w>"]),
        ("a photo of a {}", "teddy bear's hat", ["teddy</w>", "bear</w>", "'s</w>", "hat</w>"]),
        ("a photo of a {}", "bear’s hat", ["bear</w>", "'s</w>", "hat</w>"]),
        ("a light on a {}, red", "traffic light", ["traffic</w>", "light</w>"]),
        ("{} and a light", "light", ["light</w>"]),
    ],
)
def test_the_template_says_where_the_word_is(
    real_words: StableDiffusion, template: str, word: str, tokens: list[str]
) -> None:
    prompt, start = filled(template, word)
    assert prompt[start : start + len(word)] == word
    (span,) = real_words.encode_text([prompt], [word], starts=[start]).spans
    assert words_at(real_words, prompt.replace("’", "'"), span) == tokens
    assert span == tuple(range(span[0], span[0] + len(tokens)))
    before = len(real_words.pipeline.tokenizer(template.partition("{}")[0]).input_ids) - 1  # without the end token
    assert span[0] == before


def test_methods_and_queries_ask_for_the_words_place(real_words: StableDiffusion) -> None:
    models = Models("pocket", device="cpu")
    models._backbone = real_words
    classes = parse_classes("photograph, hot dog")
    assert DiffSegmenter().encode(models, classes).spans == ((4,), (4, 5))
    assert DiffSegmenter(last_token=True).encode(models, classes).spans == ((4,), (5,))
    (state,) = query_states(real_words, ["photograph"], "a photograph of a {}")
    assert torch.allclose(state, real_words.encode_text(["a photograph of a photograph"], [""]).embeddings[0, 5], atol=1e-6)


def test_emphasis_is_at_the_words_own_place(real_words: StableDiffusion) -> None:
    prompt, start = filled("a photograph of {}", "photograph")
    plain, strong = (real_words.encode_text([prompt], ["photograph"], by, starts=[start]) for by in (1.0, 1.21))
    changed = (plain.embeddings != strong.embeddings).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [4]


def test_attention_is_gathered_at_the_words_own_place(real_words: StableDiffusion) -> None:
    prompt, sampling = "a photo of a photo", Sampling(1, 1.0)
    first, second = (real_words.generate(prompt, [1], sampling, "photo", start=start)[0].attribution for start in (None, 13))
    assert first.shape == second.shape and not torch.allclose(first, second)
    with pytest.raises(ValueError, match="must begin at character 5 of its prompt"):
        real_words.generate(prompt, [1], sampling, "photo", start=5)


def test_a_pair_knows_where_each_of_its_words_stands() -> None:
    words = ("hot dog", "dog")
    order = Order(0, words, prompt_of(words), 0)
    assert [order.prompt[order.start_of(k) :] for k in range(2)] == ["hot dog and a dog", "dog"]


def test_what_does_not_fit_is_said(real_words: StableDiffusion, with_clip: Models) -> None:
    fitting, long = "cat " * 75, "cat " * 76
    assert real_words.encode_text([fitting], ["cat"]).embeddings.shape == (1, 77, 16)
    with pytest.raises(ValueError, match=r"must fit 77 tokens, but it has 78; please shorten it: 'cat"):
        real_words.encode_text(["a cat", long], ["cat", "cat"])
    with pytest.raises(ValueError, match="must fit 77 tokens"):
        real_words.generate(long, [0], Sampling(1, 1.0))
    with pytest.warns(UserWarning, match="Of the negative prompt's 78 tokens only 77 are used"):
        real_words.generate("a cat", [0], Sampling(1, 1.0, long))
    room = with_clip.clip._model.context_length
    assert with_clip.clip.text_embeddings(["a cat", "cat " * (room - 2)]).shape[0] == 2
    for embed in (with_clip.clip.text_embeddings, with_clip.clip.subset_embeddings):
        with pytest.raises(ValueError, match=rf"must fit {room} tokens, but this one does not: 'cat"):
            embed(["a cat", "cat " * (room - 1)])


def test_a_captioners_words_that_do_not_fit_are_left_out_with_a_warning(real_words: StableDiffusion) -> None:
    prompt = "a photograph of cat"
    assert shortened(real_words, f"{prompt} on grass", prompt) == f"{prompt} on grass"
    with pytest.warns(UserWarning, match="was shortened to 'a photograph of cat on"):
        kept = shortened(real_words, f"{prompt} on" + " grass" * 80, prompt)
    assert kept == f"{prompt} on" + " grass" * 70 and real_words.fits(kept) and not real_words.fits(f"{kept} grass")
    assert shortened(real_words, "cat " * 80, "cat " * 80) == "cat " * 80  # nothing of it is the captioner's


def test_what_open_clips_own_tokenizer_would_cut_is_said(with_clip: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = with_clip.clip
    monkeypatch.setattr(clip, "_tokenizer", open_clip.get_tokenizer("ViT-L-14"))
    monkeypatch.setattr(clip._model, "context_length", 77)
    assert clip._tokens(["cat " * 75]).shape == (1, 77)
    with pytest.raises(ValueError, match="must fit 77 tokens"):
        clip._tokens(["cat " * 76])


@pytest.mark.parametrize(
    "phrase",
    [
        "an hour", "a unicorn", "an umbrella", "a uniform", "an urn", "a ukulele", "a utensil",
        "a European car", "a ewe", "a one-way sign", "an onion", "an Apple", "an SUV", "a TV", "an x-ray", "a house",
        "an heirloom", "a horse", "an unusual cat", "a used car", "a sheep", "an egg", "a UFO", "a HOUSE",
    ],
)  # fmt: skip
def test_articles_follow_the_sound(phrase: str) -> None:
    assert indefinite(phrase.split(" ", 1)[1]) == phrase


@pytest.mark.parametrize(
    ("answer", "prefix", "sentence"),
    [
        ("a photograph of hair - drier on a table.", "a photograph of hair-drier", "a photograph of hair-drier on a table"),
        ("a photograph of cafe at night", "a photograph of Café", "a photograph of Café at night"),
        ("on a table", "a photograph of a cat", "a photograph of a cat on a table"),
        ("A photo of cat", "a photo of cat", "a photo of cat"),
        ("a cat .", "", "a cat"),
        ("", "a cat", "a cat"),
    ],
)
def test_a_continued_prompt_begins_letter_for_letter_with_it(answer: str, prefix: str, sentence: str) -> None:
    assert as_sentence(answer, prefix) == sentence


@pytest.mark.parametrize(
    ("split", "joined"),
    [
        ("a man ' s t - shirt , red", "a man's t-shirt, red"),
        ("the dogs ' tails don ' t wag !", "the dogs' tails don't wag!"),
        ("a hi - fi and a hair - drier", "a hi-fi and a hair-drier"),
    ],
)
def test_words_that_berts_tokenizer_takes_apart_are_joined_again(split: str, joined: str) -> None:
    assert rejoined(split) == joined


def test_pads_are_the_ones_of_each_repository(tmp_path: Path) -> None:
    write_clip_vocabulary(tmp_path, pad="!")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(["a cat"], padding="max_length").input_ids[0]
    assert len(ids) == 77 and set(ids[4:]) == {0} and tokenizer.convert_ids_to_tokens(0) == "!"
