"""Bugs in the import of published grounding modules, in class splits, and in the training chain of any backbone."""

from tests.mutations import Mutant

IMPORT = "tests/test_grounding_import.py::"
SPLITS = "tests/test_splits.py::"
CHAIN = "tests/test_grounding_chain.py::"
PUBLISHED, COMMAND, MODELS = "ovseg/pretrained/published_grounding.py", "ovseg/commands/grounding.py", "ovseg/models.py"
TRAIN, TRIPLETS, TRAINING = "ovseg/commands/train.py", "ovseg/factory/triplets.py", "ovseg/factory/train_grounding.py"
SPLIT_FILE, SHARDS = "ovseg/factory/splits.py", "ovseg/factory/shards.py"


def mutant(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    """A bug that one test must see."""
    return Mutant(name, file, old, new, (test,))


MUTANTS = (
    mutant(
        "published features keep their own order",
        PUBLISHED,
        "torch.cat([*columns[::2], *columns[1::2]], 1)",
        "torch.cat(columns, 1)",
        IMPORT + "test_the_imported_module_gives_the_published_logits",
    ),
    mutant(
        "a published spectral norm takes no step of its power iteration",
        PUBLISHED,
        'f"{norm}._u": u[0]',
        'f"{norm}._u": theirs[f"{name}.conv{k + 1}.u0"][0]',
        IMPORT + "test_the_imported_module_gives_the_published_logits",
    ),
    mutant(
        "code in a checkpoint is run",
        PUBLISHED,
        "weights_only=True",
        "weights_only=False",
        IMPORT + "test_code_in_a_file_is_not_run",
    ),
    mutant(
        "tensors that the published module does not have are passed over",
        PUBLISHED,
        "if missing or strange:",
        "if missing:",
        IMPORT + "test_what_is_no_published_checkpoint_is_refused",
    ),
    mutant(
        "an imported module claims a backbone",
        COMMAND,
        '"backbone": None,',
        '"backbone": models.name,',
        IMPORT + "test_it_lies_where_the_method_looks_and_says_what_it_is",
    ),
    mutant(
        "an import overwrites another module",
        COMMAND,
        '.get("sha256") != source["sha256"]',
        '.get("sha256") == ""',
        IMPORT + "test_a_module_is_not_overwritten",
    ),
    mutant(
        "the pocket backbone takes a published module",
        COMMAND,
        "if models.checkpoint.grounding:",
        "if not models.checkpoint.source:",
        IMPORT + "test_the_pocket_backbone_is_refused",
    ),
    mutant(
        "all backbones have one folder of modules",
        MODELS,
        'return kept_in("OVSEG_GROUNDING", "grounding") / self.folder_name',
        'return kept_in("OVSEG_GROUNDING", "grounding")',
        IMPORT + "test_it_lies_where_the_method_looks_and_says_what_it_is",
    ),
    mutant(
        "local folders of one name have one folder of modules",
        MODELS,
        "hashlib.sha256(str(path).encode())",
        "hashlib.sha256(path.name.encode())",
        IMPORT + "test_local_folders_of_one_name_have_folders_of_their_own",
    ),
    mutant(
        "words of another width are not noticed",
        "ovseg/pretrained/grounding.py",
        " or words.shape[1] != size.text:",
        ":",
        IMPORT + "test_a_backbone_of_other_widths_is_refused",
    ),
    mutant(
        "Stable Diffusion is offered the pocket world's splits",
        SPLIT_FILE,
        '(name in UNSEEN) == (backbone == "pocket")',
        '(name in UNSEEN) != (backbone == "pocket")',
        SPLITS + "test_a_backbone_offers_what_it_can_draw",
    ),
    mutant(
        "seen and unseen classes of a file may mean the same",
        SPLIT_FILE,
        "meanings.count(meaning) > 1",
        "meanings.count(meaning) > 2",
        SPLITS + "test_a_wrong_file_is_one_sentence",
    ),
    mutant(
        "the seen classes of a file are its unseen ones",
        SPLIT_FILE,
        'classes[len(read["seen"]) :]',
        'classes[: len(read["seen"])]',
        SPLITS + "test_a_split_of_ones_own_is_drawn",
    ),
    mutant(
        "a detector of COCO's labels knows no motorbike",
        "ovseg/pretrained/detector.py",
        '"motorcycle": "motorbike", ',
        "",
        SPLITS + "test_a_detector_knows_the_other_data_sets_words",
    ),
    mutant(
        "a module may be trained on unseen classes",
        TRAIN,
        "if word not in split.seen]",
        "if word not in split.classes]",
        CHAIN + "test_the_chain_ends_in_a_module_that_the_method_finds",
    ),
    mutant(
        "a trained module is not put where the method looks",
        TRAIN,
        "GroundingRecipe(**given)) and is_own:",
        "GroundingRecipe(**given)) and not is_own:",
        CHAIN + "test_the_chain_ends_in_a_module_that_the_method_finds",
    ),
    mutant(
        "modules of all backbones are trained in the pocket world's folder",
        TRAIN,
        'else Path("runs") / models.folder_name',
        "else POCKET",
        CHAIN + "test_the_chain_ends_in_a_module_that_the_method_finds",
    ),
    mutant(
        "a trained module takes the place of another backbone's",
        TRAIN,
        '["training"]["backbone"] != models.backbone.fingerprint',
        '["training"]["backbone"] == ""',
        CHAIN + "test_another_training_in_the_same_folder_is_refused",
    ),
    mutant(
        "training does not ask for the precision of the triplets",
        TRAIN,
        'options.dtype or settings.get("dtype")',
        "options.dtype",
        CHAIN + "test_precision_is_the_same_through_the_chain",
    ),
    mutant(
        "triplets do not say their precision",
        TRIPLETS,
        '"dtype": self.models.dtype_name,',
        '"dtype": "float32",',
        CHAIN + "test_precision_is_the_same_through_the_chain",
    ),
    mutant(
        "features that overflow are kept",
        TRIPLETS,
        "np.isfinite(maps).all()",
        "len(maps)",
        CHAIN + "test_features_that_overflow_are_not_kept",
    ),
    mutant(
        "the copies of half-precision features are kept for the way back",
        "ovseg/pretrained/grounding.py",
        "checkpoint(lambda part: convolution(part.to(dtype)), part, **keeps_nothing)",
        "convolution(part.to(dtype))",
        CHAIN + "test_a_step_on_stable_diffusions_features_takes_what_the_budget_says",
    ),
    mutant(
        "the batch does not follow the bytes",
        TRAINING,
        "BATCH_BYTES[kind] // bytes_of_item(size, item, picture_hw)",
        "bytes_of_item(size, item, picture_hw)",
        CHAIN + "test_the_batch_follows_the_bytes",
    ),
    mutant(
        "the pictures of a batch share one place",
        TRAINING,
        "features[stride][place] = maps",
        "features[stride][0] = maps",
        CHAIN + "test_a_batch_holds_items_of_the_set",
    ),
    mutant(
        "a shard has its first item many times",
        SHARDS,
        "yield file.get_tensor(name).tobytes()",
        "yield files[0].get_tensor(name).tobytes()",
        CHAIN + "test_a_shard_is_joined_without_holding_it",
    ),
)
