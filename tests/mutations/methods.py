"""Bugs in the four methods."""

from tests.mutations import Mutant

OVDIFF, FREESEG = "ovseg/methods/ovdiff/", "ovseg/methods/freeseg_diff/"
OF_OVDIFF, OF_FREESEG, OF_METHODS = "tests/test_ovdiff.py::", "tests/test_freeseg_diff.py::", "tests/test_methods.py::"
BY_HAND = (OF_OVDIFF + "test_nearest_prototypes_worked_out_by_hand",)
NEAREST = (OF_OVDIFF + "test_what_a_place_is_nearest_to_has_rows_and_columns",)
LAYERS = (OF_OVDIFF + "test_layers_are_those_that_are_named_in_the_order_of_the_names",)
WINDOWS = (OF_OVDIFF + "test_windows_are_averaged_with_the_whole",)
SUBSETS = (OF_OVDIFF + "test_clip_chooses_the_subset_whose_words_fit_best",)
MASKS = (OF_FREESEG + "test_masks_of_clusters_become_scores_worked_out_by_hand",)
PHRASES = (OF_FREESEG + "test_the_best_phrase_of_a_class_speaks_for_it",)
NAMES = (OF_FREESEG + "test_clusters_get_names_as_the_released_rule_says",)
STEPS = (OF_METHODS + "test_reference_steps_worked_out_again",)
GROUNDED = (OF_METHODS + "test_grounded_diffusion_worked_out_again",)
PUBLISHED = ("tests/test_diffsegmenter_oracle.py",)
ON_DEMAND = ("tests/test_types.py",)

