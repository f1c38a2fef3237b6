"""`caption IMAGE`: a sentence about a picture."""

import argparse
from pathlib import Path

from ovseg.commands.common import add_captioner, add_networks, models_of
from ovseg.scene import read_image
from ovseg.words.nouns import noun_phrases


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `caption`."""
    parser.add_argument("image", type=Path, help="picture file")
    add_captioner(parser)
    parser.add_argument("--prefix", default="", help="first words of the sentence")
    add_networks(parser)


def run(options: argparse.Namespace) -> None:
    """Print the sentence, and the things that it names."""
    image = read_image(options.image)
    sentence = models_of(options).captioner(options.captioner).caption(image, options.prefix)
    print(sentence)
    print("things: " + (", ".join(phrase.described for phrase in noun_phrases(sentence)) or "none"))
