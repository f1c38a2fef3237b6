"""Settings of a method as text, and a method with settings as text and back."""

import re
from argparse import ArgumentParser
from dataclasses import fields, replace
from typing import get_args, get_origin, get_type_hints

import pytest

from ovseg.commands.common import add_method, configuration_of
from ovseg.compare import read_variants
from ovseg.compare.variants import board_of
from ovseg.demo.link import Link
from ovseg.doors import inputs
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.methods import DiffSegmenter, FreeSegDiff, Method, modes_of, suited_to
from ovseg.methods.grammar import Configuration, read_method, settings_text
from ovseg.methods.ovdiff.method import OVDiff
from ovseg.methods.settings import as_text, label_of, parse_value, read_setting, split, take_setting
from ovseg.models import Models
from tests.browsers import ROOT

ODD = ["", " ", "a, b: {}", 'say "hi" {}', '"', '""', "a+b=c;d", " {} ", "\\n{}\n", "mode=released", "ein Käfer {}"]


def odd_values(kind: object) -> list[object]:
    """Values of a field's type that a text could get wrong."""
    if get_origin(kind) is tuple:
        inner = odd_values(get_args(kind)[0])
        return [(), *((value,) for value in inner), tuple(inner)]
    if kind in (int, float):
        return [kind(0), kind(1)]
    return ODD if kind is str else [False, True] if kind is bool else list(get_args(kind))


@pytest.fixture(scope="module")
def models() -> Models:
    return Models("pocket", device="cpu")


@pytest.mark.parametrize("kind", MEASURABLE, ids=lambda kind: kind.name)
def test_every_mode_of_every_method_is_written_and_read(models: Models, kind: type[Method]) -> None:
    for mode, method in modes_of(models, kind).items():
        written = Configuration.of(models, method)
        assert written.build(models) == method and read_method(written.text, MEASURABLE) == written
        assert not written.settings, f"{kind.name} in the mode {mode} is written with settings that the mode has"
        assert read_method(f"{kind.name}:mode={mode}", MEASURABLE).build(models) == method


@pytest.mark.parametrize("kind", MEASURABLE, ids=lambda kind: kind.name)
def test_every_value_of_every_setting_is_written_and_read(models: Models, kind: type[Method]) -> None:
    tried = 0
    for name, hint in get_type_hints(kind).items():
        if name not in {field.name for field in fields(kind)}:
            continue
        for value in filter(lambda value: in_range(kind, name, value), odd_values(hint)):
            for other in (Configuration(kind, "released", {name: value}), Configuration(kind, settings={name: value})):
                assert read_method(other.text, MEASURABLE) == other, other.text
                assert read_method(f"{kind.name}:{other.text.partition(':')[2]}", MEASURABLE) == other
                assert split(f"ovdiff,{other.text} ,", ",") == ["ovdiff", f"{other.text} ", ""]
            assert read_setting(kind, name, as_text(value)) == value
            tried += 1
    assert tried >= len(fields(kind))


def in_range(kind: type[Method], name: str, value: object) -> bool:
    """Whether a value of the right type may be taken."""
    try:
        take_setting(kind, name, list(value) if isinstance(value, tuple) else value)
    except ValueError:
        return False
    return True


TEXTS = {
    "diffsegmenter:timesteps=50+300:last_token=yes": {"timesteps": (50, 300), "last_token": True},
    " diffsegmenter : timesteps = 50 + 300 : clip= ": {"timesteps": (50, 300), "clip": ""},
    'diffsegmenter:prompt="a photo: {}, a ""big"" one"': {"prompt": 'a photo: {}, a "big" one'},
    'diffsegmenter:prompt=a "big: red" {}': {"prompt": 'a "big: red" {}'},
    "diffsegmenter:prompt=a=b+c {};d": {"prompt": "a=b+c {};d"},
    'diffsegmenter;timesteps=50, 300;prompt=a: " {}': {"timesteps": (50, 300), "prompt": 'a: " {}'},
}


@pytest.mark.parametrize("text, settings", TEXTS.items())
def test_texts_are_read(text: str, settings: dict[str, object]) -> None:
    assert read_method(text) == Configuration(DiffSegmenter, settings=settings)


def test_everyone_reads_the_same_text(models: Models) -> None:
    """Command line, doors, links and comparisons."""
    text = 'freeseg-diff:mode=best effort:clusters=7:template="a, b: {}":one_each=false'
    settings = {"clusters": 7, "template": "a, b: {}", "one_each": False}
    method = replace(modes_of(models, FreeSegDiff)["best effort"], **settings)
    parser = ArgumentParser()
    add_method(parser)
    for given in (
        ["--method", text], ["--method", "freeseg-diff", "--mode", "best effort", "--set", *settings_text(settings)],
        ["--method", text.replace("best effort", "released").replace("=7", "=2"), "--set", "mode=best effort", "clusters=7"],
        ["--method", "freeseg-diff:clusters=7", "--mode", "best effort", "--set", "template=a, b: {}", "one_each=no"],
    ):  # fmt: skip
        options = parser.parse_args(given)
        assert configuration_of(options, options.method).build(models) == method, given
    assert inputs.method(models, text, None).method == method
    assert inputs.method(models, "freeseg-diff:clusters=2", {**settings, "mode": "best effort"}).method == method
    (variant,) = read_variants(models, [text])
    assert variant.method == method and variant.title == Configuration.of(models, method).title
    link = Link(methods=(Configuration.of(models, method),))
    assert Link.of_query(link.query()).methods[0].build(models) == method


def test_common_settings_come_first_in_both_forms(models: Models) -> None:
    for common in ("ovdiff:images=4:parts=8", "ovdiff.images=4:parts=8"):
        first, second, other = read_variants(models, ["ovdiff", "ovdiff:images=2", "diffsegmenter"], [common])
        assert (first.method.images, first.method.parts) == (4, 8) and (second.method.images, second.method.parts) == (2, 8)
        assert other.method == suited_to(models, DiffSegmenter)


def test_a_title_says_what_is_unusual_in_the_words_of_the_page(models: Models) -> None:
    for changed, title in (
        ({}, "OVDiff"), ({"images": 4, "clip": "own/net"}, "OVDiff, support images of each class 4, CLIP own/net"),
        ({"negative": "text, blurry"}, 'OVDiff, negative prompt of the support images "text, blurry"'),
    ):  # fmt: skip
        assert Configuration.of(models, suited_to(models, OVDiff, changed)).title == title
    released = modes_of(models, DiffSegmenter)["released"]
    assert Configuration.of(models, released).title == "DiffSegmenter, released"
    assert Configuration.of(models, replace(released, draws=3)).title == "DiffSegmenter, released, noise samples 3"


@pytest.mark.parametrize("kind", MEASURABLE, ids=lambda kind: kind.name)
def test_no_two_methods_have_one_title(kind: type[Method]) -> None:
    labels = [label_of(field) for field in fields(kind)]
    assert len(set(labels)) == len(labels) and "mode" not in {field.name for field in fields(kind)}


def test_the_forms_of_the_documentation_are_read(models: Models) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text().partition("## Environment")[0]
    forms = re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", page, re.MULTILINE)
    board = board_of(f"{models.name},sdxl", "cpu", None)
    variants = [read_variants(board, split(form, ",")) for form in forms]
    assert [len(found) for found in variants] == [1, 1, 1, 1, 1, 1, 1, 2]
    assert variants[4][0].method.negative == "text, blurry" and variants[5][0].backbone == "sdxl"
    assert variants[7][1].method.draws == 2
    assert f'"{variants[2][0].title}"' in page


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
