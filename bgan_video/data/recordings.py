"""What a video was cut from: the unit in which videos are alike, and in which chance draws them."""

from __future__ import annotations

from bgan_video.config import Data

NUMBERED_BY_CLASS = ("ucf101", "motion_shapes")
"""Layouts whose groups g01, g02, … are other recordings in every class."""


def recording(label: int, group: str, data: Data) -> str:
    """The recording or person of an item: its group, or that of its class.

    Args:
        label: The item's class.
        group: The item's group, which no split divides.
        data: Says whether every class numbers its own groups (UCF101), or a number means the same
            in all of them (`data.groups_span_classes`).
    """
    by_class = data.layout in NUMBERED_BY_CLASS and not data.groups_span_classes
    return f"{label}/{group}" if by_class else group
