"""Sentences around a class word, for CLIP."""

TEMPLATES = (  # of CLIP's 80 for ImageNet (Radford et al. 2021, section 3.1.4) its notebook's "sub-set of seven"
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
    "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
