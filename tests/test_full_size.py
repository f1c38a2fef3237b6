"""Networks of Stable Diffusion 1.5's full widths with random weights: the path a real checkpoint takes at 512 px, and the
training chain with an imported module.
"""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Mask2FormerConfig

from ovseg.__main__ import main
from ovseg.backbones.base import Capture
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.factory.triplets import TripletSet
from ovseg.methods.diffsegmenter.method import DiffSegmenter
from ovseg.models import Models
from ovseg.pretrained.published_grounding import SD1_SIZE
from ovseg.scene import from_image
from ovseg.words.classes import parse_classes
from tests.networks import full_size_pipeline
from tests.published_grounding import published_weights
from tests.self_attention import selves
from tests.tiny_mask2former import named_labels, save_mask2former

SIDE = 32  # of the latent: a quarter of the places of 512 px, and all of the widths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the widths of Stable Diffusion 1.5, in half precision on disk."""
    out = tmp_path_factory.mktemp("full")
    full_size_pipeline(out / "bpe", SIDE).to(torch.float16).save_pretrained(out / "pipeline")
    return out / "pipeline"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore:The grounding module:UserWarning")
@pytest.mark.usefixtures("groundings")
def test_the_chain_on_full_widths(folder: Path, tmp_path: Path) -> None:
    save_mask2former(tmp_path / "detector", "dining table", Mask2FormerConfig(**named_labels()))
    network = ["--backbone", str(folder), "--device", "cpu", "--dtype", "float32"]
    split = tmp_path / "tables.json"
    split.write_text('{"seen": ["diningtable"], "unseen": ["tvmonitor"]}')

    made = ["triplets", *network, "--split", str(split), "--pairs", "0", "--count", "1", "--steps", "1"]
    assert main([*made, "--detector", str(tmp_path / "detector"), "--out", "set"]) == 0
    data = TripletSet(Path("set"))
    assert {stride: maps.shape[0] for stride, maps in data.features(0).items()} == dict(SD1_SIZE.channels)
    assert sum(maps.nbytes for maps in data.features(0).values()) == pytest.approx(68.16e6 / 4, rel=0.001)
    train = ["train", "grounding", *network, "--split", str(split), "--triplets", "set", "--minutes", "0.001"]
    assert main(train) == 0
    torch.save(published_weights(), "published.pth")
    assert main(["grounding", "import", "published.pth", "--backbone", str(folder)]) == 0

    segmented = ["segment", "picture.png", "--classes", "diningtable, tvmonitor", "--method", "grounded-diffusion", *network]
    assert main(["generate", "a photograph of a diningtable", "--steps", "1", "--out", "picture.png", *network]) == 0
    for module in ("tables", "published"):
        assert main([*segmented, "--set", f"module={module}", "--out", module]) == 0
        card = json.loads((tmp_path / module / "run.json").read_text())
        assert card["method"]["module"] == module and card["weights"]["grounding"]
    drawn = ["synthesize", *network, "--split", str(split), "--pairs", "0", "--count", "1", "--steps", "1", "--out", "data"]
    assert main(drawn) == 0
    size = Models(str(folder), "cpu").grounding("tables").module.size
    assert size.text == 768 and dict(size.channels) == dict(SD1_SIZE.channels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak < 10 * 2**30, f"{peak / 2**30:.1f} GB"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return StableDiffusion(full_size_pipeline(tmp_path_factory.mktemp("tokenizer"), 64), "full", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_classes_at_512_px_in_one_pass(full: StableDiffusion, tmp_path: Path) -> None:
    assert sum(p.numel() for p in full.network.parameters()) == 859_520_964
    models = Models("pocket", device="cpu")
    models._backbone = full
    batches = []
    hook = full.network.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape))
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    scene = from_image(models, image)
    assert scene.latent.shape == (1, 4, 56, 72)
    assert full.rows_per_pass((56, 72), Capture(states=selves(full, 1))) >= 2
    result = DiffSegmenter().segment(models, scene, parse_classes("cat, grass"))
    hook.remove()
    assert batches == [(2, 4, 56, 72)]
    assert result.scores().shape == (3, 375, 500) and np.isfinite(result.scores()).all()
    strides = {e.group for e in result.evidence}
    assert len(strides) == 7  # refined, fused, four strides, self-attention
