"""Bugs in folders of pictures, in merged COCO files, in the names of weights, and in the Results tab."""

from tests.mutations import Mutant

FOLDER, COCO, CARD = (f"ovseg/output/{name}.py" for name in ("folder", "coco", "run_card"))
RESULTS, PAPERS, COMMAND = (f"ovseg/evaluation/{name}.py" for name in ("results", "papers", "command_line"))
TAB, CSS = "ovseg/demo/results_tab.py", "ovseg/demo/static/results.css"
RUNS, SHOWS, WRITES = "tests/test_folder.py::", "tests/test_results.py::", "tests/test_output_files.py::"

MUTANTS = (
    Mutant(
        "what is done is done again", FOLDER,
        "{name: kept for name in names if (kept := self._kept(name))}", "{}",
        (RUNS + "test_a_stopped_run_goes_on_where_it_was",),
    ),
    Mutant(
        "a picture that has changed counts as done", FOLDER,
        'if record["checksum"] == self._checksum(name) else None', "if record else None",
        (RUNS + "test_a_stopped_run_goes_on_where_it_was",),
    ),
    Mutant(
        "a run goes on with other weights", FOLDER,
        '"weights": weights_of(self.models, self.method, captioner),', "",
        (RUNS + "test_another_setting_or_other_weights_are_refused",),
    ),
    Mutant(
        "pictures of one stem write over each other", FOLDER,
        '"pictures" / name / "record.json"', '"pictures" / Path(name).stem / "record.json"',
        (RUNS + "test_every_picture_has_the_files_of_a_single_one",),
    ),
    Mutant(
        "a damaged picture ends the run", FOLDER,
        "            return Outcome(None, str(error))\n", "            raise error\n",
        (RUNS + "test_damaged_pictures_are_named_and_skipped",),
    ),
    Mutant(
        "wrong settings are a reason to skip every picture", FOLDER,
        "            prepare(self.classes)  # here", "            pass  # here",
        (RUNS + "test_folders_that_cannot_be_used_are_refused_in_a_sentence",),
    ),
    Mutant(
        "the exit code hides skipped pictures", "ovseg/commands/segment.py",
        "return SOME_WERE_SKIPPED if skipped else 0", "return 0",
        (RUNS + "test_damaged_pictures_are_named_and_skipped",),
    ),
    Mutant(
        "exit codes of commands are lost", "ovseg/__main__.py",
        "return options.run(options) or 0", "return options.run(options) and 0",
        (RUNS + "test_damaged_pictures_are_named_and_skipped",),
    ),
    Mutant(
        "pictures are in no order", FOLDER,
        "dict(sorted(outcomes.items()))", "dict(sorted(outcomes.items(), reverse=True))",
        (RUNS + "test_pycocotools_finds_the_masks_of_the_files",),
    ),
    Mutant(
        "hidden files count", FOLDER,
        ' if not any(part.startswith(".") for part in path.parts))', ")",
        (RUNS + "test_every_picture_has_the_files_of_a_single_one",),
    ),
    Mutant(
        "a run segments its own files", FOLDER,
        " if out not in path.resolve().parents]", "]",
        (RUNS + "test_folders_that_cannot_be_used_are_refused_in_a_sentence",),
    ),
    Mutant(
        "a folder drops --caption", "ovseg/commands/segment.py",
        "words=options.classes, caption=options.caption,", "words=options.classes,",
        (RUNS + "test_a_folder_has_the_options_of_a_single_picture",),
    ),
    Mutant(
        "a folder drops --square", "ovseg/commands/segment.py",
        "seed=options.seed, square=options.square,\n", "seed=options.seed,\n",
        (RUNS + "test_a_folder_has_the_options_of_a_single_picture",),
    ),
    Mutant(
        "the words are prepared for every picture", FOLDER,
        "@lru_cache(KEPT)", "@lru_cache(0)",
        (RUNS + "test_the_method_is_prepared_once",),
    ),
    Mutant(
        "absent classes are asked for", FOLDER,
        "if self.only_present and words:", "if False:",
        (RUNS + "test_absent_classes_are_left_out_of_a_picture",),
    ),
    Mutant(
        "the first process forgets the others", "ovseg/processes.py",
        "for of_one in parts for", "for of_one in parts[:1] for",
        (RUNS + "test_two_processes_write_the_same_coco_file",),
    ),
    Mutant(
        "what differs is not named", "ovseg/files.py",
        " if kept.get(name) != settings.get(name)]", "]",
        (RUNS + "test_another_setting_or_other_weights_are_refused",),
    ),
    Mutant(
        "a PNG that breaks off is an error of ours", "ovseg/scene.py",
        "    OSError, SyntaxError, ValueError,", "    OSError, ValueError,",
        ("tests/test_scene.py::test_bad_files_are_one_sentence",),
    ),
    Mutant(
        "merged annotations keep their numbers", COCO,
        '{"id": len(annotations) + 1, "image_id": places', '{"id": item["id"], "image_id": places',
        (RUNS + "test_merged_files_have_one_numbering",),
    ),
    Mutant(
        "merged annotations keep the numbers of their categories", COCO,
        'numbers[names[item["category_id"]]]', 'item["category_id"]',
        (RUNS + "test_merged_files_have_one_numbering",),
    ),
    Mutant(
        "merged pictures keep their numbers", COCO,
        "len(images) + k for k, image", "k for k, image",
        (RUNS + "test_merged_files_have_one_numbering",),
    ),
    Mutant(
        "added categories are in no order", COCO,
        "sorted(named - set(first))", "sorted(named - set(first), reverse=True)",
        (RUNS + "test_merged_files_have_one_numbering", RUNS + "test_words_of_captions_become_categories_by_the_alphabet"),
    ),
    Mutant(
        "every network's weights are called the backbone's", CARD,
        "name: load().fingerprint for", "name: models.backbone.fingerprint for",
        (WRITES + "test_the_card_names_the_weights_of_every_network_that_ran",),
    ),
    Mutant(
        "the captioner's weights are not named", CARD,
        ' | ({"captioner": loaded.fingerprint} if loaded else {})', "",
        (WRITES + "test_a_captioner_counts_where_it_was_asked",),
    ),
    Mutant(
        "a measured run goes on with other weights", "ovseg/evaluation/benchmark.py",
        '"weights": self._weights(),', '"weights": {},',
        (SHOWS + "test_a_run_goes_on_with_the_same_weights_only",),
    ),
    Mutant(
        "weight files are told apart by their names alone", "ovseg/files.py",
        "total.update(bytes.fromhex(file_checksum(path)))", "pass",
        (SHOWS + "test_weight_files_are_told_apart_by_what_they_hold",),
    ),
    Mutant(
        "figures of old weights are not marked", RESULTS,
        "return all(weight_files.get(part)", "return any(weight_files.get(part)",
        (SHOWS + "test_figures_of_other_weights_are_marked",),
    ),
    Mutant(
        "a gain is a loss", RESULTS,
        "self.value - self.start", "self.start - self.value",
        (SHOWS + "test_ours_stands_beside_the_right_figure",),
    ),
    Mutant(
        "ours are shares of 1", RESULTS,
        "return 100 * self.record[metric]", "return self.record[metric]",
        (SHOWS + "test_every_figure_of_ours_is_one_of_the_files",),
    ),
    Mutant(
        "whole names are parts of names", "ovseg/evaluation/ablations.py",
        "text == what if self.exact else text in what", "text in what",
        (SHOWS + "test_rows_of_a_table_can_be_asked_for_by_their_whole_names",),
    ),
    Mutant(
        "another metric stands beside the paper's", PAPERS,
        'ours.get("as", row["metric"])', 'ours.get("as", "miou")',
        (SHOWS + "test_ours_stands_beside_the_right_figure",),
    ),
    Mutant(
        "the papers' figures are rounded", TAB,
        '{value if kind == "paper" else f"{value:.1f}"}', '{f"{value:.1f}"}',
        (SHOWS + "test_every_figure_of_a_paper_is_that_of_the_data_file",),
    ),
    Mutant(
        "a change ends where it began", TAB,
        'shown += f"{_figure(value, kind)} %"', 'shown += f"{_figure(before or value, kind)} %"',
        (SHOWS + "test_every_figure_of_a_paper_is_that_of_the_data_file",),
    ),
    Mutant(
        "a command forgets what was asked for", COMMAND,
        '("labels", task.labels, task.protocol.labels)', '("labels", "ground-truth", "ground-truth")',
        (SHOWS + "test_a_command_says_everything_that_differs_from_the_defaults",),
    ),
    Mutant(
        "a command forgets the settings", COMMAND,
        "for name in changed)] if changed else []", "for name in changed)] if False else []",
        (SHOWS + "test_a_command_says_everything_that_differs_from_the_defaults",),
    ),
    Mutant(
        "a narrow screen shows narrow columns", CSS,
        "  .ov-results :is(table, tbody, th, td) {\n    display: block;\n  }\n\n  .ov-results tr {\n    display: grid;",
        "  .ov-results :is(table) {\n    display: block;\n  }\n\n  .ov-results tr {\n    display: table-row;",
        (SHOWS + "test_it_can_be_read",),
    ),
    Mutant(
        "small texts are too pale", CSS,
        "  display: block;\n  color: var(--body-text-color-subdued);", "  display: block;\n  color: #aaa;",
        (SHOWS + "test_it_can_be_read",),
    ),
)  # fmt: skip
