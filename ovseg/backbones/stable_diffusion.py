"""Stable Diffusion 1.x and 2.x, and small networks of their layout, as a `Backbone`."""

import math
import threading
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin, StableDiffusionPipeline
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import BatchEncoding

from ovseg.backbones.base import Capture, Generated, OnStep, Sampling, Site, Text, Token, Trace, Watch, grid_at
from ovseg.backbones.phrases import QUOTES, columns_between, phrase_at
from ovseg.backbones.recording import Wanted, attributing, recording, watching
from ovseg.backbones.unet_layout import Layout
from ovseg.backbones.weights import check_finite, fingerprint, generator, name_of_weights, weight_files
from ovseg.limits import quoted

CPU_BUDGET = 2 * 2**30  # bytes that the recorded maps and activations of one pass may take off an accelerator
CUDA_SHARE = 0.6  # of the free memory, on an accelerator that can say how much is free
MOST_ROWS = 64
MOST_ROWS_ON_CPU = 16  # a pass of more is no faster there, and cannot be stopped for seconds
TEXT_ROWS = 256  # prompts that the text encoder is given at once
ACTIVATIONS = 40  # tensors of the first block's size that are alive at once in a forward pass: an upper estimate


def load_pipeline(source: str, dtype: torch.dtype, variant: str | None = None) -> StableDiffusionPipeline:
    """A `StableDiffusionPipeline` from a local folder or the hub, safetensors only, without a safety checker.

    Raises:
        ValueError: the folder or repository cannot be read as such a pipeline.
    """
    index = Path(source) / "model_index.json"
    if Path(source).exists() and not index.is_file():
        raise ValueError(f"A backbone folder must be a saved diffusers pipeline, but {source} has no model_index.json.")
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            source,
            dtype={"vae": torch.promote_types(dtype, torch.float32), "default": dtype},
            variant=_variant(source, variant, dtype),
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
        )
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The backbone at {source} must be a Stable Diffusion checkpoint, but loading it failed: {reason}"
        ) from error
    if not pipeline.vae.config.force_upcast:  # else half precision is too coarse for it; diffusers' own default is true
        pipeline.vae.to(dtype)
    return pipeline


def _variant(source: str, variant: str | None, dtype: torch.dtype) -> str | None:
    """Which files are read: the given variant in float16, and in a folder that has no others "fp16" in any precision."""
    unet = Path(source) / "unet"
    if unet.is_dir():
        return "fp16" if all(".fp16" in path.name for path in weight_files(unet)) else None
    return variant if dtype == torch.float16 else None


