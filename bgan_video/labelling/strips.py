"""A clip as one picture: frames evenly spread over a video, beside and below each other (JPEG)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from bgan_video.data.manifest import Item
from bgan_video.data.spans import file_of
from bgan_video.video.decoders import Pixels
from bgan_video.video.reader import Decoder, open_video

FRAMES = 32
"""That the page plays; every fourth of them stands in its strip."""
COLUMNS = 8
_HEIGHT = 144
_QUALITY = 80


@dataclass(frozen=True)
class Strip:
    """A picture of frames, row by row.

    Attributes:
        jpeg: The file's bytes.
        width: Of a frame, in pixels.
        height: Of a frame, in pixels.
    """

    jpeg: bytes
    width: int
    height: int


def strip(root: Path, item: Item, decoder: Decoder) -> Strip:
    """`FRAMES` frames of a video, or of the part of one that an item is, in rows of `COLUMNS`.

    A short one's frames are repeated.

    Args:
        root: What the item's path is relative to.
        item: Surveyed.
        decoder: To read with.

    Raises:
        BrokenVideo: It does not read.
    """
    with open_video(root / file_of(item.path), decoder, _HEIGHT) as video:
        last = min(item.first_frame + item.num_frames, len(video)) - 1
        places = np.linspace(min(item.first_frame, last), last, FRAMES).round().astype(int)
        wanted = sorted({int(place) for place in places})
        frames = video.read(wanted)[np.searchsorted(wanted, places)]
    return _drawn(frames)


def _drawn(frames: Pixels) -> Strip:
    height, width = frames.shape[1:3]
    sheet = rearrange(frames, "(row column) h w c -> (row h) (column w) c", column=COLUMNS)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "JPEG", quality=_QUALITY)
    return Strip(stream.getvalue(), width, height)
