"""What reads videos before any training: checks them, decodes them once, keeps their features."""

from __future__ import annotations

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


def features(config: Config) -> Extracted:
    """Compute the features of a data set's videos into the feature store, or go on with it.

    Raises:
        UserError: Body, data, settings or the store's place do not serve.
    """
    from bgan_video.features import extract

    with ranks.joined(on_cuda(config.run)):
        body = _frozen_body(config)
        return extract(layouts.read(config.data), config, body, console.say, console.progress)


def verify_features(config: Config) -> int:
    """Compare the feature store with its checksums; returns how many videos it has.

    Raises:
        UserError: Names the videos whose features are damaged.
    """
    from bgan_video.features import verify

    return verify(config, _frozen_body(config), console.say, console.progress)


def _frozen_body(config: Config) -> FrozenBody:
    from bgan_video.features import frozen_body

    if config.spatial_dims != 3:
        raise UserError(
            f"features are those of videos, and data.layout={config.data.layout} has "
            f"{config.items}; choose a layout of videos"
        )
    return frozen_body(config.features, resolve_backend(config.run, config.spatial_dims))
