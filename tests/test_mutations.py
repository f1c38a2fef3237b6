"""The list of deliberate bugs follows the code: each can still be put in, and the tests that should see it exist."""

import importlib
import re
from pathlib import Path

import pytest

from tests.mutations import Mutant

ROOT = Path(__file__).resolve().parents[1]
AREAS = sorted(path.stem for path in (ROOT / "tests" / "mutations").glob("[a-z]*.py"))


def bugs_of(area: str) -> tuple[Mutant, ...]:
    return importlib.import_module(f"tests.mutations.{area}").MUTANTS


@pytest.mark.parametrize("area", AREAS)
def test_the_text_that_a_bug_replaces_stands_in_the_code_once(area: str) -> None:
    wrong = [bug.name for bug in bugs_of(area) if (ROOT / bug.file).read_text().count(bug.old) != 1 or bug.old == bug.new]
    assert not wrong


@pytest.mark.parametrize("area", AREAS)
def test_the_tests_that_should_see_a_bug_exist(area: str) -> None:
    named = {test for bug in bugs_of(area) for test in bug.tests}
    assert all(bug.tests for bug in bugs_of(area))
    missing = []
    for test in named:
        path, _, rest = test.partition("::")
        name = rest.partition("[")[0]
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        if not text or (name and not re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)):
            missing.append(test)
    assert not missing
