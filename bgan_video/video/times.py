"""When the frames of a file are shown, in seconds after the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgan_video.video import containers, index
from bgan_video.video.decoders import Decoder

Times = NDArray[np.float64]

_USUAL_RATE = 25.0
"""Of a file that says neither times nor a rate, as a bare stream of frames does."""


def frame_times(path: Path, num_frames: int, decoder: Decoder) -> Times:
    """When each frame is shown, `[num_frames]`, rising from 0.

    Of a file that was read before, its index says so. Of another one, which is not decoded for it,
    the time stamps of the packets in the order of showing do, where there is one for each frame
    that decodes. Else (packed B-frames, a damaged end, a stream without time stamps) frames are
    evenly apart, at the rate that the header gives.

    Args:
        path: The file.
        num_frames: Frames that decode, at least 1.
        decoder: That reads it.

    Raises:
        BrokenVideo: The file does not open as a video.
    """
    known = index.known(path, decoder)
    if known is not None and known.num_frames == num_frames:
        return known.times
    with containers.open_container(path) as container:
        stream = containers.video_stream(container)
        stamps = _stamps(container, stream)
        if len(stamps) == num_frames and stream.time_base is not None:
            times = (stamps - stamps[0]) * float(stream.time_base)
            if (np.diff(times) > 0).all():
                return times
        rate = float(stream.average_rate or stream.guessed_rate or _USUAL_RATE)
    return np.arange(num_frames) / (rate if rate > 0 else _USUAL_RATE)


def usual_gap(times: Times) -> float:
    """Seconds from one frame to the next, the median; how long the last one is shown as well."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 1 / _USUAL_RATE


def varies(times: Times, tolerance: float = 0.1) -> bool:
    """Whether the rate varies: gaps differ from the usual one by more than a part of it.

    A time stamp in milliseconds, as Matroska's, is rounded by half of one at each end.
    """
    gap = usual_gap(times)
    return len(times) > 1 and bool((np.abs(np.diff(times) - gap) > tolerance * gap + 1e-3).any())


def _stamps(container: Any, stream: Any) -> NDArray[np.float64]:
    """Time stamps of the packets, sorted; none where one packet has none."""
    stamps: list[int] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # the end
                continue
            if packet.pts is None:
                return np.empty(0)
            stamps.append(packet.pts)
    except containers.PYAV_ERRORS:
        return np.empty(0)
    return np.sort(np.array(stamps, dtype=np.float64))
