"""The process that captions with salesforce-lavis, run by the Python of its own environment, not by ovseg's.

It speaks lines of JSON: requests on standard input, answers on standard output. A request holds "id" and either "load"
(name, model_type, device) or "caption" (a picture as base64 PNG, "prefix"); an answer holds the id and "caption", "ready"
or "error". It ends when its input does.

`--setup FILE` runs a Python file first, in which models of one's own can be registered with LAVIS.
"""

import argparse
import base64
import importlib.util
import io
import json
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", type=Path)
    options = parser.parse_args()
    answers = own_the_output()
    prepare()
    if options.setup:
        runpy.run_path(str(options.setup))
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = worker.answer(request)
        except Exception as error:  # LAVIS may raise anything; the error becomes an answer, and the other side decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": request["id"], **answer}), file=answers, flush=True)


def own_the_output() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


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

    def answer(self, request: dict) -> dict:
        """What one request asks for."""
        if "load" in request:
            self.load(**request["load"])
            return {"ready": True}
        return {"caption": self.caption(request["caption"], request.get("prefix", ""))}

    def load(self, name: str, model_type: str, device: str) -> None:
        """Load a captioner of LAVIS's model zoo."""
        from lavis.models import load_model_and_preprocess

        self.device = device
        self.model, processors, _ = load_model_and_preprocess(name, model_type, is_eval=True, device=device)
        self.look = processors["eval"]

    def caption(self, picture: str, prefix: str) -> str:
        """The sentence on a picture, given as base64."""
        import torch
        from PIL import Image

        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        samples = {"image": self.look(image).unsqueeze(0).to(self.device)}
        if hasattr(self.model, "Qformer"):  # BLIP-2 takes the prefix with the picture, BLIP has it as a field
            samples["prompt"] = prefix
        else:
            self.model.prompt = prefix
        with torch.no_grad():
            return self.model.generate(samples, num_beams=3, max_length=30)[0]


if __name__ == "__main__":
    main()
