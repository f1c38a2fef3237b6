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
    Mutant(
        "every fine sprite is the first of its strip",
        "ovseg/pocket/sprites.py",
        "crop((place * edge, 0, (place + 1) * edge, edge))",
        "crop((0, 0, edge, edge))",
        ("tests/test_pocket_world.py::test_a_fine_sprite_is_the_atlas_sprite_with_crisp_edges",),
    ),
    Mutant(
        "large things are enlarged from 128 px",
        "ovseg/pocket/placing.py",
        "fine=size > NATIVE",
        "fine=False",
        ("tests/test_pocket_world.py::test_things_of_a_large_scene_have_crisp_edges",),
    ),
    Mutant(
        "fine sprites are drawn without being halved first",
        "ovseg/pocket/sprites.py",
        "rasters[int(scale <= FINER / 2)]",
        "rasters[0]",
        ("tests/test_pocket_world.py::test_a_fine_sprite_is_halved_where_it_is_drawn_small",),
    ),
    Mutant(
        "the margin of a fine sprite moves it",
        "ovseg/pocket/placing.py",
        "round(pose.middle * size - out_w / 2) - margin, margin)",
        "round(pose.middle * size - out_w / 2), margin)",
        ("tests/test_pocket_world.py::test_a_large_scene_is_the_same_composition",),
    ),
    Mutant(
        "a large picture chooses its own poses",
        "ovseg/pocket/placing.py",
        "trial_size = min(size, NATIVE)",
        "trial_size = size",
        ("tests/test_pocket_world.py::test_a_large_scene_is_the_same_composition",),
    ),
    Mutant(
        "fine detail takes numbers from the scene's own stream",
        "ovseg/pocket/textures.py",
        "detail, strength = rng.spawn(1)[0],",
        "detail, strength = rng,",
        ("tests/test_pocket_world.py::test_a_large_texture_gains_detail_and_is_the_same_from_afar",),
    ),
    Mutant(
        "textures gain no detail",
        "ovseg/pocket/textures.py",
        "return max(0, (size - 1).bit_length() - (NATIVE - 1).bit_length())",
        "return 0",
        ("tests/test_pocket_world.py::test_a_large_texture_gains_detail_and_is_the_same_from_afar",),
    ),
    Mutant(
        "the truth of an example begins with the stuff",
        "ovseg/pocket/examples.py",
        '("background", *words_of(name), *item.stuff)',
        '("background", *item.stuff, *words_of(name))',
        ("tests/test_pocket_world.py::test_the_examples_are_what_the_code_draws",),
    ),
)
