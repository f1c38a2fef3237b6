"""Bugs in the backbone, in the networks beside it, and in `Models`."""

from tests.mutations import Mutant

UNET = "ovseg/backbones/stable_diffusion.py"
PHRASES = "ovseg/backbones/phrases.py"
RECORDING = "ovseg/backbones/recording.py"
BASE, COUNTING = "ovseg/backbones/base.py", "ovseg/backbones/counting.py"
GROUNDING = "ovseg/pretrained/grounding.py"
CLIP = "ovseg/pretrained/clip.py"
MODELS = "ovseg/models.py"
OWN_MAPS = "tests/test_backbone.py::test_maps_are_diffusers_own_probabilities_on_diffusers_own_noised_latent"
OWN_PICTURE = "tests/test_backbone.py::test_a_picture_is_the_one_that_plain_diffusers_draws"
OWN_VECTORS = "tests/test_clip.py::test_vectors_are_open_clips_with_length_1"
COUNTS = "tests/test_backbone.py::test_passes_are_counted_for_each_visitor_alone"
PUBLISHED = "tests/test_grounding.py::test_the_published_code_gives_the_same_logits"


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, old, new, tests)


MUTANTS = (
    mutant(
        "emphasis is ignored",
        UNET,
        "empty[at] + emphasis * (embeddings",
        "empty[at] + 1.0 * (embeddings",
        "tests/test_backbone.py::test_emphasis_moves_the_phrase_away_from_the_empty_prompt",
    ),
    mutant(
        "the whole phrase is emphasised",
        UNET,
        "if emphasised is not None and phrases[row]:",
        "if False:",
        "tests/test_backbone.py::test_emphasis_moves_the_phrase_away_from_the_empty_prompt",
    ),
    mutant(
        "token columns are off by one",
        PHRASES,
        "tuple(k for k, (left, right)",
        "tuple(k + 1 for k, (left, right)",
        "tests/test_backbone.py::test_token_columns_come_from_character_offsets",
    ),
    mutant(
        "a phrase is looked for inside words",
        PHRASES,
        'rf"(?<!\\w){re.escape(phrase)}(?!\\w)"',
        "re.escape(phrase)",
        "tests/test_backbone.py::test_a_phrase_is_a_whole_word",
    ),
    mutant(
        "the noise's seed is ignored",
        UNET,
        "generator=generator(seed)).to(latent)",
        "generator=generator(0)).to(latent)",
        OWN_MAPS,
    ),
    mutant(
        "the timestep's noise is too weak", UNET, "+ (1 - alphas[timestep]).sqrt()", "+ (1 - alphas[timestep])", OWN_MAPS
    ),
    mutant(
        "any timestep is taken",
        UNET,
        "if not 0 <= timestep < len(alphas):",
        "if timestep < -len(alphas):",
        "tests/test_backbone.py::test_a_timestep_outside_the_schedule_is_refused",
    ),
    mutant(
        "latents are not scaled",
        UNET,
        "(latent * self.vae.config.scaling_factor)",
        "(latent)",
        "tests/test_backbone.py::test_latents_are_scaled_as_diffusers_scales_them",
    ),
    mutant(
        "the posterior's sample has no seed of its own",
        UNET,
        "posterior.sample(generator(sample_seed))",
        "posterior.sample(generator(0))",
        "tests/test_backbone.py::test_latents_are_scaled_as_diffusers_scales_them",
    ),
    mutant("decoding forgets the scale", UNET, "latent / self.vae.config.scaling_factor", "latent", OWN_PICTURE),
    mutant("guidance is ignored", UNET, "guidance_scale=sampling.guidance,", "guidance_scale=7.5,", OWN_PICTURE),
    mutant(
        "the negative prompt is ignored", UNET, "negative_prompt=[sampling.negative]", 'negative_prompt=[""]', OWN_PICTURE
    ),
    mutant(
        "every picture has the first seed",
        UNET,
        "generator=[generator(seed) for seed in seeds]",
        "generator=[generator(seeds[0]) for seed in seeds]",
        "tests/test_backbone.py::test_generation_is_seeded_and_can_be_stopped",
    ),
    mutant(
        "height and width are swapped",
        UNET,
        "edge * math.sqrt(aspect), edge / math.sqrt(aspect)",
        "edge / math.sqrt(aspect), edge * math.sqrt(aspect)",
        "tests/test_backbone.py::test_working_size_keeps_the_aspect_on_the_coarsest_grid",
    ),
    mutant(
        "memory of the maps is not counted",
        UNET,
        "budget // (maps + activations)",
        "budget // activations",
        "tests/test_backbone.py::test_a_picture_takes_more_memory_where_self_attention_is_kept",
    ),
    mutant(
        "keys are made where queries belong",
        RECORDING,
        "(self.attn.to_q(self.places), self.attn.to_k(context))",
        "(self.attn.to_k(context), self.attn.to_q(self.places))",
        OWN_MAPS,
    ),
    mutant(
        "queries and keys have another scale",
        RECORDING,
        "AttentionStates(query * self.attn.scale, key)",
        "AttentionStates(query, key)",
        OWN_MAPS,
    ),
    mutant(
        "attention to phrases is that of the first rows",
        RECORDING,
        "phrase_maps(maps[-len(self.spans) :], self.spans)",
        "phrase_maps(maps, self.spans[:1] * len(maps))",
        "tests/test_backbone.py::test_recorded_maps_have_their_grids_and_sum_to_one",
    ),
    mutant(
        "every row has noise of its own",
        UNET,
        "torch.randn(latent[:1].shape,",
        "torch.randn(latent.shape,",
        "tests/test_backbone.py::test_latents_of_their_own_for_each_row_are_as_one_at_a_time",
    ),
    mutant(
        "attention is that of the last head",
        RECORDING,
        "mean = mean + probabilities.to(torch.promote_types(probabilities.dtype, torch.float32)) / attn.heads",
        "mean = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))",
        OWN_MAPS,
    ),
    mutant(
        "attribution is that of the unconditional rows",
        RECORDING,
        "probabilities[-self.pictures :, :, self.columns]",
        "probabilities[: self.pictures, :, self.columns]",
        "tests/test_backbone.py::test_attribution_is_the_mean_attention_of_the_phrase_on_conditional_rows",
    ),
    mutant(
        "processors stay after the block",
        RECORDING,
        "        unet.set_attn_processor(dict(before))",
        "        pass",
        "tests/test_backbone.py::test_processors_and_hooks_are_as_before_after_an_exception",
    ),
    mutant(
        "hooks stay after the block",
        RECORDING,
        "            hook.remove()",
        "            pass",
        "tests/test_backbone.py::test_processors_and_hooks_are_as_before_after_an_exception",
    ),
    mutant("passes are counted as rows", RECORDING, "count_pass(len(inputs[0]))", "count_pass(1)", COUNTS),
    mutant(
        "a count hides its passes from the one around it",
        COUNTING,
        "_COUNTS.set((*_COUNTS.get(), count))",
        "_COUNTS.set((count,))",
        COUNTS,
    ),
    mutant("a count goes on after its block", COUNTING, "        _COUNTS.reset(token)", "        pass", COUNTS),
    mutant(
        "visitors count each other's passes",
        COUNTING,
        '_COUNTS: ContextVar[tuple[PassCount, ...]] = ContextVar("counts", default=())',
        """class Shared:
    value = ()

    def get(self):
        return self.value

    def set(self, value):
        before, self.value = self.value, value
        return before

    def reset(self, before):
        self.value = before


_COUNTS = Shared()""",
        COUNTS,
    ),
    mutant(
        "strides are those of the mirrored block",
        "ovseg/backbones/unet_layout.py",
        '"up_blocks": lambda: depth - 1 - int(number)',
        '"up_blocks": lambda: int(number)',
        "tests/test_backbone.py::test_the_sites_of_stable_diffusion_have_the_strides_of_their_blocks",
    ),
    mutant(
        "the middle comes last",
        "ovseg/backbones/unet_layout.py",
        '("down_blocks", "mid_block", "up_blocks")  #',
        '("down_blocks", "up_blocks", "mid_block")  #',
        "tests/test_backbone.py::test_sites_come_in_the_order_of_computing",
    ),
    mutant(
        "the last block is left out",
        "ovseg/backbones/unet_layout.py",
        "(power, path) for path in (paths[:-1] if block.upsamplers else paths)",
        "(power, path) for path in paths[:-1]",
        "tests/test_backbone.py::test_the_blocks_of_stable_diffusion_are_those_of_its_first_code",
    ),
    mutant(
        "an upsampler counts at the grid that it reads",
        "ovseg/backbones/unet_layout.py",
        '(power - 1, f"up_blocks.{i}.upsamplers.0")',
        '(power, f"up_blocks.{i}.upsamplers.0")',
        "tests/test_backbone.py::test_features_are_the_blocks_outputs_in_the_order_of_computing",
    ),
    mutant(
        "grids are rounded down",
        BASE,
        "-(-latent_hw[0] // stride)",
        "latent_hw[0] // stride",
        "tests/test_backbone.py::test_recorded_maps_have_their_grids_and_sum_to_one",
    ),
    mutant(
        "a word is the mean of its whole sentence",
        BASE,
        "row[list(span)].mean(0)",
        "row.mean(0)",
        "tests/test_backbone.py::test_a_word_in_a_sentence_is_the_mean_of_its_own_tokens",
    ),
    mutant(
        "parts of a text have the first rows' columns",
        BASE,
        "spans=self.spans[rows])",
        "spans=self.spans)",
        "tests/test_backbone.py::test_text_is_cut_into_parts_with_their_own_spans",
    ),
    mutant(
        "weights of one shape have one name",
        "ovseg/backbones/weights.py",
        "{float(tensor.double().abs().sum()):.3g}",
        "",
        "tests/test_backbone.py::test_weights_have_a_name_that_follows_them",
    ),
    mutant(
        "a row's own way of loading is ignored",
        "ovseg/backbones/__init__.py",
        "return checkpoint.load(checkpoint.source, name, device, dtype)",
        "return load_stable_diffusion(checkpoint.source, name, device, dtype)",
        "tests/test_other_backbones.py::test_it_keeps_to_the_protocol",
    ),
    mutant(
        "no guidance is taken for none given",
        "ovseg/backbones/__init__.py",
        "self.guidance if guidance is None else guidance",
        "guidance or self.guidance",
        "tests/test_models.py::test_sampling_is_the_checkpoints_unless_given",
    ),
    mutant(
        "a block's shortcut starts before its norm",
        GROUNDING,
        "return start + self.convolutions[1]",
        "return features + self.convolutions[1]",
        PUBLISHED,
    ),
    mutant(
        "words attend to the picture before each other's norm",
        GROUNDING,
        "self.at_picture(self.norms[1](words), picture",
        "self.at_picture(self.norms[0](words), picture",
        PUBLISHED,
    ),
    mutant(
        "the finest features are fused first",
        GROUNDING,
        "torch.cat([fused, reduced], 1)",
        "torch.cat([reduced, fused], 1)",
        PUBLISHED,
    ),
    mutant(
        "words see each other although they are asked for alone",
        GROUNDING,
        "if self.independent or apart else None",
        "if apart else None",
        "tests/test_grounding.py::test_independent_words_do_not_see_each_other",
    ),
    mutant(
        "features with and without the sentence are swapped",
        GROUNDING,
        'encode_text(["", sentence], ["", ""])',
        'encode_text([sentence, ""], ["", ""])',
        "tests/test_grounding.py::test_features_are_those_without_the_sentence_and_then_those_with_it",
    ),
    mutant(
        "a module of another backbone is taken",
        MODELS,
        '["backbone"] != self.backbone.fingerprint',
        '["backbone"] == ""',
        "tests/test_other_backbones.py::test_a_grounding_module_of_another_network_is_refused",
    ),
    mutant(
        "half precision on the CPU",
        MODELS,
        'default = "float32" if',
        'default = "float16" if',
        "tests/test_models.py::test_precision_is_that_of_the_processor_unless_given",
    ),
    mutant(
        "another process loads in the usual precision",
        MODELS,
        "(self.name, str(self.device), self.dtype_name)",
        "(self.name, str(self.device))",
        "tests/test_models.py::test_precision_is_that_of_the_processor_unless_given",
    ),
    mutant(
        "folders of variables are ignored",
        "ovseg/assets.py",
        "Path(variable(name_of_variable) or cache",
        "Path(cache",
        "tests/test_models.py::test_folders_are_where_the_variables_say",
    ),
    mutant(
        "vectors of pictures have any length",
        CLIP,
        """self.dtype, vectors)
        return torch.nn.functional.normalize(vectors, dim=-1)

    @torch.inference_mode()
    def text""",
        """self.dtype, vectors)
        return vectors

    @torch.inference_mode()
    def text""",
        OWN_VECTORS,
    ),
    mutant(
        "vectors of words have any length",
        CLIP,
        """self.dtype, vectors)
        return torch.nn.functional.normalize(vectors, dim=-1)

    def subset""",
        """self.dtype, vectors)
        return vectors

    def subset""",
        OWN_VECTORS,
    ),
    mutant(
        "CLIP's scale is forgotten",
        CLIP,
        "(self.scale * self.image_embeddings(images)",
        "(self.image_embeddings(images)",
        OWN_VECTORS,
    ),
    mutant(
        "a mean of templates has any length",
        CLIP,
        "torch.nn.functional.normalize(rows.mean(1), dim=-1)",
        "rows.mean(1)",
        "tests/test_clip.py::test_a_name_is_the_mean_of_its_templates_with_length_1",
    ),
    mutant(
        "CLIP's keys are its queries",
        CLIP,
        '{"keys": 1, "values": 2}',
        '{"keys": 0, "values": 2}',
        "tests/test_clip.py::test_keys_are_those_of_a_layers_attention_at_each_patch",
    ),
    mutant(
        "a tree's tokens stand in the wrong place",
        "ovseg/pretrained/prefixes.py",
        "tower.positional_embedding[depth]",
        "tower.positional_embedding[max(depth - 1, 0)]",
        "tests/test_prefixes.py::test_subsets_are_what_plain_encoding_gives",
    ),
    mutant(
        "a tree's branches share their tokens",
        "ovseg/pretrained/prefixes.py",
        "back = torch.tensor([parents[node[:-1]] for",
        "back = torch.tensor([0 * parents[node[:-1]] for",
        "tests/test_prefixes.py::test_subsets_are_what_plain_encoding_gives",
    ),
    mutant(
        "DINO's keys are its queries",
        "ovseg/pretrained/dino.py",
        "attention.k_proj",
        "attention.q_proj",
        "tests/test_dino.py::test_keys_are_those_of_the_last_layer_on_any_shape",
    ),
    mutant(
        "DINO's class token is taken for a patch",
        "ovseg/pretrained/dino.py",
        "keys[0][:, 1:]",
        "keys[0][:, :-1]",
        "tests/test_dino.py::test_keys_are_those_of_the_last_layer_on_any_shape",
    ),
    mutant(
        "the captioner does not read the prefix",
        "ovseg/pretrained/captioner.py",
        "text=prefix",
        'text=""',
        "tests/test_captioner.py::test_what_the_captioner_says_depends_on_the_picture_and_on_the_prefix",
    ),
    mutant(
        "LAVIS of other requirements is taken",
        "ovseg/pretrained/lavis.py",
        "return ready.is_file() and ready.read_text() == REQUIREMENTS.read_text()",
        "return ready.is_file()",
        "tests/test_models.py::test_lavis_of_other_requirements_counts_as_missing",
    ),
    mutant(
        "a method names a module of the network",
        "ovseg/methods/freeseg_diff/regions.py",
        's.kind == "cross"',
        's.name.endswith("attn2")',
        "tests/test_layers.py::test_only_backbones_name_the_parts_of_a_network",
    ),
)
