import pytest

from ovseg.pocket.world import LABELS, scene
from ovseg.words.nouns import noun_phrases


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


def test_the_things_of_pocket_captions_are_found() -> None:
    """Of the things that 100 captions call by their own names."""
    named = found = 0
    for index in range(100):
        item = scene("val", index, 32)
        names = {phrase.described for phrase in noun_phrases(item.caption)} | {
            phrase.name for phrase in noun_phrases(item.caption)
        }
        said = [thing for thing in set(item.things) if f" {thing} " in f" {item.caption} ".replace(",", " ")]
        named, found = named + len(said), found + sum(thing in names for thing in said)
    assert named > 80 and found / named > 0.97 and set(LABELS) >= {"cat"}
