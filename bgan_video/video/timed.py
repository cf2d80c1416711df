"""Which frames make up a clip that is asked for in seconds: index arithmetic on time stamps.

The frame nearest in time is taken for each moment of a clip, the earlier one of two as near, so
that a clip of constant rate has the frames that a stride has where the rate is a multiple.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgan_video.video.clips import ShortClip
from bgan_video.video.times import Times, usual_gap

# Seconds: rounding must not decide between frames that are equally near.
_HAIR = 1e-6


def seconds(num_frames: int, fps: float) -> float:
    """From the first frame of a clip to its last."""
    return (num_frames - 1) / fps


def is_short(times: Times, num_frames: int, fps: float) -> bool:
    """Whether a video is shorter than a clip: its last frame comes before the clip's last moment.

    Half of the usual gap is let pass, as the nearest frame is taken.
    """
    lasts = float(times[-1] - times[0]) + usual_gap(times) / 2
    return lasts + _HAIR / 2 < seconds(num_frames, fps)


def random_clip(
    times: Times, num_frames: int, fps: float, short_clip: ShortClip, start_fraction: float
) -> list[int]:
    """The clip at a random place; every valid first frame is equally likely.

    Args:
        times: Of the video's frames in seconds, rising, at least one.
        num_frames: Frames in the clip, at least 1.
        fps: Its frames a second, above 0.
        short_clip: What to do with a video shorter than the clip.
        start_fraction: A draw from the uniform distribution on [0, 1).

    Returns:
        `num_frames` indices in `[0, len(times))`.

    Raises:
        ValueError: A short video under `error`.
    """
    last = _last_start(times, num_frames, fps, short_clip)
    start = min(int(start_fraction * (last + 1)), last)
    return _clip(times, start, num_frames, fps, short_clip)


def uniform_clips(
    times: Times, num_frames: int, fps: float, num_clips: int, short_clip: ShortClip
) -> list[list[int]]:
    """Clips spread evenly from the first valid start to the last; a single one lies in the centre.

    Args and errors are those of `random_clip`; `num_clips` >= 1.
    """
    last = _last_start(times, num_frames, fps, short_clip)
    starts = [last // 2]
    if num_clips > 1:
        starts = [(i * last) // (num_clips - 1) for i in range(num_clips)]
    return [_clip(times, start, num_frames, fps, short_clip) for start in starts]


def _last_start(times: Times, num_frames: int, fps: float, short_clip: ShortClip) -> int:
    """The last frame that a whole clip can start at; 0 where none can."""
    if is_short(times, num_frames, fps):
        if short_clip == "error":
            raise ValueError(
                f"the video is {times[-1] - times[0]:.3f} seconds long, a clip of {num_frames} "
                f"frames at {fps:g} a second takes {seconds(num_frames, fps):.3f}"
            )
        return 0
    latest = times[-1] + usual_gap(times) / 2 - seconds(num_frames, fps)
    return max(0, int((times <= latest + _HAIR / 2).sum()) - 1)


def _clip(
    times: Times, start: int, num_frames: int, fps: float, short_clip: ShortClip
) -> list[int]:
    moments: Times = times[start] + np.arange(num_frames) / fps
    if short_clip == "loop":
        gap = usual_gap(times)
        length = times[-1] - times[0] + gap
        # Behind the middle between the last frame and the first one again, that one is the nearest.
        before_first = gap / 2 - _HAIR
        moments = times[0] + (moments - times[0] + before_first) % length - before_first
    after: NDArray[np.intp] = np.searchsorted(times, moments)
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    is_earlier = moments - times[before] <= times[after] - moments + _HAIR  # of two as near
    return np.where(is_earlier, before, after).tolist()
