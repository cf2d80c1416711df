"""Where the frames of items come from: video files, and images; the clip store is the third.

An image is a video of one frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from bgan_video.data import images, parallel
from bgan_video.files import source_fingerprint
from bgan_video.video import index, reader
from bgan_video.video.decoders import stand_in
from bgan_video.video.index import Index
from bgan_video.video.reader import BrokenVideo, Decoder, OpenFiles

Array = NDArray[Any]

# Videos that a process keeps open between two clips of them.
_MOST_OPEN = 16
FEW_FILES = 32
"""Fewer than this, unless they are large, one process reads before others would have begun."""
_FEW_BYTES = 64 * 2**20
# Indices that are held at a time, and the threads that look them up: to wait for a disk elsewhere.
_BLOCK = 2048
_LOOKING = 8


def say_stand_in(decoder: Decoder, say: Callable[[str], None]) -> None:
    """Say so where PyAV decodes in place of the decoder asked for."""
    if stand_in(decoder) != decoder:
        say(f"data.decoder={decoder} has no build for this machine: PyAV decodes in its place")


class Seen(NamedTuple):
    """What reading an item for the first time found.

    Attributes:
        num_frames: Frames that decode.
        fingerprint: What changes where the item does.
        nbytes: Of its frames at the training size; 0 where they need not be kept in memory.
        frames: `[T, H, W, C]`, where they were decoded anyway.
    """

    num_frames: int
    fingerprint: str
    nbytes: int = 0
    frames: Array | None = None


class Reader(Protocol):
    """Where the frames of items come from."""

    def survey(self, paths: Sequence[str], workers: int) -> Iterator[Seen | BrokenVideo]:
        """What each item is, in order; of one that is missing or does not decode, why.

        Raises:
            UserError: An item is not there that has to be, or is another one.
        """
        ...

    def read_all(self, path: str) -> Array:
        """All frames `[T, H, W, C]` of an item.

        Raises:
            BrokenVideo: It is missing, or not one frame decodes.
        """
        ...

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """Some of its frames, without reading all of it where that can be avoided."""
        ...

    def fingerprint(self, path: str) -> str:
        """What changes where the item does; empty where it is not there."""
        ...


class VideoFiles:
    """Videos under a root, their frames at the training size."""

    def __init__(self, root: Path, decoder: Decoder, short_side: int) -> None:
        self._root = root
        self._decoder: Decoder = decoder
        self._short_side = short_side
        self._files = OpenFiles(decoder, short_side, _MOST_OPEN)

    def first_readings(self, paths: Sequence[str], workers: int) -> Iterator[Index | BrokenVideo]:
        """The index of each video, in order; of one that does not read, why.

        Args:
            paths: As items have them.
            workers: Processes that read where there is much to read.
        """
        reading = _FirstReading(self._root, self._decoder)
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            # Here, as handing the names to processes would take longer than looking them up.
            with ThreadPoolExecutor(_LOOKING) as pool:
                known = list(pool.map(self._known, block))
            new = [path for path, found in zip(block, known, strict=True) if found is None]
            with closing(parallel.in_order(reading, new, self._useful(new, workers))) as read:
                for path, found in zip(block, known, strict=True):
                    if found is None:
                        found = next(read)
                        if isinstance(found, Index):
                            index.remember(_file(self._root, path), self._decoder, found)
                    yield found

    def _known(self, path: str) -> Index | None:
        try:
            return index.known(_file(self._root, path), self._decoder)
        except BrokenVideo:
            return None

    def survey(self, paths: Sequence[str], workers: int) -> Iterator[Seen | BrokenVideo]:
        """See `Reader.survey`."""
        for found in self.first_readings(paths, workers):
            if isinstance(found, BrokenVideo):
                yield found
                continue
            look = found.look.fit(self._short_side)
            nbytes = found.num_frames * look.width * look.height * 3
            yield Seen(found.num_frames, found.fingerprint, nbytes)

    def read_all(self, path: str) -> Array:
        """See `Reader.read_all`."""
        return reader.read_all(_file(self._root, path), self._decoder, self._short_side)

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """See `Reader.read`."""
        return self._files.read(_file(self._root, path), indices)

    def fingerprint(self, path: str) -> str:
        """See `Reader.fingerprint`."""
        try:
            file = _file(self._root, path)
        except BrokenVideo:
            return ""
        return source_fingerprint(file)

    def _useful(self, paths: Sequence[str], workers: int) -> int:
        """How many processes are worth starting."""
        if len(paths) >= FEW_FILES:
            return workers
        files = (self._root / path for path in paths)
        size = sum(file.stat().st_size for file in files if file.is_file())
        return min(workers, len(paths)) if size >= _FEW_BYTES else 0


@dataclass(frozen=True)
class _FirstReading:
    """Reads a video of a root for the first time, in whatever process."""

    root: Path
    decoder: Decoder

    def __call__(self, path: str) -> Index | BrokenVideo:
        try:
            return index.of(_file(self.root, path), self.decoder)
        except BrokenVideo as error:
            return error


def _file(root: Path, path: str) -> Path:
    """The file of an item. Links may lead out of the root; what a list says may not.

    Raises:
        BrokenVideo: The path is absolute or has a step upwards.
    """
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise BrokenVideo(root / path, "it lies outside data.root")
    return root / path


class Images:
    """Images as videos of one frame."""

    def __init__(self, source: images.Source) -> None:
        self._source = source

    def survey(self, paths: Sequence[str], workers: int) -> Iterator[Seen | BrokenVideo]:
        """See `Reader.survey`: whether an image decodes shows when it is read."""
        del workers
        for path in paths:
            try:
                frames = self.read_all(path)
            except BrokenVideo as error:
                yield error
            else:
                yield Seen(1, self.fingerprint(path), frames.nbytes, frames)

    def read_all(self, path: str) -> Array:
        """See `Reader.read_all`."""
        try:
            return self._source.read(path)[None]
        except images.ImageError as error:
            raise BrokenVideo(Path(path), str(error)) from None

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """See `Reader.read`."""
        return self.read_all(path)[list(indices)]

    def fingerprint(self, path: str) -> str:
        """See `Reader.fingerprint`."""
        try:
            stored = self._source.raw(path)
        except images.ImageError:
            return ""
        return hashlib.blake2b(stored, digest_size=16).hexdigest()
