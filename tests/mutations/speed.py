"""Bugs in what keeps long work short: parts in place of the whole, and work that is done once."""

from tests.mutations import Mutant

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
        "self_attention=(FINEST,)",
        ("tests/test_speed.py::test_no_matrix_of_all_places_by_all_places_is_made",),
    ),
    Mutant(
        "a benchmark reads a picture when the one before is done",
        "ovseg/evaluation/benchmark.py",
        "read_ahead(missing, self.dataset.sample)",
        "((k, read) for one in missing for k, read in read_ahead([one], self.dataset.sample))",
        ("tests/test_evaluation.py::test_the_next_samples_are_read_while_one_is_measured",),
    ),
)
