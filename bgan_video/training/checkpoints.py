"""Checkpoints: everything a run is, written whole or not at all, loaded without running code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.training import console

# The one before the last survives, for a disk that lies about what it wrote.
_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint after `step`, and drop the oldest ones."""
    buffer = io.BytesIO()
    torch.save({"step": step, **state}, buffer)
    write_atomically(folder / f"step_{step:08d}.pt", buffer.getvalue())
    for obsolete in _all(folder)[:-_KEPT]:
        obsolete.unlink()


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that reads, or None where there is none at all.

    On the CPU, wherever it was made: whoever loads a state copies it to where it belongs, and
    Adam's step counts belong there.

    Raises:
        UserError: There are checkpoints, and none of them reads.
    """
    paths = _all(folder)
    for path in reversed(paths):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            console.say(f"{path} does not read ({error}); trying the one before")
    if paths:
        raise UserError(f"no checkpoint in {folder} reads; start a new run")
    return None


def oldest_step(folder: Path) -> int:
    """The step of the oldest checkpoint a run can still be resumed from; 0 where there is none."""
    paths = _all(folder)
    return int(paths[0].stem.removeprefix("step_")) if paths else 0


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.pt"))
