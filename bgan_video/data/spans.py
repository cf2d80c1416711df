"""Parts of a video in seconds, as a part of its path: `film.mp4#t=12.5,20`.

The form is that of W3C Media Fragments (2012), section 4.2.1: from 12.5 up to, and without, 20
seconds after the first frame; without an end, to the last frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bgan_video.errors import UserError
from bgan_video.video.times import Times

_SPAN = re.compile(r"#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?$")

_ROUNDING = 5e-4
"""Seconds, half a millisecond: to which parts are written, and time stamps rounded."""


class Span(NamedTuple):
    """Seconds after the first frame; an end of None is that of the video."""

    start: float
    end: float | None


def parted(path: str) -> tuple[str, Span | None]:
    """The file of an item's path, and the part of it that is meant; None of a whole video."""
    match = _SPAN.search(path)
    if match is None:
        return path, None
    return path[: match.start()], Span(float(match[1]), float(match[2]) if match[2] else None)


def file_of(path: str) -> str:
    """The file of an item's path."""
    return parted(path)[0]


def joined(file: str, span: Span | None) -> str:
    """The path of a part of a file, to the millisecond; of a whole video the file's own."""
    if span is None:
        return file
    end = "" if span.end is None else f",{_shown(span.end)}"
    return f"{file}#t={_shown(span.start)}{end}"


def holds(whole: Span, part: Span) -> bool:
    """Whether a part of a video lies within another one."""
    behind = np.inf if whole.end is None else whole.end + _ROUNDING
    return part.start >= whole.start - _ROUNDING and (part.end or np.inf) <= behind


def span_of(
    where: str, cells: Mapping[str, str], columns: tuple[str, str] = ("start", "end")
) -> Span | None:
    """The part that two cells of a table's row name; None where both are empty.

    Seconds, or minutes and hours before them (`1:02.5`).

    Raises:
        UserError: A cell is neither, or the end does not come behind the start.
    """
    start, end = (_seconds(where, name, cells.get(name, "")) for name in columns)
    if start is None and end is None:
        return None
    span = Span(start or 0.0, end)
    if span.end is not None and span.end <= span.start:
        raise UserError(
            f"{where}: the part from {span.start:g} to {span.end:g} seconds is empty; the end "
            f"comes behind the start"
        )
    return span


def number_from_zero(text: str) -> float | None:
    """A finite number from 0; None of anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _seconds(where: str, column: str, text: str) -> float | None:
    if not text:
        return None
    seconds = 0.0
    for part in text.replace(",", ".").split(":"):
        value = number_from_zero(part)
        if value is None:
            raise UserError(f"{where}: {column}={text!r}; allowed: seconds, or 1:02.5")
        seconds = 60 * seconds + value
    return seconds


def frames_of(span: Span, times: Times) -> tuple[int, int]:
    """The first frame of a part of a file, and how many it has; none where it lies behind the end.

    Args:
        span: The part.
        times: Of the file's frames, in seconds.
    """
    end = np.inf if span.end is None else span.end
    first, behind = np.searchsorted(times, [span.start - _ROUNDING, end - _ROUNDING])
    return int(first), int(behind - first)


def _shown(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
