"""Which frames of a video make up a clip: index arithmetic only."""

from __future__ import annotations

from typing import Literal

ShortClip = Literal["loop", "repeat_last", "error"]
"""What to do with a video that is shorter than a clip.

`loop` starts again at the first frame, `repeat_last` holds the last one, `error` refuses.
"""


def span(num_frames: int, stride: int) -> int:
    """How many frames of a video a clip reaches over, first and last included."""
    return (num_frames - 1) * stride + 1


def random_clip(
    video_length: int, num_frames: int, stride: int, short_clip: ShortClip, start_fraction: float
) -> list[int]:
    """The clip at a random place.

    Args:
        video_length: Frames in the video, at least 1.
        num_frames: Frames in the clip, at least 1.
        stride: Frames from one frame of the clip to the next, at least 1.
        short_clip: What to do with a video shorter than the clip.
        start_fraction: A draw from the uniform distribution on [0, 1); it then makes every valid
            start equally likely.

    Returns:
        `num_frames` indices in `[0, video_length)`.

    Raises:
        ValueError: A number out of its range, or a short video under `error`.
    """
    if not 0 <= start_fraction < 1:
        raise ValueError(f"start_fraction={start_fraction} is outside [0, 1)")
    last = _last_start(video_length, num_frames, stride, short_clip)
    # Just below 1, the product may round up to the number of starts.
    start = min(int(start_fraction * (last + 1)), last)
    return _clip(start, video_length, num_frames, stride, short_clip)


def uniform_clips(
    video_length: int, num_frames: int, stride: int, num_clips: int, short_clip: ShortClip
) -> list[list[int]]:
    """Clips spread evenly from the first valid start to the last; a single one lies in the centre.

    Args:
        video_length: Frames in the video, at least 1.
        num_frames: Frames in a clip, at least 1.
        stride: Frames from one frame of a clip to the next, at least 1.
        num_clips: How many clips, at least 1; clips coincide where there are fewer starts.
        short_clip: What to do with a video shorter than a clip.

    Returns:
        `num_clips` lists of `num_frames` indices in `[0, video_length)`.

    Raises:
        ValueError: A number out of its range, or a short video under `error`.
    """
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips} is below 1")
    last = _last_start(video_length, num_frames, stride, short_clip)
    if num_clips == 1:
        starts = [last // 2]
    else:
        starts = [(i * last) // (num_clips - 1) for i in range(num_clips)]
    return [_clip(start, video_length, num_frames, stride, short_clip) for start in starts]


def _last_start(video_length: int, num_frames: int, stride: int, short_clip: ShortClip) -> int:
    if min(video_length, num_frames, stride) < 1:
        raise ValueError(
            f"video_length={video_length}, num_frames={num_frames} and stride={stride} "
            f"must all be at least 1"
        )
    last = video_length - span(num_frames, stride)
    if last < 0 and short_clip == "error":
        raise ValueError(
            f"the video has {video_length} frames, a clip of {num_frames} frames at stride "
            f"{stride} needs {span(num_frames, stride)}"
        )
    return max(last, 0)


def _clip(
    start: int, video_length: int, num_frames: int, stride: int, short_clip: ShortClip
) -> list[int]:
    indices = range(start, start + num_frames * stride, stride)
    if short_clip == "loop":
        return [index % video_length for index in indices]
    return [min(index, video_length - 1) for index in indices]
