"""Pictures and films of clips: contact sheets, image grids, PNG, MP4 and WebP files.

Plain numpy, so that whatever has `uint8` frames can write them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from matplotlib import image as mpl_image
from PIL import Image

from bgan_video.video.decoders import Pixels

MAX_SHEET_FRAMES = 8
GAP = 2
"""White pixels between the tiles of a sheet or a film."""
READABLE_SIDE = 128
"""Tiles with a longer side below this are enlarged, at most `MAX_SCALE` times."""
MAX_SCALE = 4
MIN_SECONDS = 2.0
_BETWEEN = 16  # white pixels between what stands left and what stands right
_QUALITY = 80


def contact_sheet(clips: Pixels) -> Pixels:
    """A row for each clip: up to eight frames, evenly spaced from the first to the last.

    Args:
        clips: `uint8 [N, T, H, W, 3]`.

    Returns:
        `uint8 [H', W', 3]`.
    """
    _check(clips, 5)
    shown = min(clips.shape[1], MAX_SHEET_FRAMES)
    picks = np.linspace(0, clips.shape[1] - 1, shown).round().astype(int)
    frames = clips[:, picks].reshape(-1, *clips.shape[2:])
    return image_grid(frames, columns=shown)


def image_grid(images: Pixels, columns: int | None = None) -> Pixels:
    """Tile images row by row; by default into the smallest square that holds them.

    Args:
        images: `uint8 [N, H, W, 3]`.
        columns: Tiles in a row.

    Returns:
        `uint8 [H', W', 3]`.
    """
    _check(images, 4)
    return _tile(images[:, None], columns)[0]


def write_png(path: Path | str, array: Pixels) -> None:
    """Write `uint8 [H, W, 3]` as PNG."""
    _check(array, 3)
    mpl_image.imsave(str(path), array, format="png")


def write_mp4(path: Path | str, clips: Pixels, fps: float, columns: int | None = None) -> None:
    """Write clips as one MP4 that plays them side by side.

    Small clips are enlarged without smoothing, and short ones repeated until they last two seconds.
    The film is H.264 where this FFmpeg can encode it (browsers play that), else MPEG-4.

    Args:
        path: The file to write.
        clips: `uint8 [N, T, H, W, 3]`.
        fps: Frames a second.
        columns: Clips in a row; by default the smallest square that holds them.
    """
    _check(clips, 5)
    film = _tile(_enlarged(clips), columns)
    # yuv420p halves the colour planes, so both sides have to be even.
    film = np.pad(
        film, ((0, 0), (0, film.shape[1] % 2), (0, film.shape[2] % 2), (0, 0)), mode="edge"
    )
    _encode(path, film, fps, loops=math.ceil(MIN_SECONDS * fps / len(film)))


def write_webp(path: Path | str, left: Pixels, right: Pixels, fps: float) -> None:
    """Write clips as one picture that plays them over and over, in two squares beside each other.

    A page shows it as it shows a picture, where a film would want a player. Lossy.

    Args:
        path: The file to write.
        left: `uint8 [N, T, H, W, 3]`.
        right: As many of the same size.
        fps: Frames a second.
    """
    _check(left, 5)
    if left.shape != right.shape:
        raise ValueError(f"clips {left.shape} and {right.shape} do not stand beside each other")
    films = [_tile(_enlarged(clips), columns=None) for clips in (left, right)]
    between = np.full((*films[0].shape[:2], _BETWEEN, 3), 255, dtype=np.uint8)
    film = np.concatenate([films[0], between, films[1]], axis=2)
    first, *others = (Image.fromarray(frame) for frame in film)
    lasts = round(1000 / fps)  # milliseconds
    shown: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0}
    first.save(path, "WEBP", duration=lasts, quality=_QUALITY, **shown)


def _enlarged(clips: Pixels) -> Pixels:
    """Small clips larger, without smoothing."""
    scale = min(MAX_SCALE, math.ceil(READABLE_SIDE / max(clips.shape[2:4])))
    return clips.repeat(scale, axis=2).repeat(scale, axis=3)


def _tile(clips: Pixels, columns: int | None) -> Pixels:
    """Tile `[N, T, H, W, 3]` into `[T, H', W', 3]`, with white gaps and white empty places."""
    count, length, height, width, _ = clips.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    shape = (length, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full(shape, 255, dtype=np.uint8)
    for index, clip in enumerate(clips):
        top = index // columns * (height + GAP)
        left = index % columns * (width + GAP)
        canvas[:, top : top + height, left : left + width] = clip
    return canvas


def _encode(path: Path | str, film: Pixels, fps: float, loops: int) -> None:
    codec, options = "mpeg4", {"qscale": "3"}
    if "libx264" in av.codecs_available:
        codec, options = "libx264", {"crf": "18", "preset": "veryfast"}
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = film.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for _ in range(loops):
            for frame in film:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _check(array: Pixels, dims: int) -> None:
    if array.dtype != np.uint8 or array.ndim != dims or array.shape[-1] != 3 or not array.size:
        raise ValueError(
            f"expected non-empty uint8 with {dims} dimensions and 3 colours last, "
            f"got {array.dtype} {array.shape}"
        )
