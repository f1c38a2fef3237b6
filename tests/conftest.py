"""How the tests are shared out among processes, and the browser that they look through. Fixtures are in `tests.networks`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page
    from xdist.scheduler import LoadScopeScheduling

# What takes longest begins first, so that no process is at it alone in the end. Files that look at one server stay together.
GROUPS = {
    "tests/test_browser.py": "page",
    "tests/test_inside.py": "page",
    "tests/test_paths.py": "page",
}
FIRST = (
    "page", "tests/test_lavis.py", "tests/test_board.py", "tests/test_doors.py", "tests/test_report.py",
    "tests/test_factory.py", "tests/test_zero_gpu.py", "tests/test_doctor.py", "tests/test_faults.py",
    "tests/test_other_backbones.py", "tests/test_fifth_method.py", "tests/test_evaluation.py", "tests/test_package.py",
    "tests/test_pocket_floors.py", "tests/test_bad_command_lines.py", "tests/test_released.py", "tests/test_sizes.py",
    "tests/test_folder.py", "tests/test_attention.py", "tests/test_ovdiff.py",
)  # fmt: skip


def group_of(nodeid: str) -> str:
    """The tests that run in one process, one after the other: those of a file, or of a few."""
    file = nodeid.partition("::")[0]
    return GROUPS.get(file, file)


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, and with them the package; not in the process that only shares out tests to others."""
    config.pluginmanager.import_plugin("tests.needs")
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("tests.networks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups first."""
    groups = list(dict.fromkeys(group_of(item.nodeid) for item in items))
    order = sorted(groups, key=lambda group: FIRST.index(group) if group in FIRST else len(FIRST))
    items.sort(key=lambda item: order.index(group_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "LoadScopeScheduling":
    """Hand out whole groups, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.fixture(scope="session")
def page_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on the pocket bundle, served by `python app.py`."""
    from tests.browsers import served  # most tests need none

    # What begins by itself would come between a test's own runs.
    settings = {"OVSEG_PROTOTYPES": str(tmp_path_factory.mktemp("prototypes")), "OVSEG_MAX_UNASKED_SECONDS": "0"}
    with served("app.py", environment=settings) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator["BrowserContext"]:
    """One browser for the tests of a file: what it has once read and compiled need not be read again."""
    from tests.browsers import chromium

    with chromium() as context:
        yield context


@pytest.fixture(scope="module")
def tab(browser: "BrowserContext") -> "Page":
    """One tab for all visits: a new one would start a process of its own, and compile the page again."""
    return browser.new_page()
