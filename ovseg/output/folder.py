"""A folder of pictures: the files of each, in any number of processes, and one COCO file of all.

The files of a picture lie in `OUT/pictures/`, in a folder with the picture's own path, `cats/one.jpg`. The last of them is
`record.json`: a stopped run goes on with the pictures that have none, or whose file has changed since.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ovseg.files import RunFolder, alone_in, as_json, checksum, read_json, write_or_check_settings, write_whole
from ovseg.limits import quoted
from ovseg.methods import Method
from ovseg.methods.base import Prepared
from ovseg.models import Models
from ovseg.output.coco import coco_file, merged
from ovseg.output.cost import measuring
from ovseg.output.files import Result, attention_of, files_of
from ovseg.output.run_card import run_card, weights_of
from ovseg.pictures import looks_like_picture, read_image
from ovseg.processes import joined, on_device, one_thread
from ovseg.progress import Report, silent, within
from ovseg.read_ahead import read_ahead
from ovseg.scene import from_image
from ovseg.words.class_filter import asked_for, look_for
from ovseg.words.classes import ClassWord, parse_classes

KEPT = 4  # sets of words that the method stays prepared for, where each picture has its own

README = """\
pictures/      for each picture a folder with its own path; its README.txt says what it holds
coco.json      the masks of all pictures as COCO annotates them (pycocotools reads it); one annotation for each class of a
               picture, all of its pixels together: these are areas, not single objects
skipped.json   the pictures that could not be segmented, and why
settings.json  what the masks depend on; a run with other settings or other weights needs another folder

