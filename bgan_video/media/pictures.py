"""Items as networks see them, written for people: a grid of images; a sheet and a film of clips."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bgan_video.config import SpatialDims
from bgan_video.data.transforms import to_pixels
from bgan_video.media import sheets

FRAMES_PER_SECOND = 8.0


def write(path: Path, items: Tensor, spatial_dims: SpatialDims) -> list[Path]:
    """Write `<path>.png`, and `<path>.mp4` of clips; vectors have no picture.

    Args:
        path: Without suffix.
        items: `[N, C, (T,) H, W]` in [-1, 1], of 1 or 3 colours.
        spatial_dims: 3 for clips, 2 for images, 0 for vectors.

    Returns:
        The files.
    """
    if spatial_dims == 0:
        return []
    png, mp4 = path.with_suffix(".png"), path.with_suffix(".mp4")
    pixels = to_pixels(items)
    if spatial_dims == 2:
        sheets.write_png(png, sheets.image_grid(pixels))
        return [png]
    sheets.write_png(png, sheets.contact_sheet(pixels))
    sheets.write_mp4(mp4, pixels, FRAMES_PER_SECOND)
    return [png, mp4]


def write_beside(path: Path, real: Tensor, made: Tensor) -> Path:
    """Write a WebP that plays real clips to the left and generated ones to the right.

    Args:
        path: The file to write.
        real: `[N, C, T, H, W]` in [-1, 1], of 1 or 3 colours.
        made: As many of the same size.
    """
    sheets.write_webp(path, to_pixels(real), to_pixels(made), FRAMES_PER_SECOND)
    return path
