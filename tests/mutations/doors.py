"""Bugs in what programs call, in what ZeroGPU needs, and in the check of a Space."""

from tests.mutations import Mutant

DOORS, ZERO, SPACE = "tests/test_doors.py::", "tests/test_zero_gpu.py::", "tests/test_space_check.py::"
ROUND_TRIP = f"{DOORS}test_masks_are_the_same_from_the_zip_the_api_and_the_command_line"
BAD_INPUT = f"{DOORS}test_bad_input_is_one_sentence"

MUTANTS = (
    Mutant(
        "the dataset event is a fifth door",
        "ovseg/demo/dataset_tab.py",
        'api_visibility="private",\n        **on_the_network(status),\n    )  # fmt: skip\n    stop',
        'api_visibility="public",\n        **on_the_network(status),\n    )  # fmt: skip\n    stop',
        (f"{DOORS}test_exactly_four_doors_are_listed",),
    ),
    Mutant(
        "programs do not stand in the line of the page",
        "ovseg/demo/doors.py",
        "gr.api(door, api_name=door.__name__, **NETWORK)",
        "gr.api(door, api_name=door.__name__)",
        (f"{DOORS}test_the_doors_stand_in_the_same_line_as_the_page",),
    ),
    Mutant(
        "descriptions stand with the wrong values",
        "ovseg/demo/doors.py",
        "            block.label = name\n",
        "            block.label = door.__name__\n",
        (f"{DOORS}test_every_value_has_a_name_a_type_and_a_description",),
    ),
    Mutant(
        "masks of an answer carry the name of the label before",
        "ovseg/doors/answers.py",
        "Mask(label=segmentation.labels[index],",
        "Mask(label=segmentation.labels[index - 1],",
        (ROUND_TRIP,),
    ),
    Mutant(
        "an answer's score is that of the whole picture",
        "ovseg/doors/answers.py",
        "segmentation.scores[index][label_map == index].mean(dtype=np.float64)",
        "segmentation.scores[index].mean(dtype=np.float64)",
        (f"{DOORS}test_an_answer_says_what_a_result_holds",),
    ),
    Mutant(
        "the seed of a program is ignored",
        "ovseg/doors/requests.py",
        "return from_image(models, self.image, self.seed, caption=caption)",
        "return from_image(models, self.image, 0, caption=caption)",
        (ROUND_TRIP,),
    ),
    Mutant(
        "the caption of a program is ignored",
        "ovseg/doors/requests.py",
        "return from_image(models, self.image, self.seed, caption=caption)",
        "return from_image(models, self.image, self.seed)",
        (f"{DOORS}test_an_answer_says_what_a_result_holds",),
    ),
    Mutant(
        "pictures are never shrunk",
        "ovseg/doors/inputs.py",
        "return shrunk(decode_image(content, name), limit)",
        "return decode_image(content, name)",
        (f"{DOORS}test_only_present_leaves_classes_out_and_pictures_are_shrunk_as_asked",),
    ),
    Mutant(
        "true counts as the number 1",
        "ovseg/doors/inputs.py",
        "    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)\n"
        "    if not is_number or value != int(value)",
        "    is_number = isinstance(value, (int, float)) and math.isfinite(value)\n"
        "    if not is_number or value != int(value)",
        (BAD_INPUT,),
    ),
    Mutant(
        "a module may be any folder of the server",
        "ovseg/doors/inputs.py",
        'if method.name == name and any(mark in getattr(method, field) for mark in "/\\\\~"):',
        "if False:",
        (BAD_INPUT,),
    ),
    Mutant(
        "any file of the server may be read",
        "ovseg/demo/doors.py",
        "if path is None or not path.is_relative_to(folder) or not path.is_file():",
        "if path is None or not path.is_file():",
        (f"{DOORS}test_a_file_outside_the_uploads_is_refused",),
    ),
    Mutant(
        "sentences name folders of the server",
        "ovseg/demo/work.py",
        "raise gr.Error(without_paths(str(error)), print_exception=False) from error",
        "raise gr.Error(str(error), print_exception=False) from error",
        (BAD_INPUT,),
    ),
    Mutant(
        "what Gradio cannot take in is an error without words",
        "ovseg/demo/doors.py",
        "        except Exception as error:",
        "        except ZeroDivisionError as error:",
        (BAD_INPUT,),
    ),
    Mutant(
        "values that are left out are missing",
        "ovseg/demo/doors.py",
        "given = [*inputs, *(item.default for item in left_out)]",
        "given = inputs",
        (f"{DOORS}test_values_that_are_left_out_have_their_defaults",),
    ),
    Mutant(
        "MCP clients read Python's notation",
        "ovseg/demo/mcp_content.py",
        "json.dumps(output, ensure_ascii=False)",
        "str(output)",
        (f"{DOORS}test_an_mcp_client_sees_the_four_and_calls_them",),
    ),
    Mutant(
        "a damaged file ends in a traceback",
        "ovseg/scene.py",
        "BROKEN = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error,"
        " Image.DecompressionBombError)",
        "BROKEN = (EOFError,)",
        (f"{DOORS}test_damaged_files_are_pictures_or_one_sentence",),
    ),
    Mutant(
        "a Space loads nothing before it serves",
        "ovseg/demo/build.py",
        "        load_everything(models)\n",
        "        pass\n",
        (f"{ZERO}test_a_space_loads_before_it_serves",),
    ),
    Mutant(
        "CLIP is not loaded before the fork",
        "ovseg/demo/preload.py",
        'networks = {"clip": lambda: models.clip.fingerprint, "dino"',
        'networks = {"dino"',
        (f"{ZERO}test_which_are_there",),
    ),
    Mutant(
        "the grounding module is not loaded before the fork",
        "ovseg/demo/preload.py",
        ', "grounding": lambda: models.grounding(_module(models))',
        "",
        (f"{ZERO}test_run",),
    ),
    Mutant(
        "a data set's networks are pickled, and so loaded again in the fork",
        "ovseg/demo/dataset_tab.py",
        "asked.classes, asked.count, asked.pairs, asked.seed)",
        "asked.classes, asked.count, asked.pairs, asked.seed)\n            task = __import__('copy').deepcopy(task)",
        (f"{ZERO}test_make_a_data_set",),
    ),
    Mutant(
        "the time on the accelerator is always the same",
        "ovseg/demo/workload.py",
        "    return math.ceil(START_SECONDS + MARGIN * expected)",
        "    return 60",
        (f"{ZERO}test_more_work_asks_for_more_time",),
    ),
    Mutant(
        "what OVDiff must draw first is not counted",
        "ovseg/demo/workload.py",
        "return len(missing) * method.images * (2 * method.steps + reads) + reads",
        "return int(reads)",
        (f"{ZERO}test_rows_are_counted_beforehand",),
    ),
    Mutant(
        "what a fork learned is lost",
        "ovseg/demo/running.py",
        "            durations.learn(made.method, made.seconds)\n",
        "            pass\n",
        (f"{ZERO}test_what_runs_in_the_fork_is_learned_in_the_parent",),
    ),
    Mutant(
        "bad input is seen on the accelerator only",
        "ovseg/demo/word_panel.py",
        '            parse_classes(words or "")\n',
        "            pass\n",
        (f"{ZERO}test_bad_input_is_refused_before_the_accelerator_is_asked_for",),
    ),
    Mutant(
        "the check of a Space takes files that git does not know",
        "ovseg/commands/space_check.py",
        "if listed.returncode == 0 and listed.stdout:",
        "if False:",
        (f"{SPACE}test_only_what_git_knows_comes_along",),
    ),
    Mutant(
        "the check of a Space does not compare gradio's versions",
        "ovseg/commands/space_check.py",
        "    if asked != pinned:",
        "    if not pinned:",
        (f"{SPACE}test_what_is_wrong_is_said",),
    ),
    Mutant(
        "the check of a Space ends well whatever is missing",
        "ovseg/commands/space_check.py",
        "return int(bool(problems))",
        "return 0",
        (f"{SPACE}test_what_is_wrong_is_said",),
    ),
    Mutant(
        "the check of a Space does not see a page that ends",
        "ovseg/commands/space_check.py",
        "        if page.poll() is not None:\n",
        "        if page.poll() == 0:\n",
        (f"{SPACE}test_a_page_that_does_not_start_says_why",),
    ),
)
