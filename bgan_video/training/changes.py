"""What of a run's settings may change when it is resumed; all else would be another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bgan_video import config as config_module
from bgan_video.config import Config
from bgan_video.data import layouts
from bgan_video.errors import UserError
from bgan_video.files import append_line, read_lines
from bgan_video.method.timetable import swag_lr
from bgan_video.prediction.adjusting import ADJUSTABLE

PLACES = ("data.root", "data.table", "data.store")
"""Data may have moved. Not kept: the next command says again where they are."""

LOADING = ("data.num_workers", "data.worker_timeout", "data.cache_mib")
"""How batches are loaded. A sample is a function of its number alone, whoever loads it."""

STEP_SIZES = (
    "posterior.lr",
    "posterior.burn_in_lr",
    "posterior.generator_burn_in_lr",
    "critic.burn_in_lr",
    "posterior.temperature",
    "posterior.noise_budget",
    "features.lr",
    "features.temperature",
    "baseline.lr",
    "baseline.swag_lr",
)
"""What a run is told to lower where its numbers are not finite. They may not be raised."""

FAULTS = ("train.roll_back",)
"""What a run does about a fault; while there is none nothing depends on it."""

ALLOWED = (*PLACES, *LOADING, *FAULTS, *STEP_SIZES)

_SMALLER = 0.5
"""Of step sizes at a roll-back. The next one may halve them again, and each costs the steps since a
checkpoint alone; a person, who comes once a day, is told to take a tenth."""


class RollBack(NamedTuple):
    """Why a run goes back.

    Attributes:
        after: The step after which something was not finite.
        what: Term, and weight and chain.
    """

    after: int
    what: str


def check_allowed(overrides: Sequence[str]) -> None:
    """Raises UserError where an override changes what may not change."""
    for key in (override.partition("=")[0] for override in overrides):
        if key not in ALLOWED:
            raise UserError(
                f"--resume continues a run with its own settings; {key} cannot be changed, only "
                f"{', '.join(PLACES + LOADING + FAULTS)}, and lowered: {', '.join(STEP_SIZES)}"
            )


def check_lowered(before: Config, now: Config) -> None:
    """Raises UserError where a step size grew."""
    ours, theirs = _values(before), _values(now)
    for key in STEP_SIZES:
        if ours[key] != theirs[key] and "auto" in (ours[key], theirs[key]):
            raise UserError(
                f"{key}={theirs[key]} on --resume of a run with {ours[key]}; what auto stands for "
                f"is known in training alone: lower posterior.noise_budget"
            )
        if ours[key] != theirs[key] and theirs[key] > ours[key]:
            raise UserError(
                f"{key}={theirs[key]:g} on --resume; allowed: up to the run's own {ours[key]:g}"
            )


def keep(folder: Path, config: Config, step: int) -> None:
    """Write down what of a run's settings changed, and after which step.

    Args:
        folder: The run's.
        config: The settings it goes on with.
        step: Steps done.
    """
    before, now = (config_module.flat(c) for c in (config_module.load_run(folder), config))
    for key in (*LOADING, *FAULTS, *STEP_SIZES):
        if before[key] != now[key]:
            line = {"step": step, "key": key, "from": before[key], "to": now[key]}
            append_line(folder / config_module.CHANGES, line)


def smaller(config: Config) -> Config:
    """All step sizes halved.

    Which player of a game went wrong first does not show, and rivals keep to the step sizes of what
    they are compared with.
    """
    mapping = config_module.to_mapping(config)
    for part, _, key in (name.partition(".") for name in STEP_SIZES if name.endswith("lr")):
        if mapping[part][key] is not None:
            mapping[part][key] *= _SMALLER
    return config_module.from_mapping(mapping)


def keep_smaller(folder: Path, config: Config, step: int, back: RollBack) -> None:
    """Write down a roll-back: in one line, so that a kill leaves all of it or nothing.

    Args:
        folder: The run's.
        config: The settings it goes on with.
        step: Steps done, of the checkpoint.
        back: Why.
    """
    values = config_module.flat(config)
    settings = {key: values[key] for key in STEP_SIZES if key.endswith("lr") and values[key]}
    line = {"step": step, **back._asdict(), "settings": settings}
    append_line(folder / config_module.CHANGES, line)


def roll_backs(folder: Path) -> int:
    """How often a run went back by itself."""
    return sum("settings" in line for line in read_lines(folder / config_module.CHANGES))


def lowered(folder: Path) -> dict[str, Any]:
    """Step sizes that a person lowered on the way, as they are now; none of a roll-back's."""
    lines = (line for line in read_lines(folder / config_module.CHANGES) if "key" in line)
    return {line["key"]: line["to"] for line in lines if line["key"] in STEP_SIZES}


def differing(folder: Path, config: Config) -> list[str]:
    """The overrides that make a run's settings those of `config`, but for its name and place.

    A step size that it began with is none: the run may have been told to lower it since.
    """
    runs = (config_module.load_run(folder), config_module.load(folder / "config.yaml"), config)
    before, first, now = (config_module.flat(c) for c in runs)
    kept = {key for key in STEP_SIZES if now[key] == first[key]} | {"run.name", "run.dir"}
    return config_module.dotted({k: now[k] for k in now if k not in kept and now[k] != before[k]})


def whereabouts(config: Config, overrides: Sequence[str]) -> list[str]:
    """Of the overrides of a run that goes on, where its data are, as its end is told it.

    A run that is looked at reads no table, but may be told the root of the one that has moved.
    """
    keys = {override.partition("=")[0] for override in overrides}
    root = {}
    if "data.table" in keys and config.data.root is None:
        root["data.root"] = layouts.read(config.data).root
    places = {*PLACES} & {*ADJUSTABLE}
    kept = [override for override in overrides if override.partition("=")[0] in places]
    return [*kept, *config_module.dotted(root)]


def _values(config: Config) -> dict[str, Any]:
    values = config_module.flat(config)
    lr = config.baseline.lr or config.posterior.burn_in_lr
    return values | {"baseline.lr": lr, "baseline.swag_lr": swag_lr(config, lr)}
