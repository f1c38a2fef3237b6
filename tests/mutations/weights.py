"""Bugs that show with published weights: phrases in real vocabularies, names of weights, half precision, old formats."""

from tests.mutations import Mutant

UNET = "ovseg/backbones/stable_diffusion.py"
RECORDING = "ovseg/backbones/recording.py"
NAMES = "tests/test_weights.py::"
PUBLISHED = "tests/test_published.py::"
DETECTORS = "tests/test_published_detectors.py::"
DOCTOR = "tests/test_doctor.py::"
HALF = "tests/test_half_precision.py::"
PHRASES = "tests/test_phrases.py::"
TEMPLATE = PHRASES + "test_the_template_says_where_the_word_is"


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, old, new, tests)


MUTANTS = (
    mutant(
        "the first occurrence of a word is taken for the template's",
        UNET,
        "starts or [None] * len(prompts)",
        "[None] * len(prompts)",
        TEMPLATE,
    ),
    mutant(
        "DiffSegmenter does not say where the class stands",
        "ovseg/methods/diffsegmenter/method.py",
        "emphasised, starts=starts)",
        "emphasised)",
        PHRASES + "test_methods_and_queries_ask_for_the_words_place",
    ),
    mutant(
        "queries do not say where the word stands",
        "ovseg/backbones/base.py",
        "list(words), starts=starts)",
        "list(words))",
        PHRASES + "test_methods_and_queries_ask_for_the_words_place",
    ),
    mutant(
        "attention is gathered at the first occurrence",
        UNET,
        "[phrase] * len(seeds), starts=[start] * len(seeds))",
        "[phrase] * len(seeds))",
        PHRASES + "test_attention_is_gathered_at_the_words_own_place",
    ),
    mutant("curly apostrophes are three tokens", UNET, "plain = [prompt.translate(QUOTES)", "plain = [prompt", TEMPLATE),
    mutant(
        "long prompts are cut without a word",
        UNET,
        "if (tokens := self._tokens_of(prompt)) > self._room",
        "if (tokens := self._tokens_of(prompt)) > 2 * self._room",
        PHRASES + "test_what_does_not_fit_is_said",
    ),
    mutant(
        "the negative prompt is cut without a word",
        UNET,
        "self._tokens_of(sampling.negative)",
        "self._tokens_of(prompt)",
        PHRASES + "test_what_does_not_fit_is_said",
    ),
    mutant(
        "CLIP's prompts are cut without a word",
        "ovseg/pretrained/clip.py",
        "if not set(row[room - 1 :].tolist()) <= filler",
        "if not set(row[room:].tolist()) <= filler",
        PHRASES + "test_what_does_not_fit_is_said",
        PHRASES + "test_what_open_clips_own_tokenizer_would_cut_is_said",
    ),
    mutant(
        "a unicorn has the article of its spelling",
        "ovseg/words/classes.py",
        "and not CONSONANT_SOUND.match(word)",
        "",
        PHRASES + "test_articles_follow_the_sound",
    ),
    mutant(
        "a continued prompt is repeated where hyphens were taken apart",
        "ovseg/pretrained/captioner.py",
        "for letter in apart if not letter.isspace() and not",
        "for letter in apart if not",
        PHRASES + "test_a_continued_prompt_begins_letter_for_letter_with_it",
    ),
    mutant(
        "weights have the name of their first file",
        "ovseg/backbones/weights.py",
        "return kinds[min(kinds)]",
        "return kinds[min(kinds)][:1]",
        NAMES + "test_of_two_kinds_of_files_full_precision_and_safetensors_count",
    ),
    mutant(
        "halves count before full precision",
        "ovseg/backbones/weights.py",
        "return kinds[min(kinds)]",
        "return kinds[max(kinds)]",
        NAMES + "test_of_two_kinds_of_files_full_precision_and_safetensors_count",
    ),
    mutant(
        "shipped weights have lost their earlier names",
        "ovseg/backbones/weights.py",
        "return EARLIER_NAMES.get(name, name)",
        "return name",
        NAMES + "test_the_shipped_networks_have_the_names_that_kept_files_hold",
    ),
    mutant(
        "a backbone is known by its rounded numbers",
        UNET,
        "if not self.source:",
        "if True:",
        NAMES + "test_the_shipped_module_and_prototypes_serve_every_precision",
    ),
    mutant(
        "a repository is known by its name alone",
        "ovseg/backbones/weights.py",
        'return f"{source}@{revision_of(str(source))[:12]}"',
        'return f"{source}"',
        NAMES + "test_a_repository_is_known_by_its_revision_whichever_files_are_read",
    ),
    mutant(
        "the query is not scaled before the product",
        RECORDING,
        "logits = (q * first) @ k.transpose(1, 2) * (attn.scale / first)",
        "logits = q @ k.transpose(1, 2) * attn.scale",
        HALF + "test_a_product_of_82944_is_a_number_as_in_the_fast_kernel",
    ),
    mutant(
        "the query is scaled twice",
        RECORDING,
        "* (attn.scale / first)",
        "* attn.scale",
        HALF + "test_traced_equals_untraced_at_the_widths_of_stable_diffusion_2",
    ),
    mutant(
        "the upcast flag is ignored",
        RECORDING,
        "if attn.upcast_attention:",
        "if False:",
        HALF + "test_the_flag_of_stable_diffusion_2_makes_products_in_float32",
    ),
    mutant(
        "an overflow becomes an empty mask",
        UNET,
        "self.unet.dtype, *trace.tensors())",
        "self.unet.dtype)",
        HALF + "test_what_overflows_is_said",
    ),
    mutant(
        "a trace's features are not looked at",
        "ovseg/backbones/base.py",
        "for kept in (self.cross, self.phrases, self.queries, self.features):",
        "for kept in (self.cross, self.phrases, self.queries):",
        HALF + "test_what_overflows_is_said",
    ),
    mutant(
        "a black picture is drawn where latents overflow",
        UNET,
        'check_finite("The generated latents", self.unet.dtype, latents)',
        "",
        HALF + "test_what_overflows_is_said",
    ),
    mutant(
        "the codec is in half precision",
        UNET,
        '"vae": torch.promote_types(dtype, torch.float32)',
        '"vae": dtype',
        HALF + "test_the_codec_is_in_float32_where_its_configuration_forces_it",
    ),
    mutant(
        "the codec's flag is ignored",
        UNET,
        "if not pipeline.vae.config.force_upcast:",
        "if False:",
        HALF + "test_the_codec_is_in_float32_where_its_configuration_forces_it",
    ),
    mutant(
        "a folder with halves alone cannot be read",
        UNET,
        'return "fp16" if all(',
        'return "fp16" if not all(',
        HALF + "test_a_folder_with_halves_alone_is_read_in_every_precision",
    ),
    mutant(
        "random tensors fill up what a file lacks",
        "ovseg/backbones/weights.py",
        "    if lacking:",
        "    if False:",
        DETECTORS + "test_weights_that_are_not_whole_are_refused",
    ),
    mutant(
        "a pickle is read without a word",
        "ovseg/backbones/weights.py",
        'if weight_files(folder)[0].suffix == ".bin"',
        'if weight_files(folder)[0].suffix == ".pkl"',
        PUBLISHED + "test_blip_base_has_a_pickle_which_is_read_as_numbers_alone",
    ),
    mutant(
        "a captioner must have safetensors",
        "ovseg/pretrained/captioner.py",
        "dtype=dtype, weights_only=True,",
        "dtype=dtype, use_safetensors=True,",
        PUBLISHED + "test_blip_base_has_a_pickle_which_is_read_as_numbers_alone",
    ),
    mutant(
        "a pickle may run code",
        "ovseg/pretrained/captioner.py",
        "dtype=dtype, weights_only=True,",
        "dtype=dtype, weights_only=False,",
        PUBLISHED + "test_a_pickle_that_would_run_code_is_refused",
    ),
    mutant(
        "the first label is lost",
        "ovseg/pretrained/detector.py",
        "if label == BACKGROUND:",
        "if number == 0:",
        DETECTORS + "test_the_first_label_is_a_class_unless_it_is_the_background",
    ),
    mutant(
        "every segmenter reads pictures from -1 to 1",
        "ovseg/pretrained/detector.py",
        "        if self._processor:",
        "        if False:",
        DETECTORS + "test_a_segmenter_in_its_repositorys_format",
    ),
    mutant(
        "OneFormer is not known",
        "ovseg/pretrained/detector.py",
        """        "oneformer": PromptedDetector,
""",
        "",
        DETECTORS + "test_instances_are_those_of_the_masks_with_a_class",
    ),
    mutant(
        "OneFormer's label for nothing is a class",
        "ovseg/pretrained/detector.py",
        "softmax(-1)[:, :-1].max(-1)",
        "softmax(-1).max(-1)",
        DETECTORS + "test_instances_are_those_of_the_masks_with_a_class",
    ),
    mutant(
        "CutLER's own settings are unknown",
        "ovseg/pretrained/proposals.py",
        "        cutler.add_cutler_config(config)\n",
        "",
        DETECTORS + "test_cutler_is_built_by_its_own_registry",
    ),
    mutant(
        "CutLER sees blue for red",
        "ovseg/pretrained/proposals.py",
        "pixels = image if self._is_rgb else image[:, :, ::-1]",
        "pixels = image[:, :, ::-1] if self._is_rgb else image",
        DETECTORS + "test_cutler_is_built_by_its_own_registry",
    ),
    mutant(
        "the doctor passes numbers that are none",
        "ovseg/doctor/checks.py",
        "if not np.isfinite(result.scores).all():",
        "if np.isinf(result.scores).any():",
        DOCTOR + "test_numbers_that_are_none_and_empty_masks_are_problems",
    ),
    mutant(
        "the doctor passes empty masks",
        "ovseg/doctor/checks.py",
        "if not (result.label_map > 0).any():",
        "if not (result.label_map >= 0).any():",
        DOCTOR + "test_numbers_that_are_none_and_empty_masks_are_problems",
    ),
    mutant(
        "a failed check is no failure of the command",
        "ovseg/commands/doctor.py",
        "    if failed:",
        "    if False:",
        DOCTOR + "test_a_failed_check_is_the_commands_failure",
    ),
)
