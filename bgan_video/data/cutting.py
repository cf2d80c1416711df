"""Clips cut out of an item: by a stride of frames, or in seconds where `clip.fps` is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from bgan_video.config import Clip
from bgan_video.data.manifest import Item
from bgan_video.video import clips, timed
from bgan_video.video.times import Times


class ItemFrames(Protocol):
    """What training and prediction read: frames of surveyed items by index."""

    def read(self, item: Item, indices: Sequence[int]) -> NDArray[Any]:
        """The frames at `indices`, `[T, H, W, C]`; of vectors `[T, L]`."""
        ...

    def times(self, item: Item) -> Times | None:
        """When each of its frames is shown, in seconds; None of what has no times."""
        ...


@dataclass(frozen=True)
class Length:
    """How long a video, or a part of one, is.

    Attributes:
        num_frames: Frames that decode, at least 1.
        times: When each is shown, in seconds; None where clips are cut by a stride.
    """

    num_frames: int
    times: Times | None = None

    def part(self, start: int, end: int) -> Length:
        """That of the frames `start` to `end - 1`."""
        return Length(end - start, None if self.times is None else self.times[start:end])


def random_clip(length: Length, clip: Clip, start_fraction: float) -> list[int]:
    """Indices of the clip at a random place; see `clips.random_clip` and `timed.random_clip`."""
    if length.times is None or clip.fps is None:
        frames, stride = clip.num_frames, clip.stride
        return clips.random_clip(length.num_frames, frames, stride, clip.short_clip, start_fraction)
    return timed.random_clip(
        length.times, clip.num_frames, clip.fps, clip.short_clip, start_fraction
    )


def uniform_clips(length: Length, clip: Clip, count: int) -> list[list[int]]:
    """Indices of `count` clips spread evenly."""
    if length.times is None or clip.fps is None:
        frames, stride = clip.num_frames, clip.stride
        return clips.uniform_clips(length.num_frames, frames, stride, count, clip.short_clip)
    return timed.uniform_clips(length.times, clip.num_frames, clip.fps, count, clip.short_clip)


def length_of(item: Item, frames: ItemFrames, clip: Clip) -> Length:
    """How long an item is, with the times of its frames where clips are cut by them."""
    return Length(item.num_frames, None if clip.fps is None else frames.times(item))


def too_short(length: Length, clip: Clip) -> str:
    """Why no clip can be cut from a video; empty where one can, as short ones are filled up."""
    why = shortness(length, clip) if clip.short_clip == "error" else ""
    return f"{why}; allowed with clip.short_clip=loop or repeat_last" if why else ""


def shortness(length: Length, clip: Clip) -> str:
    """How a video is shorter than a clip; empty where it is not."""
    if length.times is None or clip.fps is None:
        needed = clips.span(clip.num_frames, clip.stride)
        short = length.num_frames < needed
        return f"has {length.num_frames} frames, a clip needs {needed}" if short else ""
    if not timed.is_short(length.times, clip.num_frames, clip.fps):
        return ""
    lasts = length.times[-1] - length.times[0]
    needed = timed.seconds(clip.num_frames, clip.fps)
    return f"lasts {lasts:.2f} seconds, a clip needs {needed:.2f} (clip.fps={clip.fps:g})"


def rows_of(placed: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The frames that some clips are made of, each once and rising, and of each clip which."""
    wanted = sorted({index for indices in placed for index in indices})
    row = {index: number for number, index in enumerate(wanted)}
    return wanted, [[row[index] for index in indices] for indices in placed]
