"""Video files to frames, exactly: frame `i` is the `i`-th of decoding from the first packet.

A damaged file has the frames that decode before its first damaged packet, as PyAV finds them.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from bgan_video.video import decoders
from bgan_video.video.decoders import BrokenVideo, Decoder, Pass, Pixels

__all__ = ["BrokenVideo", "Decoder", "OpenVideo", "open_video", "read_all"]

_T = TypeVar("_T")


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
    """Another decoder takes over: what was read so far is to be forgotten."""


class OpenVideo:
    """Walks forwards and holds no frame but those asked for; to go back it starts again.

    Arguments and errors are those of `open_video`.
    """

    def __init__(self, path: Path, decoder: Decoder, size: int | None) -> None:
        _check_file(path)
        self._path = path
        self._decoders = decoders.passes(decoder)
        self._size = size
        self._pass: Pass | None = None
        self._next = 0
        self._try(self._start)

    def __len__(self) -> int:
        """How many frames decode, counted by decoding them, whatever the header says."""
        return _count(self._path)

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
        frames = self._try(lambda: {index: self._seek(index)() for index in wanted})
        return np.stack([frames[index] for index in indices])

    def read_all(self) -> Pixels:
        """Every frame, `[N, H, W, 3]`.

        Raises:
            BrokenVideo: Not one frame decodes.
        """
        frames = self._try(lambda: [pixels() for pixels in self._rest()])
        if not frames:
            raise BrokenVideo(self._path, "no frame decodes")
        return np.stack(frames)

    def pieces(self, num_frames: int = 64) -> Iterator[Pixels]:
        """Every frame in turn, `[n, H, W, 3]` with up to `num_frames` of them at a time.

        Raises:
            BrokenVideo: Not one frame decodes.
            StartAgain: What came is to be forgotten: call it anew, and another decoder reads.
        """
        frames = self._rest()
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
                elif isinstance(error, IndexError):
                    raise
                else:
                    raise BrokenVideo(self._path, decoders.one_line(error)) from None

    def _start(self) -> Pass:
        """A pass that has every frame before it."""
        self.close()
        self._pass = self._decoders[0](self._path, self._size)
        self._next = 0
        return self._pass

    def _seek(self, index: int) -> Callable[[], Pixels]:
        """Frame `index`; those before it are decoded and let go."""
        running = self._pass
        if running is None or self._next > index:
            running = self._start()
        while (pixels := running.next_frame()) is not None:
            self._next += 1
            if self._next > index:
                return pixels
        raise IndexError(f"frame {index} of {self._path}: it has {len(self)} frames")

    def _rest(self) -> Iterator[Callable[[], Pixels]]:
        running = self._pass or self._start()
        while (pixels := running.next_frame()) is not None:
            self._next += 1
            yield pixels
        if len(self._decoders) > 1 and self._next != len(self):
            raise RuntimeError(f"{self._next} of {len(self)} frames decode")  # PyAV finds the rest


def _check_file(path: Path) -> None:
    """Raises BrokenVideo where there is no file with something in it."""
    try:
        state = path.stat()
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:  # no permission, a name that cannot be
        reason = decoders.one_line(error)
    else:
        if stat.S_ISREG(state.st_mode) and state.st_size > 0:
            return
        is_file = stat.S_ISREG(state.st_mode)
        special = "it is a folder" if stat.S_ISDIR(state.st_mode) else "it is no regular file"
        reason = "the file is empty" if is_file else special
    raise BrokenVideo(path, reason)


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
    with decoders.open_container(path) as container:
        return sum(1 for _ in decoders.decode(container))