MUTANTS = (
    Mutant(
        "rows and columns of the nearest prototypes are swapped",
        OVDIFF + "evidence.py",
        "part.permute(1, 2, 0)",
        "part.permute(2, 1, 0)",
        NEAREST,
    ),
    Mutant(
        "a nearest prototype shows the region of another picture",
        OVDIFF + "store.py",
        "region, part = self.regions[self.pictures[row]]",
        "region, part = self.regions[0]",
        NEAREST,
    ),
    Mutant(
        "the nearest prototypes are the farthest",
        OVDIFF + "matching.py",
        "len(cosines)), 0)",
        "len(cosines)), 0, largest=False)",
        NEAREST,
    ),
    Mutant(
        "prototypes are not normalised",
        OVDIFF + "matching.py",
        "F.normalize(torch.cat(vectors), dim=1)",
        "torch.cat(vectors)",
        BY_HAND,
    ),
    Mutant(
        "features of places are not normalised",
        OVDIFF + "matching.py",
        "units = F.normalize(features, dim=0)",
        "units = features",
        BY_HAND,
    ),
    Mutant(
        "OVDiff's class scores are reversed",
        OVDIFF + "method.py",
        "scores[[0, *(k + 1 for k in asked)]] = refined",
        "scores[[0, *(k + 1 for k in reversed(asked))]] = refined",
        (OF_OVDIFF + "test_the_nearest_phrase_of_a_class_counts",),
    ),
    Mutant(
        "of some classes each gets another's prototypes",
        OVDIFF + "matching.py",
        "place[[number + 1 for number in asked]]",
        "place[[number + 1 for number in reversed(asked)]]",
        BY_HAND,
    ),
    Mutant(
        "the stuff filter keeps what looks like stuff",
        OVDIFF + "matching.py",
        "(alike <= cosine)",
        "(alike >= cosine)",
        BY_HAND,
    ),
    Mutant(
        "stuff gives background prototypes",
        OVDIFF + "method.py",
        "and not stuff[source.owner])",
        ")",
        (OF_OVDIFF + "test_stuff_gives_no_background_and_takes_what_looks_like_it",),
    ),
    Mutant(
        "the mean of a class's cosines in place of the highest",
        OVDIFF + "matching.py",
        "torch.maximum(best[label], own.amax(0), out=best[label])",
        "torch.maximum(best[label], own.mean(0), out=best[label])",
        BY_HAND,
    ),
    Mutant(
        "the layers of OVDiff come in another order",
        OVDIFF + "features.py",
        "tuple(crossing[number] for number in chosen)",
        "tuple(crossing[number] for number in sorted(chosen, reverse=True))",
        LAYERS,
    ),
    Mutant(
        "OVDiff counts self-attention among its layers",
        OVDIFF + "features.py",
        'if site.kind == "cross"',
        'if site.kind != ""',
        LAYERS,
    ),
    Mutant(
        "OVDiff ignores its timestep",
        OVDIFF + "features.py",
        "settings.timestep, capture",
        "1, capture",
        LAYERS,
    ),
    Mutant(
        "windows count twice",
        OVDIFF + "matching.py",
        "weight[rows, columns] += 1",
        "weight[rows, columns] += 0.5",
        WINDOWS,
    ),
    Mutant(
        "only the whole picture is compared",
        OVDIFF + "matching.py",
        "(*boxes_of(settings, picture.shape[:2]), (slice(None), slice(None)))",
        "((slice(None), slice(None)),)",
        WINDOWS,
    ),
    Mutant(
        "OVDiff takes the first phrase of a class alone",
        OVDIFF + "method.py",
        'Stages(report), rows_of(classes)\n        with stages.stage("preparing',
        'Stages(report), ([w.name for w in classes], list(range(len(classes))))\n        with stages.stage("preparing',
        (OF_OVDIFF + "test_the_nearest_phrase_of_a_class_counts",),
    ),
    Mutant(
        "the pre-filter goes by the first phrase of a class",
        OVDIFF + "prefilter.py",
        "classes[k].phrases[int(one.indices)]",
        "classes[k].phrases[0]",
        SUBSETS,
    ),
    Mutant(
        "the pre-filter takes the subset that fits least",
        OVDIFF + "prefilter.py",
        "int((texts @ seen[0]).argmax())",
        "int((texts @ seen[0]).argmin())",
        SUBSETS,
    ),
    Mutant(
        "the mean prototype is that of one picture",
        OVDIFF + "prototypes.py",
        "vectors = torch.cat([rows.mean(0, keepdim=True)",
        "vectors = torch.cat([means[:1]",
        (OF_OVDIFF + "test_prototypes_are_means_of_places_of_pictures_and_of_clusters",),
    ),
    Mutant(
        "the worst proposal is foreground",
        OVDIFF + "support.py",
        "key=lambda mask: -float(",
        "key=lambda mask: float(",
        (OF_OVDIFF + "test_the_best_proposal_is_foreground_and_the_worst_with_pixels_left_is_background",),
    ),
    Mutant(
        "later masks of FreeSeg-Diff paint over earlier ones",
        FREESEG + "masks.py",
        "free = mask.masked_fill(painted, 0)",
        "free = mask",
        MASKS,
    ),
    Mutant(
        "a weak mask keeps its place",
        FREESEG + "masks.py",
        "painted |= free > 0.5",
        "painted |= free > 0",
        MASKS,
    ),
    Mutant(
        "the background of FreeSeg-Diff is everywhere certain",
        FREESEG + "masks.py",
        "1 - scores[1:].amax(0)",
        "1 - 0 * scores[1:].amax(0)",
        MASKS,
    ),
    Mutant(
        "the CRF is told the mask's opposite",
        FREESEG + "masks.py",
        "torch.where(mask.to(device) > 0.5, CERTAINTY",
        "torch.where(mask.to(device) <= 0.5, CERTAINTY",
        (OF_FREESEG + "test_a_mask_keeps_to_the_edges_of_the_picture",),
    ),
    Mutant(
        "a name is given to clusters that are not its best",
        FREESEG + "naming.py",
        "if one_each and len(left):",
        "if False:",
        NAMES,
    ),
    Mutant(
        "a class that may not be found is found",
        FREESEG + "naming.py",
        "np.where(np.array(allowed, bool)[:, None], similar, 0)",
        "similar",
        NAMES,
    ),
    Mutant(
        "CLIP's first phrase speaks for a class",
        FREESEG + "naming.py",
        "torch.stack([part.amax(1) for part",
        "torch.stack([part[:, 0] for part",
        PHRASES,
    ),
    Mutant(
        "all nouns of a caption are heard, however far",
        FREESEG + "naming.py",
        "proposed[nearest <= nearest.mean() + 1e-6]",
        "proposed[nearest >= nearest.mean() - 1e-6]",
        (OF_FREESEG + "test_nouns_that_are_farther_than_the_mean_are_not_heard",),
    ),
    Mutant(
        "DiffSegmenter ignores emphasis",
        "ovseg/methods/diffsegmenter.py",
        "self.emphasis, emphasised, starts=starts)",
        "1.0, emphasised, starts=starts)",
        STEPS,
    ),
    Mutant(
        "the weights of the strides are reversed",
        "ovseg/methods/diffsegmenter.py",
        "in enumerate(self.stride_weights)}",
        "in enumerate(reversed(self.stride_weights))}",
        PUBLISHED,
    ),
    Mutant(
        "the self-attention is applied once more",
        "ovseg/methods/diffsegmenter.py",
        "fused, FINEST, self.refinements)",
        "fused, FINEST, self.refinements + 1)",
        PUBLISHED,
    ),
    Mutant(
        "the first token of a phrase is read in place of the last",
        "ovseg/methods/diffsegmenter.py",
        "spans = [span[-1:] if self.last_token",
        "spans = [span[:1] if self.last_token",
        (OF_METHODS + "test_a_participles_tokens_are_read_beside_the_classs",),
    ),
    Mutant(
        "maps are stretched before they are expanded",
        "ovseg/methods/diffsegmenter.py",
        "maps.normalise(maps.resize(best, scene.image.shape[:2]))",
        "maps.resize(maps.normalise(best), scene.image.shape[:2])",
        PUBLISHED,
    ),
    Mutant(
        "several draws all have the same noise",
        "ovseg/methods/diffsegmenter.py",
        "seed=scene.seed + draw)",
        "seed=scene.seed)",
        (OF_METHODS + "test_draws_average_over_noise",),
    ),
    Mutant(
        "Grounded Diffusion reads another sentence than the picture's",
        "ovseg/methods/grounded_diffusion.py",
        "pair = None if scene.caption else self.uncaptioned",
        "pair = self.uncaptioned",
        GROUNDED,
    ),
    Mutant(
        "Grounded Diffusion ignores its timestep",
        "ovseg/methods/grounded_diffusion.py",
        "pair, method.timestep, scene.seed)",
        "pair, 1, scene.seed)",
        GROUNDED,
    ),
    Mutant(
        "words that shall be alone see each other",
        "ovseg/methods/grounded_diffusion.py",
        'alone, own = method.words == "alone", ',
        "alone, own = False, ",
        GROUNDED,
    ),
    Mutant(
        "the unconditional features come last",
        "ovseg/pretrained/grounding.py",
        'encode_text(["", sentence], ["", ""])',
        'encode_text([sentence, ""], ["", ""])',
        GROUNDED,
    ),
    Mutant(
        "the first phrase of a class is all that Grounded Diffusion looks for",
        "ovseg/methods/grounded_diffusion.py",
        "likely[rows].amax(0)",
        "likely[rows[0]]",
        GROUNDED,
    ),
    Mutant(
        "a prepared method is prepared again for each picture",
        "ovseg/evaluation/benchmark.py",
        "if words not in self._kept:",
        "if True:",
        ("tests/test_evaluation.py::test_a_benchmark_prepares_each_set_of_words_once_and_looks_at_no_evidence",),
    ),
    Mutant(
        "evidence is made with the result",
        "ovseg/types.py",
        "EvidenceOnDemand(evidence), timings",
        "EvidenceOnDemand(lambda made=evidence(): made), timings",
        ON_DEMAND,
    ),
    Mutant(
        "evidence is made at each look",
        "ovseg/types.py",
        "                self._make = None\n",
        "",
        ON_DEMAND,
    ),
    Mutant(
        "evidence is lost on the way to another process",
        "ovseg/types.py",
        "return EvidenceOnDemand._of, (self.get(),)",
        "return EvidenceOnDemand._of, ((),)",
        ON_DEMAND,
    ),
)
