"""A method with settings as text: the one form of command lines, links, requests of programs and tables.

    ovdiff                                        as it suits the backbone
    ovdiff:images=4:extractors=clip+dino          with other settings
    ovdiff:mode=released:images=64                as its code was released, but for one setting
    ovdiff:backbone=sdxl                          on another network, of those that were named at the start
    ovdiff:negative="text, low quality"           a value with a comma, a colon or a plus sign stands in quotation marks

One setting alone, as `--set` takes it, is `images=4`; its value may hold commas and colons without quotation marks. Several
methods stand between commas. `ovseg.methods.settings` says how values are written.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from ovseg.limits import quoted
from ovseg.methods import METHODS, Method, find_method, modes_of, obstacle_to, runs_on
from ovseg.methods.settings import as_text, label_of, read_setting, split, unquoted
from ovseg.models import Models
from ovseg.types import named

SUITED = "suited"
_EARLIER_LINK = re.compile(r"\s*[\w-]+\s*;")  # links had semicolons, and values without quotation marks


@dataclass(frozen=True)
class Configuration:
    """A method by its mode and the settings that differ from the mode's.

    Args:
        mode: a name of `modes_of`; what suits the backbone is the usual one, which texts and titles do not name.
        settings: values of the method's fields by their names.
        backbone: the short name of the network that it reads, where it is another than the usual one.
    """

    kind: type[Method]
    mode: str = SUITED
    settings: Mapping[str, object] = field(default_factory=dict)
    backbone: str = ""

    @classmethod
    def of(cls, models: Models, method: Method) -> "Configuration":
        """How a method is written on a backbone: by the mode that it is closest to, the first of those as close."""
        modes = modes_of(models, type(method))
        changed = {
            mode: {f.name: value for f in fields(method) if (value := getattr(method, f.name)) != getattr(usual, f.name)}
            for mode, usual in modes.items()
        }
        mode = min(modes, key=lambda mode: len(changed[mode]))
        return cls(type(method), mode, changed[mode], models.board_name)

    @property
    def text(self) -> str:
        """What `read_method` reads: "ovdiff:images=4"."""
        mode = [f"mode={as_text(self.mode)}"] * (self.mode != SUITED)
        other = [f"backbone={as_text(self.backbone)}"] * bool(self.backbone)
        return ":".join([self.kind.name, *other, *mode, *settings_text(self.settings)])

    @property
    def title(self) -> str:
        """What it is called beside others, everywhere: "OVDiff", or "OVDiff on sdxl, released, support images of each 4"."""
        labels = {f.name: label_of(f) for f in fields(self.kind)}
        unusual = [self.mode] * (self.mode != SUITED)
        unusual += [f"{_within_a_line(labels[name])} {as_text(value)}" for name, value in self.settings.items()]
        return ", ".join([f"{self.kind.title} on {self.backbone}" if self.backbone else self.kind.title, *unusual])

    def networks(self, models: Models) -> Models:
        """The networks of the board that it runs on: those it names, else the usual ones, or the first on which it can run.

        Raises:
            ValueError: it names a backbone that is not on the board.
        """
        on_another = not self.backbone and obstacle_to(models, self.kind)
        return runs_on(models, self.kind) if on_another else models.beside(self.backbone)

    def build(self, models: Models) -> Method:
        """The method on these networks.

        Raises:
            ValueError: the method has no such mode, or names another network.
        """
        if self.backbone not in ("", models.short_name):
            raise ValueError(
                f"The method must be for the backbone {models.short_name} here, but is for {quoted(self.backbone)}."
            )
        return replace(named(modes_of(models, self.kind), f"mode of {self.kind.title}", self.mode), **self.settings)


def settings_text(settings: Mapping[str, object]) -> list[str]:
    """Settings as texts that `--set` takes: "images=4"."""
    return [f"{name}={as_text(value)}" for name, value in settings.items()]


def split_method(text: str) -> list[str]:
    """The name and the settings of a method's text, each a text of its own.

    Raises:
        ValueError: a quotation mark has no other.
    """
    return [part for part in text.split(";") if part] if _EARLIER_LINK.match(text) else split(text, ":")


def read_method(text: str, kinds: Sequence[type[Method]] = METHODS, more: Sequence[str] = ()) -> Configuration:
    """The method that a text names, one of `kinds`, with its settings, and more of them on top.

    Raises:
        ValueError: there is no such method or setting, or a value cannot be read.
    """
    name, *settings = split_method(text)
    return read_settings(find_method(name.strip(), kinds), [*settings, *more])


def read_settings(kind: type[Method], items: Sequence[str]) -> Configuration:
    """A method with settings such as "images=4" and "mode=released"; of two for one field the later one holds.

    Raises:
        ValueError: there is no such setting, or a value cannot be read.
    """
    settings, mode, backbone = {}, SUITED, ""
    for item in items:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"A setting must be FIELD=VALUE, but got {quoted(item)}.")
        if name == "mode":
            mode = unquoted(value)
        elif name == "backbone":
            backbone = unquoted(value)
        else:
            settings[name] = read_setting(kind, name, value)
    return Configuration(kind, mode, settings, backbone)


def _within_a_line(label: str) -> str:
    """A label where no sentence begins: "noise levels", but "CLIP's prompt"."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]
