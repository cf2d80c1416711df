"""Files opened for prediction: short ones decoded once, ahead of the networks, long in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgan_video.config import Config
from bgan_video.data.cutting import Length, rows_of, too_short, uniform_clips
from bgan_video.data.images import Array, ImageError, decode
from bgan_video.features import Readable
from bgan_video.prediction.chunks import clip_views, stacked
from bgan_video.video import clips
from bgan_video.video.reader import BrokenVideo, OpenVideo, StartAgain, open_video
from bgan_video.video.times import Times, frame_times, usual_gap

_MOST_HELD = 24 * 2**20
"""Bytes of a file's frames that are kept, to cut clips of when their number is known. A file with
more is long: it is read once to count its frames, and again window by window."""
_MOST_WORKERS = 4


@dataclass(frozen=True)
class Opened:
    """A file whose windows are known.

    Attributes:
        path: As it was given.
        length: Frames, with times where clips are cut in seconds.
        seconds: When each frame is shown; None of an image.
        places: First frame and end of each window.
        clips: What networks of clips see of all windows, `[W·n, C, (T,) H, W]`; None of a long
            file.
        held: All frames at each further size that is asked for; none of a long file.
    """

    path: Path
    length: Length
    seconds: Times | None
    places: list[tuple[int, int]]
    clips: Tensor | None
    held: dict[int, Held]

    @property
    def is_long(self) -> bool:
        """Whether its frames are too many to be kept."""
        return self.clips is None and not self.held


@dataclass(frozen=True)
class Refused:
    """A file that cannot be predicted, and why."""

    path: Path
    reason: str


class Held:
    """The frames of a video, or an image as a video of one frame, in memory."""

    def __init__(self, frames: Array) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, indices: Sequence[int]) -> Array:
        """The frames at `indices`, `[T, H, W, C]`."""
        return self._frames[list(indices)]


def open_file(
    path: Path, config: Config, sizes: Sequence[int], sees_clips: bool
) -> Opened | Refused:
    """Read a file as far as it is short.

    Args:
        path: A video, or an image where the networks see images.
        config: Clips and decoding.
        sizes: Short sides in pixels at which bodies of features see the frames.
        sees_clips: Whether a body sees clips.
    """
    try:
        return _open(path, config, sizes, sees_clips)
    except BrokenVideo as error:
        return Refused(path, error.reason)
    except ImageError as error:
        return Refused(path, str(error))


def _open(path: Path, config: Config, sizes: Sequence[int], sees_clips: bool) -> Opened | Refused:
    if config.spatial_dims == 2:
        frames, seconds = Held(decode(path, config.channels)[None]), None
        num_frames = 1
    else:
        size = config.load_size if sees_clips else sizes[0]
        frames, num_frames = _short(path, config, size)
        seconds = frame_times(path, num_frames, config.data.decoder)
    length = Length(num_frames, seconds if config.clip.fps is not None else None)
    if reason := too_short(length, config.clip):
        return Refused(path, reason)
    places = windows(length, config)
    if frames is None:
        return Opened(path, length, seconds, places, None, {})
    held: dict[int, Held] = {}
    for size in sizes:
        same = frames if size == (config.load_size if sees_clips else sizes[0]) else None
        again = same or _short(path, config, size)[0]
        if again is None:  # of another size it is too large to be kept
            return Opened(path, length, seconds, places, None, {})
        held[size] = again
    views = window_views(frames, length, places, config) if sees_clips else None
    return Opened(path, length, seconds, places, views, held)


def _short(path: Path, config: Config, size: int) -> tuple[Held | None, int]:
    """All frames of a short video, decoded once, and their number; None of a long one's frames."""
    with open_video(path, config.data.decoder, size) as reader:
        while True:
            try:
                frames = _kept(reader)
            except StartAgain:
                continue
            if frames is not None:
                return Held(frames), len(frames)
            return None, len(reader)


def _kept(reader: OpenVideo) -> Array | None:
    pieces: list[Array] = []
    room = _MOST_HELD
    for piece in reader.pieces():
        room -= piece.nbytes
        if room < 0:
            return None
        pieces.append(piece)
    return np.concatenate(pieces)


def windows(length: Length, config: Config) -> list[tuple[int, int]]:
    """First frame and end of each window of a video: equal parts that cover it.

    A window is `clip.test_clips` clips laid end to end and less than twice that, so that the clips
    it is judged by see at least half of it. A shorter video is one window. With `clip.fps` parts
    are equal in time, but for pauses.
    """
    c, n = config.clip, length.num_frames
    if length.times is None or c.fps is None:
        count = max(1, n // (c.test_clips * clips.span(c.num_frames, c.stride)))
        edges = [i * n // count for i in range(count + 1)]
        return list(pairwise(edges))
    lasts = float(length.times[-1] - length.times[0]) + usual_gap(length.times)
    count = max(1, int(lasts * c.fps / (c.test_clips * c.num_frames) + 1e-6))
    starts = length.times[0] + np.arange(1, count) * (lasts / count)
    inner = np.searchsorted(length.times, starts).tolist()
    return _whole_clips(sorted({*inner, n}), length, config)  # a pause may span a window


def _whole_clips(ends: Sequence[int], length: Length, config: Config) -> list[tuple[int, int]]:
    """Windows up to these frames; one beside a pause that has no clip goes to its neighbour.

    Args:
        ends: Rising, up to the last frame's.
        length: Of a video that has a clip.
        config: Says what is too short.
    """
    found: list[tuple[int, int]] = []
    start = 0
    for end in ends:
        if not too_short(length.part(start, end), config.clip):
            found.append((start, end))
            start = end
    first, _ = found.pop()
    return [*found, (first, ends[-1])]


def window_views(
    reader: Readable, length: Length, places: Sequence[tuple[int, int]], config: Config
) -> Tensor:
    """The test clips of some windows, `[W·n, C, (T,) H, W]`, read forwards."""
    clip = config.clip

    def views() -> Iterator[Tensor]:
        for start, end in places:
            placed = uniform_clips(length.part(start, end), clip, clip.test_clips)
            wanted, rows = rows_of(placed)
            yield from clip_views(reader.read([start + i for i in wanted]), rows, config)

    return stacked(views(), len(places) * clip.test_clips * clip.test_crops)


def workers(config: Config) -> int:
    """How many files are decoded at once: `data.num_workers`, else as the machine has cores."""
    return config.data.num_workers or max(1, min(_MOST_WORKERS, os.cpu_count() or 1))


def window_vectors(
    reader: Readable,
    length: Length,
    places: Sequence[tuple[int, int]],
    vectors: Callable[[Readable, Length, int], Tensor],
) -> Tensor:
    """What a body of features sees of some windows, `[W·n, L]`."""
    return torch.cat([vectors(reader, length.part(start, end), start) for start, end in places])
