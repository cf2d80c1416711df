"""Which sizes the strided networks can take, and the stages that lead there. Pure arithmetic.

Height and width are `base · 2^n` with `base` in 4..7 and n stages that each halve them. Time is
`base · 2^k` with `base` in 1..7 and k ≤ n: it is halved by the k stages nearest to the pixels,
where frames cost most (docs/experiments.md has both orders). Generators run the stages backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bgan_video.errors import UserError

Sizes = tuple[int, ...]
SpatialDims = Literal[2, 3]

_SPATIAL_BASES = range(4, 8)
_TIME_BASES = range(1, 8)
_MAX_SIZE = 1024


@dataclass(frozen=True)
class Stage:
    """Kernel, stride and padding of one stage, over (time,) height and width."""

    kernel: Sizes
    stride: Sizes
    padding: Sizes


@dataclass(frozen=True)
class Plan:
    """`base` is the smallest feature map; `stages` go from the full size down to it."""

    base: Sizes
    stages: tuple[Stage, ...]

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for clips."""
        return len(self.base)


def plan_image(size: int) -> Plan:
    """The stages for square images.

    Raises:
        UserError: The size is none the strides allow; the nearest one is named.
    """
    base, count = _spatial(size)
    return Plan((base, base), (Stage((4, 4), (2, 2), (1, 1)),) * count)


def plan_clip(num_frames: int, size: int) -> Plan:
    """The stages for clips of square frames.

    Raises:
        UserError: The size or the number of frames is none the strides allow.
    """
    base, count = _spatial(size)
    time_base, halvings = _time(num_frames, count)
    keep = Stage((3, 4, 4), (1, 2, 2), (1, 1, 1))
    halve = Stage((4, 4, 4), (2, 2, 2), (1, 1, 1))
    return Plan((time_base, base, base), (halve,) * halvings + (keep,) * (count - halvings))


def _spatial(size: int) -> tuple[int, int]:
    allowed = {base << n: (base, n) for base in _SPATIAL_BASES for n in range(1, 9)}
    if size in allowed:
        return allowed[size]
    raise UserError(f"clip.size={size} does not fit the strides; {_nearest(size, list(allowed))}")


def _time(num_frames: int, max_halvings: int) -> tuple[int, int]:
    allowed: dict[int, tuple[int, int]] = {}
    for halvings in range(max_halvings + 1):
        for base in _TIME_BASES:
            # A base of one frame has no motion left, so it is used only where nothing else fits.
            if base > 1 or halvings == 0:
                allowed[base << halvings] = (base, halvings)
    if num_frames in allowed:
        return allowed[num_frames]
    raise UserError(
        f"clip.num_frames={num_frames} does not fit the strides; "
        f"{_nearest(num_frames, list(allowed))}"
    )


def _nearest(value: int, allowed: list[int]) -> str:
    allowed = sorted(a for a in allowed if a <= _MAX_SIZE)
    near = min(allowed, key=lambda a: (abs(a - value), a))
    listed = ", ".join(map(str, allowed[:16]))
    more = ", …" if len(allowed) > 16 else ""
    return f"nearest allowed: {near} (allowed: {listed}{more})"
