"""Tiny real parts: a Stable Diffusion pipeline of SD's own block layout with random weights, saved as a folder."""

import gc
import importlib
import io
import os
import pickle
import pkgutil
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from threading import RLock

import jaxtyping
import pytest

from tests import fifth_method
from tests.typecheck import when_called

gc.disable()  # until all is imported
# Shape annotations are checked at run time during tests.
jaxtyping.jaxtyped = when_called  # for good: what is defined in a function is decorated when that is called
with jaxtyping.install_import_hook("ovseg", "tests.typecheck.check"):
    import ovseg  # before diffusers, so that torchvision is importable

    fifth_method.join()  # before any module lists the methods
    PUBLIC = [getattr(ovseg, name) for name in ovseg.__all__]  # imports the modules that define them
    # Rooms that these do not import.
    for room in ("pocket", "factory", "evaluation", "compare", "output", "doors", "demo", "commands"):
        for module in pkgutil.iter_modules([str(Path(ovseg.__file__).parent / room)]):
            importlib.import_module(f"ovseg.{room}.{module.name}")
    from ovseg.methods import METHODS

    ON_A_UNET = tuple(kind for kind in METHODS if "joint attention" not in kind.needs and not kind.yardstick)

# isort: split

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, ViTConfig, ViTImageProcessor, ViTModel

from ovseg.backbones import Backbone, load_backbone
from ovseg.backbones.layout import Layout
from ovseg.backbones.stable_diffusion import StableDiffusion
from ovseg.demo.picture import Picture
from ovseg.demo.run import Results, RunRequest, run, titled
from ovseg.methods import Method
from ovseg.models import Models
from ovseg.pocket.bundle import build_pipeline
from ovseg.pocket.open_clip_export import export_open_clip
from ovseg.pocket.tokenizer import CONTEXT_LENGTH, END, START, build_tokenizer
from ovseg.pocket.train_captioner import build_captioner, build_processor
from ovseg.pocket.train_clip import build_clip
from ovseg.pocket.train_segmenter import build_segmenter
from ovseg.pocket.world import THINGS, scene
from ovseg.pretrained.grounding import GroundingModule, GroundingSize, save_grounding, step_features
from ovseg.progress import Report, silent
from ovseg.scene import from_image
from ovseg.server.durations import Durations
from ovseg.types import Scene
from tests.patch_transformer import PatchTransformer
from tests.tiny_pipelines import write_tiny

