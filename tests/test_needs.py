"""What is missing on a machine is skipped with the line that brings it, and refused where CI=true."""

import pytest

pytest_plugins = ("pytester",)
TEST = """
from tests.needs import need

def test_without() -> None:
    need(None, "Chromium", "apt-get install chromium")
    raise AssertionError("it went on")

def test_with() -> None:
    need("/usr/bin/chromium", "Chromium", "apt-get install chromium")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(TEST)
    return pytester


def test_what_is_missing_is_skipped_with_the_line_that_brings_it(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    ran = suite.runpytest_inprocess("-p", "tests.needs", "-rs")
    ran.assert_outcomes(skipped=1, passed=1)
    ran.stdout.fnmatch_lines(["SKIPPED*Chromium is not here: apt-get install chromium"])


def test_ci_refuses_what_was_skipped(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    ran = suite.runpytest_inprocess("-p", "tests.needs")
    ran.assert_outcomes(failed=1, passed=1)
    ran.stdout.fnmatch_lines(["*was skipped, which CI=true does not allow: *Chromium is not here*"])
