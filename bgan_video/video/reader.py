"""Video files to frames, exactly: frame `i` is the `i`-th of decoding from the first packet.

A damaged file has the frames that decode before its first damaged packet, as PyAV finds them. A
file whose index is known is entered at its proven places; any other is read from the start.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import numpy as np

from bgan_video.video import containers, decoders
from bgan_video.video import index as video_index
from bgan_video.video.containers import BrokenVideo
from bgan_video.video.decoders import Decoder, Pass, Pixels

__all__ = ["BrokenVideo", "Decoder", "OpenVideo", "open_video", "read_all"]

_T = TypeVar("_T")

# Where a pass stands that has to seek, or start again, before the next frame.
_NOWHERE = 2**63


@contextmanager
def open_video(
    path: Path | str, decoder: Decoder = "auto", size: int | None = None
) -> Generator[OpenVideo, None, None]:
    """Open a video for exact reading; nothing stays open after the `with` block.

    Args:
        path: The file.
        decoder: `auto` is PyAV, on every machine: decoders differ in the last bits of a colour.
            What another one cannot read, PyAV does.
        size: Pixels to resize the short side to, keeping the aspect; None keeps the size.

    Raises:
        BrokenVideo: No such file, not a video, or (on reading) not one frame decodes.
        UserError: The decoder asked for by name is not installed.
    """
    with closing(OpenVideo(Path(path), decoder, size)) as video:
        yield video


def read_all(path: Path | str, decoder: Decoder = "auto", size: int | None = None) -> Pixels:
    """Every frame of a video, uint8 RGB `[N, H, W, 3]`, decoded in one pass.

    Raises:
        BrokenVideo: As `open_video`.
        UserError: As `open_video`.
    """
    with closing(OpenVideo(Path(path), decoder, size)) as video:
        return video.read_all()


class StartAgain(Exception):  # noqa: N818  # what to do, not what went wrong
    """The decoder gave up after some frames; the next one begins with the first frame."""


class OpenVideo:
    """Holds no frame but those asked for; goes forwards, and back only to a proven place.

    Arguments and errors are those of `open_video`.
    """

    def __init__(self, path: Path, decoder: Decoder, size: int | None) -> None:
        containers.check_file(path)
        self._path = path
        self._decoders = decoders.passes(decoder)
        self._size = size
        self._pass: Pass | None = None
        self._next = 0
        self._index = video_index.known(path, decoder)
        if self._index is not None and self._index.decoder == "pyav":
            self._decoders = self._decoders[-1:]
        self._may_seek = self._index is not None
        self._try(self._start)

    def __len__(self) -> int:
        """How many frames decode, counted by decoding them, whatever the header says."""
        return _count(self._path) if self._index is None else self._index.num_frames

    def read(self, indices: Sequence[int]) -> Pixels:
        """The frames at `indices` as uint8 RGB `[T, H, W, 3]`, in that order, repeats allowed.

        Raises:
            IndexError: An index below 0 or past the last frame.
            BrokenVideo: Not one frame decodes.
        """
        wanted = sorted(set(indices))
        if not wanted:
            raise ValueError("no frames asked for")
        if wanted[0] < 0:
            raise IndexError(f"frame {wanted[0]} of {self._path}: indices start at 0")
        frames = self._try(lambda: {index: self._frame(index)() for index in wanted})
        return np.stack([frames[index] for index in indices])

    def read_all(self) -> Pixels:
        """Every frame, `[N, H, W, 3]`.

        Raises:
            BrokenVideo: Not one frame decodes.
        """
        while True:
            try:
                return np.concatenate(list(self.pieces()))
            except StartAgain:
                continue

    def pieces(self, num_frames: int = 64) -> Iterator[Pixels]:
        """Every frame in turn, `[n, H, W, 3]` with up to `num_frames` of them at a time.

        Raises:
            BrokenVideo: Not one frame decodes.
            StartAgain: What came is to be forgotten: call it anew, and another decoder reads.
        """
        frames = self._from_start()
        read = 0
        while True:
            left = len(self._decoders)
            piece = self._try(lambda: [pixels() for pixels in islice(frames, num_frames)])
            if len(self._decoders) != left:
                raise StartAgain
            if not piece:
                break
            read += len(piece)
            yield np.stack(piece)
        if read == 0:
            raise BrokenVideo(self._path, "no frame decodes")

    def rest(self) -> None:
        """Decode nothing ahead until more frames are asked for."""
        if self._pass is not None and self._pass.rest():
            self._next = _NOWHERE

    def close(self) -> None:
        """Let go of the file."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    def _try(self, act: Callable[[], _T]) -> _T:
        """Act with the decoder asked for; where it fails, from the start with the next one."""
        while True:
            try:
                return act()
            except decoders.DECODE_ERRORS as error:
                self.close()
                if len(self._decoders) > 1:
                    del self._decoders[0]
                    self._may_seek = False  # the places are proven for the other one
                elif isinstance(error, IndexError):
                    raise
                else:
                    raise BrokenVideo(self._path, containers.one_line(error)) from None

    def _start(self) -> Pass:
        """A pass that has every frame before it."""
        self.close()
        look = None if self._index is None else self._index.look
        self._pass = self._decoders[0](self._path, self._size, look)
        self._next = 0
        return self._pass

    def _frame(self, index: int) -> Callable[[], Pixels]:
        """Frame `index`; those before it, from a proven place or the start, are let go."""
        if self._index is None or index < self._index.num_frames:
            running = self._near(index)
            self._next += running.skip(index - self._next)
            pixels = running.next_frame() if self._next == index else None
            if pixels is not None:
                self._next += 1
                return pixels
        raise IndexError(f"frame {index} of {self._path}: it has {len(self)} frames")

    def _near(self, index: int) -> Pass:
        """A pass that has frame `index` before it, as near as may be."""
        mark = self._index.mark(index) if self._index and self._may_seek else None
        running = self._pass
        if mark and (running is None or not mark.frame <= self._next <= index):
            running = running or self._start()
            try:
                running.seek(mark)
            except decoders.DECODE_ERRORS:
                self._may_seek = False
                return self._start()
            self._next = mark.frame
        elif running is None or self._next > index:
            running = self._start()
        return running

    def _from_start(self) -> Iterator[Callable[[], Pixels]]:
        running = self._pass if self._pass and self._next == 0 else self._start()
        most = None if self._index is None else self._index.num_frames
        while self._next != most and (pixels := running.next_frame()) is not None:
            self._next += 1
            yield pixels
        if len(self._decoders) > 1 and self._next != len(self):
            raise RuntimeError(f"{self._next} of {len(self)} frames decode")  # PyAV finds the rest


