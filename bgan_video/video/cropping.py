"""Whether a container asks a player to cut its frames: read from the header, as PyAV does not say.

What H.264 and HEVC cut is the codec's own affair, and done by every decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

# Boxes or elements looked at in a file; a sound one has a few hundred before its first picture.
_MOST_LOOKED_AT = 10_000

# ISO/IEC 14496-12: where the clean aperture box of a video stands.
_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_APERTURE = b"clap"
# RFC 9559: PixelCropBottom, Top, Left and Right, and where they stand.
_SEGMENT, _TRACKS, _TRACK, _VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_CROPS = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")
_CLUSTER = b"\x1f\x43\xb6\x75"
_EBML = b"\x1a\x45\xdf\xa3"


class _Part(NamedTuple):
    """A box or an element: its name, and where its content lies in the file."""

    name: bytes
    start: int
    end: int


def is_asked_for(path: Path) -> bool:
    """Whether an MP4 (`clap`) or a Matroska file (`PixelCrop…`) is to be cut where it is shown.

    False of a file whose header does not read so far, and of other containers.
    """
    with suppress(OSError, struct.error, ValueError), path.open("rb") as file:
        size = path.stat().st_size
        is_matroska = file.read(4) == _EBML
        whole = _Part(b"", 0, size)
        return _crops_matroska(file, whole) if is_matroska else _crops_mp4(file, whole)
    return False


def _crops_mp4(file: BinaryIO, whole: _Part) -> bool:
    found = [whole]
    for name in _BOXES:
        found = [box for part in found for box in _boxes(file, part) if box.name == name]
    # The entries of `stsd` stand behind version and count.
    entries = (e for box in found for e in _boxes(file, box._replace(start=box.start + 8)))
    return any(_cuts(file, entry) for entry in entries)


def _cuts(file: BinaryIO, entry: _Part) -> bool:
    """Whether an entry of a video has an aperture smaller than its frames."""
    size = _read(file, entry.start + 24, ">2H")
    for box in _boxes(file, entry._replace(start=entry.start + 78)):
        if box.name == _APERTURE:
            width, over, height, under = _read(file, box.start, ">4I")
            return width < size[0] * over or height < size[1] * under
    return False


def _boxes(file: BinaryIO, parent: _Part) -> Iterator[_Part]:
    at = parent.start
    for _ in range(_MOST_LOOKED_AT):
        if at + 8 > parent.end:
            return
        size, name = _read(file, at, ">I4s")
        start = at + 8
        if size == 1:  # a longer number follows
            (size,), start = _read(file, start, ">Q"), start + 8
        end = parent.end if size == 0 else min(at + size, parent.end)
        if end < start:
            return
        yield _Part(name, start, end)
        at = end


def _crops_matroska(file: BinaryIO, whole: _Part) -> bool:
    found = [whole]
    for name in (_SEGMENT, _TRACKS, _TRACK, _VIDEO):
        found = [e for part in found for e in _elements(file, part) if e.name == name]
    cuts = (e for part in found for e in _elements(file, part) if e.name in _CROPS)
    return any(any(_bytes(file, e.start, min(8, e.end - e.start))) for e in cuts)


def _elements(file: BinaryIO, parent: _Part) -> Iterator[_Part]:
    """Elements up to the first cluster, behind which are pictures."""
    at = parent.start
    for _ in range(_MOST_LOOKED_AT):
        if at >= parent.end:
            return
        name = _bytes(file, at, _length(file, at))
        at += len(name)
        if name == _CLUSTER:
            return
        length = _length(file, at)
        size = int.from_bytes(_bytes(file, at, length), "big") - (1 << 7 * length)
        is_unknown = size == (1 << 7 * length) - 1
        start = at + length
        end = parent.end if is_unknown else min(start + size, parent.end)
        yield _Part(name, start, end)
        at = end


def _length(file: BinaryIO, at: int) -> int:
    """Bytes of a number of variable length: one more than its first byte has leading zeros."""
    (first,) = _bytes(file, at, 1)
    if first == 0:
        raise ValueError("no number of up to eight bytes")
    return 9 - first.bit_length()


def _read(file: BinaryIO, at: int, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, _bytes(file, at, struct.calcsize(form)))


def _bytes(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    content = file.read(count)
    if len(content) < count:
        raise ValueError("the file ends")
    return content
