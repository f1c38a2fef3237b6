"""What a test needs of the machine: where it is missing the test is skipped, with the line that brings it."""

import os
import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def need(there: object, what: str, line: str) -> None:
    """Skip the test that calls this, unless what it needs is there.

    Args:
        what: what is needed, as the reason says it.
        line: the command that installs it.
    """
    if not there:
        pytest.skip(f"{what} is not here: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """With CI=true a skipped test has failed: what nobody looked at is not known to be right."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI=true does not allow: {report.longrepr[2]}"
    return report
