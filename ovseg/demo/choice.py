"""What a visitor chose, as the words of a link: picture, words, seed, methods with the settings that differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from urllib.parse import parse_qs, urlencode

from ovseg.limits import check_count, limits, quoted
from ovseg.methods import METHODS, Method, find_method, suited_to
from ovseg.methods.settings import read_setting
from ovseg.models import Models

LONGEST_QUERY = 8000  # letters; browsers and servers refuse much longer addresses


@dataclass(frozen=True)
class Run:
    """A method by its name, with the settings that differ from what suits the backbone, as text."""

    method: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def build(self, models: Models) -> Method:
        """The method with these settings.

        Raises:
            ValueError: there is no such method or setting, or a text is no value of it.
        """
        kind = find_method(self.method)
        return suited_to(models, kind, {name: read_setting(kind, name, text) for name, text in self.settings.items()})

    @classmethod
    def of(cls, models: Models, method: Method) -> "Run":
        """A method as text."""
        suited = suited_to(models, type(method))
        changed = (f.name for f in fields(method) if getattr(method, f.name) != getattr(suited, f.name))
        return cls(method.name, {name: as_text(getattr(method, name)) for name in changed})

    def title(self) -> str:
        """ "OVDiff", or "DiffSegmenter, noise levels 300" with what differs."""
        kind = find_method(self.method)
        labels = {f.name: label_of(f.metadata, f.name) for f in fields(kind)}
        return ", ".join([kind.title, *(f"{labels[name].lower()} {text}" for name, text in self.settings.items())])


@dataclass(frozen=True)
class Choice:
    """Everything that a link brings back."""

    picture: str = ""
    words: str = ""
    seed: int = 0
    runs: tuple[Run, ...] = ()

    def query(self) -> str:
        """The query part of an address, without its question mark."""
        runs = [";".join([run.method, *(f"{name}={text}" for name, text in run.settings.items())]) for run in self.runs]
        given = [("picture", self.picture), ("words", self.words), ("seed", str(self.seed) if self.seed else "")]
        return urlencode([(name, value) for name, value in given if value] + [("run", run) for run in runs])

    @staticmethod
    def is_in(parameters: Mapping[str, str]) -> bool:
        """Whether the parameters of an address hold a choice; a page's address may have others, such as its theme."""
        return any(name in parameters for name in ("picture", "words", "run"))

    @classmethod
    def of_query(cls, query: str) -> "Choice":
        """The choice that a link holds; parts that it does not have stay empty.

        Raises:
            ValueError: it is too long, names an unknown method or setting, or its seed is no number.
        """
        if len(query) > LONGEST_QUERY:
            raise ValueError(
                f"A link must have {LONGEST_QUERY} letters at most after its question mark, but got {len(query)}."
            )
        parts = parse_qs(query)
        picture, words, seed = (parts.get(name, [""])[0] for name in ("picture", "words", "seed"))
        if seed and not (seed.isdecimal() and len(seed) < 12):
            raise ValueError(f"The seed of a link must be a whole number, but got {quoted(seed)}.")
        runs = parts.get("run", [])
        check_count("The methods of a link", len(runs), limits().methods)
        return cls(picture, words, int(seed or 0), tuple(_run_of(text) for text in runs))


def _run_of(text: str) -> Run:
    name, *settings = text.split(";")
    kind = find_method(name, METHODS)
    pairs = dict(setting.partition("=")[::2] for setting in settings if setting)
    for field_name, value in pairs.items():
        read_setting(kind, field_name, value)
    return Run(name, pairs)


def as_text(value: object) -> str:
    """A setting's value as `read_setting` reads it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def label_of(metadata: Mapping[str, object], name: str) -> str:
    """What the page calls a setting: its label, or its name in words."""
    return str(metadata.get("label") or name.replace("_", " "))


def runs_of(models: Models, methods: Sequence[Method]) -> tuple[Run, ...]:
    """Methods as text."""
    return tuple(Run.of(models, method) for method in methods)
