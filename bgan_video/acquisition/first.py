"""The first labels: which videos to label where nothing was trained yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bgan_video.acquisition import suggestions
from bgan_video.acquisition.spaces import untrained_space
from bgan_video.acquisition.suggestions import By, Space, Suggestion
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data import layouts, splits
from bgan_video.data.frames import Frames, survey
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError


@dataclass(frozen=True)
class Beginning:
    """Videos before any training.

    Attributes:
        config: The settings that will train on them.
        manifest: Surveyed and split, labelled where `data.label_list` names labels.
        space: Of the training videos.
    """

    config: Config
    manifest: Manifest
    space: Space

    def choose(
        self, budget: int, by: By = "auto", answered: Mapping[str, bool] | None = None
    ) -> list[Suggestion]:
        """The videos to label first, with no figures: nobody knows anything of them yet.

        Args:
            budget: How many, >= 1; fewer where there are fewer.
            by: `typical` or `auto`, which is the same here.
            answered: Paths of videos that were asked for already, and whether they have a label.

        Raises:
            UserError: As `check_untrained`, or every training video was asked for.
        """
        check_untrained(by)
        answered = answered or {}
        # Who has an answer but no label is neither asked for nor stands for anything.
        kept = [
            place
            for place, item in enumerate(self.space.items)
            if item.labelled or answered.get(item.path, True)
        ]
        items = [
            dataclasses.replace(item, labelled=item.labelled or item.path in answered)
            for item in (self.space.items[place] for place in kept)
        ]
        if all(item.labelled for item in items):
            raise UserError(f"{self.manifest.root}: every training video was asked for already")
        space = Space(items, self.space.vectors[kept], self.space.tells_copies)
        given = (self.manifest, self.config.data, budget, self.config.run.seed)
        return suggestions.choose_typical(space, None, *given)


def check_untrained(by: By) -> None:
    """Raises UserError where videos are to be chosen by what only a trained run knows."""
    if by == "information":
        raise UserError("--by=information asks a trained run; allowed without one: typical")


def begin(config: Config, say: Callable[[str], None], progress: Callable[..., Any]) -> Beginning:
    """Find, read and place the videos of a data set that has no run yet.

    Args:
        config: Data, clips and features; how many labels it asks for does not matter.
        say: Gets the lines for the user.
        progress: Wraps the videos as they are read.

    Raises:
        UserError: The data do not serve.
    """
    if config.spatial_dims != 3:
        raise UserError(
            f"the first labels are asked for of videos, and data.layout={config.data.layout} has "
            f"{config.items}"
        )
    backend = resolve_backend(config.run, config.spatial_dims)
    listed = layouts.read(config.data)
    frames = Frames(listed.root, config)
    readable, _ = survey(listed, frames, config, progress)
    divide = splits.split if config.data.label_list else splits.pool
    manifest = divide(readable, config.data)
    items = manifest.part("train")
    if not items:
        raise UserError(f"{listed.root}: fold {listed.fold} has no training video")
    space = untrained_space(items, listed.root, frames, config, backend, say, progress)
    return Beginning(config, manifest, space)
