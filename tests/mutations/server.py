"""Bugs of a server that everybody may use, and of files that must be whole."""

from tests.mutations import Mutant

FILES, NOTES, TRIPLETS = "ovseg/files.py", "ovseg/factory/notes.py", "ovseg/factory/triplets.py"
WHOLE, LINES, DISK = "tests/test_files.py::", "tests/test_bad_command_lines.py", "tests/test_full_disk.py"
SETS = "tests/test_factory.py::"

MUTANTS = (
    Mutant(
        "a file is written over a link that was planted", FILES,
        'partial.open("xb")', 'path.with_name("a.bin.partial").open("wb")',
        (WHOLE + "test_what_lies_beside_a_file_is_neither_used_nor_changed",),
    ),
    Mutant(
        "two threads share the second file", FILES,
        'partial = path.with_name(f".{secrets.token_hex(8)}.partial")', 'partial = path.with_name(".one.partial")',
        (WHOLE + "test_two_threads_write_the_same_file_one_after_the_other",),
    ),
    Mutant(
        "a file of a run is not waited for", FILES,
        "        if lasting:\n            _sync(partial)\n", "",
        (WHOLE + "test_what_lasts_is_on_the_disk_before_it_has_its_name",),
    ),
    Mutant(
        "a full disk leaves what was begun", FILES,
        "            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)\n",
        "            pass\n",
        (WHOLE + "test_a_full_disk_is_named_and_the_old_file_stays",
         WHOLE + "test_a_folder_takes_its_place_when_it_is_whole"),
    ),
    Mutant(
        "a folder is emptied before the new one is whole", FILES,
        "        partial.mkdir()\n", "        partial.mkdir()\n        shutil.rmtree(folder, ignore_errors=True)\n",
        (WHOLE + "test_a_folder_takes_its_place_when_it_is_whole",),
    ),
    Mutant(
        "settings that are no table are a traceback", FILES,
        "    if not isinstance(content, kind):\n", "    if False:\n",
        (WHOLE + "test_damaged_settings_are_named",),
    ),
    Mutant(
        "a folder for files may be a file", FILES,
        "        if not there.is_dir():\n", "        if False:\n", (LINES,),
    ),
    Mutant(
        "a scene is written in place", "ovseg/pocket/export.py",
        'write_whole(out / f"{stem}.png", png(item.image))', '(out / f"{stem}.png").write_bytes(png(item.image))',
        (DISK,),
    ),
    Mutant(
        "any number of steps is begun", "ovseg/backbones/stable_diffusion.py",
        "if not 1 <= sampling.steps <= config.num_train_timesteps:", "if not 1 <= sampling.steps:",
        (LINES,),
    ),
    Mutant(
        "a flipped byte is blessed by the next run", NOTES,
        "    if known not in (None, checksum):\n", "    if False:\n",
        (SETS + "test_a_flipped_byte_is_seen_and_never_blessed",),
    ),
    Mutant(
        "every shard is read each time", NOTES,
        'if "sha256" in note and', 'if "sha1" in note and',
        (SETS + "test_a_flipped_byte_is_seen_and_never_blessed",),
    ),
    Mutant(
        "an old index is no witness", TRIPLETS,
        "checked(path, indexed.get(shard))", "checked(path, None)",
        (SETS + "test_a_set_without_notes_is_held_against_its_index",),
    ),
    Mutant(
        "a shard that a stop has left counts as complete", TRIPLETS,
        "return note_path(shard_path(out, shard)).exists() or not all(", "return True or not all(",
        (SETS + "test_a_stop_between_a_shard_and_its_note_loses_nothing",),
    ),
    Mutant(
        "what was planted counts as a part of the data set", "ovseg/factory/synthesize.py",
        '.glob("[0-9]*.*")', ".iterdir()",
        (SETS + "test_what_was_planted_beside_the_files_of_a_data_set_changes_nothing",),
    ),
    Mutant(
        "workers outlive the process that started them", "ovseg/processes.py",
        "        os._exit(1)\n", "        pass\n",
        ("tests/test_evaluation.py::test_workers_end_when_the_process_that_started_them_is_killed",),
    ),
)  # fmt: skip
