"""The vectors that bodies of features see: of items in a store, and of files that are in none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bgan_video.config import Config
from bgan_video.data.cutting import Length
from bgan_video.data.feature_store import FeatureStore
from bgan_video.data.manifest import Item
from bgan_video.features import FrozenBody, Readable, Scale, clip_vectors


@dataclass(frozen=True)
class FileVectors:
    """The vectors of files that are in no store, centred and scaled as those of training are.

    Attributes:
        frozen: The body that makes features.
        config: Which frames make clips.
        scale: Of the training videos.
    """

    frozen: FrozenBody
    config: Config
    scale: Scale

    def __call__(self, reader: Readable, length: Length, start: int) -> Tensor:
        """`[clips, L]` of a part of a file decoded at `frozen.size`, from frame `start` on."""
        vectors = clip_vectors(reader, length, self.config, self.frozen, start)
        return self.scale(torch.from_numpy(vectors))


class StoredVectors:
    """The vectors of a feature store as frames, centred and scaled.

    They are kept in memory until the room is spent; the rest is read anew each time.

    Args:
        store: Filled with every item that will be asked for.
        scale: Of the training videos.
        room: Bytes to keep.
    """

    def __init__(self, store: FeatureStore, scale: Scale, room: int) -> None:
        self._store, self._scale, self._room = store, scale, room
        self._kept: dict[str, NDArray[np.float32]] = {}

    def read(self, item: Item, indices: Sequence[int]) -> NDArray[Any]:
        """Vectors `[T, L]` of an item's clips at `indices`."""
        vectors = self._kept.get(item.path)
        if vectors is None:
            vectors = self._scale(torch.from_numpy(self._store.read(item))).numpy()
            if vectors.nbytes <= self._room:
                self._room -= vectors.nbytes
                self._kept[item.path] = vectors
        return vectors[list(indices)]

    def times(self, item: Item) -> None:
        """Vectors have none."""
