"""Would a test see a wrong program? A seeded sample of small bugs, each tried with the tests that run its line.

    pip install cosmic-ray==8.7.0 coverage==7.17.5
    python -m tests.mutation_sample --seed 0 --count 300 --processes 2

cosmic-ray finds the places that can be changed and changes them; coverage tells which tests run which line. All of it
happens in copies of the code, in `runs/mutation_sample`, which also holds what has been done: a run that was stopped
continues there, on the code with which it began. `--fresh` begins again. A bug of which no test fails survives; the
table of survivors is printed in the end, as Markdown. What an annotation says is left alone: it is no behaviour.
"""

import argparse
import ast
import importlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from coverage import Coverage, CoverageData

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / "runs" / "mutation_sample"
ROOMS = ("maths", "words", "methods", "backbones", "compare", "output")
LIBRARIES = (
    "numpy", "scipy.ndimage", "cv2", "sklearn.cluster", "torch", "jaxtyping", "beartype", "safetensors.torch",
    "pyarrow.parquet", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "open_clip", "gradio",
    "transformers.models.clip.modeling_clip", "transformers.models.vit.modeling_vit",
    "transformers.models.blip_2.modeling_blip_2", "transformers.models.blip.modeling_blip",
)  # fmt: skip
FORK = multiprocessing.get_context("fork")
LINKED = ("assets", "node_modules")  # read by the tests, never changed


def copy_code(source: Path, names: Iterable[str], folder: Path) -> None:
    """These files of `source`, in `folder`, as old as they are there; the folders of large ones are linked."""
    for name in (name for name in names if name.partition("/")[0] not in LINKED and (source / name).is_file()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, folder / name)
    for name in (name for name in LINKED if (ROOT / name).exists() and not (folder / name).exists()):
        (folder / name).symlink_to(ROOT / name)


def copies_of_the_code(count: int) -> None:
    """`code`, which stays as it was when the run began, and a copy for each process: what a killed one changed is undone."""
    code = STATE / "code"
    if not code.exists():
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        shutil.rmtree(STATE / "unfinished", ignore_errors=True)
        copy_code(ROOT, files.splitlines(), STATE / "unfinished")
        (STATE / "unfinished").rename(code)
    for share in range(count):
        copy_code(code, (str(path.relative_to(code)) for path in code.rglob("*")), STATE / f"code-{share}")


def load_libraries() -> None:
    """Import what the tests need of others once, so that each process that is forked from this one begins at once."""
    spec = importlib.util.spec_from_file_location("torchvision_compat", ROOT / "ovseg" / "_torchvision_compat.py")
    compat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compat)
    compat.prepare()
    for name in LIBRARIES:
        importlib.import_module(name)


