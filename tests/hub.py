"""A cache of the hub on disk, in which repositories lie as if they had been fetched."""

from pathlib import Path

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fetched(cache: Path, repository: str, folder: Path, commit: str = COMMIT) -> None:
    """Put a folder into the cache as a repository's only revision."""
    root = cache / f"models--{repository.replace('/', '--')}"
    for name in ("snapshots", "refs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "snapshots" / commit).symlink_to(folder.resolve(), target_is_directory=True)
    (root / "refs" / "main").write_text(commit)


def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every library read this cache, and nothing from the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
