"""Bugs in what keeps long work short: parts in place of the whole, and work that is done once."""

from tests.mutations import Mutant

SPEED = "tests/test_speed.py::"
PARTS = ("tests/test_ovdiff.py::test_few_cosines_at_once_give_what_all_at_once_give",)
ONCE = (
    "tests/test_ovdiff.py::test_two_who_ask_for_a_class_at_once_make_it_once",
    "tests/test_ovdiff.py::test_who_waits_for_a_class_can_stop_waiting",
)

MUTANTS = (
    Mutant(
        "a class has the best of its last part alone",
        "ovseg/methods/ovdiff/matching.py",
        "torch.maximum(best[label], own.amax(0), out=best[label])",
        "best[label] = own.amax(0)",
        PARTS,
    ),
    Mutant(
        "rows of later parts are counted from 0",
        "ovseg/methods/ovdiff/matching.py",
        "torch.arange(part.start, part.start + len(cosines),",
        "torch.arange(0, len(cosines),",
        PARTS,
    ),
    Mutant(
        "the nearest of earlier parts are forgotten",
        "ovseg/methods/ovdiff/matching.py",
        "if values is not None:",
        "if False:",
        PARTS,
    ),
    Mutant(
        "who waited for a class makes it again",
        "ovseg/methods/ovdiff/prototypes.py",
        "kept = _kept(models, settings, word)  # another process may have made some of them meanwhile",
        "pass",
        ONCE,
    ),
    Mutant(
        "who waits for a class hears nothing",
        "ovseg/methods/ovdiff/store.py",
        "                    waiting()",
        "                    pass",
        ONCE,
    ),
    Mutant(
        "later pictures take the places of earlier ones",
        "ovseg/methods/ovdiff/store.py",
        "enumerate(pictures, first)",
        "enumerate(pictures)",
        ("tests/test_ovdiff.py::test_a_store_gives_back_what_it_was_given",),
    ),
    Mutant(
        "maps are multiplied once, however often is asked for",
        "ovseg/backbones/base.py",
        "for _ in range(times):",
        "for _ in range(1):",
        ("tests/test_speed.py::test_a_place_attends_to_what_the_whole_self_attention_says",),
    ),
    Mutant(
        "queries are scaled twice",
        "ovseg/backbones/base.py",
        "self.key, wide, scale=1.0)",
        "self.key, wide)",
        ("tests/test_speed.py::test_a_place_attends_to_what_the_whole_self_attention_says",),
    ),
    Mutant(
        "rows and columns of the clicked place change about",
        "ovseg/types.py",
        "place = row * self.grid[1] + column",
        "place = column * self.grid[0] + row",
        ("tests/test_speed.py::test_a_place_attends_to_what_the_whole_self_attention_says",),
    ),
    Mutant(
        "attention is kept although nothing refines",
        "ovseg/methods/diffsegmenter.py",
        "states=finest if self.refinements else ()",
        "states=finest",
        ("tests/test_speed.py::test_what_nobody_uses_is_not_recorded",),
    ),
    Mutant(
        "a benchmark reads a picture when the one before is done",
        "ovseg/evaluation/benchmark.py",
        "read_ahead(missing, self.dataset.sample)",
        "((k, read) for one in missing for k, read in read_ahead([one], self.dataset.sample))",
        ("tests/test_evaluation.py::test_the_next_samples_are_read_while_one_is_measured",),
    ),
    Mutant(
        "subsets are encoded for each picture",
        "ovseg/methods/ovdiff/prefilter.py",
        "if kept.subsets and not by_probability:",
        "if False:",
        (SPEED + "test_words_are_encoded_before_a_picture_is_seen",),
    ),
    Mutant(
        "a subset goes by its neighbour's vector",
        "ovseg/methods/ovdiff/prefilter.py",
        "dict(zip(prompts, network.subset_embeddings(prompts), strict=True))",
        "dict(zip(prompts, network.subset_embeddings(prompts).roll(1, 0), strict=True))",
        ("tests/test_ovdiff.py::test_kept_subsets_choose_as_those_that_are_encoded",),
    ),
    Mutant(
        "the sentence without a caption is encoded for each picture",
        "ovseg/methods/grounded_diffusion.py",
        "pair = None if scene.caption else self.uncaptioned",
        "pair = None",
        (SPEED + "test_words_are_encoded_before_a_picture_is_seen",),
    ),
    Mutant(
        "every scene is encoded at once",
        "ovseg/scene.py",
        "return Scene(image, encoded, caption, seed)",
        "return Scene(image, encoded(), caption, seed)",
        (SPEED + "test_a_picture_is_encoded_where_its_latent_is_looked_at",),
    ),
    Mutant(
        "a latent is made at every look",
        "ovseg/types.py",
        """            vars(scene)["_latent"] = given()
""",
        """            return given()
""",
        (SPEED + "test_a_picture_is_encoded_where_its_latent_is_looked_at",),
    ),
    Mutant(
        "pictures go through a network one at a time",
        "ovseg/methods/ovdiff/features.py",
        "TOGETHER = 8",
        "TOGETHER = 1",
        (SPEED + "test_windows_go_through_a_network_together",),
    ),
    Mutant(
        "more rows than memory allows go through the network",
        "ovseg/methods/ovdiff/features.py",
        "latents.split(backbone.rows_per_pass(tuple(latents.shape[-2:]), capture))",
        "[latents]",
        (SPEED + "test_windows_go_through_a_network_together",),
    ),
    Mutant(
        "each window is by itself",
        "ovseg/methods/ovdiff/matching.py",
        "key=lambda box: picture[box].shape",
        "key=id",
        (SPEED + "test_windows_of_one_size_are_compared_together",),
    ),
    Mutant(
        "a window's scores go where the next one is",
        "ovseg/methods/ovdiff/matching.py",
        "for (rows, columns), crop, features in zip(boxes, crops, seen, strict=True):",
        "for (rows, columns), crop, features in zip([*boxes[1:], boxes[0]], crops, seen, strict=True):",
        ("tests/test_ovdiff.py::test_windows_are_averaged_with_the_whole",),
    ),
)
