"""The shipped bundle: a pipeline that diffusers loads, and all other networks, as small half-precision files."""

from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from ovseg.backbones.loading import parts_left_out
from ovseg.files import as_json, read_json, whole_folder, write_whole
from ovseg.pocket import checkpoint
from ovseg.pocket.open_clip_export import export_open_clip
from ovseg.pretrained.grounding import copy_grounding

LARGEST_FILE = "9MB"  # hubs take files of up to 10 MB without large-file storage
TRAININGS = {  # folders of each training's checkpoint, and of the network that comes from it
    "codec": ("codec", "denoiser/pipeline"),
    "denoiser, pictures of half the size": ("denoiser/half", "denoiser/pipeline"),
    "denoiser, pictures of the full size": ("denoiser/full", "denoiser/pipeline"),
    "clip": ("clip", "clip/clip"),
    "judge": ("judge", "judge/judge"),
    "captioner": ("captioner", "captioner/captioner"),
    "dino": ("dino", "dino/dino"),
    "segmenter": ("segmenter", "segmenter/segmenter"),
    "transformer, pictures of half the size": ("transformer/half", "transformer/pipeline"),
    "transformer, pictures of the full size": ("transformer/full", "transformer/pipeline"),
}
# Networks that are packed alike, by their folders: each with what prepares pictures for it, where it comes with such
NETWORKS: dict[str, tuple[type, type | None]] = {
    "judge": (transformers.ResNetForImageClassification, None),
    "captioner": (transformers.Blip2ForConditionalGeneration, transformers.Blip2Processor),
    "dino": (transformers.ViTModel, transformers.ViTImageProcessor),
    "segmenter": (transformers.UperNetForSemanticSegmentation, None),
}


def scheduler_settings() -> dict:
    """The noise schedule of Stable Diffusion 1.x and 2.x: scaled-linear betas, 1000 steps, noise prediction."""
    return {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "steps_offset": 1,
    }


def build_pipeline(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The four parts as one pipeline, without a safety checker, which the pocket world does not need."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**scheduler_settings()),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pack(root: Path, to: Path) -> None:
    """Write the networks that were trained in `root` to `to`, in half precision, with `to/training.json`.

    The pipelines go to `to/stable-diffusion` and `to/stable-diffusion-3` in shards, CLIP to `to/open_clip`, the judge, the
    captioner, DINO and the segmenter to folders of their names, grounding modules to folders of their splits in
    `to/grounding`. A network that was not trained in `root` stays in `to` as it is.

    Raises:
        ValueError: nothing was trained yet.
    """
    pipeline, transformer = (root / name / "pipeline" for name in ("denoiser", "transformer"))
    clip = root / "clip" / "clip"
    groundings = {folder.parent.name.removeprefix("grounding-"): folder for folder in root.glob("grounding-*/module")}
    trained = (pipeline, transformer, clip, *(root / name / name for name in NETWORKS), *groundings.values())
    if not any(folder.is_dir() for folder in trained):
        raise ValueError(f"Packing needs {pipeline}, which is not there: run `train denoiser` first.")
    if pipeline.is_dir():
        _pack_pipeline(StableDiffusionPipeline.from_pretrained(pipeline, dtype=torch.float16), to / "stable-diffusion")
    if transformer.is_dir():
        parts = StableDiffusion3Pipeline.from_pretrained(transformer, dtype=torch.float16, **parts_left_out(transformer))
        _pack_pipeline(parts, to / "stable-diffusion-3")
    if clip.is_dir():
        tokenizer = CLIPTokenizer.from_pretrained(clip)
        with whole_folder(to / "open_clip") as folder:
            export_open_clip(CLIPModel.from_pretrained(clip), tokenizer, folder, torch.float16)
    for name, (kind, processor) in NETWORKS.items():
        if (source := root / name / name).is_dir():
            whole = {"add_pooling_layer": False} if kind is transformers.ViTModel else {}
            with whole_folder(to / name) as folder:
                # Halved once more: transformers keeps the querying transformer of BLIP-2 in float32, in the file as well.
                network = kind.from_pretrained(source, dtype=torch.float16, **whole).half()
                network.save_pretrained(folder, max_shard_size=LARGEST_FILE)
                if processor:
                    processor.from_pretrained(source).save_pretrained(folder)
    for split, source in groundings.items():
        copy_grounding(source, to / "grounding" / split)
    entries, record = _trainings(root), to / "training.json"
    if record.exists() and not any(entry["part"] == "codec" for entry in entries):
        # This training went on from the bundle in `to`: its earlier trainings stay in the record. An entry of this very
        # training, from an earlier packing, is replaced.
        starts = {entry["started"] for entry in entries}
        entries = [entry for entry in read_json(record, list) if entry["started"] not in starts] + entries
    write_whole(record, as_json(entries))


def _pack_pipeline(pipeline: StableDiffusionPipeline | StableDiffusion3Pipeline, to: Path) -> None:
    with whole_folder(to) as folder:
        pipeline.save_pretrained(folder, max_shard_size=LARGEST_FILE)
        # transformers loads a model in the precision that its configuration names, diffusers in float32. Where that were
        # half of it, `from_pretrained` without a dtype would give a pipeline of two precisions, which cannot run.
        for path in folder.glob("text_encoder*/config.json"):
            write_whole(path, as_json(read_json(path, dict) | {"dtype": "float32"}))


def _trainings(root: Path) -> list[dict[str, Any]]:
    """A record of each training in `root` whose network is finished."""
    trained, modules = [], sorted(folder.name for folder in root.glob("grounding-*"))
    for name, (folder, packed) in {**TRAININGS, **{name: (name, f"{name}/module") for name in modules}}.items():
        state = root / folder / "checkpoint"
        if not checkpoint.exists(state) or not (root / packed).is_dir():
            continue
        counters = checkpoint.counters_of(state)
        entry = {"part": name, "started": counters["started"], "steps": counters["step"], "samples": counters["samples"]}
        trained.append(entry | {"minutes": round(counters["spent"] / 60, 1), "loss": round(counters["smooth_loss"], 4)})
    return trained
