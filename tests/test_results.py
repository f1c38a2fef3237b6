"""The Results tab: our figures are those of the kept files, the papers' those of their data file."""

import json
import re
import shlex
from argparse import ArgumentParser
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from ovseg.__main__ import main
from ovseg.backbones import BACKBONES
from ovseg.commands import evaluate
from ovseg.commands.common import configuration_of
from ovseg.demo.results_tab import OTHER_WEIGHTS, results_html
from ovseg.evaluation.ablations import AblationTable, meant
from ovseg.evaluation.baselines import MEASURABLE
from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.datasets import PocketDataset
from ovseg.evaluation.protocols import PROTOCOLS
from ovseg.evaluation.results import FIGURES, RUNS, SHIPPED, ResultFiles, kept_folder
from ovseg.methods import METHODS, DiffSegmenter, OVDiff, find_method, obstacle_to, suited_to
from ovseg.methods.records import METRICS
from ovseg.models import PARTS, Models
from tests.networks import with_traits

FILES = {kind: kind.folder() / "figures.json" for kind in METHODS}
PAPERS = [
    {"method": kind.name, **row} for kind, file in FILES.items() if file.exists() for row in json.loads(file.read_text())
]


class Shown(HTMLParser):
    """The figures of the tab: (whose, the value of its attribute, its text), section by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: dict[str, list[tuple[str, float, str]]] = {}
        self.codes: list[str] = []
        self._section, self._data, self._in_code = "", None, False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self._section = given["id"]
        elif tag == "data":
            self._data = given["class"], float(given["value"])
        self._in_code = tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._in_code = False

    def handle_data(self, data: str) -> None:
        if self._data:
            self.sections.setdefault(self._section, []).append((*self._data, data))
            self._data = None
        elif self._in_code:
            self.codes.append(data)


def kept(folder: Path = SHIPPED) -> list[dict]:
    return [row for path in folder.rglob("*.json") for row in json.loads(path.read_text())]


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown(results_html(Models("pocket")))


def test_every_figure_of_ours_is_one_of_the_files(shown: Shown) -> None:
    ours = [figure for of_section in shown.sections.values() for figure in of_section if figure[0] == "ours"]
    values = {100 * row[name] for row in kept() for name in FIGURES}
    assert len(ours) >= 3 * len(kept()) and all(value in values for _, value, _ in ours)
    assert all(text == f"{value:.1f}" for _, value, text in ours)
    in_table = [value for _, value, _ in shown.sections["results-all"]]
    rows = [*ResultFiles().all_rows()]
    assert in_table == [row.figure(name) for row in rows for name in FIGURES] and len(rows) == len(kept())


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
def test_every_figure_of_a_paper_is_that_of_the_data_file(shown: Shown, kind: type) -> None:
    of_paper = [(value, text) for whose, value, text in shown.sections.get(f"results-{kind.name}", []) if whose == "paper"]
    own = [row for row in PAPERS if row["method"] == kind.name]
    ordered = sorted(own, key=lambda row: ("ours" not in row, "before" in row and "ours" in row))  # changes stand below
    expected = [row[name] for row in ordered for name in ("before", "value") if name in row]
    assert [value for value, _ in of_paper] == expected and [text for _, text in of_paper] == [str(v) for v in expected]


def test_ours_stands_beside_the_right_figure() -> None:
    files = {path.stem: json.loads(path.read_text()) for path in SHIPPED.glob("*.json")}
    pairs = ResultFiles().beside(figure for kind in METHODS for figure in kind.figures())
    assert [pair.paper.key for pair in pairs] == [row["key"] for row in PAPERS]
    measured = 0
    for pair, row in zip(pairs, PAPERS, strict=True):
        if "ours" not in row:
            assert pair.ours is None and pair.value is None and pair.change is None
            continue
        rows = {item.get("what", ""): item for item in files[row["ours"]["file"]]}
        metric = row["ours"].get("as", row["metric"])
        own = rows[row["ours"].get("row", "")]
        assert own["method"] == row["method"] and pair.value == 100 * own[metric]
        if "before" in row:
            assert pair.change == 100 * own[metric] - 100 * rows[row["ours"]["before"]][metric]
            assert pair.paper.change == row["value"] - row["before"]
        measured += 1
    assert measured >= 10


def test_the_tab_says_that_the_papers_measured_something_else() -> None:
    html = results_html(Models("pocket"))
    assert "The papers measured another backbone on other data" in html
    assert html.count("<summary>Protocol and source</summary>") == len(PAPERS)
    for row in PAPERS:
        assert row["method"] in [kind.name for kind in METHODS] and row["metric"] in METRICS
        assert all(len(row[name]) > 3 for name in ("what", "dataset", "protocol", "table", "read in", "why"))


def test_every_row_has_a_command_that_gives_it(shown: Shown) -> None:
    commands = [row["command"] for row in kept()]
    assert set(commands) <= set(shown.codes)
    parser = ArgumentParser()
    evaluate.add_options(parser)
    shipped = {name: Models(name, "cpu") for name in ("pocket", "pocket-sd3")}
    assert {row["backbone"] for row in kept()} == set(shipped)
    for row in kept():
        networks = shipped[row["backbone"]]
        options = parser.parse_args(shlex.split(row["command"])[4:])
        assert (options.method, options.dataset, options.count, options.labels or PROTOCOLS[options.protocol].labels) == (
            row["method"], row["dataset"], row["count"], row["labels"],
        )  # fmt: skip
        method = configuration_of(options, options.method, MEASURABLE).build(networks)
        (variant,) = [v for v in find_method(row["method"], MEASURABLE).ablations if v.what == row.get("what")] or [None]
        changed = {} if variant is None else variant.settings
        assert method == suited_to(networks, find_method(row["method"], MEASURABLE), changed)


def test_a_command_says_everything_that_differs_from_the_defaults(models: Models, tmp_path: Path) -> None:
    given = replace(suited_to(models, DiffSegmenter), stride_weights=(0.0, 0.5, 1.0), continued=True, prompt="the {} there")
    dataset = PocketDataset("novel", 4, Path("sprites"))
    task = Benchmark(models, given, dataset, 7, labels="all", protocol=PROTOCOLS["diffsegmenter"], seed=3)
    parser = ArgumentParser()
    evaluate.add_options(parser)
    words = shlex.split(task.command("here"))
    assert words[:4] == ["python", "-m", "ovseg", "evaluate"]
    options = parser.parse_args(words[4:])
    assert configuration_of(options, options.method, MEASURABLE).build(models) == given
    assert (
        options.dataset, options.data, options.count, options.labels, options.protocol, options.seed, options.backbone,
    ) == (
        "pocket-novel-stuff4", Path("sprites"), 7, "all", "diffsegmenter", 3, Path(models.name).name,
    )  # fmt: skip


def test_figures_of_other_weights_are_marked(tmp_path: Path) -> None:
    networks = Models("pocket", "cpu")
    now = networks.weight_files(PARTS)
    for path in SHIPPED.glob("*.json"):
        rows = json.loads(path.read_text())
        for row in rows:
            row["weight files"] = {part: now[part] for part in row["weight files"]}
        (tmp_path / path.name).write_text(json.dumps(rows))
    assert OTHER_WEIGHTS not in results_html(networks, tmp_path)
    rows = json.loads((tmp_path / "freeseg-diff.json").read_text())
    rows[0]["weight files"]["captioner"] = "another"
    (tmp_path / "freeseg-diff.json").write_text(json.dumps(rows))
    html = results_html(networks, tmp_path)
    assert f"1 of our {len(kept(tmp_path))} rows were {OTHER_WEIGHTS}" in html
    assert html.count(f'<small class="old">{OTHER_WEIGHTS}</small>') == 1
    assert "FreeSeg-Diff" in html.rpartition(f'<small class="old">{OTHER_WEIGHTS}')[0].rpartition("<tr")[2]


def test_a_page_with_another_backbone_or_without_results_says_so(models: Models, tmp_path: Path) -> None:
    assert "Ours are of pocket, pocket-sd3; this page uses another backbone, Local checkpoint" in results_html(models)
    without = results_html(models, tmp_path)
    assert (
        "Nothing of ours was measured yet" in without and "results-claims" not in without and "results-levels" not in without
    )
    own = sum(row["method"] == "ovdiff" for row in PAPERS)
    assert f"{own} of the paper's figures were not measured here" in without


def test_one_method_on_several_networks_stands_in_one_table(tmp_path: Path) -> None:
    copytree(SHIPPED, tmp_path, dirs_exist_ok=True, ignore=ignore_patterns("pocket-sd3"))
    (tmp_path / "sd15").mkdir()
    for name in ("diffsegmenter", "ovdiff-variants"):
        rows = json.loads((SHIPPED / f"{name}.json").read_text())
        halved = [row | {"backbone": "sd15", "miou": row["miou"] / 2} for row in rows]
        (tmp_path / "sd15" / f"{name}.json").write_text(json.dumps(halved))
    html = results_html(Models("pocket"), tmp_path)
    table = re.search(r'<section id="results-networks".*?</section>', html)[0]
    assert re.findall(r'columnheader">([^<]*)', table) == ["Method", "Pocket Stable Diffusion", "Stable Diffusion 1.5"]
    for name, factors in (("diffsegmenter", (1, 0.5)), ("ovdiff", (1,))):
        (own,) = json.loads((SHIPPED / f"{name}.json").read_text())
        line = next(line for line in table.split("<tr") if f">{find_method(name).title}<" in line)
        assert re.findall(r">([\d.]+)</data>", line) == [f"{100 * factor * own['miou']:.1f}" for factor in factors]
    assert "not measured" in line and "DiffSegmenter on sd15" in html
    shipped = re.search(r'<section id="results-networks".*?</section>', results_html(Models("pocket"), SHIPPED))[0]
    line = next(line for line in shipped.split("<tr") if ">ConceptAttention<" in line)
    assert "cannot be run" in line and "do not share their attention" in line and "not measured" not in shipped
    assert "results-networks" not in results_html(Models("pocket"), tmp_path / "sd15")  # one alone


def test_a_networks_figures_ship_in_a_folder_of_their_own() -> None:
    assert (kept_folder(Models("pocket", "cpu")), kept_folder(Models("sd15", "cpu"))) == (SHIPPED, SHIPPED / "sd15")


@pytest.mark.parametrize("name", ["pocket", "pocket-sd3"])
def test_every_method_was_measured_on_the_networks_that_ship(name: str) -> None:
    networks = Models(name, "cpu")
    measured = ResultFiles(kept_folder(networks)).plain()
    assert {kind.name for kind in METHODS if not kind.yardstick and not obstacle_to(networks, kind)} <= set(measured)
    assert all(row.is_of(networks.weight_files(PARTS)) and row.record["count"] == 64 for row in measured.values())


def test_the_picture_says_of_each_change_whether_ours_goes_the_same_way() -> None:
    pairs = [pair for kind in METHODS for pair in ResultFiles().beside(kind.figures()) if pair.change is not None]
    same = [(pair.paper.change < 0) == (pair.change < 0) for pair in pairs]
    html = results_html(Models("pocket"))
    picture = re.search(r'<section id="results-claims".*?</section>', html)[0]
    verdicts = re.findall(r'<b>([+-][\d.]+)</b></span><span class="verdict (same|other)', picture)
    expected = [(f"{p.change:+.1f}", "same" if way else "other") for p, way in zip(pairs, same, strict=True)]
    assert verdicts == expected and {True, False} == set(same)
    assert f"Of {len(same)} changes that a paper and we measured, {sum(same)} go the same way here" in picture
    # The marks lie in the order of their figures on one axis.
    places = [float(place) for place in re.findall(r'class="ours" style="left:([\d.]+)%', picture)]
    assert sorted(range(len(pairs)), key=lambda k: places[k]) == sorted(range(len(pairs)), key=lambda k: pairs[k].change)


def test_weight_files_are_told_apart_by_what_they_hold(with_clip: Models, tmp_path: Path) -> None:
    found = with_clip.weight_files((*PARTS, "cutler"))  # it has no segmenter, and CutLER goes with no backbone
    assert set(found) == {"backbone", "clip", "dino", "captioner", "grounding"} and len(set(found.values())) == 5
    folder = tmp_path / "dino"
    folder.mkdir()
    content = next(Path(with_clip.checkpoint.dino).glob("*.safetensors")).read_bytes()
    (folder / "model.safetensors").write_bytes(content)
    other = with_traits(with_clip, dino=str(folder), clip="ViT-B-16/openai")
    assert other.weight_files(("dino", "clip")) == {"backbone": found["backbone"], "dino": found["dino"]}
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert other.weight_files(("dino",))["dino"] != found["dino"]


def test_the_command_writes_what_the_tab_reads(
    with_clip: Models, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", with_clip.checkpoint)
    arguments = ["results", "--count", "1", "--out", str(tmp_path / "runs"), "--to", str(tmp_path / "kept")]
    arguments += ["--backbone", "tiny", "--device", "cpu", "--only"]
    assert main([*arguments, "nothing"]) == 2
    assert "runs must be some of diffsegmenter, diffsegmenter-filtered, ovdiff" in capsys.readouterr().err
    assert main([*arguments, "diffsegmenter", "filtered", "grounded"]) == 0
    files = ResultFiles(tmp_path / "kept").files
    assert list(files) == ["diffsegmenter", "diffsegmenter-filtered", "grounded-diffusion"]
    printed = capsys.readouterr().out
    for name, rows in files.items():
        table = json.loads((tmp_path / "runs" / name / "table.json").read_text())
        (row,) = rows
        assert all(row.record[figure] == table[figure] for figure in FIGURES) and "iou" not in row.record
        assert f"{100 * table['miou']:6.1f} %  {name}" in printed
    assert set(files["diffsegmenter-filtered"][0].record["weights"]) == {"backbone", "clip", "captioner"}
    assert set(files["grounded-diffusion"][0].record["weight files"]) == {"backbone", "grounding"}
    tiny = Models("tiny", "cpu")
    assert OTHER_WEIGHTS not in results_html(tiny, tmp_path / "kept")
    assert "another backbone" not in results_html(tiny, tmp_path / "kept").partition("</p>")[2]


def test_rows_of_a_table_can_be_asked_for_by_their_whole_names(models: Models, tmp_path: Path) -> None:
    task = Benchmark(models, DiffSegmenter(), PocketDataset("val"), 1)
    rows = AblationTable(task, DiffSegmenter, ("t = 50",)).run(tmp_path)  # and not "t = 500"
    assert [row["what"] for row in rows] == ["t = 50"]
    assert rows[0]["weight files"] == models.weight_files(()) and rows[0]["dataset"] == "pocket-val"
    names = ["t = 50", "t = 500", "stride 2 alone"]
    asked = [meant(names, texts) for texts in (["t = 50"], ["t ="], ["t = 500", "stride"], [], ["stride 4"])]
    assert asked == [names[:1], names[:2], names[1:], names, []]
    for run in RUNS:  # what the page shows of a table are names of its rows
        assert set(run.rows) <= {variant.what for variant in find_method(run.method, MEASURABLE).ablations}


def test_variants_quote_their_papers_from_the_data_file() -> None:
    in_short = {figure.key: figure.in_short() for kind in METHODS for figure in kind.figures()}
    assert len(in_short) == len(PAPERS)
    for variant in (variant for kind in METHODS for variant in kind.ablations if variant.paper):
        assert re.fullmatch(r"[+-]\d+\.\d points on PASCAL \w+( \d+)? val", in_short[variant.paper]), variant
    assert in_short["ovdiff-background"] == "-10.0 points on PASCAL VOC 2012 val"
    assert in_short["diffsegmenter-voc"] == "60.1 on PASCAL VOC 2012 val"
    beside = [figure.ours for figure in OVDiff.figures() if figure.ours]
    named = {row for ours in beside for row in (ours.row, ours.before)} - {""}
    assert named <= {variant.what for variant in OVDiff.ablations} and len(named) > 5
