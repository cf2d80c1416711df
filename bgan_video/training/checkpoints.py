"""Checkpoints: everything a run is, written whole or not at all, loaded without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.training import console
from bgan_video.training.faults import first_not_finite

# The one before the last survives, for a disk that lies about what it wrote.
_KEPT = 2


def save(folder: Path, run: str, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint after `step`, and drop the oldest ones.

    Args:
        folder: Of the checkpoints.
        run: What tells this run from others.
        step: Steps done.
        state: Everything else.
    """
    buffer = io.BytesIO()
    torch.save({"run": run, "step": step, **state}, buffer)
    write_atomically(folder / _name(step), buffer.getvalue())
    prune(folder)


def prune(folder: Path) -> None:
    """Drop the oldest checkpoints, as a kill may have left it undone."""
    for obsolete in _all(folder)[:-_KEPT]:
        obsolete.unlink()


def load_latest(folder: Path, run: str) -> dict[str, Any] | None:
    """The newest sound checkpoint of a run, or None where there is none at all.

    Newer ones that are cut off, damaged, not finite or of another run are said to be, and get
    another name. On the CPU, wherever it was made: whoever loads a state copies it to where it
    belongs, and Adam's step counts belong there.

    Raises:
        UserError: There are checkpoints, and none of them is sound.
    """
    faults: dict[Path, str] = {}
    for path in reversed(_all(folder)):
        state, fault = _read(path, run)
        if state is None:
            faults[path] = fault
            continue
        for unsound, why in faults.items():
            console.say(f"{unsound} is not used: {why}; going on from {path.name}")
            unsound.rename(unsound.with_name(f"{unsound.name}.unsound"))
        return state
    if faults:
        path, why = next(iter(faults.items()))
        raise UserError(
            f"no checkpoint in {folder} can be gone on from ({path.name}: {why}); bring a sound "
            f"one back, or remove them all to begin at the first step"
        )
    return None


def oldest_step(folder: Path) -> int:
    """The step of the oldest checkpoint a run can still be resumed from; 0 where there is none."""
    return next(map(_step, _all(folder)), 0)


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return next(map(_step, reversed(_all(folder))), 0)


def _read(path: Path, run: str) -> tuple[dict[str, Any] | None, str]:
    """The state in a file, or what is wrong with it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None, "it holds more than numbers, and could run code"
    except Exception as error:  # whatever torch stumbles over in a damaged file
        return None, f"it does not read ({' '.join(str(error).split())[:120]})"
    if not isinstance(state, dict) or "step" not in state:
        return None, "it is no checkpoint"
    # States of earlier versions do not say whose they are.
    if state.pop("run", run) != run or _name(state["step"]) != path.name:
        return None, "it is of another run"
    place = first_not_finite(state)
    return (state, "") if place is None else (None, f"{place} is not finite")


def _name(step: int) -> str:
    return f"step_{step:08d}.pt"


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.pt"))
