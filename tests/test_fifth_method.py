"""A method of 40 lines, put beside the others with nothing else touched: all that goes through the methods works with it."""

import re
from pathlib import Path

import pytest

from tests import fifth_method

TESTS = Path(__file__).parent
THROUGH_METHODS = re.compile(r'parametrize\("kind", (?:METHODS|ON_A_UNET)')
LOOPING = (
    "test_about.py::test_pictures_are_small_and_all_are_shown",
    "test_cli.py::test_methods_lists_papers_and_settings",
    "test_demo.py::test_the_page_ticks_what_can_run_at_once",
    "test_methods.py::test_a_method_says_which_network_it_lacks",
    "test_released.py::test_no_setting_of_a_mode_is_unknown",
    "test_released.py::test_the_pocket_backbone_says_what_stands_in",
    "test_results.py::test_every_figure_of_ours_is_one_of_the_files",
    "test_results.py::test_ours_stands_beside_the_right_figure",
    "test_results.py::test_variants_quote_their_papers_from_the_data_file",
)
"""Tests that look at all methods at once."""


def test_the_documented_method_is_short() -> None:
    code = re.findall(r"```python\n(.*?)```", fifth_method.DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code[0].splitlines() if line.strip()]) <= 40


@pytest.mark.timeout(900)
def test_everything_that_goes_through_the_methods_works_with_a_fifth(tmp_path: Path) -> None:
    method, everywhere = tmp_path / "methods", TESTS / "fifth_method_everywhere.py"
    method.mkdir()
    name = fifth_method.write(method)
    of_kinds = [path for path in sorted(TESTS.glob("test_*.py")) if THROUGH_METHODS.search(path.read_text(encoding="utf-8"))]
    each = sum(len(THROUGH_METHODS.findall(path.read_text(encoding="utf-8"))) for path in of_kinds)
    assert each >= 9
    files = sorted({*of_kinds, *(TESTS / test.partition("::")[0] for test in LOOPING)})
    chosen = " or ".join([name.replace("_", "-"), everywhere.stem, *(test.partition("::")[2] for test in LOOPING)])
    options = ["-q", "-p", "no:cacheprovider", "--timeout", "600", "-k", chosen]
    output = tmp_path / "output.txt"
    code = fifth_method.tested(method, [*options, str(everywhere), *map(str, files)], output)
    assert code == 0, output.read_text()[-6000:]
    assert int(re.search(r"(\d+) passed", output.read_text())[1]) >= each + len(LOOPING) + 10
