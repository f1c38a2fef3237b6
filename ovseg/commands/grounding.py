"""`grounding import FILE | list`: the trained modules of Grounded Diffusion that a backbone has."""

import argparse
from pathlib import Path

import torch

from ovseg.backbones import BACKBONES
from ovseg.files import file_checksum, read_json
from ovseg.models import Models

FITS = (
    "any backbone whose features and text have these widths: Stable Diffusion 1.x. On which of its checkpoints the module"
    " was trained is not published"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=["import", "list"],
        help="import: read a published checkpoint (.pth) of Grounded Diffusion and keep it as a module; list: print the"
        " modules that the backbone has",
    )
    parser.add_argument("file", nargs="?", type=Path, help="import: the checkpoint")
    parser.add_argument(
        "--backbone",
        default="sd15",
        help=f"whose module it becomes: {', '.join(BACKBONES)}, or a local diffusers folder (default: sd15)",
    )
    parser.add_argument(
        "--name", default="published", help="import: what the method calls the module, as in --set module=NAME"
        " (default: published)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Import a checkpoint, or print what modules there are."""
    models = Models(options.backbone, "cpu")
    if options.action == "list":
        _list(models)
    else:
        _import(models, options.file, options.name)


def _import(models: Models, path: Path | None, name: str) -> None:
    from ovseg.pretrained.grounding import save_grounding
    from ovseg.pretrained.published_grounding import read_published

    if path is None:
        raise ValueError("`grounding import` needs the checkpoint's file, such as: grounding import FILE.pth.")
    if models.checkpoint.grounding:
        raise ValueError(
            f"The backbone must be a Stable Diffusion 1.x, whose features the published module reads, but got {models.name},"
            " which has modules of its own."
        )
    folder = models.new_grounding(name)
    module = read_published(path)
    source = {"file": path.name, "sha256": file_checksum(path)}
    if (folder / "config.json").is_file():
        if read_json(folder / "config.json")["training"].get("source", {}).get("sha256") != source["sha256"]:
            raise ValueError(f"The module's name must be new, but there is another module in {folder}: give another --name.")
        print(f"{path.name} was imported before: it is in {folder}")
        return
    training = {"split": "", "seen": [], "backbone": None, "fits": FITS, "timestep": 1, "source": source}
    save_grounding(module, folder, training, torch.float32)
    print(f"The module {name} is in {folder}.\nIt fits {FITS}.\nTo use it: --method grounded-diffusion", end="")
    print(f" --backbone {models.name} --set module={name}")


def _list(models: Models) -> None:
    configs = sorted(models.groundings.glob("*/config.json"))
    for path in configs:
        training = read_json(path)["training"]
        seen = ", ".join(training["seen"]) or "not known"
        print(f"{path.parent.name}: backbone {training['backbone'] or 'not known'}; trained on: {seen}")
    print(f"{len(configs)} modules in {models.groundings}")
