"""Long unlabelled videos as their segments, and labelled parts of videos as items."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator

from bgan_video.config import Config
from bgan_video.data.frames import Broken, Frames, check_long_enough
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.spans import Span, frames_of, joined, parted
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo
from bgan_video.video.times import Times, usual_gap


def cut(manifest: Manifest, frames: Frames, config: Config) -> tuple[Manifest, list[Broken]]:
    """Parts that a label list names are surveyed; what is unlabelled and long becomes segments.

    A segment lasts `data.segment_seconds` or more, and less than twice that; segments of a video
    are equally long. One that a labelled part of the same video overlaps is left out: what it shows
    is known.

    Args:
        manifest: Surveyed, split and labelled.
        frames: Where its items were surveyed.
        config: `data.segment_seconds`; null cuts nothing.

    Returns:
        The manifest, and the labelled parts that hold no frame.

    Raises:
        UserError: A part or segment is too short under `clip.short_clip=error`, or a video that is
            to be cut is not there any more.
    """
    broken: list[Broken] = []
    items: list[Item] = []
    for item in manifest.items:
        if item.num_frames:
            items.append(item)
            continue
        try:
            part = frames.survey(item)
        except BrokenVideo as error:
            broken.append(Broken(item.path, error.reason))
            continue
        check_long_enough(part, frames, config.clip)
        items.append(part)
    lasts = config.data.segment_seconds
    if lasts is None:
        return manifest.replace(tuple(items)), broken
    labelled: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.labelled:
            labelled[parted(item.path)[0]].append(item)
    whole: list[Item] = []
    for item in items:
        if item.split != "train" or item.labelled:
            whole.append(item)
            continue
        known = labelled[parted(item.path)[0]]
        try:
            times = frames.times(item)
        except BrokenVideo as error:
            where = f"data.segment_seconds={lasts:g}: {item.path}"
            raise UserError(f"{where} is to be cut by its times: {error.reason}") from None
        for segment in _segments(item, times, lasts):
            if segment.path == item.path or not any(_overlap(segment, other) for other in known):
                check_long_enough(segment, frames, config.clip)
                whole.append(segment)
    return manifest.replace(tuple(whole)), broken


def _segments(item: Item, times: Times, lasts: float) -> Iterator[Item]:
    """The segments of an item, or itself where it is short.

    Args:
        item: Surveyed.
        times: Of its frames, in seconds after the first one of its file.
        lasts: Seconds.
    """
    file, span = parted(item.path)
    begin, end = float(times[0]), float(times[-1]) + usual_gap(times)
    count = max(1, int((end - begin) / lasts + 1e-6))
    if count == 1:
        yield item
        return
    edges = [round(begin + i * (end - begin) / count, 3) for i in range(count)]
    behind = None if span is None else span.end
    for start, stop in zip(edges, [*edges[1:], behind], strict=True):
        part = Span(start, stop)
        first, number = frames_of(part, times)
        if number > 0:  # a pause may span a segment
            yield dataclasses.replace(
                item,
                path=joined(file, part),
                num_frames=number,
                first_frame=item.first_frame + first,
            )


def _overlap(one: Item, other: Item) -> bool:
    """Whether two parts of a file share frames."""
    start = max(one.first_frame, other.first_frame)
    return start < min(one.first_frame + one.num_frames, other.first_frame + other.num_frames)
