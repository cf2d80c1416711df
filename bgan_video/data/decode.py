"""Video files to frames: the one module that knows decord and PyAV.

Frames are exact: frame `i` is the `i`-th that comes out when the file is decoded from its first
packet. Both decoders therefore read forwards from zero and never seek; seeking in MPEG-4 files such
as those of UCF101 lands on other frames than the ones asked for. A damaged file has the frames that
decode before its first damaged packet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import av
import av.logging
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bgan_video.errors import UserError

try:
    import decord  # pyright: ignore[reportMissingTypeStubs]
except ImportError:  # it has no wheels for macOS and ARM
    decord = None
else:
    cast(Any, decord).logging.set_level(-8)  # AV_LOG_QUIET: failures are raised, not printed
av.logging.set_level(av.logging.PANIC)

Decoder = Literal["auto", "decord", "pyav"]
Frames = NDArray[np.uint8]

# One decoded frame, turned into pixels only when it is called for.
_Grab = Callable[[], Frames]
_Grabs = Generator[_Grab, None, None]
_Stream = Callable[[Path, "tuple[int, int] | None"], _Grabs]

# decord's own errors are plain Exceptions; IndexError also comes from the reader below.
_PYAV_ERRORS = (FFmpegError, OSError, ValueError)
_DECORD: Any = decord
_DECORD_ERRORS = (RuntimeError, AssertionError, IndexError) + (
    () if decord is None else (_DECORD.DECORDError, _DECORD.DECORDLimitReachedError)
)
_DECODE_ERRORS: tuple[type[Exception], ...] = (*_PYAV_ERRORS, *_DECORD_ERRORS)

# decord repeats a frame where one does not decode, unless more than this part of them would be.
_NO_REPEATED_FRAMES = 1e-9


class BrokenVideo(Exception):  # noqa: N818  # what the file is, not what the program did
    """A file that gives no frames; `path` is the file and `reason` says why in one line."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[BrokenVideo], tuple[Path, str]]:
        """Pickle with both arguments, as a loading process hands the exception to its parent."""
        return type(self), (self.path, self.reason)


