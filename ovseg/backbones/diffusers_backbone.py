"""What the families of diffusers' pipelines have in common, as a `Backbone`: a denoiser, its words and its codec."""

import copy
import math
import threading
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from ovseg.backbones.base import NOTHING, Ablation, Backbone, Generated, OnStep, Sampling
from ovseg.backbones.clip_text import ClipText
from ovseg.backbones.layout import Layout
from ovseg.backbones.loading import Configs, pipeline_folder, read_pipeline
from ovseg.backbones.recording import Attribution, Recorder, counted, on_grid, watching
from ovseg.backbones.text import Text
from ovseg.backbones.trace import Capture, Site, Trace, Watch, grid_at, timestep_of
from ovseg.backbones.weights import check_finite, fingerprint, generator, loading, name_of_weights
from ovseg.files import file_checksum

CPU_BUDGET = 2 * 2**30  # bytes that the recorded maps and activations of one pass may take off an accelerator
CUDA_SHARE = 0.6  # of the free memory, on an accelerator that can say how much is free
MOST_ROWS = 64
MOST_ROWS_ON_CPU = 16  # a pass of more is no faster there, and cannot be stopped for seconds
ACTIVATIONS = 40  # tensors of the finest block's size that are alive at once in a forward pass: an upper estimate


class DiffusersBackbone(ClipText, Backbone):
    """A pipeline's parts as a `Backbone`, whose docstrings hold here. One thread at a time uses the network.

    A family is a subclass, in a file of its own.
    """

    kind: ClassVar[type[DiffusionPipeline]]
    title: ClassVar[str]
    """What its checkpoints are called."""
    unread: ClassVar[Mapping[str, Any]] = {}
    """What is not read of a saved pipeline, such as a safety checker."""
    parts: ClassVar[tuple[str, ...]]
    """The parts of the pipeline whose weights decide; the first one is the denoiser."""
    coarsest_stride: int
    """Latent places that a picture's sides must be multiples of."""
    layout: Layout
    lora = ""
    """What the name of the weights ends with where a LoRA changed them."""

    def __init__(self, pipeline: DiffusionPipeline, name: str, device: torch.device | str, source: str = "") -> None:
        self.name, self.source, self.device = name, source, torch.device(device)
        self.pipeline = pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.network, self.vae = getattr(pipeline, self.parts[0]), pipeline.vae
        self.vae_stride = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._lock, self._there = threading.RLock(), ""

    @classmethod
    def load(
        cls, source: str, name: str, device: torch.device | str, dtype: torch.dtype, *, variant: str | None, encodes: bool
    ) -> "DiffusersBackbone":
        """From a local folder or the hub; see `load_pipeline`.

        Raises:
            ValueError: there is no such pipeline.
        """
        variant, unread = variant if dtype == torch.float16 else None, cls._unread(Path(source))
        folder, configs = pipeline_folder(cls.kind, source, variant, unread)
        cls.check(folder, configs)
        pipeline = read_pipeline(cls.kind, folder, configs, dtype, variant, unread, encodes=encodes)
        return cls(pipeline, name, device, source)

    @classmethod
    def _unread(cls, source: Path) -> dict[str, Any]:
        """The same of a pipeline in a folder, or of one of the hub."""
        return dict(cls.unread)

    @classmethod
    @abstractmethod
    def check(cls, folder: Path, configs: Configs) -> None:
        """Raise ValueError unless the parts are those of this family, of a network that draws of words alone."""

    def add_lora(self, file: Path) -> None:
        """Change the weights as a LoRA file says, for good (Hu et al. 2021); read by diffusers' own loader.

        Raises:
            ValueError: peft is not installed, or the file is no LoRA of this network.
        """
        if find_spec("peft") is None:
            raise ValueError("A LoRA needs the package peft, which is not installed: `pip install peft`.")
        with loading(f"The LoRA {file}"):
            self.pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
        if not any(self.pipeline.get_list_adapters().values()):
            raise ValueError(f"The LoRA {file} must be one of this network, but none of its tensors are.")
        self.pipeline.fuse_lora()  # so that layers are read as ever
        self.pipeline.unload_lora_weights()
        self.lora = f"-{file_checksum(file)[:12]}"
        vars(self).pop("fingerprint", None)  # of the weights before

    def offload(self, device: torch.device | str) -> None:
        """Keep the parts in the computer's memory; each comes onto the device for its own passes alone."""
        self.device = torch.device(device)
        self.pipeline.enable_model_cpu_offload(device=self.device)
        self._there = "nothing"

    def _alone(self, part: str) -> None:
        """Where parts are offloaded, the others leave the device before this one comes to it."""
        if self._there and self._there != part:
            self.pipeline.maybe_free_model_hooks()
            self._there = part

    def untrained(self, seed: int) -> "DiffusersBackbone":
        part = self.parts[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = type(self.network).from_config(self.network.config)
        pipeline = self._pipeline_with({part: network.to(self.device, self.dtype).eval()})
        return type(self)(pipeline, self.name, self.device)

    @classmethod
    @abstractmethod
    def traits(cls, folder: Path) -> dict[str, Any]:
        """What the configurations of a saved pipeline tell of it, as fields of a row of the table of backbones.

        Raises:
            ValueError: one is not there or cannot be read.
        """

    @abstractmethod
    def _run(self, noised: Float[Tensor, "b c y x"], timestep: float, text: Text) -> None:
        """One pass of the network."""

    @abstractmethod
    def _sampler(self, sampling: Sampling) -> SchedulerMixin:
        """A scheduler of its own: it counts steps, and cannot serve two visitors."""

    def _told(self, sampling: Sampling, pictures: int) -> dict[str, Any]:
        """What the pipeline is called with besides the usual."""
        return {"negative_prompt": [sampling.negative] * pictures}

    def _pipeline_with(self, parts: dict[str, Any]) -> DiffusionPipeline:
        """A pipeline of its own over the same weights, but for some parts: it keeps the state of a drawing."""
        pipeline = copy.copy(self.pipeline)
        pipeline.register_modules(**parts)
        return pipeline

    @abstractmethod
    def row_bytes(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        """What one row of a pass takes at most: activations, and what is recorded."""

    @cached_property
    def dtype(self) -> torch.dtype:
        """The network's precision, looked up once: diffusers walks over all modules for it."""
        return self.network.dtype

    @property
    def weights(self) -> dict[str, int]:
        """How many numbers each part has."""
        parts = {part: getattr(self.pipeline, part) for part in self.parts}
        return {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()}

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights of all parts: that of the files they were read from, in any precision."""
        if not self.source:
            return "-".join(fingerprint(getattr(self.pipeline, part)) for part in self.parts)
        if not Path(self.source).is_dir():
            return name_of_weights(self.source) + self.lora
        return "-".join(name_of_weights(Path(self.source) / part) for part in self.parts) + self.lora

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.layout.sites

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(sorted(self.layout.blocks))

    def square_hw(self) -> tuple[int, int]:
        edge = self.network.config.sample_size * self.vae_stride
        return edge, edge

    def latent_shape(self, working_hw: tuple[int, int]) -> tuple[int, int, int]:
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
    def encode(self, image: Num[np.ndarray, "h w 3"], sample_seed: int | None = None) -> Float[Tensor, "1 c y x"]:
        unit = self.vae_stride * self.coarsest_stride
        if image.shape[0] % unit or image.shape[1] % unit:
            raise ValueError(f"Picture sides must be multiples of {unit}, but got {image.shape[0]} x {image.shape[1]}.")
        pixels = torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1)[None]
        self._alone("vae")
        posterior = self.vae.encode((pixels.float() / 127.5 - 1).to(self.vae.dtype)).latent_dist
        latent = posterior.mean if sample_seed is None else posterior.sample(generator(sample_seed))
        check_finite("The picture's latents", self.vae.dtype, latent)
        return self._scaled(latent).to(self.dtype)

    @torch.no_grad()
    def trace_noised(
        self, noised: Float[Tensor, "_ c y x"], text: Text, timestep: float, capture: Capture, *, off: Ablation = NOTHING
    ) -> Trace:
        recorder = Recorder(self.layout, capture, text, tuple(noised.shape[-2:]), off)
        with self._lock, recorder.attached(self.network, stops=True):
            self._alone("network")
            self._run(noised.expand(len(text.prompts), -1, -1, -1), timestep, text)
        trace = recorder.trace(timestep, noised)
        check_finite("The network's attention and features", self.dtype, *trace.tensors())
        return trace

    @torch.no_grad()
    def word_keys(self, text: Text, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "b _h t _d"]]:
        if self.layout.projections is None or any(site.kind == "self" for site in sites):
            raise ValueError("Keys of words alone must be those of cross-attention, but here places have a part in them.")
        layers = {site: self.layout.projections(self.network.get_submodule(site.name)) for site in sites}
        return {
            site: layer.key(text.embeddings).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for site, layer in layers.items()
        }

    def timesteps(self, sampling: Sampling) -> tuple[float, ...]:
        scheduler = self._scheduler(sampling)
        scheduler.set_timesteps(sampling.steps, **self._shifting(sampling.steps))
        return tuple(timestep_of(timestep) for timestep in scheduler.timesteps)

    def _shifting(self, steps: int) -> dict[str, Any]:
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
        if phrase and watch:
            raise ValueError("A generation must gather a phrase's attention or be watched, but both were asked for.")
        if self.words is not None:
            raise ValueError("Drawing needs the text encoder, but the backbone was loaded with saved words in its place.")
        pipeline = self._pipeline_with({"scheduler": self._scheduler(sampling)})
        if (tokens := self._tokens_of(sampling.negative)) > self._room:
            # A list of what shall not be there still works without its end, and the released one is long for small networks.
            warnings.warn(f"Of the negative prompt's {tokens} tokens only {self._room} are used.", stacklevel=2)
        text = self.encode_text([prompt] * len(seeds), [phrase] * len(seeds), starts=[start] * len(seeds))
        pipeline.set_progress_bar_config(disable=True)
        done: dict[str, Tensor] = {}

        def step_done(_pipeline: DiffusionPipeline, step: int, _timestep: Tensor, values: dict) -> dict:
            done.update(values)
            if on_step:
                on_step(step + 1, sampling.steps)
            return values

        attribution, grid = Attribution(self.sites, apart=sampling.heads_apart), self.latent_shape(self.square_hw())[1:]
        if watch := attribution.watch if phrase else watch:
            passes = self._passes(sampling)
            seen = watching(self.network, self.layout, watch, text, latent_hw=grid, passes=passes)
        with self._lock, seen if watch else counted(self.network):
            self._alone("pipeline")
            pipeline(
                prompt=[prompt] * len(seeds),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                generator=[generator(seed) for seed in seeds],
                output_type="latent",
                callback_on_step_end=step_done,
                **self._told(sampling, len(seeds)),
            )
        latents = on_grid(done["latents"], grid)  # as the network knows them
        check_finite("The generated latents", self.dtype, latents)
        maps = attribution.mean() if phrase else [None] * len(seeds)
        return tuple(
            Generated(self.decode(latent), latent, where) for latent, where in zip(latents.split(1), maps, strict=True)
        )

    def _passes(self, sampling: Sampling) -> int:
        """How many passes a step of sampling takes: with guidance one has both kinds of rows, in most families."""
        return 1

    def keys(self, site: Site, latent_hw: tuple[int, int]) -> int:
        sees_words = any(other.name == site.name and other.kind == "cross" for other in self.sites)
        sees_places = site.kind == "self" or self.layout.read is None
        return math.prod(grid_at(latent_hw, site.stride)) * sees_places + self._text_columns * sees_words

    @property
    def _text_columns(self) -> int:
        """How many columns an encoded prompt has."""
        return self._room

    def rows_per_pass(self, latent_hw: tuple[int, int], capture: Capture) -> int:
        budget, most = CPU_BUDGET, MOST_ROWS_ON_CPU
        if self.device.type == "cuda":
            most = MOST_ROWS
            budget = CUDA_SHARE * torch.cuda.mem_get_info(self.device)[0]
        return int(min(max(budget // self.row_bytes(latent_hw, capture), 1), most))

    @torch.no_grad()
    def decode(self, latent: Float[Tensor, "1 c y x"]) -> UInt8[np.ndarray, "h w 3"]:
        self._alone("vae")
        decoded = self.vae.decode(self._unscaled(latent).to(self.vae.dtype)).sample[0].float()
        check_finite("The pixels", self.vae.dtype, decoded)
        return ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()

    def _scaled(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b _c _y _x"]:
        """The codec's latents as the network knows them."""
        return (latent - self._shift) * self.vae.config.scaling_factor

    def _unscaled(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b _c _y _x"]:
        """The network's latents as the codec knows them."""
        return latent / self.vae.config.scaling_factor + self._shift

    @property
    def _shift(self) -> float:
        """What the codec's latents are moved by before they are scaled."""
        return getattr(self.vae.config, "shift_factor", None) or 0.0
