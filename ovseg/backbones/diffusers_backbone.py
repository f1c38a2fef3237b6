"""What the families of diffusers' pipelines have in common, as a `Backbone`: a denoiser, its words and its codec."""

import math
import threading
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg.backbones.base import NOTHING, Ablation, Generated, OnStep, Sampling
from ovseg.backbones.clip_text import ClipText
from ovseg.backbones.layout import Layout
from ovseg.backbones.recording import Attribution, Recorder, counted, watching
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Capture, Site, Trace, Watch, grid_at, timestep_of
from ovseg.backbones.weights import check_finite, fingerprint, generator, name_of_weights

CPU_BUDGET = 2 * 2**30  # bytes that the recorded maps and activations of one pass may take off an accelerator
CUDA_SHARE = 0.6  # of the free memory, on an accelerator that can say how much is free
MOST_ROWS = 64
MOST_ROWS_ON_CPU = 16  # a pass of more is no faster there, and cannot be stopped for seconds
ACTIVATIONS = 40  # tensors of the finest block's size that are alive at once in a forward pass: an upper estimate


class DiffusersBackbone(ClipText):
    """A pipeline's parts as a `Backbone`. Safe to call from several threads: the network is used by one at a time.

    A family is a subclass, in a file of its own.
    """

    parts: ClassVar[tuple[str, ...]]
    """The parts of the pipeline whose weights decide; the first one is the denoiser."""
    coarsest_stride: int
    """Latent places that a picture's sides must be multiples of."""
    layout: Layout

    def __init__(self, pipeline: DiffusionPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        self.name, self.source = name, source
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.network, self.vae = getattr(pipeline, self.parts[0]), pipeline.vae
        self.vae_stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._lock = threading.RLock()

    @abstractmethod
    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        """One pass of the network."""

    @abstractmethod
    def _sampler(self, sampling: Sampling) -> SchedulerMixin:
        """A scheduler of its own: it counts steps, and cannot serve two visitors."""

    @abstractmethod
    def _drawn_by(self, scheduler: SchedulerMixin) -> tuple[DiffusionPipeline, dict[str, Any]]:
        """A pipeline of its own over the same weights, and what it is called with besides the usual."""

    @abstractmethod
    def _bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """What one row of a pass takes at most: activations, and what is recorded."""

    @abstractmethod
    def width(self, site: Site) -> int:
        """How many numbers the query of one place has at a site, all heads together."""

    @abstractmethod
    def noised(self, latent: Float[Tensor, "n c y x"], timestep: float, seed: int) -> Float[Tensor, "n c y x"]:
        """What `trace` gives the network: latents, all with the same noise of a seed, as much as belongs to the timestep.

        Raises:
            ValueError: the timestep is outside the noise schedule.
        """

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights of all parts: that of the files they were read from, in any precision."""
        if not self.source:
            return "-".join(fingerprint(getattr(self.pipeline, part)) for part in self.parts)
        if not Path(self.source).is_dir():
            return name_of_weights(self.source)
        return "-".join(name_of_weights(Path(self.source) / part) for part in self.parts)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All attention of the network, in the order of computing."""
        return self.layout.sites

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which there is attention, finest first."""
        return tuple(sorted({site.stride for site in self.sites}))

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of the latent grid at which the network has blocks, finest first."""
        return tuple(sorted(self.layout.blocks))

    def square_hw(self) -> tuple[int, int]:
        """The square resolution of training, in pixels."""
        edge = self.network.config.sample_size * self.vae_stride
        return edge, edge

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a picture with sides that `working_hw` gives."""
        return self.vae.config.latent_channels, working_hw[0] // self.vae_stride, working_hw[1] // self.vae_stride

    def working_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Same aspect as the picture, about the area of training, both sides multiples of the coarsest stride."""
        unit = self.vae_stride * self.coarsest_stride
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
        unit = self.vae_stride * self.coarsest_stride
        if image.shape[0] % unit or image.shape[1] % unit:
            raise ValueError(f"Picture sides must be multiples of {unit}, but got {image.shape[0]} x {image.shape[1]}.")
        pixels = torch.from_numpy(np.array(image)).to(self.vae.device).permute(2, 0, 1)[None]
        posterior = self.vae.encode((pixels.float() / 127.5 - 1).to(self.vae.dtype)).latent_dist
        latent = posterior.mean if sample_seed is None else posterior.sample(generator(sample_seed))
        check_finite("The picture's latents", self.vae.dtype, latent)
        return ((latent - self._shift) * self.vae.config.scaling_factor).to(self.network.dtype)

    @torch.no_grad()
    def trace(
        self,
        latent: Float[Tensor, "_ c y x"],
        text: Text,
        timestep: float,
        capture: Capture,
        seed: int,
        *,
        off: Ablation = NOTHING,
    ) -> Trace:
        """One pass with a row per prompt, all rows on the same noised latent, or each on its own.

        Raises:
            ValueError: the timestep is outside the noise schedule, or capture or ablation name what the network does not
                have, or the phrase of a prompt without one.
        """
        return self.trace_noised(self.noised(latent, timestep, seed), text, timestep, capture, off=off)

    @torch.no_grad()
    def trace_noised(
        self,
        noised: Float[Tensor, "_ c y x"],
        text: Text,
        timestep: float,
        capture: Capture,
        *,
        off: Ablation = NOTHING,
    ) -> Trace:
        """One pass with a row per prompt, all rows on the same latent, or each on its own, which has its noise already.

        Raises:
            ValueError: capture or ablation name what the network does not have, or the phrase of a prompt without one.
        """
        recorder = Recorder(self.layout, capture, text, tuple(noised.shape[-2:]), off)
        with self._lock, recorder.attached(self.network, stops=True):
            self._run(noised.expand(len(text.prompts), -1, -1, -1), timestep, text)
        trace = recorder.trace(timestep, noised)
        check_finite("The network's attention and features", self.network.dtype, *trace.tensors())
        return trace

    def timesteps(self, sampling: Sampling) -> tuple[float, ...]:
        """The timestep of every pass that sampling a picture takes, in order.

        Raises:
            ValueError: there are no steps.
        """
        scheduler = self._scheduler(sampling)
        scheduler.set_timesteps(sampling.steps, **self._shifting())
        return tuple(timestep_of(timestep) for timestep in scheduler.timesteps)

    def _shifting(self) -> dict[str, float]:
        """What a scheduler is told besides the number of steps."""
        return {}

    def _scheduler(self, sampling: Sampling) -> SchedulerMixin:
        most = self.pipeline.scheduler.config.num_train_timesteps
        if not 1 <= sampling.steps <= most:
            raise ValueError(f"Generation must take 1 step or more, and {most} at most, but got {sampling.steps}.")
        if not math.isfinite(sampling.guidance):
            raise ValueError(f"The guidance must be a finite number, but got {sampling.guidance}.")
        return self._sampler(sampling)

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
        pipeline, options = self._drawn_by(self._scheduler(sampling))
        if (tokens := self._tokens_of(sampling.negative)) > self._room:
            # A list of what shall not be there still works without its end, and the released one is long for small networks.
            warnings.warn(f"Of the negative prompt's {tokens} tokens only {self._room} are used.", stacklevel=2)
        text = self.encode_text([prompt] * len(seeds), [phrase] * len(seeds), starts=[start] * len(seeds))
        pipeline.set_progress_bar_config(disable=True)

        def step_done(_pipeline: DiffusionPipeline, step: int, _timestep: Tensor, values: dict) -> dict:
            if on_step:
                on_step(step + 1, sampling.steps)
            return values

        attribution = Attribution(self.strides)
        with self._lock, self._watched(attribution.watch if phrase else watch, text):
            latents = pipeline(
                [prompt] * len(seeds),
                negative_prompt=[sampling.negative] * len(seeds),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                generator=[generator(seed) for seed in seeds],
                output_type="latent",
                callback_on_step_end=step_done,
                **options,
            ).images
        check_finite("The generated latents", self.network.dtype, latents)
        maps = attribution.mean() if phrase else [None] * len(seeds)
        return tuple(
            Generated(self.decode(latent), latent, where) for latent, where in zip(latents.split(1), maps, strict=True)
        )

    @contextmanager
    def _watched(self, watch: Watch | None, text: Text) -> Iterator[None]:
        """Count the passes of a drawing, and hand over a trace of each where somebody watches."""
        if watch is None:
            with counted(self.network):
                yield
        else:
            with watching(self.network, self.layout, watch, text, self.latent_shape(self.square_hw())[1:]):
                yield

    def keys(self, site: Site, latent_hw: tuple[int, int]) -> int:
        """How many places, words and others a place attends to at a site."""
        sees_words = any(other.name == site.name and other.kind == "cross" for other in self.sites)
        sees_places = site.kind == "self" or self.layout.read is None
        return math.prod(grid_at(latent_hw, site.stride)) * sees_places + self._text_columns * sees_words

    @property
    def _text_columns(self) -> int:
        """How many columns an encoded prompt has."""
        return self._room

    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """Prompts per pass, from the memory that their recorded maps and activations take."""
        budget, most = CPU_BUDGET, MOST_ROWS_ON_CPU
        if self.network.device.type == "cuda":
            most = MOST_ROWS
            budget = CUDA_SHARE * torch.cuda.mem_get_info(self.network.device)[0]
        return int(min(max(budget // self._bytes(latent_hw, capture), 1), most))

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "1 c y x"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of a scaled latent, RGB."""
        unscaled = latent / self.vae.config.scaling_factor + self._shift
        decoded = self.vae.decode(unscaled.to(self.vae.dtype)).sample[0].float()
        check_finite("The pixels", self.vae.dtype, decoded)
        decoded = decoded.clamp(-1, 1)
        return ((decoded + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()

    @property
    def _shift(self) -> float:
        """What the codec's latents are moved by before they are scaled."""
        return getattr(self.vae.config, "shift_factor", None) or 0.0
