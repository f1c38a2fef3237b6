"""The bundle: a `StableDiffusionPipeline` folder that plain diffusers loads."""

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer


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
    """The four parts as one pipeline, without a safety checker: the pocket world has nothing to check."""
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
