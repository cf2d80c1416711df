"""What the first reading of a file finds: its frames, their times, and from where a seek is exact.

A file is decoded from the first packet to the last once, and every frame hashed. Then each keyframe
is tried: a seek to it is proven where all frames behind it, up to the next proven one, are those of
the first reading. What is not proven is read from the start. The result is a small file in the
cache folder, named by the video's content and by all else it depends on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from bgan_video.files import cache_folder, fingerprint
from bgan_video.video import containers, cropping, decoders, proof
from bgan_video.video.containers import BrokenVideo, Shown
from bgan_video.video.decoders import Decoder, Mark

_SCHEMA = 2
# Indices kept in memory by each process.
_MOST_KEPT = 1024


@dataclass(frozen=True)
class Index:
    """A file as its first reading found it.

    Attributes:
        fingerprint: Hash of the file's size and both its ends.
        num_frames: Frames that decode.
        look: How they are shown.
        content: Hash of the frames as they are stored, whatever container they are in.
        decoder: Which one reads it: PyAV where the one asked for finds other frames.
        clock: Seconds of a tick.
        ticks: From each frame to the next, as runs of a number of ticks and how often it comes.
        is_to_be_cut: Whether its container asks for cropping, which is not done.
        marks: Proven places, int64 `[M, 4]`: frame, time, pts and content of each, in order.
    """

    fingerprint: str
    num_frames: int
    look: Shown
    content: str
    decoder: Decoder
    clock: Fraction
    ticks: tuple[tuple[int, int], ...]
    is_to_be_cut: bool
    marks: NDArray[np.int64]

    @property
    def times(self) -> NDArray[np.float64]:
        """When each frame is shown, in seconds from the first one, `[num_frames]`."""
        steps = [np.full(count, step) for step, count in self.ticks]
        return np.cumsum(np.concatenate([[0], *steps])) * float(self.clock)

    def mark(self, frame: int) -> Mark | None:
        """The last proven place at or before a frame; None where that is the start."""
        place = int(np.searchsorted(self._marked, frame, side="right"))
        return Mark(*self.marks[place - 1].tolist()) if place else None

    @cached_property
    def _marked(self) -> NDArray[np.int64]:
        return np.ascontiguousarray(self.marks[:, 0])


class _State(NamedTuple):
    """A file at one moment, read by one decoder."""

    path: Path
    size: int
    modified_ns: int
    inode: int
    decoder: Decoder


_kept: OrderedDict[_State, Index] = OrderedDict()


def known(path: Path, decoder: Decoder) -> Index | None:
    """The index of a file that was read before; None of another, and of one that is not there.

    Args:
        path: The file.
        decoder: That reads it.
    """
    try:
        state = _state(path, decoder)
        found = _kept.get(state) or _load(fingerprint(path), state.decoder)
    except OSError:
        return None
    if found is not None:
        _keep(state, found)
    return found


def remember(path: Path, decoder: Decoder, found: Index) -> None:
    """Keep what another process found in memory: the cache folder may not be writable.

    Args:
        path: The file.
        decoder: That reads it.
        found: Its index; passed over where the file is another one by now.
    """
    with suppress(OSError):
        state = _state(path, decoder)
        if state not in _kept and fingerprint(path) == found.fingerprint:
            _keep(state, found)


def of(path: Path, decoder: Decoder) -> Index:
    """The index of a file, which is read as often as its proof needs where it is not known.

    Raises:
        BrokenVideo: Not one frame decodes.
    """
    found = known(path, decoder)
    if found is None:
        containers.check_file(path)
        try:
            state, content = _state(path, decoder), fingerprint(path)
        except OSError as error:
            raise BrokenVideo(path, containers.one_line(error)) from None
        found = _make(path, content, state.decoder)
        _save(found, state.decoder)
        _keep(state, found)
    return found


def _state(path: Path, decoder: Decoder) -> _State:
    now = path.stat()
    return _State(path, now.st_size, now.st_mtime_ns, now.st_ino, decoders.in_use(decoder))


def _keep(state: _State, index: Index) -> None:
    """Threads may do so at once: the oldest goes, not the least used, so that none is moved."""
    _kept[state] = index
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)


def _make(path: Path, content: str, decoder: Decoder) -> Index:
    seen = proof.first_reading(path)
    marks = proof.proven(path, seen, decoder)
    clock, ticks = _timing(seen)
    digest = hashlib.blake2b(np.array(seen.contents).tobytes(), digest_size=16)
    return Index(
        fingerprint=content,
        num_frames=len(seen.contents),
        look=seen.look,
        content=digest.hexdigest(),
        decoder="pyav" if marks is None else decoder,
        clock=clock,
        ticks=tuple(ticks),
        is_to_be_cut=cropping.is_asked_for(path),
        marks=_table(proof.proven(path, seen, "pyav") if marks is None else marks),
    )


def _timing(seen: proof.Seen) -> tuple[Fraction, Iterator[tuple[int, int]]]:
    """The clock and the runs of ticks; where time stamps are no times, of a constant rate."""
    if seen.times_rise:
        clock, gaps = seen.clock, np.diff(np.array(seen.pts, np.int64)).tolist()
    else:
        clock, gaps = 1 / seen.rate, [1] * (len(seen.contents) - 1)
    return clock, ((step, sum(1 for _ in run)) for step, run in groupby(gaps))


def _table(marks: Sequence[Sequence[int]] | None) -> NDArray[np.int64]:
    return np.array(marks or [], np.int64).reshape(-1, len(Mark._fields))


def _file(content: str, decoder: Decoder) -> Path:
    """Where the index of a file is kept: all that it depends on is in its name."""
    libraries = [av.__version__, str(av.library_versions)]
    libraries += decoders.versions(decoder)
    depends_on = json.dumps([_SCHEMA, content, decoder, containers.MOST_PIXELS, *libraries])
    name = hashlib.blake2b(depends_on.encode(), digest_size=16).hexdigest()
    return cache_folder() / "video_index" / name[:2] / f"{name[2:]}.json"


def _load(content: str, decoder: Decoder) -> Index | None:
    """What `_save` kept; None where there is nothing, or half of it."""
    try:
        stored: dict[str, Any] = json.loads(_file(content, decoder).read_bytes())
        stored["look"] = Shown(*stored["look"])
        stored["clock"] = Fraction(stored["clock"])
        stored["ticks"] = tuple((step, count) for step, count in stored["ticks"])
        stored["marks"] = _table(stored["marks"])
        return Index(**stored)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _save(index: Index, decoder: Decoder) -> None:
    """Keep an index; where the cache cannot be written, the next start reads the file again."""
    fields = {field.name: getattr(index, field.name) for field in dataclasses.fields(index)}
    fields |= {"clock": str(index.clock), "marks": index.marks.tolist()}
    file = _file(index.fingerprint, decoder)
    partial = file.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(fields), encoding="utf-8")
        partial.replace(file)
