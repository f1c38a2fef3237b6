"""Bugs in the page: its choices, its runs, its pictures, what lies below the board."""

from tests.mutations import Mutant

DEMO, BROWSER = "tests/test_demo.py::", "tests/test_browser.py::"

MUTANTS = (
    Mutant(
        "OVDiff is ticked at first though it must draw",
        "ovseg/demo/method_panel.py",
        "kinds = METHODS if models.checkpoint.has_prototypes else",
        "kinds = METHODS if True else",
        (f"{DEMO}test_the_page_ticks_what_can_run_at_once",),
    ),
    Mutant(
        "the settings of the controls are ignored at Run",
        "ovseg/demo/method_panel.py",
        "return suited_to(models, self.kind, read_controls(self.kind, self.names, values))",
        "return suited_to(models, self.kind)",
        (f"{DEMO}test_a_first_run_with_settings_fills_the_controls",),
    ),
    Mutant(
        "files are made at the method's own threshold, whatever the board shows",
        "ovseg/demo/looking.py",
        "if threshold is not None and segmentation.threshold is not None:",
        "if False:",
        (f"{DEMO}test_files_are_made_at_the_threshold_of_the_board",),
    ),
    Mutant(
        "Stop cancels the drawing alone",
        "ovseg/demo/compare_tab.py",
        "_wire_stop(tab, [running_event, drawing, *asking])",
        "_wire_stop(tab, [drawing, *asking])",
        (f"{BROWSER}test_stop_half_way_keeps_what_is_done",),
    ),
    Mutant(
        "a place is read with x and y swapped",
        "ovseg/demo/looking.py",
        "here = scores[:, min(int(y * height), height - 1), min(int(x * width), width - 1)]",
        "here = scores[:, min(int(x * height), height - 1), min(int(y * width), width - 1)]",
        (f"{DEMO}test_a_place_is_read_with_x_to_the_right_and_y_down",),
    ),
    Mutant(
        "the seed of the page is ignored",
        "ovseg/demo/running.py",
        "scene = from_image(models, picture.image, request.seed, caption=caption)",
        "scene = from_image(models, picture.image, 0, caption=caption)",
        (f"{DEMO}test_methods_end_one_after_the_other_and_a_failure_stays_alone",),
    ),
    Mutant(
        "a method that fails is shown as if it waited",
        "ovseg/demo/running.py",
        "return board.failed(outcome.title, outcome.title, outcome.sentence)",
        "return board.waiting(outcome.title, outcome.title)",
        (f"{DEMO}test_methods_end_one_after_the_other_and_a_failure_stays_alone",),
    ),
    Mutant(
        "results are published at the end alone",
        "ovseg/demo/running.py",
        "        publish(Outcome(outcome, _card(models, scene, classes, variant, outcome)))",
        "        outcome = outcome",
        (f"{DEMO}test_methods_end_one_after_the_other_and_a_failure_stays_alone",),
    ),
    Mutant(
        "the truth of a scene does not know synonyms",
        "ovseg/demo/picture.py",
        "[_with_world_names(word) for word in classes]",
        "classes",
        (f"{DEMO}test_a_scenes_truth_follows_the_words_and_their_synonyms",),
    ),
    Mutant(
        "an uploaded truth is not read",
        "ovseg/demo/picture.py",
        "        if self.truth_file:\n",
        "        if False:\n",
        (f"{DEMO}test_an_uploaded_truth_must_fit",),
    ),
    Mutant(
        "a link forgets the seed",
        "ovseg/demo/choice.py",
        '("seed", str(self.seed) if self.seed else "")',
        '("seed", "")',
        (f"{DEMO}test_a_link_holds_everything_that_was_chosen",),
    ),
    Mutant(
        "a link forgets the settings",
        "ovseg/demo/choice.py",
        "    return Run(name, pairs)",
        "    return Run(name)",
        (f"{DEMO}test_a_link_holds_everything_that_was_chosen",),
    ),
    Mutant(
        "a link's settings are not checked",
        "ovseg/demo/choice.py",
        "        read_setting(kind, field_name, value)\n",
        "        pass\n",
        (f"{DEMO}test_a_wrong_link_is_one_sentence",),
    ),
    Mutant(
        "a variant replaces the method that it varies",
        "ovseg/demo/method_panel.py",
        "    more = {run.title(): run for run in runs if first[run.method] is not run}",
        "    more = {}",
        (f"{DEMO}test_a_second_run_of_a_method_becomes_a_variant",),
    ),
    Mutant(
        "work goes on when its visitor has gone",
        "ovseg/demo/work.py",
        "        if stop.is_set():\n            raise StoppedError\n",
        "",
        (f"{DEMO}test_closing_the_stream_stops_the_work_at_its_next_report",),
    ),
    Mutant(
        "an origin may name any file",
        "ovseg/demo/picture.py",
        "    if name not in example_names():",
        '    if name == "":',
        (f"{DEMO}test_other_origins_are_refused",),
    ),
    Mutant(
        "the first drawing of OVDiff is not in the time that it is said to take",
        "ovseg/demo/running.py",
        "return (known or 0.0) + cost_of(models, method, len(missing)).seconds if missing else known",
        "return known",
        (f"{DEMO}test_the_first_drawing_of_ovdiff_is_in_its_time",),
    ),
)
