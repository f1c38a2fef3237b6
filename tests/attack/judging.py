"""What an answer to a malformed request must not be: a crash, a hang, opaque, or full of what is the server's own."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.attack.requests import Case
from tests.attack.server import HANG_SECONDS, ROOT, Answer, Page, Visitor

SAYS_NOTHING = {"", "Error", "error", "None", "null", "Internal Server Error", "Not Found", "Method Not Allowed"}
OURS = re.compile(rf"{re.escape(str(ROOT))}|site-packages|/root/|/home/|/usr/|Traceback|<class |object at 0x")
FAULTS = ("crashes", "hangs", "opaque", "faults of the program", "server paths")
FAULT = ("a fault of the program", "its log says why")  # as the page says of its own
LONGEST = 700  # characters of a sentence


def message_of(answer: Answer) -> Any:
    """The sentence of an answer that refuses something, or what stands in its place."""
    try:
        data = json.loads(answer.text)
    except ValueError:
        return answer.text.strip()
    if not isinstance(data, dict):
        return data
    return next((data[name] for name in ("error", "detail", "message") if data.get(name)), None)


def is_refusal(answer: Answer) -> bool:
    """Whether something was refused: by HTTP's status, or by the last event of a stream."""
    return answer.status >= 400 or answer.event in ("error", "unexpected_error")


def faults_of(answer: Answer) -> list[str]:
    """Which of `FAULTS` an answer has; a connection that broke off is a crash."""
    if answer.seconds > HANG_SECONDS:
        return ["hangs"]
    if answer.status == 0:
        return ["crashes"]
    if not is_refusal(answer):
        return []
    if answer.status == 404 and not answer.text:
        return []  # HTTP itself says it
    said = message_of(answer)
    is_sentence = isinstance(said, str) and said not in SAYS_NOTHING and " " in said and "\n" not in said
    found = [] if is_sentence and 12 <= len(said) < LONGEST else ["opaque"]
    found += ["faults of the program"] * any(text in str(said) for text in FAULT)
    return found + ["server paths"] * bool(OURS.search(answer.text))


@dataclass
class Figures:
    """How many requests of each table were sent, refused, and had faults; and which these were."""

    sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, case: Case, answer: Answer) -> None:
        """Count one."""
        self.sent[case.kind] += 1
        self.refused[case.kind] += is_refusal(answer)
        self.slowest = max(self.slowest, answer.seconds)
        for fault in faults_of(answer):
            self.faults[fault] += 1
            self.examples.append(f"{fault}: {case.name}: {answer.status} {answer.event} {answer.text[:200]!r}")

    def table(self) -> str:
        """The figures as Markdown."""
        lines = ["| table | sent | refused |", "|---|---:|---:|"]
        lines += [f"| {kind} | {count:,} | {self.refused[kind]:,} |" for kind, count in self.sent.items()]
        faults = ", ".join(f"{self.faults[name]} {name}" for name in FAULTS)
        return "\n".join([*lines, "", f"{self.sent.total():,} requests: {faults}; the slowest took {self.slowest:.1f} s."])


def try_all(address: str, cases: Iterable[Case], page: Page) -> Figures:
    """Send all cases, each by a new visitor, and count what comes back."""
    figures = Figures()
    for case in cases:
        visitor = Visitor(address)
        with visitor.http:
            figures.add(case, case.send(visitor, page))
    return figures
