import pytest

from ovseg.words.classes import parse_classes, rows_of


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
