"""Every published network is read from a folder with the file names and the old names of tensors of its repository."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from ovseg.backbones import BACKBONES
from ovseg.backbones.base import Capture, Sampling
from ovseg.doctor.pipelines import write_stable_diffusion
from ovseg.doctor.published import Scale, write_blip, write_dino, write_open_clip
from ovseg.models import Models
from ovseg.pretrained.captioner import Captioner
from ovseg.pretrained.clip import Clip
from ovseg.pretrained.dino import Dino
from tests.hub import COMMIT, fetched, use_cache
from tests.published_blip2 import write_blip2
from tests.self_attention import self_attention, selves

SMALL = Scale(narrower=8, layers=2)
PIPELINE = {
    "model_index.json", "feature_extractor/preprocessor_config.json", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json", "vae/config.json",
}  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("half", [False, True])
def test_stable_diffusion(tmp_path: Path, picture: np.ndarray, generation: int, half: bool) -> None:
    torch.manual_seed(generation)
    write_stable_diffusion(tmp_path, generation, Scale(8, 2, half))
    end = ".fp16.safetensors" if half else ".safetensors"
    weights = {f"{part}/diffusion_pytorch_model{end}" for part in ("unet", "vae")} | {f"text_encoder/model{end}"}
    assert files(tmp_path) == PIPELINE | weights
    text, vae = (load_file(tmp_path / name) for name in (f"text_encoder/model{end}", f"vae/diffusion_pytorch_model{end}"))
    assert "text_model.embeddings.position_ids" in text and all(name.startswith("text_model.") for name in text)
    assert {f"{side}.mid_block.attentions.0.{name}.weight" for side in ("encoder", "decoder")
            for name in ("query", "key", "value", "proj_attn")} < set(vae)  # fmt: skip
    assert not [name for name in vae if ".to_" in name]
    backbone = Models(str(tmp_path), "cpu", "float16" if half else "float32").backbone
    own = backbone.vae.encoder.mid_block.attentions[0]
    for module, old in ((own.to_q, "query"), (own.to_out[0], "proj_attn")):
        assert torch.equal(module.weight, vae[f"encoder.mid_block.attentions.0.{old}.weight"].float())
    embedding = next(p for n, p in backbone.pipeline.text_encoder.named_parameters() if "token_embedding" in n)
    assert torch.equal(embedding, text["text_model.embeddings.token_embedding.weight"])
    assert type(backbone.pipeline.scheduler).__name__ == "PNDMScheduler" and backbone.vae.dtype == torch.float32
    assert {backbone.network.get_submodule(s.name).upcast_attention for s in backbone.sites} == {generation == 2}
    assert backbone.pipeline.safety_checker is None
    latent = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0)).to(backbone.network.dtype)
    prompt = backbone.encode_text(["a photo of a traffic light"], ["traffic light"])
    assert prompt.spans == ((5, 6),) and prompt.embeddings.shape[1] == 77
    trace = backbone.trace(latent, prompt, 100, Capture(cross=(1, 2, 4, 8), states=selves(backbone, 1)), 0)
    assert len(trace.cross) == 16 and self_attention(trace)[1].shape == (1, 128, 128)


def test_a_backbone_of_the_table_by_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path / "cache", monkeypatch)
    for name, generation in (("sd15", 1), ("sd21", 2)):
        write_stable_diffusion(tmp_path / name, generation, Scale(8, 1, half=True))
        fetched(tmp_path / "cache", BACKBONES[name].source, tmp_path / name)
        models = Models(name, "cpu", "float16")
        assert models.backbone.fingerprint == f"{BACKBONES[name].source}@{COMMIT[:12]}"
        assert models.backbone.timesteps(Sampling(2, 7.5))[-1] >= 0


@pytest.mark.parametrize("as_pickle", [False, True])
def test_dino(tmp_path: Path, picture: np.ndarray, as_pickle: bool) -> None:
    torch.manual_seed(0)
    write_dino(tmp_path, SMALL)
    weights = load_file(tmp_path / "model.safetensors")
    old = "encoder.layer.1.attention.attention.key"
    if as_pickle:
        torch.save(weights, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
        with pytest.warns(UserWarning, match=r"are a \.bin file"):
            dino = Dino(str(tmp_path))
    else:
        dino = Dino(str(tmp_path))
    assert dino.patch == 8 and torch.allclose(dino._mean, torch.tensor([0.485, 0.456, 0.406]))
    assert torch.equal(dino._model.layers[-1].attention.k_proj.weight, weights[f"{old}.weight"])
    assert dino.keys([picture]).shape == (1, 96, 8, 11)


def test_blip_base_has_a_pickle_which_is_read_as_numbers_alone(tmp_path: Path, picture: np.ndarray) -> None:
    torch.manual_seed(0)
    write_blip(tmp_path, SMALL)
    assert files(tmp_path) == {
        "config.json", "generation_config.json", "preprocessor_config.json", "pytorch_model.bin", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    weights = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    with pytest.warns(UserWarning, match=r"are a \.bin file, not safetensors; numbers alone were read"):
        captioner = Captioner(str(tmp_path))
    own = dict(captioner._model.state_dict())["text_decoder.bert.encoder.layer.0.attention.self.query.weight"]
    assert torch.equal(own, weights["text_decoder.bert.encoder.layer.0.attention.self.query.weight"])
    assert captioner.caption(picture, "a photograph of t-shirt", longest=3).startswith("a photograph of t-shirt")


class Malicious:
    """What a pickle could do while it is read: here it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (self.mark.write_text, ("was here",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_blip(tmp_path, Scale(8, 1))
    torch.save({"weight": Malicious(tmp_path / "mark")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must be on disk or on the hub, but loading it failed"):
        Captioner(str(tmp_path))
    assert not (tmp_path / "mark").exists()


def test_blip2(tmp_path: Path, picture: np.ndarray) -> None:
    torch.manual_seed(0)
    write_blip2(tmp_path, SMALL)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1  # its tensors' names: test_published_detectors
    captioner = Captioner(str(tmp_path))
    begun = captioner.caption(picture, "a photo of a hair-drier", longest=3)
    assert begun.startswith("a photo of a hair-drier") and captioner.caption(picture, beams=1, longest=4) is not None


def test_open_clip_by_its_name_in_the_table(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    name, narrow = "ViT-L-14-quickgelu", {"width": 96, "layers": 2}
    config = open_clip.get_model_config(name)
    small = {**config, "embed_dim": 32, "vision_cfg": {**config["vision_cfg"], **narrow, "head_width": 48},
             "text_cfg": {**config["text_cfg"], **narrow, "heads": 2}}  # fmt: skip
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, small)
    torch.manual_seed(0)
    write_open_clip(tmp_path / "files", name)
    assert files(tmp_path / "files") == {"open_clip_config.json", "open_clip_model.safetensors"}
    weights = load_file(tmp_path / "files" / "open_clip_model.safetensors")
    assert {"visual.transformer.resblocks.0.attn.in_proj_weight", "text_projection", "logit_scale"} < set(weights)
    use_cache(tmp_path / "cache", monkeypatch)
    fetched(tmp_path / "cache", "timm/vit_large_patch14_clip_224.openai", tmp_path / "files")
    clip = Clip(BACKBONES["sd15"].clip)
    assert torch.equal(clip._model.text_projection, weights["text_projection"])
    assert clip._model.visual.preprocess_cfg["mean"] == (0.48145466, 0.4578275, 0.40821073)
    assert clip.similarity([picture], ["a photo of a cat", "a t-shirt"]).shape == (1, 2)
    assert clip.fingerprint == f"timm/vit_large_patch14_clip_224.openai@{COMMIT[:12]}"