class LinesOfTests:
    """A pytest plugin that notes which lines each test runs and how long it takes. Tests in a browser are left out."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage, self.seconds, self.failed = coverage, {}, set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "browser" not in item.fixturenames]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        started = time.monotonic()
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - started

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def run_forked(folder: Path, arguments: Sequence[str], lines_into: Path | None = None) -> int:
    """pytest's exit code for these arguments in a copy of the code, in a process of its own.

    With `lines_into`, the tests' lines go to that file, and the seconds of those that pass beside it as JSON.
    """
    process = FORK.Process(target=_pytest, args=(folder, arguments, lines_into))
    process.start()
    process.join()
    return process.exitcode


def _pytest(folder: Path, arguments: Sequence[str], lines_into: Path | None) -> None:
    """In the forked process: pytest on the copy, and the end of the process with its exit code."""
    code = 3
    try:
        output = os.open(folder / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "ovseg")]:
            del sys.modules[name]
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        os.environ["PYTHONPATH"] = str(folder)
        if lines_into:
            code = _with_lines(folder, arguments, lines_into)
        else:  # compiled files that are there are read; a changed file leaves none behind
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *arguments]))
    finally:
        os._exit(code)  # a thread that a test left behind holds nobody up


def _with_lines(folder: Path, arguments: Sequence[str], lines_into: Path) -> int:
    coverage = Coverage(data_file=str(lines_into), source=[str(folder / "ovseg" / room) for room in ROOMS])
    plugin = LinesOfTests(coverage)
    coverage.start()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[plugin]))
    coverage.stop()
    coverage.save()
    passed = {name: seconds for name, seconds in plugin.seconds.items() if name not in plugin.failed}
    unfinished = lines_into.with_suffix(".part")
    unfinished.write_text(json.dumps({"passed": passed, "failed": sorted(plugin.failed)}))
    unfinished.rename(lines_into.with_suffix(".json"))
    return code


def measure(share: int, files: Sequence[str], processes: int) -> None:
    """Run the files of tests that were not measured before, this process its share of them."""
    for file in files[share::processes]:
        lines = STATE / "lines" / f"{Path(file).stem}.lines"
        if not lines.with_suffix(".json").exists():
            print(f"measuring {file}", flush=True)
            run_forked(STATE / f"code-{share}", [file], lines)


class Tests:
    """Which tests run which line of the code, and how long each takes: of every file of tests that was measured."""

    def __init__(self) -> None:
        self.seconds, self.failed, self.ran = {}, [], defaultdict(lambda: defaultdict(set))
        for path in sorted((STATE / "lines").glob("*.json")):
            noted, lines = json.loads(path.read_text()), CoverageData(str(path.with_suffix(".lines")))
            self.seconds |= noted["passed"]
            self.failed += noted["failed"]
            lines.read()
            for file in lines.measured_files():
                relative = Path(file).relative_to(STATE).parts[1:]
                for line, names in lines.contexts_by_lineno(file).items():
                    self.ran[relative][line] |= noted["passed"].keys() & names

    def quickest(self, count: int) -> list[str]:
        """The tests that take the least time."""
        return sorted(self.seconds, key=self.seconds.get)[:count]

    def of(self, file: Path, line: int, most_seconds: float) -> list[str]:
        """The tests that run the statement of a line, quick ones first, as many as fit into the time, at least one.

        What runs when a file is imported belongs to no test: there it is the tests that run any line of the file.
        """
        by_line = self.ran[file.parts]
        first, last = statement(ast.parse((STATE / "code" / file).read_text()), line)
        names = set().union(*(by_line[number] for number in range(first, last + 1))) or set().union(*by_line.values())
        ordered = sorted(names, key=self.seconds.get)
        until = list(itertools.accumulate(self.seconds[name] for name in ordered))
        return [name for name, seconds in zip(ordered, until, strict=True) if seconds <= most_seconds] or ordered[:1]


def statement(tree: ast.Module, line: int) -> tuple[int, int]:
    """First and last line of the innermost statement that a line belongs to; of a compound one, those of its head."""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno]
    if not around:  # a decorator
        return line, line
    inner = min(around, key=lambda node: node.end_lineno - node.lineno)
    body = getattr(inner, "body", None)
    return inner.lineno, max(inner.lineno, body[0].lineno - 1) if body else inner.end_lineno


def places(folder: Path, file: Path) -> dict[tuple, list[MutationSpec]]:
    """What cosmic-ray can change in a file: by place and kind of change, all changes of that kind."""
    tree = ast.parse((folder / file).read_text())
    noted = [getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")]
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in noted if node]
    nodes, found = list(ast_nodes(get_ast_from_path(folder / file))), {}
    for name in sorted(cosmic_ray.plugins.operator_names()):
        operator = cosmic_ray.plugins.get_operator(name)
        if operator.arguments():
            continue
        positions = (position for node in nodes for position in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in spans):
                change = MutationSpec(file, name, occurrence, start, end)
                found.setdefault((start, name.partition("_")[0]), []).append(change)
    return found


def draw(folder: Path, seed: int, count: int, rooms: Sequence[str]) -> list[WorkItem]:
    """`count` places of these rooms, drawn with this seed, one change of each."""
    chosen = random.Random(seed)
    files = sorted(path.relative_to(folder) for room in rooms for path in (folder / "ovseg" / room).rglob("*.py"))
    by_place = [changes for file in files for _, changes in sorted(places(folder, file).items())]
    drawn = chosen.sample(by_place, min(count, len(by_place)))
    return [WorkItem.single(f"{number:04}", chosen.choice(changes)) for number, changes in enumerate(drawn)]


def tried(folder: Path, change: MutationSpec, tests: Tests, most_seconds: float) -> WorkResult:
    """What the tests say of one change of the code in `folder`. A test that does not end counts as failed."""
    names = tests.of(change.module_path, change.start_pos[0], most_seconds)
    longest = max((tests.seconds[name] for name in names), default=0.0)
    operator = cosmic_ray.plugins.get_operator(change.operator_name)()
    with use_mutation(folder / change.module_path, operator, change.occurrence) as (before, after):
        failed = names and run_forked(folder, [f"--timeout={300 + 10 * longest:.0f}", *names])
    was, now = next(pair for pair in zip(before.splitlines(), after.splitlines(), strict=False) if pair[0] != pair[1])
    outcome = TestOutcome.KILLED if failed else TestOutcome.SURVIVED
    worker = WorkerOutcome.NORMAL if names else WorkerOutcome.NO_TEST
    return WorkResult(worker, output=str(len(names)), test_outcome=outcome, diff=f"{was.strip()}\n{now.strip()}")


def work(share: int, database: Path, options: argparse.Namespace) -> None:
    """Try the changes that are left, this process its share of them, in its own copy of the code."""
    tests, folder = Tests(), STATE / f"code-{share}"
    if run_forked(folder, tests.quickest(20)):
        sys.exit(f"Tests fail on the unchanged code:\n{(folder / 'pytest.log').read_text()[-2000:]}")
    with use_db(str(database), WorkDB.Mode.open) as results:
        for item in results.pending_work_items:
            if int(item.job_id) % options.processes == share:
                started, (change,) = time.monotonic(), item.mutations
                result = tried(folder, change, tests, options.seconds)
                results.set_result(item.job_id, result)
                outcome = f"{result.test_outcome.value} in {time.monotonic() - started:.0f} s"
                print(f"{item.job_id} {change.module_path}:{change.start_pos[0]} {outcome}", flush=True)


def report(database: Path) -> str:
    """What came of the changes, by room, and each that no test has seen: two Markdown tables."""
    with use_db(str(database), WorkDB.Mode.open) as results:
        done = sorted(results.completed_work_items, key=lambda pair: (str(pair[0].mutations[0].module_path), pair[0].job_id))
    tally = Counter((item.mutations[0].module_path.parts[1], result.is_killed) for item, result in done)
    lines = ["| room | tried | killed |", "|---|---:|---:|"]
    lines += [f"| {room} | {tally[room, True] + tally[room, False]} | {tally[room, True]} |" for room in ROOMS]
    lines += ["", "| survivor | was | became | tests that ran it |", "|---|---|---|---:|"]
    for item, result in done:
        if not result.is_killed:
            (change,), (was, now) = item.mutations, (line.replace("|", "\\|") for line in result.diff.split("\n"))
            lines.append(f"| `{change.module_path}:{change.start_pos[0]}` | `{was}` | `{now}` | {result.output} |")
    return "\n".join([*lines, *(f"\n`{name}` fails on the unchanged code and was left out." for name in Tests().failed)])


def in_shares(count: int, task: Callable[..., None], *arguments: object) -> None:
    """Run `task(share, *arguments)` for each share in a process of its own, and wait for all."""
    processes = [FORK.Process(target=task, args=(share, *arguments)) for share in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("A process ended early: see above. The same command goes on from here.")


def main() -> None:
    """Copy the code, measure the tests, draw and try the changes, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300, help="how many changes are drawn (300)")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--tests", nargs="+", help="only these files of tests (all)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=90, help="how long the tests of one change may take (90)")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(STATE, ignore_errors=True)
    copies_of_the_code(options.processes)
    load_libraries()
    files = options.tests or sorted(f"tests/{path.name}" for path in (STATE / "code" / "tests").glob("test_*.py"))
    (STATE / "lines").mkdir(exist_ok=True)
    in_shares(options.processes, measure, files, options.processes)
    database = STATE / f"{'-'.join(options.rooms)}-{options.seed}-{options.count}.sqlite"
    if not database.exists():
        unfinished = database.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        with use_db(str(unfinished)) as results:
            results.add_work_items(draw(STATE / "code", options.seed, options.count, options.rooms))
        unfinished.rename(database)
    in_shares(options.processes, work, database, options)
    print(report(database))


if __name__ == "__main__":
    main()