class OpenFiles:
    """Videos kept open while clips of them are wanted, the last few of them.

    None is open when the process forks: decoders have threads, which a child does not inherit. Who
    reads has a video for itself: several threads that want the same one at once open it each.

    Args:
        most: How many may be open at a time.
    """

    def __init__(self, decoder: Decoder, size: int | None, most: int) -> None:
        self._decoder: Decoder = decoder
        self._size = size
        self._most = most
        self._open: OrderedDict[tuple[Path, int, int, int], OpenVideo] = OrderedDict()
        _all_open.add(self)

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[Decoder, int | None, int]]:
        """Pickle without what is open."""
        return type(self), (self._decoder, self._size, self._most)

    def read(self, path: Path, indices: Sequence[int]) -> Pixels:
        """See `OpenVideo.read`.

        Raises:
            BrokenVideo: The file is not there, not a video, or has no such frame.
        """
        containers.check_file(path)
        now = path.stat()
        key = (path, now.st_size, now.st_mtime_ns, now.st_ino)
        video = self._open.pop(key, None)
        if video is None:  # not by its truth: that asks for its length, which may decode it whole
            video = OpenVideo(path, self._decoder, self._size)
        try:
            frames = video.read(indices)
            video.rest()
        except IndexError as error:
            video.close()
            raise BrokenVideo(path, str(error)) from None
        except BaseException:
            video.close()
            raise
        while self._open.setdefault(key, video) is not video:
            if (of_another_thread := self._open.pop(key, None)) is not None:
                of_another_thread.close()
        while len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        return frames

    def close(self) -> None:
        """Let go of all files."""
        while self._open:
            self._open.popitem()[1].close()


_all_open: WeakSet[OpenFiles] = WeakSet()


def _close_all() -> None:
    for files in list(_all_open):
        files.close()


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(before=_close_all)


def _count(path: Path) -> int:
    """Frames that decode.

    Raises:
        BrokenVideo: None does.
    """
    state = path.stat()
    length = _count_frames(path, state.st_size, state.st_mtime_ns)
    if length == 0:
        raise BrokenVideo(path, "no frame decodes")
    return length


@cache
def _count_frames(path: Path, file_size: int, modified_ns: int) -> int:
    """Frames of one state of a file; kept, as counting costs about as much as reading a clip."""
    del file_size, modified_ns
    with containers.open_container(path) as container:
        return sum(1 for _ in containers.decode(container))
