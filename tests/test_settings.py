"""Settings of a method as text."""

import pytest

from ovseg.methods.settings import parse_value


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (int, "3", 3), (float, "0.5", 0.5), (float, "1", 1.0), (bool, "Yes", True), (bool, "false", False),
        (str, "a {}", "a {}"), (tuple[int, ...], "50, 100", (50, 100)), (tuple[float, ...], "(0.1, 1)", (0.1, 1.0)),
        (tuple[int, ...], "", ()),
    ],
)  # fmt: skip
def test_texts_become_values(kind: object, text: str, value: object) -> None:
    assert parse_value("field", kind, text) == value


@pytest.mark.parametrize(
    "kind, text", [(int, "3.5"), (int, "x"), (float, ""), (bool, "perhaps"), (tuple[int, ...], "1, a"), (int, "True")]
)
def test_texts_that_are_no_values_are_refused(kind: object, text: str) -> None:
    with pytest.raises(ValueError, match="field must be"):
        parse_value("field", kind, text)
