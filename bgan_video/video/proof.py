"""The first reading of a file, and the proof of seeks against it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from bgan_video.video import containers, decoders
from bgan_video.video.containers import BrokenVideo, Shown
from bgan_video.video.decoders import DECODE_ERRORS, Decoder, DecordPass, Mark, Pass

# Nearer marks would cost more to prove and to keep than the frames between them to decode.
_LEAST_GAP = 16
# Frames decoded for proofs, as a multiple of the file's: each once where every seek is exact.
_MOST_WORK = 3
# Short side in pixels where frames are only counted.
_SMALL = 8


@dataclass
class Seen:
    """Every frame of a file in the order it is shown, decoded from the first packet.

    Attributes:
        look: How frames are shown.
        clock: Seconds of a unit of `pts`.
        rate: Frames a second, as the header has it.
        contents: Hash of each frame.
        pts: When each is shown; None where the file does not say.
        dts: When the packet of each was to be decoded.
        keyframes: Which of them need no other.
        damaged: Whether the decoder painted over something.
    """

    look: Shown
    clock: Fraction
    rate: Fraction
    contents: list[int] = field(default_factory=list[int])
    pts: list[int | None] = field(default_factory=list["int | None"])
    dts: list[int | None] = field(default_factory=list["int | None"])
    keyframes: list[int] = field(default_factory=list[int])
    damaged: bool = False

    @property
    def times_rise(self) -> bool:
        """Whether each frame has a time of its own, later than the last one's."""
        times = self.pts
        return None not in times and all(a < b for a, b in pairwise(times))  # pyright: ignore


def first_reading(path: Path) -> Seen:
    """Decode a file from the first packet; no frame is held.

    Raises:
        BrokenVideo: Not one frame decodes.
    """
    with containers.open_container(path) as container:
        stream = containers.video_stream(container)
        seen: Seen | None = None
        for number, frame in enumerate(containers.decode(container)):
            if seen is None:
                clock = frame.time_base or stream.time_base
                rate = stream.average_rate or stream.guessed_rate
                look = containers.shown(container, frame)
                seen = Seen(look, clock or Fraction(1, 25), rate or Fraction(25))
            seen.contents.append(decoders.content(frame))
            seen.pts.append(frame.pts)
            seen.dts.append(frame.dts)
            if frame.key_frame:
                seen.keyframes.append(number)
            seen.damaged |= frame.is_corrupt
    if seen is None:
        raise BrokenVideo(path, "no frame decodes")
    return seen


def proven(path: Path, seen: Seen, decoder: Decoder) -> list[Mark] | None:
    """The places from which a decoder's seek gives the frames that the first reading gave.

    Args:
        path: The file.
        seen: Its first reading.
        decoder: The one that will seek.

    Returns:
        Marks in order; None where the decoder finds another number of frames, or shows them
        otherwise. A damaged file has none: what is painted over depends on what was decoded before.
    """
    if decoder in ("auto", "pyav"):
        return [] if seen.damaged else _of_pyav(path, seen)
    if seen.look.mirrored:
        return None
    try:
        return _of_decord(path, seen) if decoder == "decord" else _of_others(path, seen, decoder)
    except (*DECODE_ERRORS, BrokenVideo):
        return None


def _of_pyav(path: Path, seen: Seen) -> list[Mark]:
    with containers.open_container(path) as container:
        stream = containers.video_stream(container)

        def frames(mark: Mark) -> Iterator[int]:
            container.seek(mark.time, stream=stream)
            decoded = containers.decode(container)
            for number, frame in enumerate(decoded):
                if number == 0 and frame.pts != mark.pts:
                    return
                yield decoders.content(frame)

        def marks(frame: int) -> Iterator[Mark]:
            pts = seen.pts[frame]
            for time in dict.fromkeys((pts, seen.dts[frame])):
                if time is not None and pts is not None:
                    yield Mark(frame, time, pts, seen.contents[frame])

        return _search(seen.keyframes, seen.contents, marks, frames)


def _of_decord(path: Path, seen: Seen) -> list[Mark] | None:
    """Its own first reading, then its seeks: it converts colours before anything can be hashed."""
    with containers.open_container(path) as container:
        decoders.check_for_others(container, path)
    reader = DecordPass(path, None, seen.look)
    count = len(seen.contents)
    if seen.damaged or not _candidates(reader.keyframes, count):
        return [] if _count(DecordPass(path, _SMALL, seen.look)) == count else None

    def frames(mark: Mark) -> Iterator[int]:
        reader.seek(mark)
        yield from _pixels(reader)

    contents = list(_pixels(reader))
    if len(contents) != count:
        return None
    return _search(reader.keyframes, contents, lambda frame: [Mark(frame)], frames)


def _of_others(path: Path, seen: Seen, decoder: Decoder) -> list[Mark] | None:
    own, *_ = decoders.passes(decoder)
    with containers.open_container(path) as container:
        decoders.check_for_others(container, path)
    return [] if _count(own(path, _SMALL, seen.look)) == len(seen.contents) else None


def _count(reader: Pass) -> int:
    """Frames that come; none is skipped, as decord counts some of the last ones as lost then."""
    count = 0
    while reader.next_frame() is not None:
        count += 1
    reader.close()
    return count


def _pixels(reader: DecordPass) -> Iterator[int]:
    while (pixels := reader.next_frame()) is not None:
        yield zlib.crc32(pixels().tobytes())


def _candidates(keyframes: Sequence[int], count: int) -> list[int]:
    return [frame for frame in keyframes if _LEAST_GAP <= frame < count]


def _search(
    keyframes: Sequence[int],
    contents: Sequence[int],
    marks: Callable[[int], Iterator[Mark] | list[Mark]],
    frames: Callable[[Mark], Iterator[int]],
) -> list[Mark]:
    """From the last keyframe to the first: each has to lead right up to the next proven one.

    Args:
        keyframes: Where a seek may lead.
        contents: Hashes of all frames.
        marks: Ways to seek to a frame.
        frames: Hashes of the frames that come after a seek.
    """
    found: list[Mark] = []
    end, work = len(contents), _MOST_WORK * len(contents)
    for frame in reversed(_candidates(keyframes, len(contents))):
        if end - frame < _LEAST_GAP:
            continue
        for mark in marks(frame):
            same = _agreeing(frames, mark, contents[frame:end])
            work -= same
            if same == end - frame:
                found.append(mark)
                end = frame
                break
        if work < 0:
            break
    return found[::-1]


def _agreeing(frames: Callable[[Mark], Iterator[int]], mark: Mark, expected: Sequence[int]) -> int:
    """How many frames after a seek are the expected ones, up to the first that is not."""
    same = 0
    try:
        for wanted, content in zip(expected, frames(mark), strict=False):
            if content != wanted:
                break
            same += 1
    except DECODE_ERRORS:
        pass
    return same
