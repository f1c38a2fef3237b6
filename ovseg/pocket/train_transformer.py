"""The second pocket denoiser: a small transformer with joint attention, of the classes of Stable Diffusion 3.

It is trained by flow matching on the latents and words of the U-Net's recipe: first on pictures of half the size, then of
the full size, where a quarter of the things has other colours than their sprites: a word is more than a colour. Nothing that
it learns from holds a mask. Three things teach it where words belong:

- The pooled state is zero, so that what the words say reaches the picture by attention alone.
- In most rows the tokens behind the words say nothing, as in the U-Net's recipe.
- The places of an early block are aligned with features of the shipped U-Net (Yu et al. 2025, "REPA", section 3.2).
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ovseg.assets import ASSETS
from ovseg.backbones.outputs import outputs_of
from ovseg.files import whole_array
from ovseg.pocket.denoiser_data import WORDS_ONLY_SHARE, LatentBatches, Loss, Stage, keep_pipeline, train_stages, words_alone
from ovseg.pocket.tokenizer import tokenize
from ovseg.pocket.training import Budget, autocast

START = ASSETS / "pocket" / "stable-diffusion"
WIDTH, BLOCKS, HEADS, PATCH = 192, 6, 6, 2
SECOND_LAYERS = 2  # of the second text encoder, the last of which Stable Diffusion 3 does not look at
PLACES = 32  # rows and columns of the table of positions: twice those of a square picture, for pictures of 4 to 1
RATE = 1e-3
ALIGNED_BLOCK, ALIGNMENT = 2, 0.5  # the block whose places are aligned, and the weight of that loss beside the velocity's
TEACHER_T = 100  # noise of the pictures whose features the U-Net gives
TEACHER_BLOCK = "up_blocks.1"  # its last block on the grid of the patches, one place for each
NULL_ROWS, MANY_NULL_ROWS, MANY_SHARE = 1, 256, 0.25  # see `null_rows`
STAGES = (
    Stage("half", time=0.3, side=0.5, batch=64, scenes=2, zoom=1.4),
    Stage("full", time=0.7, side=1.0, batch=32, scenes=1, zoom=1.0, recolour=0.25),
)


def build_transformer(latent_size: int = 32, text_width: int = 256) -> SD3Transformer2DModel:
    """A transformer of 6 joint blocks over patches of 2 x 2 latent places, whose blocks do nothing at first.

    The layers that scale, shift and gate begin with zeros (Peebles and Xie 2023, "adaLN-Zero").
    """
    model = SD3Transformer2DModel(
        sample_size=latent_size,
        patch_size=PATCH,
        in_channels=4,
        out_channels=4,
        num_layers=BLOCKS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=text_width,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=text_width,
        pos_embed_max_size=PLACES,
    )
    gates = [layer for block in model.transformer_blocks for layer in (block.norm1.linear, block.norm1_context.linear)]
    for layer in (*gates, model.norm_out.linear, model.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def with_empty_pool(text_encoder: CLIPTextModel, layers: int) -> CLIPTextModelWithProjection:
    """The first layers of a text encoder with a projection of zeros: its pooled state says nothing."""
    config = copy.deepcopy(text_encoder.config)
    config.num_hidden_layers = layers
    model = CLIPTextModelWithProjection(config)
    read = model.text_model.load_state_dict(text_encoder.state_dict(), strict=False)
    assert not read.missing_keys  # but for layers that are left out, everything is there
    nn.init.zeros_(model.text_projection.weight)
    return model


class PlainJointAttention:
    """Joint attention by plain matrix products: on a CPU its backward pass takes a third of the fused kernel's.

    The last text row stands for `nulls` equal rows: its key counts so many times, by the logarithm added to its logits.
    """

    nulls = NULL_ROWS

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b n c"],
        encoder_hidden_states: Float[Tensor, "b m c"],
        attention_mask: None = None,
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b m _c"]]:
        """The outputs of places and of text rows, as `JointAttnProcessor2_0` gives them; diffusers calls it."""
        rows = (hidden_states, encoder_hidden_states)
        layers = ((attn.to_q, attn.to_k, attn.to_v), (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj))
        parts = [[layer(states) for layer in own] for states, own in zip(rows, layers, strict=True)]
        query, key, value = (
            torch.cat(both, 1).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for both in zip(*parts, strict=True)
        )
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        if self.nulls > 1:
            logits = logits + F.pad(logits.new_tensor([math.log(self.nulls)]), (logits.shape[-1] - 1, 0))
        mixed = (logits.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
        places, text = mixed.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], 1)
        return attn.to_out[1](attn.to_out[0](places)), text if attn.context_pre_only else attn.to_add_out(text)


class JointPainter(nn.Module):
    """Transformer and text encoders in training. The first encoder is the U-Net's and stays; the second one is trained.

    Args:
        words: the U-Net's text encoder.
        empty: token ids of the empty prompt.
        end: id of the token that ends a prompt.
        feature_width: channels of the features that places are aligned with.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        words: CLIPTextModel,
        empty: Int[Tensor, " tokens"],
        end: int,
        feature_width: int,
    ) -> None:
        super().__init__()
        self.transformer, self.end = transformer, end
        self.text_encoder = with_empty_pool(words, words.config.num_hidden_layers)
        self.text_encoder_2 = with_empty_pool(words, SECOND_LAYERS)
        self.text_encoder.requires_grad_(False)
        self.text_encoder_2.text_projection.requires_grad_(False)
        width = transformer.inner_dim
        self.aligner = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, feature_width))
        self.register_buffer("empty", empty, persistent=False)

    def text_states(self, ids: Int[Tensor, "b tokens"], words_only: Bool[Tensor, " b"]) -> Float[Tensor, "b rows width"]:
        """Second-last states of both encoders, joined on channels, and one row of zeros in the place of T5's.

        See `words_alone` for the rows of `words_only`.
        """
        return F.pad(words_alone(self._second_last, ids, self.empty, self.end, words_only), (0, 0, 0, 1))

    def _second_last(self, ids: Int[Tensor, "b tokens"]) -> Float[Tensor, "b tokens width"]:
        encoders = (self.text_encoder.text_model, self.text_encoder_2.text_model)
        return torch.cat([encoder(ids, output_hidden_states=True).hidden_states[-2] for encoder in encoders], -1)

    def forward(
        self, noised: Float[Tensor, "b 4 y x"], sigmas: Float[Tensor, " b"], ids: Int[Tensor, "b tokens"]
    ) -> tuple[Float[Tensor, "b 4 y x"], Float[Tensor, "b places width"]]:
        """The predicted velocity, and what the aligned block's places are said to be by the aligner."""
        words_only = torch.rand(len(ids), device=ids.device) < WORDS_ONLY_SHARE
        text = self.text_states(ids, words_only)
        with outputs_of(self.transformer.transformer_blocks[ALIGNED_BLOCK]) as outputs:
            velocity = self.transformer(
                hidden_states=noised,
                timestep=1000 * sigmas,
                encoder_hidden_states=text,
                pooled_projections=noised.new_zeros(len(ids), text.shape[-1]),
            ).sample
        return velocity, self.aligner(outputs[0][1])


