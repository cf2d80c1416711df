"""Where a run can be gone on from: a checkpoint, with the lines and samples that belong to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bgan_video import ranks
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.files import sync, truncate_after
from bgan_video.prediction.answering import ROUNDS
from bgan_video.prediction.judging import FINISHED
from bgan_video.prediction.together import WEIGHTS
from bgan_video.sampling import SampleBank
from bgan_video.training import changes, checkpoints, console, rounds, run_folder
from bgan_video.training.lineup import Models
from bgan_video.training.session import Session

_LINES = ("log.jsonl", "evaluations.jsonl")


def save(step: int, session: Session, models: Models) -> None:
    """Everything after `step`: first the lines up to it, then the checkpoint that needs them."""
    folder = session.folder
    for name in _LINES:
        if (folder / name).is_file():
            sync(folder / name)
    run = run_folder.identity(folder)
    checkpoints.save(folder / "checkpoints", run, step, models.state_dict())
    session.bank.prune(checkpoints.oldest_step(folder / "checkpoints"))


def restore(
    folder: Path, config: Config, bank: SampleBank, back: changes.RollBack | None
) -> dict[str, Any] | None:
    """Go back to the last checkpoint; what was written after it will be written again.

    Args:
        folder: The run's.
        config: The settings it goes on with.
        bank: Its networks.
        back: Why it goes back by itself, if it does.
    """
    state = checkpoints.load_latest(folder / "checkpoints", run_folder.identity(folder))
    step = state["step"] if state else 0
    if ranks.is_first():
        if step < config.total_steps:
            _forget_end(folder)
        checkpoints.prune(folder / "checkpoints")
        bank.truncate_after(step)
        bank.prune(checkpoints.oldest_step(folder / "checkpoints"))
        rounds.forget_after(folder, step // config.train.steps)
        for name in _LINES:
            truncate_after(folder / name, step)
        if back is None:
            changes.keep(folder, config, step)
        else:
            changes.keep_smaller(folder, config, step, back)
    if back is not None and ranks.is_first():
        console.say(
            f"{back.what} not finite after step {back.after}; going back to step {step}, on from "
            f"there with all step sizes halved (roll-back {changes.roll_backs(folder)} of at most "
            f"{config.train.roll_back})"
        )
    console.say(f"resuming {folder} after step {step} of {config.total_steps}")
    return state


def _forget_end(folder: Path) -> None:
    """What a run that had ended answered by; first the word that it had, by which it is asked."""
    for name in (FINISHED, ROUNDS, WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def load(models: Models, state: dict[str, Any], folder: Path) -> None:
    """Put the state of a checkpoint into the models of its round.

    Raises:
        UserError: It is of other networks.
    """
    try:
        models.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the checkpoint in {folder} is of other networks ({reason}); go on with the version "
            f"of bgan_video that wrote it (environment.json), or start a new run"
        ) from None
