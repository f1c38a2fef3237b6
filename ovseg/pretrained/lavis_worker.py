"""The process that captions with salesforce-lavis, run by the Python of its own environment, not by ovseg's.

A request over its connection is the name of a method of `Worker` and its values; the answer is what that gives, and the
error in words, where there was one. It ends when the connection does.

`--setup FILE` runs a Python file first, in which models of one's own can be registered with LAVIS.
"""

import argparse
import importlib.util
import os
import runpy
import sys
import types
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("connection", type=int, help="a file descriptor")
    parser.add_argument("--setup", type=Path)
    options = parser.parse_args()
    prepare()
    if options.setup:
        runpy.run_path(str(options.setup))
    worker = Worker()
    with suppress(EOFError), Connection(options.connection) as asked:
        while True:
            method, values = asked.recv()
            try:
                answer = getattr(worker, method)(*values), ""
            except Exception as error:  # LAVIS may raise anything; the error becomes an answer, and the other side decides
                answer = "", f"{type(error).__name__}: {error}"
            asked.send(answer)
    os._exit(0)  # nothing is left to save, and taking the libraries down one by one can take seconds


def prepare() -> None:
    """Make torchvision importable, and stand in for spacy, which LAVIS imports for a model that is not used here."""
    spec = importlib.util.spec_from_file_location("compat", Path(__file__).parents[1] / "_torchvision_compat.py")
    compat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compat)
    compat.prepare()
    spacy = types.ModuleType("spacy")
    spacy.__spec__ = importlib.util.spec_from_loader("spacy", loader=None)
    sys.modules.setdefault("spacy", spacy)


class Worker:
    """One loaded captioner."""

    def __init__(self) -> None:
        self.model: Any = None
        self.look: Any = None
        self.device = "cpu"

    def load(self, name: str, model_type: str, device: str) -> None:
        """Load a captioner of LAVIS's model zoo."""
        from lavis.models import load_model_and_preprocess

        self.device = device
        self.model, processors, _ = load_model_and_preprocess(name, model_type, is_eval=True, device=device)
        self.look = processors["eval"]

    def caption(self, picture: bytes, size: tuple[int, int], prefix: str) -> str:
        """The sentence on an RGB picture."""
        import torch
        from PIL import Image

        samples = {"image": self.look(Image.frombytes("RGB", size, picture)).unsqueeze(0).to(self.device)}
        if hasattr(self.model, "Qformer"):  # BLIP-2 takes the prefix with the picture, BLIP has it as a field
            samples["prompt"] = prefix
        else:
            self.model.prompt = prefix
        with torch.no_grad():
            return self.model.generate(samples, num_beams=3, max_length=30)[0]


if __name__ == "__main__":
    main()
