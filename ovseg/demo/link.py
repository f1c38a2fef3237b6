"""What a visitor chose, as the words of a link: picture, words, seed, methods with the settings that differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from ovseg.limits import check_count, limits, quoted
from ovseg.methods.grammar import Configuration, read_method

LONGEST_QUERY = 8000  # characters; browsers and servers refuse much longer addresses


@dataclass(frozen=True)
class Link:
    """Everything that a link brings back."""

    picture: str = ""
    words: str = ""
    seed: int = 0
    methods: tuple[Configuration, ...] = ()

    def query(self) -> str:
        """The query part of an address, without its question mark."""
        given = [("picture", self.picture), ("words", self.words), ("seed", str(self.seed) if self.seed else "")]
        methods = [("run", method.text) for method in self.methods]
        return urlencode([(name, value) for name, value in given if value] + methods, safe=":=")

    @staticmethod
    def is_in(parameters: Mapping[str, str]) -> bool:
        """Whether the parameters of an address are a link's; a page's address may have others, such as its theme."""
        return any(name in parameters for name in ("picture", "words", "run"))

    @classmethod
    def of_query(cls, query: str) -> "Link":
        """What a link holds; parts that it does not have stay empty.

        Raises:
            ValueError: it is too long, names an unknown method or setting, or its seed is no number.
        """
        if len(query) > LONGEST_QUERY:
            raise ValueError(
                f"A link must have {LONGEST_QUERY} characters at most after its question mark, but got {len(query)}."
            )
        parts = parse_qs(query)
        picture, words, seed = (parts.get(name, [""])[0] for name in ("picture", "words", "seed"))
        if seed and not (seed.isdecimal() and len(seed) < 12):
            raise ValueError(f"The seed of a link must be a whole number, but got {quoted(seed)}.")
        methods = parts.get("run", [])
        check_count("The methods of a link", len(methods), limits().methods)
        return cls(picture, words, int(seed or 0), tuple(map(read_method, methods)))
