"""The pocket denoiser: a small U-Net of Stable Diffusion's layout, trained on the codec's latents of scenes.

It is trained in two stages, as Stable Diffusion was: first on pictures of half the size, where a step costs a fifth, then on
pictures of the full size. The attention of every grid is trained from the start.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ovseg.pocket.bundle import build_pipeline, scheduler_settings
from ovseg.pocket.denoiser_data import WORDS_ONLY_SHARE, LatentBatches, Loss, Stage, keep_pipeline, train_stages, words_alone
from ovseg.pocket.tokenizer import CONTEXT_LENGTH, build_tokenizer, tokenize
from ovseg.pocket.training import Budget

TEXT_WIDTH = 128
RATE, LATER_RATE = 1e-3, 6e-4  # learning rates of a new network, and of one that goes on from saved weights
SNR_CAP = 5.0  # gamma of the min-SNR weighting (Hang et al. 2023, section 3.4): little noise counts less
NOISE_CAP = 20.0  # highest weight of much noise, see `loss_weights`
FUSED_FROM = 1024  # places of a grid, from which torch's fused attention is the faster one on a CPU


STAGES = (
    Stage("half", time=0.32, side=0.5, batch=64, scenes=2, zoom=1.4),
    Stage("full", time=0.68, side=1.0, batch=32, scenes=1, zoom=1.0),
)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small causal transformer of CLIP's architecture, with `quick_gelu` as in OpenAI's."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=4,
            num_attention_heads=4, max_position_embeddings=CONTEXT_LENGTH, projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    for table in (model.embeddings.token_embedding, model.embeddings.position_embedding):
        torch.nn.init.normal_(table.weight, std=0.05)
    return model


def build_denoiser(latent_size: int = 32, text_width: int = TEXT_WIDTH) -> UNet2DConditionModel:
    """A U-Net with attention at strides 2 and 4 of the latent, and at stride 1 in the last up block."""
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=text_width,
        attention_head_dim=(2, 4, 4),  # heads, by diffusers' naming
        norm_num_groups=16,
    )


def hasten_attention(unet: UNet2DConditionModel, latent_size: int) -> None:
    """Use plain matrix products in place of the fused attention kernel wherever they train faster on a CPU."""
    finest = f"up_blocks.{len(unet.up_blocks) - 1}."
    fused = {name for name in unet.attn_processors if name.startswith(finest) and ".attn1." in name}
    fused = fused if latent_size**2 >= FUSED_FROM else set()
    unet.set_attn_processor({n: AttnProcessor2_0() if n in fused else AttnProcessor() for n in unet.attn_processors})


class Painter(nn.Module):
    """U-Net and text encoder, trained together.

    Args:
        empty: token ids of the empty prompt.
        end: id of the token that ends a prompt.
    """

    def __init__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, empty: Int[Tensor, " tokens"], end: int
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.end = unet, text_encoder, end
        self.register_buffer("empty", empty, persistent=False)

    def text_states(self, ids: Int[Tensor, "b tokens"], words_only: Bool[Tensor, " b"]) -> Float[Tensor, "b tokens width"]:
        """States of the prompts' tokens; see `words_alone` for the rows of `words_only`."""
        return words_alone(lambda some: self.text_encoder(some).last_hidden_state, ids, self.empty, self.end, words_only)

    def forward(
        self, noised: Float[Tensor, "b 4 y x"], timesteps: Int[Tensor, " b"], ids: Int[Tensor, "b tokens"]
    ) -> Float[Tensor, "b 4 y x"]:
        """The predicted noise in noised latents, given the prompts' token ids."""
        words_only = torch.rand(len(ids), device=ids.device) < WORDS_ONLY_SHARE
        return self.unet(noised, timesteps, encoder_hidden_states=self.text_states(ids, words_only)).sample


def loss_weights(ratio: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Weights of the noise's squared error at these signal-to-noise ratios.

    What is drawn where is decided at much noise, and there the error of the noise is small even if the picture that it
    implies is far off: with weights of min-SNR alone, right words lowered the whole loss by 1 %. So the error is weighted
    as that of the velocity would be (Salimans and Ho 2022, section 4: by 1 + 1 / ratio), up to a cap.
    """
    return (1 + 1 / ratio).clamp(max=NOISE_CAP) * (SNR_CAP / ratio).clamp(max=1)


def denoiser_loss(
    painter: Painter, noiser: DDPMScheduler, latents: Float[Tensor, "b 4 y x"], ids: Int[Tensor, "b tokens"]
) -> Float[Tensor, ""]:
    """Weighted mean squared error of the predicted noise; the timesteps of a batch are spread evenly."""
    noise = torch.randn_like(latents)
    slots = torch.randperm(len(latents), device=latents.device) + torch.rand(len(latents), device=latents.device)
    timesteps = (slots * (noiser.config.num_train_timesteps / len(latents))).long()
    predicted = painter(noiser.add_noise(latents, noise, timesteps), timesteps, ids)
    alphas = noiser.alphas_cumprod.to(latents.device)[timesteps]
    ratio = alphas / (1 - alphas)
    return ((predicted.float() - noise).pow(2).mean(dim=(1, 2, 3)) * loss_weights(ratio)).mean()


def train_denoiser(budget: Budget, start: Path | None = None) -> bool:
    """Train (or go on training) both stages on the codec in `root/codec`; once finished, writes `root/denoiser/pipeline`.

    Args:
        start: a saved pipeline, such as the shipped bundle's, whose U-Net is trained further. Its codec and its text encoder
            are kept as they are, so that CLIP and the captioner, which were trained beside them, stay valid.

    Raises:
        ValueError: there is no codec.
    """
    torch.manual_seed(0)
    out = budget.root / "denoiser"
    parts = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32) if start else _untrained(budget)
    parts.vae.eval()
    edge = parts.unet.config.sample_size
    unet, words = build_denoiser(edge, parts.unet.config.cross_attention_dim), parts.text_encoder
    unet.load_state_dict(parts.unet.state_dict())
    words.requires_grad_(start is None)
    noiser = DDPMScheduler(**scheduler_settings())

    def loss_in(painter: Painter, stage: Stage, _batches: LatentBatches) -> Loss:
        if budget.device == "cpu":
            hasten_attention(painter.unet, round(edge * stage.side))
        return lambda _step, latents, ids, _rows: denoiser_loss(painter, noiser, latents, ids)

    painter = Painter(unet, words, tokenize(parts.tokenizer, [""])[0], parts.tokenizer.eos_token_id)
    painter = train_stages(painter, parts, STAGES, LATER_RATE if start else RATE, budget, out=out, loss_in=loss_in)
    if painter is None:
        return False
    painter.unet.set_default_attn_processor()
    keep_pipeline(build_pipeline(parts.vae, painter.text_encoder, parts.tokenizer, painter.unet), out, "pocket")
    return True


def _untrained(budget: Budget) -> StableDiffusionPipeline:
    """The codec in `root/codec` with a new U-Net and text encoder."""
    root = budget.root
    if not (root / "codec" / "vae").is_dir():
        raise ValueError(f"The denoiser needs {root / 'codec' / 'vae'}, which is not there: run `train codec` first.")
    vae = AutoencoderKL.from_pretrained(root / "codec" / "vae")
    tokenizer = build_tokenizer(root / "denoiser" / "tokenizer")
    edge = budget.size // 2 ** (len(vae.config.block_out_channels) - 1)
    return build_pipeline(vae, build_text_encoder(tokenizer), tokenizer, build_denoiser(edge))
