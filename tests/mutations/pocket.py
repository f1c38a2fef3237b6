"""Bugs in the pocket recipes' own parts and in the loop that they share."""

from tests.mutations import Mutant

MUTANTS = (
    Mutant(
        "the words are trained on although they are shared with CLIP",
        "ovseg/pocket/train_denoiser.py",
        "words.requires_grad_(start is None)",
        "words.requires_grad_(True)",
        ("tests/test_training.py::test_the_recipes_one_after_the_other",),
    ),
    Mutant(
        "zoom has no effect",
        "ovseg/pocket/placing.py",
        "(share * zoom for share in EXTENT[len(sprites)])",
        "(share for share in EXTENT[len(sprites)])",
        ("tests/test_pocket_world.py::test_zoom_enlarges_the_things_and_nothing_else",),
    ),
)
