"""Drawing for `motion_shapes`: shapes with one orientation, on a torus, without jagged edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def coverage(shape: str, states: NDArray[np.float64], size: int) -> Floats:
    """Part of each pixel inside the shape, `[T, size, size, 1]`, for states `[T, 4]`."""
    x, y, angle, log_size = (column.astype(np.float32)[:, None, None] for column in states.T)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    # Around the torus: the displacement to the nearest copy of the shape.
    dx = np.mod(axis[None, None, :] - x + 0.5, 1) - 0.5
    dy = np.mod(axis[None, :, None] - y + 0.5, 1) - 0.5
    cos, sin, scale = np.cos(angle), np.sin(angle), np.exp(log_size)
    p = np.stack([(cos * dx + sin * dy) / scale, (cos * dy - sin * dx) / scale])
    return np.clip(0.5 - SHAPES[shape](p) * (scale * size), 0, 1)[..., None]


def _box(p: Floats, x0: float, y0: float, x1: float, y1: float) -> Floats:
    """Signed distance to a rectangle, negative inside; `p` is `[2, ...]`."""
    dx = np.maximum(x0 - p[0], p[0] - x1)
    return np.maximum(dx, np.maximum(y0 - p[1], p[1] - y1))


def _disc(p: Floats, x: float, y: float, radius: float) -> Floats:
    return np.hypot(p[0] - np.float32(x), p[1] - np.float32(y)) - np.float32(radius)


def _ell(p: Floats) -> Floats:
    return np.minimum(_box(p, -0.6, -0.85, -0.1, 0.85), _box(p, -0.6, 0.35, 0.6, 0.85))


def _arrow(p: Floats) -> Floats:
    head = np.maximum(-0.05 - p[0], (p[0] + 1.2 * np.abs(p[1]) - 0.95) / np.float32(1.56))
    return np.minimum(head, _box(p, -0.85, -0.25, 0.0, 0.25))


def _lobes(p: Floats) -> Floats:
    two = np.minimum(_disc(p, -0.3, -0.3, 0.5), _disc(p, 0.55, -0.1, 0.3))
    return np.minimum(two, _disc(p, -0.1, 0.55, 0.38))


def _half_disc(p: Floats) -> Floats:
    return np.maximum(_disc(p, 0.0, 0.0, 0.9), 0.15 - p[0] - 0.3 * p[1])


def _notched(p: Floats) -> Floats:
    return np.maximum(_box(p, -0.8, -0.55, 0.8, 0.55), -_box(p, 0.1, -0.6, 0.55, 0.15))


# Signed distances in units of the shape's size. No shape looks the same after a turn.
SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "ell": _ell,
    "arrow": _arrow,
    "lobes": _lobes,
    "half_disc": _half_disc,
    "notched": _notched,
}
