"""All recipes in one chain: its table of minutes, its steps, and that it is taken up where it was stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ovseg.backbones import BACKBONES
from ovseg.factory.chain import PAINTERS, Chain
from ovseg.factory.orders import order
from ovseg.factory.splits import find_split
from ovseg.models import Models
from ovseg.pocket.recipes import MINUTES
from ovseg.pocket.train_segmenter import build_segmenter
from ovseg.pocket.training import Budget
from ovseg.pretrained.detector import load_detector
from tests.networks import stop_at

SHORT = dict.fromkeys(MINUTES, 0.02)


def test_steps_are_in_order_and_a_new_codec_comes_first(tmp_path: Path) -> None:
    chain = Chain(Budget(tmp_path, 0), tmp_path / "bundle")
    after = ["clip", "judge", "captioner", "dino", "segmenter", "transformer", "bundle", "detector"]
    after += [f"{step} of {name}" for name in ("pocket", "pocket-sd3") for step in ("triplets", "grounding")]
    after.append("bundle with grounding")
    assert list(chain.all_steps()) == ["denoiser", *after]
    assert list(replace(chain, anew=True).all_steps()) == ["codec", "denoiser", *after]
    with pytest.raises(ValueError, match=r"Minutes must be given for codec, denoiser, .*, but got clip"):
        replace(chain, minutes={"clip": 1})


class Watched(Chain):
    """A chain whose steps do nothing but note their names; those of `unfinished` need another run."""

    def all_steps(self) -> dict:
        def step(name: str) -> bool:
            with (self.budget.root / "log").open("a") as log:
                log.write(f"{name}\n")
            unfinished = self.budget.root / f"{name}.unfinished"
            again = unfinished.exists()
            unfinished.unlink(missing_ok=True)
            return not again

        return {name: lambda name=name: step(name) for name in super().all_steps()}


def test_finished_steps_are_not_done_again(tmp_path: Path) -> None:
    chain = Watched(Budget(tmp_path, 0), tmp_path / "bundle")
    (tmp_path / "judge.unfinished").touch()
    shares: list[float] = []
    assert not chain.run(lambda step, share: shares.append(share))
    assert (tmp_path / "log").read_text().split() == ["denoiser", "clip", "judge"]
    assert chain.run(lambda step, share: shares.append(share))
    done = (tmp_path / "log").read_text().splitlines()
    assert done == ["denoiser", "clip", "judge", *list(chain.all_steps())[2:]]
    assert shares == [0, 1 / 14, 2 / 14, *(k / 14 for k in range(2, 14))]
    assert chain.run() and (tmp_path / "log").read_text().splitlines() == done
    with pytest.raises(ValueError, match="must be new or hold the same"):
        replace(chain, triplets=3).run()


def test_a_piece_does_one_step(tmp_path: Path) -> None:
    chain = Watched(Budget(tmp_path, 0, piece=1.0), tmp_path / "bundle")
    for count in range(1, len(chain.all_steps()) + 1):
        assert chain.run() == (count == len(chain.all_steps()))
        assert len((tmp_path / "log").read_text().splitlines()) == count


class WithDetector(Chain):
    """A chain whose detector, after its short training, is made to see one thing everywhere: else it would see nothing."""

    def all_steps(self) -> dict:
        steps, seen = super().all_steps(), find_split(self.split).seen
        train = steps["detector"]

        def detector() -> bool:
            drawn = [word for k in range(self.triplets) for word in order(k, seen, 0.5, 0).words]
            folder, number = (
                self.budget.root / f"detector-{self.split}" / "segmenter",
                seen.index(max(drawn, key=drawn.count)),
            )
            assert train() and load_detector(str(folder)).labels == ("background", *seen)
            network = build_segmenter(seen)
            with torch.no_grad():
                network.decode_head.classifier.weight.zero_()
                network.decode_head.classifier.bias.zero_()[1 + number] = 9.0
            network.save_pretrained(folder)
            return True

        return steps | {"detector": detector}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_chain_with_a_stop_in_the_middle(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "root", 0, scenes=64, tested=6)
    chain = WithDetector(budget, tmp_path / "bundle", SHORT, anew=True, triplets=6, steps=1)

    with pytest.raises(KeyboardInterrupt):
        chain.run(stop_at("captioner"))
    before = {path: path.stat().st_mtime_ns for path in budget.root.rglob("checkpoint/*.safetensors")}
    assert {path.relative_to(budget.root).parts[0] for path in before} == {"codec", "denoiser", "clip", "judge"}
    assert not chain.to.exists()
    assert chain.run()
    assert before.items() <= {path: path.stat().st_mtime_ns for path in budget.root.rglob("checkpoint/*")}.items()
    parts = [entry["part"] for entry in json.loads((chain.to / "training.json").read_text())]
    assert parts == [
        "codec", "denoiser, pictures of half the size", "denoiser, pictures of the full size", "clip", "judge", "captioner",
        "dino", "segmenter", "transformer, pictures of half the size", "transformer, pictures of the full size",
        "grounding-S1",
    ]  # fmt: skip
    # Each packed module belongs to its packed pipeline.
    for name, (pipeline, own) in PAINTERS.items():
        models = Models(str(chain.to / pipeline), "cpu")
        models.checkpoint = replace(BACKBONES[name], grounding=str(chain.to / own / "grounding"))
        assert set(models.grounding("S1").training["seen"]) <= set(BACKBONES[name].classes.split(", "))
