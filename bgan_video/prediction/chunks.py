"""The clips a video is judged by: evenly spread in time, fixed crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bgan_video.backend import on_cuda
from bgan_video.config import Config
from bgan_video.data import cutting, parallel
from bgan_video.data.cutting import ItemFrames
from bgan_video.data.manifest import Item
from bgan_video.data.transforms import CROPS, test_view
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo

# Clips held in memory at once while every network looks at them.
_CHUNK_BYTES = 128 * 2**20
_BATCH = 64
_BATCH_BYTES = 16 * 2**20
"""Clips that a network sees at once on a CPU, in bytes; what its first layers make of them takes
several times as much, and no more clips at once are no faster there."""


@dataclass(frozen=True)
class ClipChunk:
    """All test clips of some videos: `clips [V·n, C, T, H, W]`, video by video."""

    clips: Tensor
    labels: Tensor
    clips_per_video: int


def test_chunks(items: Sequence[Item], frames: ItemFrames, config: Config) -> Iterator[ClipChunk]:
    """The test clips of `items`, in order, as many videos at a time as memory is meant for.

    `data.num_workers` threads read the next videos while networks see these; no more of them than
    are seen at a time, and one. Threads, and not the processes of training (`data/loading.py`),
    since what a video is judged by is too much for a small shared memory, and whoever judges
    without training has none of those (docs/adr/0024).
    """
    per_video = config.clip.test_clips * config.clip.test_crops
    step = videos_a_chunk(config)
    read = partial(video_views, frames=frames, config=config)
    of_videos = parallel.ahead(read, items, min(config.data.num_workers, step))
    for start in range(0, len(items), step):
        part = items[start : start + step]
        views = chain.from_iterable(islice(of_videos, len(part)))
        labels = torch.tensor([item.label for item in part])
        yield ClipChunk(stacked(views, len(part) * per_video), labels, per_video)


def stacked(views: Iterator[Tensor], count: int) -> Tensor:
    """`count` >= 1 views of one shape as one tensor, without a second copy of all of them."""
    first = next(views)
    whole = first.new_empty(count, *first.shape)
    for place, view in enumerate(chain([first], views)):
        whole[place] = view
    return whole


def videos_a_chunk(config: Config) -> int:
    """How many videos' test clips memory is meant for at once: whole batches, at least one."""
    at_once = videos_at_once(config)
    return _videos_in_memory(config) // at_once * at_once


def videos_at_once(config: Config) -> int:
    """How many videos a network sees in a batch, at least one.

    What is said of a video may depend on its batch in the last bit. Whoever takes a part of the
    videos from a multiple of this on has the batches of all of them.
    """
    clips = _clips_at_once(_clip_bytes(config), on_cuda(config.run))
    whole = max(1, clips // (config.clip.test_clips * config.clip.test_crops))
    return min(whole, _videos_in_memory(config))


def batches(clips: Tensor, per_video: int) -> Iterator[Tensor]:
    """Clips as a network sees them at once: those of whole videos, or some of one video's.

    Args:
        clips: `[V·n, C, T, H, W]`.
        per_video: n.
    """
    most = _clips_at_once(clips[0].nbytes, clips.is_cuda)
    whole = max(1, most // per_video) * per_video
    return (batch for of_videos in clips.split(whole) for batch in of_videos.split(most))


def _videos_in_memory(config: Config) -> int:
    c = config.clip
    return max(1, _CHUNK_BYTES // (c.test_clips * c.test_crops * _clip_bytes(config)))


def _clip_bytes(config: Config) -> int:
    c = config.clip
    return 4 * config.channels * c.num_frames * (c.size**2 if config.spatial_dims else 1)


def _clips_at_once(nbytes: int, on_gpu: bool) -> int:
    """How many clips of so many bytes each a network sees at once."""
    return _BATCH if on_gpu else max(1, min(_BATCH, _BATCH_BYTES // nbytes))


def video_views(item: Item, frames: ItemFrames, config: Config) -> list[Tensor]:
    """The views `[C, T, H, W]` of one video: test_clips × test_crops."""
    clip = config.clip
    try:
        length = cutting.length_of(item, frames, clip)
        wanted, rows = cutting.rows_of(cutting.uniform_clips(length, clip, clip.test_clips))
        decoded = frames.read(item, wanted)
    except BrokenVideo as error:
        raise UserError(f"{item.path} no longer reads: {error.reason}") from None
    return clip_views(decoded, rows, config)


def clip_views(
    decoded: NDArray[np.uint8], clip_rows: Sequence[Sequence[int]], config: Config
) -> list[Tensor]:
    """The views `[C, T, H, W]` of clips given as rows of frames: clip by clip, every crop."""
    return [
        test_view(
            decoded[list(rows)], config.clip.size, config.load_size, crop, config.spatial_dims
        )
        for rows in clip_rows
        for crop in CROPS[config.clip.test_crops]
    ]
