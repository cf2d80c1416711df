"""The settings of a run that is looked at: its own, but for where things are and how they run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bgan_video import config as config_module
from bgan_video.config import Config
from bgan_video.errors import UserError

# What may differ from the run's own settings when it is only looked at.
ADJUSTABLE = (
    "clip.test_clips",
    "clip.test_crops",
    "data.root",
    "data.store",
    "data.decoder",
    "run.device",
    "run.precision",
)

BODY_WEIGHTS = "features/weights.safetensors"
"""As `features.weights`: the file of that name in the run's own folder, which was taken away."""


def adjusted(folder: Path, overrides: Sequence[str]) -> Config:
    """The settings of the run in a folder.

    Args:
        folder: The run's.
        overrides: `key=value` for some of `ADJUSTABLE`.

    Raises:
        UserError: Not a run, or a setting that belongs to the training.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key not in ADJUSTABLE:
            raise UserError(
                f"{key} cannot be set for a trained run; allowed: {', '.join(ADJUSTABLE)}"
            )
    config = config_module.load_run(folder, overrides)
    if config.features.weights != BODY_WEIGHTS:
        return config
    features = dataclasses.replace(config.features, weights=str(folder / BODY_WEIGHTS))
    return dataclasses.replace(config, features=features)