def logit_normal(count: int, device: torch.device | str) -> Float[Tensor, " count"]:
    """Noise levels of a batch: logit-normal (Esser et al. 2024, section 3.1), spread evenly over its quantiles."""
    slots = torch.randperm(count, device=device) + torch.rand(count, device=device)
    return torch.special.ndtri((slots / count).clamp(1e-4, 1 - 1e-4)).sigmoid()


def null_rows(step: int) -> int:
    """How many rows of zeros stand behind the words in a step.

    The plain pipeline has as many as its `max_sequence_length`: 256 where nobody says otherwise. We ask for one, which
    halves the cost of a pass; the network learns both.
    """
    return MANY_NULL_ROWS if np.random.default_rng([5, step]).random() < MANY_SHARE else NULL_ROWS


def transformer_loss(
    painter: nn.Module,
    latents: Float[Tensor, "b 4 y x"],
    ids: Int[Tensor, "b tokens"],
    features: Float[Tensor, "b places width"],
) -> Float[Tensor, ""]:
    """Mean squared error of the velocity, and how far the aligned places point away from the teacher's features.

    Args:
        painter: a `JointPainter`.
    """
    sigmas, noise = logit_normal(len(latents), latents.device), torch.randn_like(latents)
    level = sigmas[:, None, None, None]
    velocity, aligned = painter((1 - level) * latents + level * noise, sigmas, ids)
    error = (velocity.float() - (noise - latents)).pow(2).mean()
    return error + ALIGNMENT * (1 - F.cosine_similarity(aligned.float(), features, dim=-1).mean())