class StableDiffusion:
    """A pipeline's parts as a `Backbone`. Safe to call from several threads: the network is used by one at a time."""

    def __init__(self, pipeline: StableDiffusionPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        self.name, self.source = name, source
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.unet, self.vae = pipeline.unet, pipeline.vae
        self.layout = Layout.of(self.unet)
        self.vae_stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.deepest_stride = 2 ** (len(self.unet.config.block_out_channels) - 1)
        self._lock = threading.RLock()

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights of all parts: that of the files they were read from, in any precision."""
        if not self.source:
            return "-".join(fingerprint(part) for part in (self.unet, self.vae, self.pipeline.text_encoder))
        if not Path(self.source).is_dir():
            return name_of_weights(self.source)
        return "-".join(name_of_weights(Path(self.source) / part) for part in ("unet", "vae", "text_encoder"))

    @property
    def sites(self) -> tuple[Site, ...]:
        """All attention of the U-Net, in the order of computing."""
        return self.layout.sites

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which there is attention, finest first."""
        return tuple(sorted({site.stride for site in self.sites}))

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which the U-Net has blocks, finest first."""
        return tuple(sorted(self.layout.blocks))

    def square_hw(self) -> tuple[int, int]:
        """The square resolution of training, in pixels."""
        edge = self.unet.config.sample_size * self.vae_stride
        return edge, edge

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a picture with sides that `working_hw` gives."""
        return self.vae.config.latent_channels, working_hw[0] // self.vae_stride, working_hw[1] // self.vae_stride

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Same aspect as the picture, about the area of training, both sides multiples of the coarsest stride."""
        unit = self.vae_stride * self.deepest_stride
        edge, aspect = self.square_hw()[0], image_hw[0] / image_hw[1]
        # Beyond 4 to 1 the short side would leave the coarsest grid a single place; such pictures are squeezed.
        aspect = min(max(aspect, 0.25), 4.0)
        sides = edge * math.sqrt(aspect), edge / math.sqrt(aspect)
        return tuple(max(unit, round(side / unit) * unit) for side in sides)

    @torch.no_grad()
    def encode(self, image: UInt8[np.ndarray, "h w 3"], sample_seed: int | None = None) -> Float[Tensor, "1 c y x"]:
        """Scaled latent of an RGB picture whose sides are multiples of the coarsest stride in pixels.

        Args:
            sample_seed: sample the codec's posterior with this seed; its mean if not given.

        Raises:
            ValueError: they are not.
        """
        unit = self.vae_stride * self.deepest_stride
        if image.shape[0] % unit or image.shape[1] % unit:
            raise ValueError(f"Picture sides must be multiples of {unit}, but got {image.shape[0]} x {image.shape[1]}.")
        pixels = torch.from_numpy(np.array(image)).to(self.vae.device).permute(2, 0, 1)[None]
        posterior = self.vae.encode((pixels.float() / 127.5 - 1).to(self.vae.dtype)).latent_dist
        latent = posterior.mean if sample_seed is None else posterior.sample(generator(sample_seed))
        check_finite("The picture's latents", self.vae.dtype, latent)
        return (latent * self.vae.config.scaling_factor).to(self.unet.dtype)

    @torch.no_grad()
    def encode_text(
        self,
        prompts: Sequence[str],
        phrases: Sequence[str],
        emphasis: float = 1.0,
        emphasised: Sequence[str] | None = None,
        *,
        starts: Sequence[int | None] | None = None,
    ) -> Text:
        """Encode prompts; find each phrase's token columns, and strengthen tokens as compel's "+" does.

        Args:
            phrases: for each prompt a phrase in it, or "" for none.
            emphasis: 1.21 is compel's "++": embedding = empty + emphasis * (embedding - empty) at the tokens.
            emphasised: the part of each phrase to emphasise, the last one of its kind; the whole phrase if not given.
            starts: for each prompt the character at which its phrase begins; its first occurrence where that is None.

        Raises:
            ValueError: a prompt does not fit the text encoder, or a phrase is not in its prompt.
        """
        self._check_length(*prompts)
        encoding = self._tokenise(prompts)
        ids, offsets = encoding.input_ids.to(self.pipeline.text_encoder.device), encoding.offset_mapping.tolist()
        embeddings = torch.cat([self.pipeline.text_encoder(part)[0] for part in ids.split(TEXT_ROWS)])
        check_finite("The text encoder's states", embeddings.dtype, embeddings)
        rows = zip(prompts, phrases, starts or [None] * len(prompts), strict=True)
        places = [phrase_at(*row) if row[1] else (0, 0) for row in rows]
        spans = tuple(columns_between(own, *place) for own, place in zip(offsets, places, strict=True))
        if emphasis != 1.0:
            embeddings = embeddings.clone()
            empty = self.pipeline.text_encoder(self._tokenise([""]).input_ids.to(ids.device))[0][0]
            for row, (start, stop) in enumerate(places):
                if emphasised is not None and phrases[row]:
                    start += phrases[row].rindex(emphasised[row])
                    stop = start + len(emphasised[row])
                at = list(columns_between(offsets[row], start, stop))
                embeddings[row, at] = empty[at] + emphasis * (embeddings[row, at] - empty[at])
        return Text(tuple(prompts), embeddings, spans)

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder takes all of a prompt."""
        return self._tokens_of(prompt) <= self._room

    def noised(self, latent: Float[Tensor, "n c y x"], timestep: int, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: latents, all with the same noise of a seed, as much as belongs to the timestep.

        Raises:
            ValueError: the timestep is outside the noise schedule.
        """
        alphas = self.pipeline.scheduler.alphas_cumprod
        if not 0 <= timestep < len(alphas):
            raise ValueError(f"The timestep must be from 0 to {len(alphas) - 1}, but got {timestep}.")
        noise = torch.randn(latent[:1].shape, generator=generator(seed)).to(latent)
        return alphas[timestep].sqrt().to(latent) * latent + (1 - alphas[timestep]).sqrt().to(latent) * noise

    @torch.no_grad()
    def trace(self, latent: Float[Tensor, "_ c y x"], text: Text, timestep: int, capture: Capture, seed: int) -> Trace:
        """One pass with a row per prompt, all rows on the same noised latent, or each on its own.

        Raises:
            ValueError: the timestep is outside the noise schedule, or the capture names what the U-Net does not have, or
                the phrase of a prompt without one.
        """
        return self.trace_noised(self.noised(latent, timestep, seed), text, timestep, capture)

    @torch.no_grad()
    def trace_noised(self, noised: Float[Tensor, "_ c y x"], text: Text, timestep: int, capture: Capture) -> Trace:
        """One pass with a row per prompt, all rows on the same latent, or each on its own, which has its noise already.

        Raises:
            ValueError: the capture names what the U-Net does not have, or the phrase of a prompt without one.
        """
        latent_hw = tuple(noised.shape[-2:])
        wanted = Wanted(capture, text, latent_hw)
        with self._lock, recording(self.unet, self.layout, wanted, stops=True) as recorder:
            self.unet(noised.expand(len(text.prompts), -1, -1, -1), timestep, encoder_hidden_states=text.embeddings)
        trace = recorder.trace(text, timestep, latent_hw, noised)
        check_finite("The network's attention and features", self.unet.dtype, *trace.tensors())
        return trace

    def timesteps(self, sampling: Sampling) -> tuple[int, ...]:
        """The timestep of every pass that sampling a picture takes, in order.

        Raises:
            ValueError: there are no steps.
        """
        scheduler = self._scheduler(sampling)
        scheduler.set_timesteps(sampling.steps)
        return tuple(int(timestep) for timestep in scheduler.timesteps)

    def _scheduler(self, sampling: Sampling) -> SchedulerMixin:
        """A scheduler of its own: it counts steps, and cannot serve two visitors."""
        config = self.pipeline.scheduler.config
        if not 1 <= sampling.steps <= config.num_train_timesteps:
            most = config.num_train_timesteps
            raise ValueError(f"Generation must take 1 step or more, and {most} at most, but got {sampling.steps}.")
        if not math.isfinite(sampling.guidance):
            raise ValueError(f"The guidance must be a finite number, but got {sampling.guidance}.")
        if sampling.ddim:  # 981, 961, ... 1 of 1000 where there are 50 steps, whatever the checkpoint's own sampler does
            spacing = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
            return DDIMScheduler.from_config(config, **spacing)
        kind = DPMSolverMultistepScheduler if sampling.dpm_solver else type(self.pipeline.scheduler)
        return kind.from_config(config)

    @torch.no_grad()
    def generate(
        self,
        prompt: str,
        seeds: Sequence[int],
        sampling: Sampling,
        phrase: str = "",
        on_step: OnStep | None = None,
        *,
        start: int | None = None,
        watch: Watch | None = None,
    ) -> tuple[Generated, ...]:
        """Sample a picture for each seed with classifier-free guidance, all of them together.

        Args:
            phrase: a phrase of the prompt whose attention is gathered on the way, on the conditional rows; "" for none.
            start: the character at which the phrase begins; its first occurrence if not given.
            watch: what is recorded of each pass, on the conditional rows. A phrase and a watch exclude each other.

        Raises:
            ValueError: the prompt does not fit the text encoder, the phrase is not in it, there are no steps, or both a
                phrase and a watch are given.
        """
        if phrase and watch:
            raise ValueError("A generation must gather a phrase's attention or be watched, but both were asked for.")
        scheduler = self._scheduler(sampling)
        if (tokens := self._tokens_of(sampling.negative)) > self._room:
            # A list of what shall not be there still works without its end, and the released one is long for small networks.
            warnings.warn(f"Of the negative prompt's {tokens} tokens only {self._room} are used.", stacklevel=2)
        text = self.encode_text([prompt] * len(seeds), [phrase] * len(seeds), starts=[start] * len(seeds))
        # A pipeline of its own over the same weights, for its own scheduler.
        pipeline = StableDiffusionPipeline(**self.pipeline.components, requires_safety_checker=False)
        pipeline.scheduler = scheduler
        pipeline.set_progress_bar_config(disable=True)

        def step_done(_pipeline: StableDiffusionPipeline, step: int, _timestep: Tensor, values: dict) -> dict:
            if on_step:
                on_step(step + 1, sampling.steps)
            return values

        edge = (self.unet.config.sample_size,) * 2
        observing = attributing(self.unet, self.sites, text.spans[0], edge, len(seeds))
        if watch:
            observing = watching(self.unet, self.layout, watch, text, edge)
        with self._lock, observing as attribution:
            latents = pipeline(
                [prompt] * len(seeds),
                negative_prompt=[sampling.negative] * len(seeds),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                generator=[generator(seed) for seed in seeds],
                output_type="latent",
                callback_on_step_end=step_done,
            ).images
        check_finite("The generated latents", self.unet.dtype, latents)
        maps = attribution.mean() if phrase else [None] * len(seeds)
        return tuple(
            Generated(self.decode(latent), latent, where) for latent, where in zip(latents.split(1), maps, strict=True)
        )

    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """Prompts per pass, from the memory that their recorded maps and activations take."""
        size = self.unet.dtype.itemsize
        # What a site was given is kept; its queries and keys, and what they are multiplied by, are there for one at a time.
        given = [math.prod(grid_at(latent_hw, site.stride)) * self.width(site) * size for site in capture.states]
        maps = sum(given) + 4 * max(given, default=0)
        activations = self.unet.config.block_out_channels[0] * math.prod(latent_hw) * size * ACTIVATIONS
        budget, most = CPU_BUDGET, MOST_ROWS_ON_CPU
        if self.unet.device.type == "cuda":
            most = MOST_ROWS
            budget = CUDA_SHARE * torch.cuda.mem_get_info(self.unet.device)[0]
        return int(min(max(budget // (maps + activations), 1), most))

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """What each column of the encoded prompt reads.

        Raises:
            ValueError: the prompt does not fit the text encoder.
        """
        self._check_length(prompt)
        encoding = self._tokenise([prompt])
        offsets, ids = encoding.offset_mapping[0].tolist(), encoding.input_ids[0].tolist()
        end_of_words = ids.index(self.pipeline.tokenizer.eos_token_id)
        kinds = ["start", *["word"] * (end_of_words - 1), "end", *["padding"] * (len(ids) - end_of_words - 1)]
        return tuple(
            Token(prompt[begin:end].strip().lower(), kind, begin, end) if kind == "word" else Token("", kind)
            for kind, (begin, end) in zip(kinds, offsets, strict=True)
        )

    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""
        return self.unet.get_submodule(site.name).inner_dim

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "1 c y x"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of a scaled latent, RGB."""
        decoded = self.vae.decode((latent / self.vae.config.scaling_factor).to(self.vae.dtype)).sample[0].float()
        check_finite("The pixels", self.vae.dtype, decoded)
        decoded = decoded.clamp(-1, 1)
        return ((decoded + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()

    def _tokenise(self, prompts: Sequence[str]) -> BatchEncoding:
        plain = [prompt.translate(QUOTES) for prompt in prompts]
        return self.pipeline.tokenizer(
            plain, padding="max_length", max_length=self._room, return_offsets_mapping=True, return_tensors="pt"
        )

    @property
    def _room(self) -> int:
        """Tokens that the text encoder takes, its first and its last one included."""
        return self.pipeline.text_encoder.config.max_position_embeddings

    def _check_length(self, *prompts: str) -> None:
        for prompt in prompts:
            if (tokens := self._tokens_of(prompt)) > self._room:
                raise ValueError(
                    f"The prompt must fit {self._room} tokens, but it has {tokens}; please shorten it: {quoted(prompt)}."
                )

    def _tokens_of(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(prompt.translate(QUOTES), verbose=False).input_ids)