LOCK = type(RLock())
gc.freeze()  # what is imported stays, and need not be looked at again
gc.enable()
# With several threads sums are in another order, and maps of random weights in a file differ from those made again.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The layout of Stable Diffusion 1.x with narrow layers: strides 1, 2, 4, 8, and pictures of 64 px."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    torch.manual_seed(0)
    tokenizer = build_tokenizer(folder.parent / "bpe")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT_LENGTH, bos_token_id=tokenizer.convert_tokens_to_ids(START),
        eos_token_id=tokenizer.convert_tokens_to_ids(END), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(16, 16, 32, 32), layers_per_block=2, norm_num_groups=8,
        cross_attention_dim=16, attention_head_dim=(1, 2, 2, 2),  # one of 16 numbers takes a third of the time of two of 8
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, layers_per_block=1,
    )  # fmt: skip
    build_pipeline(vae, CLIPTextModel(text), tokenizer, unet).save_pretrained(folder)
    traits, told = StableDiffusion.traits, StableDiffusion.traits(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovseg.models.load_backbone", Copies(str(folder)))
        # They are told of a network's layout, for which one is made.
        patch.setattr(StableDiffusion, "traits", lambda of: dict(told) if of == folder else traits(of))
        yield folder


class Copies:
    """Loads backbones; one folder's from its files once, and then as copies: hundreds of tests have one of their own."""

    def __init__(self, name: str) -> None:
        self.name, self.read = name, dict[torch.dtype, Copied]()

    def __call__(
        self, name: str, device: torch.device | str, dtype: torch.dtype, *, offload: bool = False, words: str = ""
    ) -> Backbone:
        if name != self.name or offload or words or str(device) != "cpu":
            return load_backbone(name, device, dtype, offload=offload, words=words)
        if dtype not in self.read:
            self.read[dtype] = Copied(load_backbone(name, device, dtype))
        return self.read[dtype].again()


class Copied(pickle.Pickler):
    """A backbone as a pickle beside its tensors and what is the same in all copies, which are made sooner than by `deepcopy`
    and than a backbone of a pipeline. A tokenizer is the same: a copy of one reads its tokens otherwise.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.file, self.beside = io.BytesIO(), list[object]()
        super().__init__(self.file)
        self.dump(backbone)

    def persistent_id(self, part: object) -> int | None:
        if not isinstance(part, (torch.Tensor, CLIPTokenizer, Layout, LOCK)):
            return None
        self.beside.append(part)
        return len(self.beside) - 1

    def again(self) -> Backbone:
        """A copy with tensors and a lock of its own."""
        copies: dict[int, object] = {}
        reader = pickle.Unpickler(io.BytesIO(self.file.getvalue()))
        reader.persistent_load = lambda k: self._one(self.beside[k], copies)
        return reader.load()

    def _one(self, part: object, copies: dict[int, object]) -> object:
        if isinstance(part, LOCK):
            return RLock()
        return deepcopy(part, copies) if torch.is_tensor(part) else part


def full_size_pipeline(folder: Path, latent_side: int) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5's own configuration with random weights, for latents of a side; its words go to the folder."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(folder)
    tokenizer.model_max_length = 77
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1, pad_token_id=len(tokenizer) - 1,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=latent_side, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=8 * latent_side,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return build_pipeline(vae, CLIPTextModel(text), tokenizer, unet)


def in_place_of_a_large_one(models: Models) -> Models:
    """With the sides of Stable Diffusion's pictures in its row, so that methods are set as for that."""
    models.checkpoint = replace(models.checkpoint, side=512, latent_side=64)
    return models


@pytest.fixture(scope="session")
def joint_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 3, in which words and places share their attention."""
    return write_tiny("sd35m", tiny_folder, tmp_path_factory.mktemp("families") / "joint")


@pytest.fixture(scope="session")
def patches_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the transformer over patches, which is no U-Net."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("patches") / "weights.safetensors"
    save_file(PatchTransformer().state_dict(), file)
    return file


@pytest.fixture(scope="session")
def models(tiny_folder: Path) -> Models:
    """The tiny pipeline behind `Models`, on the CPU."""
    return in_place_of_a_large_one(Models(str(tiny_folder), device="cpu"))


@pytest.fixture(scope="session")
def precise_models(tiny_folder: Path) -> Models:
    """The same in double precision: attention of random weights is nearly flat, and min-max enlarges rounding errors."""
    return in_place_of_a_large_one(Models(str(tiny_folder), device="cpu", dtype="float64"))


@pytest.fixture(scope="session")
def clip_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights on the tiny pipeline's text encoder, as open_clip loads it."""
    torch.manual_seed(0)
    text, folder = CLIPTextModel.from_pretrained(tiny_folder / "text_encoder"), tmp_path_factory.mktemp("clip")
    export_open_clip(build_clip(text, 64), CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer"), folder)
    return folder


@pytest.fixture(scope="session")
def captioner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP-2 of random weights with the words of the pocket world; with this seed no caption is empty."""
    torch.manual_seed(5)
    processor, folder = build_processor(64), tmp_path_factory.mktemp("captioner")
    build_captioner(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def grounding_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one grounding module of random weights, S1, for the tiny pipeline."""
    torch.manual_seed(0)
    backbone, folder = Models(str(tiny_folder), device="cpu").backbone, tmp_path_factory.mktemp("grounding")
    features = step_features(backbone, torch.zeros(1, 4, 16, 16), "", 1, 0)
    channels = {stride: maps.shape[1] for stride, maps in features.items()}
    size = GroundingSize(channels, 16, dict.fromkeys(channels, 4), model=16, heads=2, feed_forward=16, layers=1)
    training = {"split": "S1", "seen": ["cat"], "backbone": backbone.fingerprint}
    save_grounding(GroundingModule(size).eval(), folder / "S1", training, torch.float16)
    return folder


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UperNet of random weights that finds the things of the world."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detector")
    build_segmenter(THINGS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def with_clip(
    tiny_folder: Path, clip_folder: Path, captioner_folder: Path, dino_folder: Path, grounding_folder: Path
) -> Models:
    """The tiny pipeline beside all other networks, of random weights."""
    models = in_place_of_a_large_one(Models(str(tiny_folder), device="cpu"))
    models.checkpoint = replace(
        models.checkpoint, clip=f"local-dir:{clip_folder}", captioner=str(captioner_folder), dino=str(dino_folder),
        grounding=str(grounding_folder), steps=1,
    )  # fmt: skip
    return models


def with_folder(models: Models, folder: Path) -> Models:
    """The same networks, loaded or not, whose prototypes are in a folder."""
    same = Models(models.name, device="cpu")
    vars(same).update(vars(models), prototype_folders=(folder, None))
    return same


def with_traits(models: Models, **traits: object) -> Models:
    """The same networks, none of them loaded, with some traits of their row changed."""
    other = Models(models.name, device="cpu")
    other.checkpoint = replace(models.checkpoint, **traits)
    return other


def run_of(
    models: Models, methods: Sequence[Method], picture: Picture, words: str = "cat, dog", caption: str = "", seed: int = 0
) -> Results:
    """What the page's Run makes of methods on a picture."""
    asked = RunRequest(picture, words, caption, "", titled(models, methods), seed)
    return run(models, asked, Durations(), silent, lambda part: None)


def stop_at(stage: str, error: type[BaseException] = KeyboardInterrupt) -> Report:
    """A report that ends the work where a stage of this name begins."""

    def report(said: str, share: float) -> None:
        if said.startswith(stage):
            raise error

    return report


@pytest.fixture
def groundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of grounding modules in the user's cache, which is empty; a working folder without runs."""
    monkeypatch.delenv("OVSEG_GROUNDING", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "ovseg" / "grounding"


@pytest.fixture
def network(tiny_folder: Path) -> list[str]:
    """The options of the command line that name the tiny pipeline."""
    return ["--backbone", str(tiny_folder), "--device", "cpu"]


@pytest.fixture
def with_store(with_clip: Models, tmp_path: Path) -> Models:
    """The same networks, loaded once for all, with a store of prototypes of their own."""
    _ = with_clip.backbone, with_clip.clip, with_clip.dino
    return with_folder(with_clip, tmp_path / "store")


@pytest.fixture(scope="session")
def wide(with_clip: Models) -> Scene:
    """A scene of the pocket world that is wider than high."""
    return from_image(with_clip, scene("val", 1).image[:80], seed=2)


@pytest.fixture
def picture() -> np.ndarray:
    """A picture that is not square."""
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
