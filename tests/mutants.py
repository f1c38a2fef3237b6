"""Would the tests see a wrong program? Each deliberate bug of `tests/mutations` is tried in a copy of the code.

    python tests/mutants.py                 # all of them, as a Markdown table
    python tests/mutants.py --only methods  # one area, or names that contain a word

A bug is killed if one of the tests that it names fails. One that survives, or whose text is no longer in the code, makes
the exit code 1. With --check the named tests are first run on the unchanged code, where they must pass.
"""

import argparse
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutations import Mutant  # noqa: E402

LIBRARIES = (
    "numpy", "scipy.ndimage", "cv2", "sklearn.cluster", "torch", "jaxtyping", "beartype", "safetensors.torch",
    "pyarrow.parquet", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "open_clip", "gradio",
    "transformers.models.clip.modeling_clip", "transformers.models.vit.modeling_vit",
    "transformers.models.blip_2.modeling_blip_2", "transformers.models.blip.modeling_blip",
)  # fmt: skip
LINKED = ("assets", "node_modules")  # read by the tests, never changed by a bug


def areas() -> Iterator[tuple[str, Mutant]]:
    """Every bug with the name of its area."""
    for path in sorted((ROOT / "tests" / "mutations").glob("[a-z]*.py")):
        for mutant in importlib.import_module(f"tests.mutations.{path.stem}").MUTANTS:
            yield path.stem, mutant


def copy_of_the_code(folder: Path) -> None:
    """The files that git knows, in `folder`; large ones that no bug touches are linked."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in (name for name in files if name.partition("/")[0] not in LINKED):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in (name for name in LINKED if (ROOT / name).exists()):
        (folder / name).symlink_to(ROOT / name)


def load_libraries() -> None:
    """Import what the tests need of others once, so that each bug's process, forked from this one, begins at once."""
    path = ROOT / "ovseg" / "_torchvision_compat.py"
    spec = importlib.util.spec_from_file_location("torchvision_compat", path)
    compat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compat)
    compat.prepare()
    for name in LIBRARIES:
        importlib.import_module(name)


def passes(folder: Path, tests: Sequence[str]) -> bool:
    """Whether these tests pass in a copy of the code; slow ones count too.

    Raises:
        RuntimeError: they could not be run, which says nothing about the bug.
    """
    log, child = folder / "mutant.log", os.fork()
    if child == 0:
        _run_tests(folder, tests, log)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 1):
        raise RuntimeError(log.read_text()[-2000:])
    return code == 0


def _run_tests(folder: Path, tests: Sequence[str], log: Path) -> None:
    """In the forked process: pytest on the copy, and the end of the process with its exit code."""
    code = 3
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "ovseg")]:
            del sys.modules[name]
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "", *tests]))
    finally:
        os._exit(code)


def verdict(folder: Path, mutant: Mutant) -> str:
    """ "killed", "SURVIVED", or why the bug could not be tried."""
    path = folder / mutant.file
    code = path.read_text()
    if code.count(mutant.old) != 1:
        return f"STALE: its text stands {code.count(mutant.old)} times in {mutant.file}"
    try:
        path.write_text(code.replace(mutant.old, mutant.new))
        return "SURVIVED" if passes(folder, mutant.tests) else "killed"
    except RuntimeError as error:
        return f"NOT RUN: {error}"
    finally:
        path.write_text(code)


def main() -> int:
    """Try the bugs and print the table; 0 if all were killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="an area, or a word of the bugs' names")
    parser.add_argument("--check", action="store_true", help="run the named tests on the unchanged code first")
    options = parser.parse_args()
    chosen = [(area, m) for area, m in areas() if options.only in (area, "") or options.only in m.name]
    load_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_of_the_code(folder)
        if options.check and not passes(folder, sorted({test for _, m in chosen for test in m.tests})):
            print("the named tests do not pass on the unchanged code")
            return 1
        print("| area | bug | file | outcome |\n|---|---|---|---|")
        outcomes = []
        for area, mutant in chosen:
            outcomes.append(verdict(folder, mutant))
            print(f"| {area} | {mutant.name} | `{mutant.file}` | {outcomes[-1]} |", flush=True)
    print(f"\n{outcomes.count('killed')} of {len(outcomes)} killed")
    return int(any(outcome != "killed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
