"""What ends a run before its time: each said in one line, with what to do and how to go on."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from bgan_video import ranks
from bgan_video.errors import UserError
from bgan_video.training.changes import RollBack
from bgan_video.training.lineup import Models, RivalGAN

# What a disk, or who owns it, may say of a file that is to be written. Anything else is a fault of
# the program, and keeps its traceback.
_OF_THE_DISK = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "let files be larger",
    errno.EROFS: "let it be written",
    errno.EACCES: "let it be written",
    errno.EPERM: "let it be written",
    errno.EIO: "see to the disk",
    errno.ESTALE: "mount it again",
    errno.ENOENT: "put back what was removed",
}
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.I)
_LOWER = (
    "train.batch_size, train.labelled_batch_size, train.fake_batch_size, clip.num_frames or "
    "clip.size"
)


class NotFiniteError(UserError):
    """What a run computes has no numbers any more; nothing of it is stored.

    Attributes:
        back: What is to be written down where the run goes back by itself.
    """

    def __init__(self, message: str, back: RollBack) -> None:
        super().__init__(message)
        self.back = back


def way_on(folder: Path) -> str:
    """The command that goes on with a run."""
    return f"bgan-video train --resume {folder}"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say what to do of a full or lost disk, memory that ran out, and a loader that was killed.

    Args:
        folder: The run's.

    Raises:
        UserError: In place of the error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if str(error).startswith("DataLoader worker"):
            # Torch says so wherever Python is then, in the middle of a step too.
            reason = " ".join(str(error).split())
            raise UserError(
                f"{reason} What was saved stays: see to its memory (data.num_workers, "
                f"data.cache_mib), and go on with {way_on(folder)}"
            ) from None
        if ranks.is_loss(error):
            raise UserError(
                f"another process of this run ended; its own line or the launcher's says why; what "
                f"was saved stays: the same command with --resume {folder} goes on"
            ) from None
        if isinstance(error, RuntimeError) and not _NO_MEMORY.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:160] or "out of memory"
        raise UserError(
            f"no memory ({reason}); nothing saved is lost: free some and go on with "
            f"{way_on(folder)}, or begin a run with lower {_LOWER}"
        ) from None
    except OSError as error:
        if error.errno not in _OF_THE_DISK or not _is_within(error.filename, folder):
            raise
        raise UserError(
            f"{error.filename or folder}: {error.strerror}; what was saved stays: "
            f"{_OF_THE_DISK[error.errno]}, and go on with {way_on(folder)}"
        ) from None


def _is_within(file: Any, folder: Path) -> bool:
    """Whether an error is about a file of the run; one of a write itself does not say."""
    return file is None or str(folder) in str(file)


def check_finite(
    step: int, terms: Mapping[str, Tensor], models: Models, way: str, whole: bool = True
) -> None:
    """Refuse to go on with what has no numbers any more, before anything of it is written.

    Args:
        step: After which.
        terms: What it logs.
        models: Weights, statistics and states of optimisers.
        way: The command that goes on from what was saved before.
        whole: Look at the models too where the terms are finite.

    Raises:
        NotFiniteError: Names step, term and chain, and the setting to lower.
    """
    term = next((name for name, value in terms.items() if not value.isfinite().all()), None)
    place = first_not_finite(models.state_dict()) if whole or term else None
    source = place if term is None else place or _place_of(term, models)
    if source is None:
        return
    what = " and ".join(filter(None, (term, place and _in_words(place))))
    setting, value = _to_lower(models, source)
    raise NotFiniteError(
        f"{what} not finite after step {step}; none of it is stored; go on from the checkpoint "
        f"before with a smaller step size, such as {way} {setting}={value / 10:g} (a run with "
        f"train.roll_back=1 or more does so by itself)",
        RollBack(step, what),
    )


def first_not_finite(state: Any, path: str = "") -> str | None:
    """The dotted place of the first tensor in nested mappings and lists that is not finite."""
    if isinstance(state, Tensor):
        return None if state.isfinite().all() else path
    parts = state.items() if isinstance(state, Mapping) else ()
    parts = enumerate(state) if isinstance(state, list | tuple) else parts
    places = (first_not_finite(part, f"{path}.{key}".strip(".")) for key, part in parts)
    return next((place for place in places if place is not None), None)


def _in_words(place: str) -> str:
    """A place in the state of models, by chain: `chains.discriminators.1.network.head.weight`."""
    model, _, rest = place.partition(".")
    chain = re.match(r"(discriminator|critic|generator)s\.(\d+)\.(.*)", rest)
    if chain is None:
        return f"{rest} of {model}"
    of = "" if model == "chains" else f" of {model}"
    return f"{chain[3]} of {chain[1]} chain {chain[2]}{of}"


def _place_of(term: str, models: Models) -> str:
    """Where a term comes from, as a place in the state of models: others' end with their name."""
    for model in (learner.model for learner in models.learners):
        if f"_{term}".endswith(f"_{model}"):
            return f"{model}.{term.removesuffix(f'_{model}')}"
    return f"chains.{term}"


def _to_lower(models: Models, place: str) -> tuple[str, float]:
    """The step size that moved what is not finite, and its value."""
    model, _, rest = place.partition(".")
    config, chains = models.config, models.chains
    own = next((m for m in models.learners if m.model == model), None)
    if isinstance(own, RivalGAN):
        chains = own.trainer
    elif own is not None:
        return "baseline.lr", config.baseline.lr or config.posterior.burn_in_lr
    assert chains is not None, "what is no learner's is the chains'"
    if chains.config.features.length:
        return "features.lr", config.features.lr
    if next(chains.chains).is_sampling:
        return "posterior.lr", config.posterior.lr
    if rest.startswith("generators") or rest == "loss_g":
        return "posterior.generator_burn_in_lr", config.posterior.generator_burn_in_lr
    if rest.startswith("critics") or rest == "loss_c":
        return "critic.burn_in_lr", config.critic.burn_in_lr
    return "posterior.burn_in_lr", config.posterior.burn_in_lr
