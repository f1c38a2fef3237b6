"""Class words as they are typed, and the nouns of captions."""

import pytest

from ovseg.pocket.world import scene
from ovseg.words.classes import parse_classes, rows_of
from ovseg.words.nouns import classes_of, noun_phrases
from ovseg.words.stuff import STUFF, THINGS, is_stuff


@pytest.mark.parametrize(
    ("caption", "described"),
    [
        ("a brown dog lying on a white kitchen floor", ["brown dog", "white kitchen floor"]),
        ("a small bird sitting on a branch of a tree", ["small bird", "branch", "tree"]),
        ("a photo of two cats and a potted plant on grass", ["cat", "potted plant", "grass"]),
        ("a man riding a wave on top of a surfboard", ["man", "wave", "surfboard"]),
        ("a traffic light hanging over a city street", ["traffic light", "city street"]),
        ("an old red bus driving down the road", ["old red bus", "road"]),
        ("a group of sheep grazing in a green field", ["sheep", "green field"]),
        ("a cat, a dog and a cat", ["cat", "dog"]),
        ("A Cat. A DOG!", ["cat", "dog"]),
        ("running very quickly", []),
        ("", []),
        ("!?.,", []),
        ("a photo", ["photo"]),  # nothing else is shown
    ],
)
def test_noun_phrases(caption: str, described: list[str]) -> None:
    assert [phrase.described for phrase in noun_phrases(caption)] == described


def test_parts_of_a_phrase() -> None:
    (phrase,) = noun_phrases("two old traffic lights")
    assert (phrase.adjectives, phrase.name, phrase.head) == (("old",), "traffic light", "light")


def test_the_things_of_pocket_captions_are_recognised() -> None:
    """Of the things that 100 captions call by their own names."""
    in_captions = recognised = 0
    for index in range(100):
        item = scene("val", index, 32)
        phrases = noun_phrases(item.caption)
        names = {phrase.described for phrase in phrases} | {phrase.name for phrase in phrases}
        written = [thing for thing in set(item.things) if f" {thing} " in f" {item.caption} ".replace(",", " ")]
        in_captions, recognised = in_captions + len(written), recognised + sum(thing in names for thing in written)
    assert in_captions > 80 and recognised / in_captions > 0.97


def test_a_captions_nouns_become_classes_with_their_adjectives() -> None:
    classes = classes_of("a brown dog and a cat on a white background, a brown dog")
    assert [word.phrases for word in classes] == [("brown dog",), ("cat",)]


def test_stuff_and_things_are_apart() -> None:
    assert not STUFF & THINGS
    assert [is_stuff(name) for name in ("sky", "Grass", "cat", "Potted Plant", "unicorn")] == [
        True, True, False, False, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("cat", [("cat",)]),
        ("dog|puppy, traffic light, sky", [("dog", "puppy"), ("traffic light",), ("sky",)]),
        ("  cat ,, grass  \n sky ", [("cat",), ("grass",), ("sky",)]),
        ("hot   dog | sausage", [("hot dog", "sausage")]),
        ("Ägypten, 猫", [("Ägypten",), ("猫",)]),
    ],
)
def test_parse(text: str, phrases: list) -> None:
    assert [word.phrases for word in parse_classes(text)] == phrases


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "none was given"),
        (" , ,", "none was given"),
        ("cat, Cat", "'Cat' is there twice"),
        ("cat|dog, dog", "'dog' is there twice"),
        ("cat|", "phrase between bars"),
        ("cat, background", "cannot be a class"),
        (",".join(f"word{k}" for k in range(300)), "but got 300"),
    ],
)
def test_bad_input_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_classes(text)
    assert "\n" not in str(caught.value)


def test_rows_name_their_class() -> None:
    assert rows_of(parse_classes("dog|puppy, sky")) == (["dog", "puppy", "sky"], [0, 0, 1])
