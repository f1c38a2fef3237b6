"""Bugs in looking inside: what is gathered, what it takes, its files, its command, its tab."""

from tests.mutations import Mutant

VALUE, PLAN, GATHER = (f"ovseg/attention/{name}.py" for name in ("value", "plan", "gathering"))
TESTS, FILES, TAB = (f"tests/test_{name}.py::" for name in ("attention", "attention_files", "inside"))
TRACED = f"{TESTS}test_a_tokens_map_at_a_layer_and_level_is_what_trace_gives"
PLACE = f"{TESTS}test_a_place_attends_to_what_the_whole_self_attention_says"
DRAWN = f"{TESTS}test_every_step_of_a_drawing_is_a_trace_of_that_step"
MEMORY = f"{TESTS}test_what_it_takes_in_memory_is_known_before"

MUTANTS = (
    Mutant(
        "maps lie on their side",
        GATHER,
        "by_token(maps[0].permute(2, 0, 1), self.columns)",
        "by_token(maps[0].permute(2, 1, 0), self.columns)",
        (TRACED,),
    ),
    Mutant(
        "padding is averaged, not added up",
        GATHER,
        "torch.tensor(own, device=probabilities.device)).sum(axis)",
        "torch.tensor(own, device=probabilities.device)).mean(axis)",
        (TRACED,),
    ),
    Mutant(
        "every level has the noise of the first",
        GATHER,
        "backbone.noised(scene.latent, timestep, scene.seed) for timestep in plan.timesteps",
        "backbone.noised(scene.latent, plan.timesteps[0], scene.seed) for timestep in plan.timesteps",
        (TRACED,),
    ),
    Mutant(
        "the seed of the noise is ignored",
        GATHER,
        "backbone.noised(scene.latent, timestep, scene.seed)",
        "backbone.noised(scene.latent, timestep, 0)",
        (TRACED,),
    ),
    Mutant(
        "a clicked place has x and y swapped",
        VALUE,
        "min(int(y * rows), rows - 1) * columns + min(int(x * columns), columns - 1)",
        "min(int(x * rows), rows - 1) * columns + min(int(y * columns), columns - 1)",
        (PLACE,),
    ),
    Mutant(
        "a place attends to what the first head alone says",
        VALUE,
        "self.layer_rows(site, level, x, y).mean(0) for level",
        "self.layer_rows(site, level, x, y)[0] for level",
        (PLACE,),
    ),
    Mutant(
        "queries keep no scale",
        "ovseg/backbones/recording.py",
        "return AttentionStates(query * self.attn.scale, key)",
        "return AttentionStates(query, key)",
        (PLACE,),
    ),
    Mutant(
        "self-attention of a level is that of the first one kept",
        VALUE,
        "self.states[site].row(self.kept.index(level), place)",
        "self.states[site].row(0, place)",
        (PLACE,),
    ),
    Mutant(
        "a drawing is watched on its unconditional rows",
        "ovseg/backbones/recording.py",
        "part.cross = {site: maps[-count:] for site, maps in self.cross.items()}",
        "part.cross = {site: maps[:count] for site, maps in self.cross.items()}",
        (DRAWN,),
    ),
    Mutant(
        "a drawing's steps pile up",
        "ovseg/backbones/recording.py",
        "            recorder.clear()\n",
        "",
        ("tests/test_backbone.py::test_a_watched_generation_hands_over_a_trace_of_every_pass",),
    ),
    Mutant(
        "keys are forgotten in the memory",
        PLAN,
        "for site in selves) * 2 * HALF",
        "for site in selves) * HALF",
        (MEMORY,),
    ),
    Mutant(
        "what the network was given is forgotten in the memory",
        PLAN,
        "len(timesteps) * (cross + math.prod(shape) * SINGLE)",
        "len(timesteps) * cross",
        (MEMORY,),
    ),
    Mutant(
        "too much memory is seen when it is too late",
        GATHER,
        "    plan.check(request.most_bytes)\n    text =",
        "    text =",
        (f"{TESTS}test_too_much_memory_is_refused_before_the_network_runs",),
    ),
    Mutant(
        "weights are not divided by their sum",
        VALUE,
        "self.latent_hw)[0] / total).numpy()",
        "self.latent_hw)[0]).numpy()",
        (f"{TESTS}test_fusing_weighs_the_resolutions",),
    ),
    Mutant(
        "the chosen levels are ignored",
        VALUE,
        "of_layers[site.stride].append(maps[chosen, token]",
        "of_layers[site.stride].append(maps[:, token]",
        (f"{TESTS}test_fusing_weighs_the_resolutions",),
    ),
    Mutant(
        "heads apart are those of another level",
        GATHER,
        "torch.from_numpy(attention.noised[level : level + 1])",
        "torch.from_numpy(attention.noised[:1])",
        (f"{TESTS}test_heads_apart_are_those_whose_mean_was_kept",),
    ),
    Mutant(
        "a file's map is that of the next token",
        "ovseg/output/attention_files.py",
        "over = view.heat_overlay(attention.image, attention.fused(token, weights))",
        "over = view.heat_overlay(attention.image, attention.fused((token + 1) % len(attention.tokens), weights))",
        (f"{FILES}test_every_token_has_a_map_over_the_picture",),
    ),
    Mutant(
        "the command ignores its seed",
        "ovseg/commands/attention.py",
        "scene = from_image(models, image, options.seed)",
        "scene = from_image(models, image)",
        (f"{FILES}test_the_command_looks_into_a_picture",),
    ),
    Mutant(
        "the browser gets maps in steps of another height",
        "ovseg/demo/inside.py",
        "steps = np.round(values / (high or 1.0) * STEPS)",
        "steps = np.round(values * STEPS)",
        (f"{TAB}test_the_browser_gets_every_map_of_a_token",),
    ),
    Mutant(
        "files have the first weights, whatever the sliders say",
        "ovseg/demo/inside_tab.py",
        "zip_of_attention(replace(looked.inside, weights=weights or looked.inside.weights))",
        "zip_of_attention(looked.inside)",
        (f"{TAB}test_looking_at_what_was_gathered_runs_no_pass",),
    ),
    Mutant(
        "a level without self-attention shows the mean",
        "ovseg/demo/inside.py",
        "near = None if level is None else attention.kept_near(level)",
        "near = level if level in attention.kept else None",
        (f"{TAB}test_a_place_is_x_from_the_left_and_y_from_the_top",),
    ),
    Mutant(
        "the browser stretches the fused map before it is resized",
        "ovseg/demo/static/inside-maps.js",
        "const own = stretched(resized(map, size, grid));",
        "const own = resized(stretched(map), size, grid);",
        (f"{TAB}test_a_tokens_map_lies_on_its_thing_and_follows_the_sliders",),
    ),
    Mutant(
        "a click in the browser has x and y swapped",
        "ovseg/demo/static/inside.js",
        "index: [(place.x + 0.5) / run.width, (place.y + 0.5) / run.height]",
        "index: [(place.y + 0.5) / run.height, (place.x + 0.5) / run.width]",
        (f"{TAB}test_a_click_shows_what_the_place_attends_to",),
    ),
)
