"""Dictionary forms of nouns, over the class names of all benchmarks."""

import json
from pathlib import Path

import pytest

import ovseg.evaluation.names
from ovseg.words.nouns import noun_phrases
from ovseg.words.singular import singular

LISTS = json.loads((Path(ovseg.evaluation.names.__file__).parent / "names.json").read_text())
NAMES = sorted(
    {
        phrase.strip()
        for variants in LISTS.values()
        for names in variants.values()
        for entry in names.split(",")
        for phrase in entry.split("|")
        if " in " not in phrase and " body" not in phrase  # SCLIP's sentences: "person in shirt"
    }
)
# Class names that are plurals themselves, with their dictionary form.
PLURAL_NAMES = {
    "buses": "bus", "clouds": "cloud", "leaves": "leaf", "people": "person", "shelves": "shelf", "skis": "ski",
    "stairs": "stair", "waterdrops": "waterdrop", "window blinds": "window blind",
}  # fmt: skip
NO_PLURAL = {"scissors", "bedclothes", "clothes", "chestofdrawers", "sheep", "toothbrus"}
IRREGULAR = {
    "person": "people", "mouse": "mice", "shelf": "shelves", "knife": "knives", "leaf": "leaves", "bookshelf": "bookshelves",
    "chest of drawers": "chests of drawers", "grass": "grasses", "bus": "buses",
}  # fmt: skip


def plural_of(name: str) -> str:
    """The plural of a class name, by rules that share nothing with the code."""
    if name in NO_PLURAL:
        return name
    if name in IRREGULAR:
        return IRREGULAR[name]
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return name + "s"


def said(caption: str) -> str:
    """The name of the last thing that a caption speaks of, with its adjectives."""
    return noun_phrases(caption)[-1].described


def test_the_lists_are_those_of_five_benchmarks() -> None:
    assert set(LISTS) == {"voc", "context", "coco-object", "coco-stuff", "ade20k"} and len(NAMES) > 290


@pytest.mark.parametrize("name", NAMES)
def test_class_names_have_their_dictionary_form_in_singular_and_plural(name: str) -> None:
    form = PLURAL_NAMES.get(name, name)
    whole = " of " in name  # the head is not the last word
    for word in {name, form, plural_of(form)}:
        got = noun_phrases(f"a photo of {word}")[-1].name if whole else singular(word.split()[-1])
        assert got == (form if whole else form.split()[-1]), word
    assert said(f"a photo of a {form}") == said(f"a photo of two {plural_of(form)}") == form


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("skis", "ski"), ("giraffes", "giraffe"), ("giraffe", "giraffe"), ("toaster", "toaster"), ("toasters", "toaster"),
        ("glass", "glass"), ("glasses", "glass"), ("buses", "bus"), ("bus", "bus"), ("houses", "house"), ("knives", "knife"),
        ("stoves", "stove"), ("gloves", "glove"), ("movies", "movie"), ("cities", "city"), ("shoes", "shoe"),
        ("potatoes", "potato"), ("headaches", "headache"), ("benches", "bench"), ("women", "woman"), ("snowmen", "snowman"),
        ("specimen", "specimen"), ("tennis", "tennis"), ("taxis", "taxi"), ("emus", "emu"), ("cactus", "cactus"),
        ("vases", "vase"), ("boxes", "box"), ("quizzes", "quiz"), ("mazes", "maze"), ("eyes", "eye"), ("ties", "tie"),
        ("wall-tiles", "wall-tile"), ("vies", "vie"), ("dog's", "dog"), ("canvases", "canvas"), ("horses", "horse"),
        ("lens", "lens"), ("cacti", "cactus"), ("wolves", "wolf"), ("olives", "olive"), ("causes", "cause"), ("gas", "gas"),
        ("us", "us"),
    ],
)  # fmt: skip
def test_singular(word: str, form: str) -> None:
    assert singular(word) == form


@pytest.mark.parametrize(
    ("caption", "heads"),
    [
        ("a man eating a hot dog", ["man", "hot dog"]),
        ("two hot dogs on a plate", ["hot dog", "plate"]),
        ("a hot cat beside a dog", ["cat", "dog"]),
        ("a child with teddy bears", ["child", "teddy bear"]),
        ("a remote on a sofa", ["remote", "sofa"]),
        ("a black and white cat", ["cat"]),
        ("an ottoman and a giraffe", ["ottoman", "giraffe"]),
        ("the cat is black", ["cat"]),
        ("a couple of skis leaning on a wall", ["ski", "wall"]),
        ("two chests of drawers", ["chest of drawers"]),
    ],
)
def test_heads_of_a_caption(caption: str, heads: list[str]) -> None:
    assert [phrase.head for phrase in noun_phrases(caption)] == heads


def test_the_work_does_not_grow_with_the_square_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tagger, whose time grows with the square of a word's length, gets no long word; every place is looked at once."""
    from ovseg.words import nouns

    given: list[str] = []
    tagger = nouns.tagger()
    monkeypatch.setattr(tagger, "tag_sent", lambda words: given.extend(words) or [(word, word, "NN1") for word in words])
    looked = []
    monkeypatch.setattr(nouns, "_fixed_at", lambda words, place: looked.append(place) or (1, ""))
    noun_phrases("cat " * 500 + "x" * 100_000 + " dog" * 500)
    assert given == ["cat"] * 500 + ["dog"] * 500 and len(looked) == 1000
