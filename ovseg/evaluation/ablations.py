"""Tables of variants of a method: each row changes one setting, and names the command that gives its figures."""

import shlex
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from ovseg.evaluation.benchmark import Benchmark
from ovseg.evaluation.papers import in_short
from ovseg.files import as_json, write_whole
from ovseg.methods import Method, modes_of
from ovseg.methods.settings import as_text
from ovseg.progress import Report, silent
from ovseg.types import named


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Args:
        what: its name.
        settings: fields of the method that differ from the mode.
        labels: a name of `LABEL_SOURCES`.
        paper: the name in `papers.json` of the figure that the paper reports for this change; empty if it reports none.
        needs: networks that it uses and the method does not.
        mode: a mode of the method.
    """

    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    labels: str = "ground-truth"
    paper: str = ""
    needs: tuple[str, ...] = ()
    mode: str = "suited"


ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "diffsegmenter": (
        Variant("the settings that suit the backbone"),
        Variant("self-attention applied once, as in the paper", {"refinements": 1, "refine_stride": 1}),
        *(Variant(f"self-attention applied once, at stride {s}", {"refinements": 1, "refine_stride": s}) for s in (2, 4)),
        Variant("without self-attention", {"refinements": 0}),
        Variant("stride 1 alone", {"stride_weights": (1.0, 0.0, 0.0)}),
        Variant("stride 2 alone", {"stride_weights": (0.0, 1.0, 0.0)}),
        Variant("stride 4 alone", {"stride_weights": (0.0, 0.0, 1.0)}),
        *(Variant(f"t = {t}", {"timesteps": (t,)}) for t in (20, 50, 100, 200, 300, 500)),
        Variant("1 noise draw", {"draws": 1}),
        Variant("4 noise draws", {"draws": 4}),
        Variant("8 noise draws", {"draws": 8}),
        Variant("classes by the CLIP filter", labels="clip", needs=("clip",)),
        Variant("classes by the CLIP filter or the caption", labels="clip-caption", needs=("clip", "captioner")),
        Variant("all class names on every picture", labels="all"),
        Variant("the class word emphasised, as in the paper", {"emphasis": 1.21}),
        Variant("the prompt continued by the captioner, as in the paper", {"continued": True}, needs=("captioner",)),
    ),
    "ovdiff": (
        Variant("the settings that suit the backbone"),
        Variant("without background prototypes", {"background": "none"}, paper="ovdiff-background"),
        Variant("with the category pre-filter", {"prefilter": True}),
        Variant("without the category pre-filter", {"prefilter": False}),
        Variant("without the stuff filter", {"stuff_filter": False}, paper="ovdiff-stuff"),
        Variant("masks by MaskCut", {"masks": "maskcut"}, needs=("dino",)),
        Variant("masks by Otsu's thresholds", {"masks": "otsu"}, paper="ovdiff-masks"),
        Variant("mean prototypes alone", {"kinds": "mean"}, paper="ovdiff-mean"),
        Variant("diffusion features alone", {"extractors": ("diffusion",)}, paper="ovdiff-diffusion"),
        Variant("CLIP features alone", {"extractors": ("clip",)}, paper="ovdiff-clip"),
        Variant("DINO features alone", {"extractors": ("dino",)}, paper="ovdiff-dino", needs=("dino",)),
        Variant(
            "diffusion, CLIP and DINO features together", {"extractors": ("diffusion", "clip", "dino")}, needs=("dino",)
        ),
        *(Variant(f"{n} support images", {"images": n}) for n in (4, 8, 16, 32, 64)),
        Variant("refined by PAMR", {"refinement": "pamr"}, paper="ovdiff-pamr"),
        Variant("without refinement", {"refinement": "none"}),
        Variant("all class names on every picture", labels="all", paper="ovdiff-prefilter"),
        Variant("all class names and the pre-filter", {"prefilter": True}, labels="all"),
        Variant("classes by the CLIP filter", labels="clip"),
    ),
    "freeseg-diff": (
        Variant("the settings that suit the backbone"),
        Variant("as released", mode="released"),
        Variant("best effort", mode="best effort"),
        Variant("open vocabulary: the caption's own words join", {"vocabulary": "open"}),
        Variant("closed vocabulary: the given classes alone", {"vocabulary": "closed"}),
        Variant("closed vocabulary, several clusters for a class", {"vocabulary": "closed", "one_each": False}),
        Variant("several clusters for a class", {"one_each": False}),
        Variant("all given classes are candidates, without a caption", {"words": "classes", "vocabulary": "closed"}),
        Variant("all class names, of which the caption chooses", labels="all"),
        Variant("CLIP's keys clustered", {"features": "clip"}),
        Variant("DINO's keys clustered", {"features": "dino"}, needs=("dino",)),
        Variant("raw pixels clustered", {"features": "pixels"}),
        *(Variant(f"t = {t}", {"timestep": t}) for t in (0, 50, 100, 200, 300)),
        *(Variant(f"{k} clusters", {"clusters": k}) for k in (2, 3, 4, 6, 8)),
        Variant("without refinement", {"refinement": "none"}),
        Variant("refined by PAMR", {"refinement": "pamr"}),
        Variant("refined by a CRF", {"refinement": "crf"}),
    ),
}


@dataclass(frozen=True)
class Ablation:
    """All variants of a method on the data set of `task`, or those whose name contains one of the texts `only`.

    Each variant has its own folder, so that a stopped table can continue.

    Args:
        exact: whether `only` holds whole names.
    """

    task: Benchmark
    kind: type[Method]
    only: tuple[str, ...] = ()
    exact: bool = False

    def run(self, out: Path, report: Report = silent) -> list[dict]:
        """Measure every variant; write `ablation.md` and `ablation.json`, and return its rows.

        Raises:
            ValueError: the method has no table of variants, or no name contains one of the texts.
        """
        known = [variant.what for variant in named(ABLATIONS, "method", self.kind.name)]
        if not any(map(self._asked, known)):
            raise ValueError(
                f"The rows must be some of {'; '.join(known)}; but no row of {self.kind.title} contains {self.only}."
            )
        rows = list(self._rows(out, report))
        write_whole(out / "ablation.json", as_json(rows))
        write_whole(out / "ablation.md", as_markdown(rows).encode())
        return rows

    def _asked(self, what: str) -> bool:
        return not self.only or any(text == what if self.exact else text in what for text in self.only)

    def _rows(self, out: Path, report: Report) -> Iterator[dict]:
        variants, measured = ABLATIONS[self.kind.name], {}
        for number, variant in enumerate(variants):
            if not self._asked(variant.what):
                continue
            paper = in_short(variant.paper) if variant.paper else ""
            if obstacle := " ".join(filter(None, map(self.task.models.obstacle, variant.needs))):
                yield {"what": variant.what, "paper": paper, "obstacle": obstacle}
                continue
            method = replace(modes_of(self.task.models, self.kind)[variant.mode], **variant.settings)
            task = replace(self.task, method=method, labels=variant.labels)

            def report_row(stage: str, share: float, number: int = number, what: str = variant.what) -> None:
                report(f"{what}: {stage}", (number + share) / len(variants))

            # Two variants can be the same method, where one of them is what suits the backbone: measured once.
            if (method, variant.labels) not in measured:
                measured[method, variant.labels] = task.run(out / f"{number:02d}", report_row)
            table = measured[method, variant.labels]
            swept = table.get("miou_at_threshold", {})
            best = max(swept, key=swept.get) if swept else None
            yield {
                "what": variant.what,
                "paper": paper,
                "method": self.kind.name,
                **{name: table[name] for name in ("dataset", "count", "labels", "backbone", "weight files")},
                "miou": table["miou"],
                "mean_image_miou": table["mean_image_miou"],
                "pixel_accuracy": table["pixel_accuracy"],
                "best_threshold": best,
                "miou_at_best": swept.get(best),
                "command": self._command(variant, out / f"{number:02d}"),
            }

    def _command(self, variant: Variant, out: Path) -> str:
        command = f"python -m ovseg evaluate --method {self.kind.name} --dataset {self.task.dataset.name}"
        command += f" --count {self.task.total}"
        if variant.mode != "suited":
            command += f" --mode '{variant.mode}'"
        if variant.settings:
            settings = (shlex.quote(f"{name}={as_text(value)}") for name, value in variant.settings.items())
            command += " --set " + " ".join(settings)
        if variant.labels != "ground-truth":
            command += f" --labels {variant.labels}"
        return f"{command} --out runs/{out.name}"


def as_markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table, in percent."""
    lines = [
        "| variant | dataset mIoU | per-image mIoU | pixel accuracy | best threshold | mIoU with it | the paper | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "obstacle" in row:
            lines.append(f"| {row['what']} | not run: {row['obstacle']} | | | | | {row['paper']} | |")
            continue
        best = f"{row['best_threshold']} | {row['miou_at_best']:.1%}" if row["best_threshold"] else " | "
        figures = f"{row['miou']:.1%} | {row['mean_image_miou']:.1%} | {row['pixel_accuracy']:.1%}"
        lines.append(f"| {row['what']} | {figures} | {best} | {row['paper']} | `{row['command']}` |")
    return "\n".join(lines) + "\n"
