"""What can be turned in DiffSegmenter."""

from dataclasses import dataclass

from ovseg.methods import knobs
from ovseg.types import knob
from ovseg.words.classes import check_prompt


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of DiffSegmenter, with the values of the released code."""

    threshold: float = knobs.background_threshold(
        0.5,
        "Constant score of the background: pixels where no class scores more are background. The released evaluation tries"
        " 0.30 to 0.74.",
    )
    timesteps: tuple[int, ...] = knob(
        (100,),
        "How much noise is added to the picture before the network looks at it, 0 to 999. The results of several levels are"
        " averaged. The released code uses 100 alone.",
        label="Noise levels",
        group="main",
        high=999,
    )
    draws: int = knobs.noise_samples(" at each level; their results are averaged", "main")
    stride_weights: tuple[float, ...] = knobs.grid_weights(
        (0.1, 0.1, 0.5, 0.3),
        ". The released code's 0.1, 0.1, 0.5, 0.3 are for the 64, 32, 16 and 8 grids of Stable Diffusion.",
    )
    layers: tuple[int, ...] = knobs.read_layers("all")
    refinements: int = knob(
        1,
        "How often the maps are multiplied by the self-attention, which spreads them over whole objects. 0 leaves it out;"
        " the released code does it once.",
        label="Refinements by self-attention",
        group="main",
        high=5,
    )
    refine_stride: int = knobs.refining_stride(
        "At which grid of self-attention the maps are refined: 1 is the finest, as in the released code, 2 has half of its"
        " rows and columns, and so on."
    )
    emphasis: float = knob(
        1.21,
        'How strongly the class word counts in its prompt; 1 leaves the prompt as it is. 1.21 is the "++" of the released'
        " code.",
        label="Emphasis of the class word",
        low=0.5,
        high=2,
    )
    prompt: str = knob(
        "a photograph of {}",
        "The prompt of each class; {} is replaced by the class. This is the released code's prompt for PASCAL VOC.",
        label="Prompt",
    )
    last_token: bool = knob(
        False,
        "Read the attention of the last token of a class name only, and emphasise its last word only, as the released code"
        " does. Otherwise all its tokens are averaged.",
        label="Last token only",
    )
    continued: bool = knob(
        False,
        'Let the captioner complete each prompt with what it sees, and read a following word that ends in "ing" together'
        " with the class. The released code does both.",
        label="Prompts completed by the captioner",
    )
    captioner: str = knobs.captioner_name(
        "completes the prompts and describes the picture to the filter", "blip-large", "BLIP large"
    )
    greedy: bool = knob(
        False,
        "Complete a prompt with the likeliest word each time, up to 20 tokens in all, as the released code does. Otherwise"
        " the three likeliest sentences are kept while it grows.",
        label="Greedy completion",
    )
    squashed: bool = knob(
        False,
        "Squash the picture to the square that the backbone was trained on, as the released code does. Otherwise it keeps"
        " its aspect.",
        label="Picture squashed to a square",
    )
    sampled: bool = knobs.sampled_latent("the picture's")
    filtered: bool = knob(
        False,
        "Leave out classes that neither CLIP nor two captions of the picture find, as the released label files do.",
        label="Classes filtered by CLIP and captions",
    )
    clip: str = knobs.clip_name(
        "the filter looks with, and in whose text network it compares words", "ViT-L/14", label="CLIP of the filter"
    )

    def check(self) -> None:
        """Raise ValueError unless the settings are in their ranges."""
        if not self.timesteps:
            raise ValueError("timesteps must name at least one noise level, but it is empty.")
        if self.draws < 1 or self.refinements < 0:
            raise ValueError(
                f"draws must be 1 or more and refinements 0 or more, but got {self.draws} and {self.refinements}."
            )
        check_prompt(self.prompt)
