"""What reads videos before any training: checks them, decodes them once, keeps their features."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bgan_video import ranks
from bgan_video.backend import on_cuda, resolve_backend
from bgan_video.config import Config
from bgan_video.data import layouts
from bgan_video.data.check import DataCheck, inspect
from bgan_video.errors import UserError
from bgan_video.training import console

if TYPE_CHECKING:
    from bgan_video.data.store.prepare import Prepared
    from bgan_video.features import Extracted, FrozenBody


def check_data(config: Config, read: bool = True) -> DataCheck:
    """What the videos of a config are, and what is wrong with them; `read` decodes every file.

    Raises:
        UserError: Root, lists or settings do not serve.
    """
    return inspect(config, read, console.progress)


def prepare(config: Config) -> Prepared:
    """Decode the videos of a data set into the clip store `data.store`, or go on with it.

    Raises:
        UserError: The store or its place does not serve, or the disk is full.
    """
    # Here: it locks files as POSIX systems do, and nothing else needs it.
    from bgan_video.data.store import prepare

    return prepare.prepare(layouts.read(config.data), config, console.say, console.progress)


def verify(config: Config) -> int:
    """Compare the clip store with its checksums; returns how many videos it has.

    Raises:
        UserError: Names the videos that are damaged.
    """
    from bgan_video.data.store import prepare

    return prepare.verify(config, console.say, console.progress)


def features(config: Config) -> list[Extracted]:
    """Compute the features of a data set's videos into feature stores, or go on with them.

    Returns:
        What the stores hold, one for each frozen body that a run of these settings sees;
        `features.body`'s where it sees none.

    Raises:
        UserError: Body, data, settings or the store's place do not serve.
    """
    from bgan_video.features import extract

    with ranks.joined(on_cuda(config.run)):
        opened, manifest = _frozen_bodies(config), layouts.read(config.data)
        return [extract(manifest, *own, console.say, console.progress) for own in opened]


def verify_features(config: Config) -> dict[str, int]:
    """Compare the stores that `features` fills with their checksums.

    Returns:
        How many videos are in each, by the name of its body.

    Raises:
        UserError: Names the videos whose features are damaged.
    """
    from bgan_video.features import verify

    opened = _frozen_bodies(config)
    return {body.name: verify(own, body, console.say, console.progress) for own, body in opened}


def _frozen_bodies(config: Config) -> list[tuple[Config, FrozenBody]]:
    """The frozen bodies of a run, each with the settings that name it."""
    from bgan_video.features import frozen_body
    from bgan_video.method.bodies import seen_features

    if config.spatial_dims != 3:
        raise UserError(
            f"features are those of videos, and data.layout={config.data.layout} has "
            f"{config.items}; choose a layout of videos"
        )
    backend = resolve_backend(config.run, config.spatial_dims)
    seen = [dataclasses.replace(config, features=of) for of in seen_features(config)]
    return [(own, frozen_body(own.features, backend)) for own in seen]