@torch.no_grad()
def teacher_features(
    folder: Path, teacher: StableDiffusionPipeline, batches: LatentBatches, device: str
) -> Float16[np.ndarray, "n places width"]:
    """Features of the U-Net for all latents with their captions: the first call writes them to a file, later calls map it.

    They are centred by the first pictures: what all places have in common would else make every cosine large.
    """
    count, side = len(batches.latents), batches.latents.shape[-1] // PATCH
    path = folder / f"features-{side}x{side}-{count}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")
    unet, noiser = teacher.unet.to(device).eval(), teacher.scheduler
    block = unet.get_submodule(TEACHER_BLOCK).attentions[-1]
    width = block.proj_out.out_channels
    timesteps, middle = torch.full((1,), TEACHER_T, device=device), None
    with whole_array(path, np.float16, (count, side * side, width)) as features, outputs_of(block) as outputs:
        for start in range(0, count, 64):
            latents = torch.from_numpy(batches.latents[start : start + 64].astype(np.float32)).to(device)
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(start)).to(device)
            text = teacher.text_encoder(batches.ids[start : start + 64].to(device)).last_hidden_state
            with autocast(device):
                unet(noiser.add_noise(latents, noise, timesteps), TEACHER_T, encoder_hidden_states=text)
            own = outputs.pop()[0].flatten(2).transpose(1, 2).float()
            middle = own.mean((0, 1)) if middle is None else middle
            features[start : start + 64] = (own - middle).cpu().numpy()
            if start % 3200 == 0:
                print(f"features of scenes: {start}/{count}", flush=True)
    return np.load(path, mmap_mode="r")


def train_transformer(budget: Budget, start: Path = START) -> bool:
    """Train (or go on training) both stages; once finished, writes `root/transformer/pipeline`, which diffusers loads.

    Args:
        start: a saved pipeline with a U-Net, such as the shipped one; its codec and words are used, its features taught.
    """
    torch.manual_seed(0)
    out, device = budget.root / "transformer", budget.device
    teacher = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32)

    def loss_in(painter: JointPainter, _stage: Stage, batches: LatentBatches) -> Loss:
        features = teacher_features(out, teacher, batches, device)
        attention = next(iter(painter.transformer.attn_processors.values()))

        def loss(step: int, latents: Tensor, ids: Tensor, rows: np.ndarray) -> Tensor:
            attention.nulls = null_rows(step)
            own = torch.from_numpy(features[rows]).to(device).float()
            return transformer_loss(painter, latents, ids, own)

        return loss

    painter = new_painter(teacher, tokenize(teacher.tokenizer, [""])[0])
    painter = train_stages(painter, teacher, STAGES, RATE, budget, out=out, loss_in=loss_in, optimizers_of=new_optimizers)
    if painter is None:
        return False
    keep_pipeline(build_pipeline(teacher.vae, painter, teacher.tokenizer), out, "pocket-sd3", NULL_ROWS)
    return True


def new_painter(teacher: StableDiffusionPipeline, empty: Int[Tensor, " tokens"]) -> JointPainter:
    """An untrained transformer beside the teacher's words."""
    unet, words = teacher.unet.config, teacher.text_encoder
    feature_width = teacher.unet.get_submodule(TEACHER_BLOCK).attentions[-1].proj_out.out_channels
    transformer = build_transformer(unet.sample_size, 2 * unet.cross_attention_dim)
    transformer.set_attn_processor(PlainJointAttention())
    return JointPainter(transformer, words, empty, teacher.tokenizer.eos_token_id, feature_width)


def new_optimizers(painter: JointPainter, rate: float) -> tuple[Optimizer, Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices that places and words go through, as large steps as AdamW's; else AdamW."""
    blocks = painter.transformer.transformer_blocks.named_parameters()
    inner = {weight for name, weight in blocks if weight.ndim == 2 and "norm" not in name}
    trained = [weight for weight in painter.parameters() if weight.requires_grad]
    matrices, others = [w for w in trained if w in inner], [w for w in trained if w not in inner]
    muon = Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return muon, AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)


def build_pipeline(vae: AutoencoderKL, painter: JointPainter, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
    """The parts as a pipeline of Stable Diffusion 3 without T5."""
    vae.register_to_config(shift_factor=0.0)
    painter.transformer.set_attn_processor(JointAttnProcessor2_0())
    return StableDiffusion3Pipeline(
        transformer=painter.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=painter.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=painter.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
