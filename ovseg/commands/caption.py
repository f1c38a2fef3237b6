"""`caption IMAGE`: a sentence about a picture."""

import argparse
from pathlib import Path

from ovseg.commands.common import add_captioner, add_networks, models_of, say_notes
from ovseg.pictures import read_image
from ovseg.words.nouns import noun_phrases


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="picture file")
    add_captioner(parser)
    parser.add_argument("--prefix", default="", help="first words of the sentence")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Print the sentence, and the things that it names."""
    models, image = models_of(options), read_image(options.image)
    say_notes(models, ())
    sentence = models.captioner(options.captioner).caption(image, options.prefix)
    print(sentence)
    print("things: " + (", ".join(phrase.described for phrase in noun_phrases(sentence)) or "none"))
