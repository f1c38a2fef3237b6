"""The commands of `python -m ovseg`, one file each.

A command's file has `add_options(parser)` and `run(options)`, which returns the exit code where it is not 0. It is imported
only when its command is called: importing torch takes seconds, and the list of commands should not. Whatever `run` calls
raises ValueError where an option is not as it must be or its work cannot be done; `main` prints the sentence.
"""

COMMANDS: dict[str, str] = {
    "segment": "Segment a picture or a folder of them into classes; write masks and a record of the run.",
    "compare": "Run several methods on one picture; write a sheet, tables and the masks of each.",
    "attention": "Look inside: attention by token, layer and noise level, of a picture or while one is drawn.",
    "generate": "Generate a picture from a prompt.",
    "caption": "Describe a picture in one sentence, and list the things that the sentence names.",
    "serve": "Open the web page, as `python app.py` does.",
    "freeze": "Write comparisons as a folder of static files, which need no server to be looked at.",
    "space-check": "Say what is missing before this checkout can run on Hugging Face Spaces.",
    "methods": "List the methods with their papers, or all settings of one method.",
    "words": "Save the text encoder's states of a list of classes, to be read in its place.",
    "prototypes": "Make, list or check the prototypes that are kept of classes.",
    "grounding": "Import a published grounding module, or list the modules that a backbone has.",
    "backbones": "List the diffusion networks: where they are, their size and licence, and which methods run.",
    "doctor": "Check what is installed, load every network, run every method once; one line for an issue.",
    "lavis": "Install LAVIS, an optional captioner, in an environment of its own.",
    "evaluate": "Measure a method on a data set. A stopped run continues in its folder.",
    "ablate": "Measure variants of a method that each change one setting.",
    "results": "Measure the figures that the page's Results tab shows beside the papers'.",
    "timings": "Measure how long loading, generating and segmenting take on this machine.",
    "pocket-report": "Measure the networks of the pocket bundle; write its card.",
    "scenes": "Write scenes of the pocket world: pictures, masks, captions and an overview.",
    "train": "Train a network of the pocket bundle, or continue its training.",
    "triplets": "Generate pictures, features and masks that a grounding module is trained on.",
    "synthesize": "Make a data set of generated pictures with masks.",
    "grounded-generation": "Measure the masks of generated pictures, for classes seen and not seen in training.",
    "zero-shot": "Train small segmenters on synthetic and on real pictures, and compare them.",
}
"""Every command with its line of help, in the order in which they are listed."""
