"""Bugs of a server that everybody may use, and of files that must be whole."""

from tests.mutations import Mutant

FILES, NOTES, TRIPLETS = "ovseg/files.py", "ovseg/factory/notes.py", "ovseg/factory/triplets.py"
WHOLE, LINES, DISK = "tests/test_files.py::", "tests/test_bad_command_lines.py", "tests/test_full_disk.py"
SETS = "tests/test_factory.py::"
LISTENING, HEARD = "ovseg/demo/listening.py", "tests/test_listening.py::"
TYPES, STORE, HOUSE = "ovseg/types.py", "ovseg/methods/ovdiff/store.py", "ovseg/demo/housekeeping.py"
CEILINGS = "tests/test_ceilings.py::"

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
    Mutant(
        "a visitor who never listens is waited for", LISTENING,
        "return self._clock() - last > GRACE", "return False",
        (HEARD + "test_a_visitor_who_never_listens_has_left",
         HEARD + "test_a_program_that_never_reads_its_answer_does_not_hold_the_network"),
    ),
    Mutant(
        "whose line breaks has left at once", LISTENING,
        "last = max(asked, self._closed.get(session, asked), self._closed.get(job, asked))", "last = asked",
        (HEARD + "test_who_listens_to_the_session_or_the_job_is_there",),
    ),
    Mutant(
        "one of two streams that closes is the last", LISTENING,
        "            self._open[key] -= 1\n", "            self._open[key] = 0\n",
        (HEARD + "test_who_listens_to_the_session_or_the_job_is_there",),
    ),
    Mutant(
        "who stopped listening is remembered for ever", LISTENING,
        "if now - since <= REMEMBERED}", "if True}",
        (HEARD + "test_those_who_are_gone_are_forgotten",),
    ),
    Mutant(
        "a function that answers once is never stopped", "ovseg/demo/work.py",
        "                    if nobody_listens():\n", "                    if False:\n",
        (HEARD + "test_a_program_that_never_reads_its_answer_does_not_hold_the_network",
         HEARD + "test_a_program_that_stops_reading_does_not_hold_the_network"),
    ),
    Mutant(
        "requests go past the line", "ovseg/demo/build.py",
        "api_open=False", "api_open=True",
        (HEARD + "test_no_request_goes_past_the_line",),
    ),
    Mutant(
        "every result keeps the scores of every pixel", TYPES,
        "        own = OwnScores.of(scores, image.shape[:2], threshold)\n",
        "        own = OwnScores.of(scores, image.shape[:2], threshold).expanded()\n",
        (CEILINGS + "test_scores_at_their_own_resolution_give_the_same_masks",),
    ),
    Mutant(
        "new seconds expand the scores", TYPES,
        'return replace(self, scores=vars(self)["_scores"], timings=timings)', "return replace(self, timings=timings)",
        (CEILINGS + "test_copies_of_a_result_stay_small",),
    ),
    Mutant(
        "large scores are kept as they are", TYPES,
        "content=_packed(self.content.contiguous().numpy())", "content=self.content",
        (CEILINGS + "test_scores_as_fine_as_the_picture_are_packed_without_loss",),
    ),
    Mutant(
        "a moved threshold is lost", TYPES,
        "replace(given, threshold=threshold), threshold=threshold)", "given, threshold=threshold)",
        (CEILINGS + "test_scores_at_their_own_resolution_give_the_same_masks",),
    ),
    Mutant(
        "who looks at the page is forgotten", HOUSE,
        'and not listeners.is_open(f"page {session}")', "",
        (CEILINGS + "test_sessions_that_are_gone_are_forgotten",),
    ),
    Mutant(
        "nobody is forgotten", HOUSE,
        "            holder.session_data.pop(session, None)\n", "            pass\n",
        (CEILINGS + "test_sessions_that_are_gone_are_forgotten",),
    ),
    Mutant(
        "offered files stay", "ovseg/demo/offered.py",
        "            shutil.rmtree(folder, ignore_errors=True)\n", "            pass\n",
        (CEILINGS + "test_offered_files_are_deleted_after_their_hour",),
    ),
    Mutant(
        "files of others are deleted", "ovseg/demo/offered.py",
        '.glob(f"{PREFIX}*")', '.glob("*")',
        (CEILINGS + "test_offered_files_are_deleted_after_their_hour",),
    ),
    Mutant(
        "the store grows without end", STORE,
        "(total > self.most_bytes and", "(False and",
        (CEILINGS + "test_a_store_drops_what_was_read_longest_ago",),
    ),
    Mutant(
        "what is read is dropped first", STORE,
        "                        os.utime(path)\n", "                        pass\n",
        (CEILINGS + "test_a_store_drops_what_was_read_longest_ago",),
    ),
    Mutant(
        "a closed store is open", STORE,
        "        if self.is_closed:\n", "        if False:\n",
        (CEILINGS + "test_a_closed_store_says_so_and_takes_nothing",),
    ),
    Mutant(
        "a job keeps the network although others wait", "ovseg/demo/work.py",
        "> limits().busy_seconds and others_wait():", "> limits().busy_seconds and False:",
        (HEARD + "test_a_long_job_gives_way_to_those_who_wait",),
    ),
    Mutant(
        "a long job ends although nobody waits", "ovseg/demo/work.py",
        "> limits().busy_seconds and others_wait():", "> limits().busy_seconds:",
        (HEARD + "test_a_program_that_reads_gets_its_answer_however_long_it_takes_where_nobody_waits",),
    ),
    Mutant(
        "a session keeps any number of bytes", "ovseg/demo/running.py",
        "if isinstance(outcome, Entry) and (needed := held_bytes(grown)) > most_kept():", "if (needed := 0):",
        (CEILINGS + "test_a_result_beyond_the_ceiling_of_a_session_is_refused_and_the_others_stand",),
    ),
    Mutant(
        "a look inside keeps any number of bytes", "ovseg/demo/inside_panel.py",
        "KEEP.get(self.keep, self.keep), most_kept())", "KEEP.get(self.keep, self.keep), 10**12)",
        ("tests/test_inside.py::test_one_visitors_maps_are_bounded",),
    ),
    Mutant(
        "CLIP's pictures are kept at the picture's size", "ovseg/methods/freeseg_diff/method.py",
        "[shrunk(picture, SHOWN_SIDE) for picture in", "[picture for picture in",
        (CEILINGS + "test_a_session_keeps_little_of_a_large_picture",),
    ),
    Mutant(
        "PAMR cannot be stopped", "ovseg/maths/refine.py",
        "            progress((iteration + (number + 1) / (len(dilations) * len(NEIGHBOURS))) / iterations)\n", "",
        ("tests/test_refine.py::test_a_refinement_says_how_far_it_is_and_can_be_stopped",),
    ),
    Mutant(
        "the lattice is built for each mask", "ovseg/methods/freeseg_diff/masks.py",
        "return crf.mean_field(", "return DenseCRF(pixels).mean_field(",
        ("tests/test_freeseg_diff.py::test_masks_are_refined_one_by_one_on_one_lattice",),
    ),
    Mutant(
        "the CRF cannot be stopped", "ovseg/maths/refine.py",
        "            progress(iteration / iterations)\n", "",
        ("tests/test_refine.py::test_a_refinement_says_how_far_it_is_and_can_be_stopped",),
    ),
)  # fmt: skip