A stopped run goes on with the same command. Pictures that were skipped are tried again.
"""

Prepare = Callable[[tuple[ClassWord, ...]], Prepared]


@dataclass(frozen=True)
class PictureOutcome:
    """What came of a picture: its COCO file, or None and the reason in a sentence."""

    coco: Mapping | None
    reason: str = ""


@dataclass(frozen=True)
class FolderTask:
    """A method on all pictures of a folder and the folders in it.

    Raises:
        ValueError: `folder` is none, or is `out`.
    """

    models: Models
    method: Method  # with its settings
    # Holds the pictures, by their ending or their first bytes, also in folders that are linked. Hidden ones, and those in
    # `out`, do not count.
    folder: Path
    out: Path  # for the files
    _: KW_ONLY
    words: str = ""  # the classes, as `parse_classes` reads them; blank for those that each picture's caption names
    caption: str = ""  # of all pictures; blank for the captioner's, where one is needed
    captioner: str = ""  # its name; the backbone's if blank
    only_present: bool = False  # leave out the classes that neither CLIP nor the caption finds in a picture
    seed: int = 0  # of every picture's noise
    square: bool = False  # squash pictures to a square first
    class_thresholds: Mapping[str, float] = field(default_factory=dict)  # of classes whose threshold is their own
    parts: tuple[str, ...] = ("masks",)  # which files are written, as `files_of` takes them
    attention: bool = False  # write every attention map as a picture too

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ValueError(f"The pictures must be in a folder, but {self.folder} is none.")
        if self.folder.resolve() == self.out.resolve():
            raise ValueError(f"The files must go to another folder than that of the pictures, but both are {self.out}.")
        known = [word.name for word in self.classes]
        if strange := [name for name in self.class_thresholds if name not in known]:
            raise ValueError(f"A class with its own threshold must be asked for, but {quoted(strange[0])} is not.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The pictures' paths from `folder`, with slashes, sorted.

        Raises:
            ValueError: there are none.
        """
        names = sorted(path.relative_to(self.folder).as_posix() for path in self._files if looks_like_picture(path))
        if not names:
            raise ValueError(f"The folder {self.folder} must hold pictures, but holds none.")
        return tuple(names)

    @property
    def left_out(self) -> Counter[str]:
        """How many files are no pictures, by their endings."""
        others = (path for path in self._files if path.relative_to(self.folder).as_posix() not in self.names)
        return Counter(path.suffix.lower() or "no ending" for path in others)

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """All files that are not hidden and not in `out`, each once, whatever links lead to it."""
        found, seen = [], {self.out.resolve()}
        for root, folders, files in os.walk(self.folder, followlinks=True):
            here = Path(root).resolve()
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            folders[:] = sorted((f for f in folders if f[0] != "."), key=lambda f: (os.path.islink(Path(root, f)), f))
            found += [Path(root, name) for name in files if name[0] != "."]
        return tuple(found)

    @cached_property
    def classes(self) -> tuple[ClassWord, ...]:
        """The classes that all pictures are asked for; none if `words` is blank."""
        return parse_classes(self.words) if self.words.strip() else ()

    def run(self, report: Report = silent) -> dict[str, PictureOutcome] | None:
        """Segment the pictures that are missing, and write `coco.json`, `skipped.json` and `README.txt`.

        On a CPU each process computes with one thread, so that the masks do not depend on the number of processes.

        Returns:
            What came of each picture, sorted by name; in processes of torchrun other than the first, None.

        Raises:
            ValueError: there are no pictures, no captioner where one is needed, `out` holds a run with other settings, a
                setting is out of its range, or a file cannot be written.
        """
        names = self.names
        with joined() as share, one_thread(self.models.device), alone_in(self.out) if share.rank == 0 else nullcontext():
            local = replace(self, models=on_device(self.models, share.local))
            write_or_check_settings(self.out, local.settings())
            mine = [names[number] for number in share.of(len(names))]
            outcomes = share.gather(local._work(mine, report if share.rank == 0 else silent))
        if outcomes is None:
            return None
        outcomes = dict(sorted(outcomes.items()))
        self._write_summary(outcomes)
        return outcomes

    def settings(self) -> dict:
        """All that the files depend on, JSON-ready. Loads the weights, to say which they are.

        Raises:
            ValueError: there is no captioner where one is needed, or a network cannot be loaded.
        """
        captioner = self.captioner if self._needs_caption else None
        if captioner is not None and (obstacle := self.models.captioner_obstacle(captioner)):
            raise ValueError(f"Classes and a caption must be given, because none can be made here. {obstacle}")
        helpers = self.method.helpers(self.models)
        if captioner is not None:
            self.models.captioner(captioner)  # its weights are named where it is loaded
        elif "captioner" in helpers and not self.method.finds_words:
            helpers["captioner"]()
        settings = {
            "method": {"name": self.method.name, **asdict(self.method)},
            "backbone": self.models.name, "dtype": self.models.dtype_name,
            "weights": weights_of(self.models, self.method, captioner),
            "classes": ["|".join(word.phrases) for word in self.classes],
            "caption": self.caption, "captioner": self.captioner, "only present": self.only_present, "seed": self.seed,
            "square": self.square, "class thresholds": dict(self.class_thresholds),
            "files": self.parts, "attention": self.attention,
        }  # fmt: skip
        return json.loads(json.dumps(settings))

    @property
    def _needs_caption(self) -> bool:
        return not self.caption.strip() and (self.method.finds_words or not self.classes)

    def _work(self, names: Sequence[str], report: Report) -> dict[str, PictureOutcome]:
        """The outcome of each of these pictures; those that have a record are not segmented again."""
        outcomes = {name: kept for name in names if (kept := self._kept(name))}
        missing = [name for name in names if name not in outcomes]
        if not missing:
            return outcomes
        done, share = len(outcomes), 1 / len(names)

        @lru_cache(KEPT)
        def prepare(classes: tuple[ClassWord, ...]) -> Prepared:
            return self.method.prepare(self.models, classes, lambda stage, _: report(stage, done * share))

        if self.classes and not self.only_present:
            prepare(self.classes)  # here, because what is wrong with the words or settings is so for every picture
        for name, read in read_ahead(missing, self._read):
            part = within(report, done * share, (done + 1) * share, f"picture {done + 1} of {len(names)}")
            outcomes[name] = self._segmented(name, read, prepare, part)
            done += 1
        return outcomes

    def _kept(self, name: str) -> PictureOutcome | None:
        """The outcome that an earlier run has left of the picture as it is now."""
        path = self._record(name)
        if not path.exists():
            return None
        record = read_json(path)
        return PictureOutcome(record["coco"]) if record["checksum"] == self._checksum(name) else None

    def _read(self, name: str) -> tuple[np.ndarray, str]:
        """A picture's pixels and its file's checksum."""
        return read_image(self.folder / name), self._checksum(name)

    def _segmented(
        self, name: str, read: Future[tuple[np.ndarray, str]], prepare: Prepare, report: Report
    ) -> PictureOutcome:
        """Segment a picture and write its files. What is wrong with the picture or its words is a reason to skip it."""
        report("reading", 0.0)
        try:
            image, content = read.result()
            result = self._result(image, prepare, report)
        except ValueError as error:
            return PictureOutcome(None, str(error))
        folder, segmentation = self._record(name).parent, result.segmentation
        if folder.is_dir():
            shutil.rmtree(folder)  # files of the picture as it was before, or of a stopped run
        files = RunFolder(folder)
        files.write(files_of(result, self.parts))
        if self.attention:
            files.write(attention_of(segmentation))
        coco = coco_file([(name, segmentation.label_map)], segmentation.labels)
        write_whole(self._record(name), as_json({"checksum": content, "coco": coco}, None), lasting=True)
        return PictureOutcome(coco)

    def _result(self, image: np.ndarray, prepare: Prepare, report: Report) -> Result:
        words, caption = asked_for(
            self.models, image, self.words, finds_words=self.method.finds_words, caption=self.caption,
            captioner=self.captioner, report=report,
        )  # fmt: skip
        if self.only_present and words:
            seen = look_for(self.models, image, words, caption)
            words = tuple(word for word, item in zip(words, seen, strict=True) if item.present)
        prepared = prepare(words)
        scene = from_image(self.models, image, self.seed, caption=caption, square=self.square)
        with measuring(self.models.device) as cost:
            segmentation = self.method.apply(prepared, scene, report)
        captioner = self.captioner if self._needs_caption else None
        own = {name: value for name, value in self.class_thresholds.items() if name in segmentation.labels}
        if own:
            segmentation = segmentation.with_class_thresholds(own)
        card = run_card(self.models, scene, words, self.method, segmentation, cost=cost, captioner=captioner)
        return Result(segmentation, card)

    def _checksum(self, name: str) -> str:
        return checksum([self.folder / name], self.folder)

    def _record(self, name: str) -> Path:
        return self.out / "pictures" / name / "record.json"

    def _write_summary(self, outcomes: Mapping[str, PictureOutcome]) -> None:
        files = [outcome.coco for outcome in outcomes.values() if outcome.coco is not None]
        for record in list(self.out.glob("pictures/**/record.json")):
            if record.parent.relative_to(self.out / "pictures").as_posix() not in outcomes:
                shutil.rmtree(record.parent)  # of a picture that an earlier run found, and that is gone
        write_whole(self.out / "coco.json", as_json(merged(files, [word.name for word in self.classes]), None))
        skipped = [{"picture": name, "why": reason} for name, reason in reasons(outcomes)]
        write_whole(self.out / "skipped.json", as_json(skipped))
        write_whole(self.out / "README.txt", README.encode())


def reasons(outcomes: Mapping[str, PictureOutcome]) -> Iterator[tuple[str, str]]:
    """The pictures that were skipped, each with the reason."""
    yield from ((name, outcome.reason) for name, outcome in outcomes.items() if outcome.coco is None)