class FrameReader(Protocol):
    """An open video."""

    def __len__(self) -> int:
        """How many frames decode, counted by decoding them, whatever the header says."""
        ...

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames at `indices` as uint8 RGB `[T, H, W, 3]`, in that order, repeats allowed.

        Raises:
            IndexError: An index below 0 or past the last frame.
            BrokenVideo: Not one frame decodes.
        """
        ...


@contextmanager
def open_video(
    path: Path | str, decoder: Decoder = "auto", short_side: int | None = None
) -> Generator[FrameReader, None, None]:
    """Open a video for exact reading; nothing stays open after the `with` block.

    Args:
        path: The file.
        decoder: `auto` is decord where it is installed, else PyAV. What decord cannot read, PyAV
            does.
        short_side: Resize to this many pixels on the short side, keeping the aspect; None keeps
            the size.

    Raises:
        BrokenVideo: No such file, not a video, or (on reading) not one frame decodes.
        UserError: decord was asked for by name and is not installed.
    """
    reader = _SequentialReader(Path(path), _streams(decoder), short_side)
    try:
        yield reader
    finally:
        reader.close()


def read_all(path: Path | str, decoder: Decoder = "auto", short_side: int | None = None) -> Frames:
    """Every frame of a video, uint8 RGB `[N, H, W, 3]`, decoded in one pass.

    Raises:
        BrokenVideo: As `open_video`.
        UserError: As `open_video`.
    """
    file = Path(path)
    size = _output_size(file, short_side)
    reason = "no frame decodes"
    for stream in _streams(decoder):
        try:
            with closing(stream(file, size)) as grabs:
                frames = [grab() for grab in grabs]
        except _DECODE_ERRORS as error:
            reason = _one_line(error)
            continue
        if frames:
            return np.stack(frames)
    raise BrokenVideo(file, reason)


class _SequentialReader:
    """Walks forwards and holds no frame but those asked for; to go back it starts again."""

    def __init__(self, path: Path, streams: Sequence[_Stream], short_side: int | None) -> None:
        self._path = path
        self._streams = list(streams)
        self._size = _output_size(path, short_side)
        self._grabs: _Grabs | None = None
        self._next = 0

    def __len__(self) -> int:
        return _count(self._path)

    def read(self, indices: Sequence[int]) -> Frames:
        wanted = sorted(set(indices))
        if wanted and wanted[0] < 0:
            raise IndexError(f"frame {wanted[0]} of {self._path}: indices start at 0")
        while True:
            try:
                found = self._walk(wanted)
            except _DECODE_ERRORS as error:
                self.close()
                if len(self._streams) > 1:
                    del self._streams[0]
                    continue
                if isinstance(error, IndexError):
                    raise
                raise BrokenVideo(self._path, _one_line(error)) from None
            return np.stack([found[index] for index in indices])

    def close(self) -> None:
        if self._grabs is not None:
            self._grabs.close()
            self._grabs = None

    def _walk(self, wanted: Sequence[int]) -> dict[int, Frames]:
        found: dict[int, Frames] = {}
        for index in wanted:
            grabs = self._stream_to(index)
            grab = next(itertools.islice(grabs, index - self._next, None), None)
            if grab is None:
                raise IndexError(f"frame {index} of {self._path}: it has {len(self)} frames")
            self._next = index + 1
            found[index] = grab()
        return found

    def _stream_to(self, index: int) -> _Grabs:
        """A stream that still has frame `index` before it."""
        if self._grabs is None or self._next > index:
            self.close()
            self._grabs = self._streams[0](self._path, self._size)
            self._next = 0
        return self._grabs


def _streams(decoder: Decoder) -> list[_Stream]:
    """The ways to decode, best first."""
    if decoder == "decord" and decord is None:
        raise UserError(
            "data.decoder=decord: decord is not installed; install it, or allowed: auto, pyav"
        )
    if decoder == "pyav" or decord is None:
        return [_pyav_frames]
    return [_decord_frames, _pyav_frames]


def _decord_frames(path: Path, size: tuple[int, int] | None) -> _Grabs:
    """Decode with decord; raises one of `_DECORD_ERRORS` where a frame does not decode."""
    width, height = size or (-1, -1)
    reader = _DECORD.VideoReader(
        str(path), width=width, height=height, num_threads=1, fault_tol=_NO_REPEATED_FRAMES
    )
    while True:
        try:
            frame = reader.next()
        except StopIteration:
            return
        yield lambda frame=frame: _without_padding(frame.asnumpy())


def _without_padding(frame: Frames) -> Frames:
    """RGB of a frame in which decord took the padding of its rows for a fourth channel."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _pyav_frames(path: Path, size: tuple[int, int] | None) -> _Grabs:
    """Decode with PyAV, up to the first packet that fails."""
    width, height = size or (None, None)
    # One for all frames: it keeps the tables that a frame's own `reformat` makes anew.
    scaler = VideoReformatter()

    def grab(frame: av.VideoFrame) -> Frames:
        scaled = scaler.reformat(
            frame, width, height, format="rgb24", interpolation="AREA", threads=1
        )
        return cast(Frames, scaled.to_ndarray())

    for frame in _decode(path):
        yield lambda frame=frame: grab(frame)


def _decode(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        try:
            yield from container.decode(stream)
        except _PYAV_ERRORS:
            # Frames wait inside the decoder for the order they are shown in.
            with suppress(*_PYAV_ERRORS):
                yield from cast(Any, stream.codec_context).decode(None)


def _count(path: Path) -> int:
    """Frames that decode.

    Raises:
        BrokenVideo: None does.
    """
    stat = path.stat()
    length = _count_frames(path, stat.st_size, stat.st_mtime_ns)
    if length == 0:
        raise BrokenVideo(path, "no frame decodes")
    return length


@cache
def _count_frames(path: Path, file_size: int, modified_ns: int) -> int:
    """Frames of one state of a file; kept, as counting costs about as much as reading a clip."""
    del file_size, modified_ns
    return sum(1 for _ in _decode(path))


def _output_size(path: Path, short_side: int | None) -> tuple[int, int] | None:
    """Width and height to decode to, in pixels; None keeps the file's.

    Raises:
        BrokenVideo: The file does not open as a video.
    """
    width, height = _frame_size(path)
    if short_side is None:
        return None
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _frame_size(path: Path) -> tuple[int, int]:
    if not path.exists():
        raise BrokenVideo(path, "no such file")
    if path.is_dir():
        raise BrokenVideo(path, "it is a folder")
    if path.stat().st_size == 0:
        raise BrokenVideo(path, "the file is empty")
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise BrokenVideo(path, "it has no video stream")
            context = container.streams.video[0].codec_context
            width, height = context.width, context.height
    except _PYAV_ERRORS as error:
        raise BrokenVideo(path, f"not readable as a video ({_one_line(error)})") from None
    if min(width, height) < 1:
        raise BrokenVideo(path, "its header gives no frame size")
    return width, height


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
