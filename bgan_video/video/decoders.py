"""PyAV, decord and torchcodec behind one interface: a pass through a video, first frame to last.

Every pass goes forwards from the first packet and never seeks: seeking in MPEG-4 files such as
those of UCF101 lands on other frames than the ones asked for. All show a frame as a player does,
turned by the quarter turns that the file asks for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import av
import av.logging
import numpy as np
from av.container import InputContainer
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

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
Pixels = NDArray[np.uint8]
"""RGB, `[H, W, 3]` of a frame or `[..., H, W, 3]` of several."""

MOST_PIXELS = 8192 * 4320
"""Pixels of the largest frame that is read: of one made up by a damaged header, decoding a second
of video would take minutes and gigabytes."""

# Containers that hold their own video. Others, such as playlists, name files to be read instead:
# a file of a data set must not open one outside of it.
_CONTAINERS = "avi,mov,matroska,webm,mpeg,mpegts,mpegvideo,m4v,mjpeg,asf,flv,ogg,h264,hevc,ivf,nut"

PYAV_ERRORS = (FFmpegError, OSError, ValueError)
_DECORD: Any = decord
# decord's own errors are plain Exceptions; IndexError also comes from readers, past the end.
DECODE_ERRORS: tuple[type[Exception], ...] = (
    *PYAV_ERRORS,
    RuntimeError,
    AssertionError,
    IndexError,
    *(() if decord is None else (_DECORD.DECORDError, _DECORD.DECORDLimitReachedError)),
)

# decord repeats a frame where one does not decode, unless more than this part of them would be.
_NO_REPEATED_FRAMES = 1e-9


class BrokenVideo(Exception):  # noqa: N818  # what the file is, not what the program did
    """A file that gives no frames; `path` is the file and `reason` says why in one line."""

    def __init__(self, path: Path, reason: str) -> None:
        name = str(path)
        super().__init__(f"{name if name.isprintable() else ascii(name)}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[BrokenVideo], tuple[Path, str]]:
        """Pickle with both arguments, as a loading process hands the exception to its parent."""
        return type(self), (self.path, self.reason)


class Pass(ABC):
    """One way through a video, from its first frame on.

    Args:
        path: The file.
        short_side: Pixels to resize to, keeping the aspect; None keeps the size.

    Raises:
        BrokenVideo: The file does not open as a video.
    """

    @abstractmethod
    def __init__(self, path: Path, short_side: int | None) -> None: ...

    @abstractmethod
    def next_frame(self) -> Callable[[], Pixels] | None:
        """The next frame, turned into `[H, W, 3]` only when it is called; None after the last.

        Raises:
            Exception: One of `DECODE_ERRORS` where the decoder cannot go on.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def passes(decoder: Decoder) -> list[type[Pass]]:
    """The ways to decode, the one asked for first. What another cannot read, PyAV does.

    Raises:
        UserError: The decoder asked for is not installed.
    """
    if decoder == "decord":
        if decord is None:
            raise UserError(
                "data.decoder=decord: decord is not installed; "
                "install it, or allowed: auto, pyav, torchcodec"
            )
        return [DecordPass, PyAVPass]
    if decoder == "torchcodec":
        _torchcodec()
        return [TorchcodecPass, PyAVPass]
    return [PyAVPass]


class PyAVPass(Pass):
    """Decodes with PyAV up to the first packet that fails; only frames called become pixels."""

    def __init__(self, path: Path, short_side: int | None) -> None:
        self._container = open_container(path)
        self._frames = decode(self._container)
        self._short_side = short_side
        self._size: tuple[int, int] | None = None
        self._quarter_turns = 0
        # One for all frames: it keeps the tables that a frame's own `reformat` makes anew.
        self._scaler = VideoReformatter()

    def next_frame(self) -> Callable[[], Pixels] | None:
        """See `Pass.next_frame`."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        if self._size is None:  # frames of other sizes and turns are made like the first
            self._size = _fit(frame.width, frame.height, self._short_side)
            self._quarter_turns = _quarter_turns(frame)
        return lambda: self._pixels(frame)

    def close(self) -> None:
        """See `Pass.close`."""
        self._frames.close()
        self._container.close()

    def _pixels(self, frame: av.VideoFrame) -> Pixels:
        width, height = self._size or (None, None)
        scaled = self._scaler.reformat(
            frame, width, height, format="rgb24", interpolation="AREA", threads=1
        )
        pixels = cast(Pixels, scaled.to_ndarray())
        return np.rot90(pixels, self._quarter_turns) if self._quarter_turns else pixels


class DecordPass(Pass):
    """Decodes with decord, which resizes every frame, also those not called."""

    def __init__(self, path: Path, short_side: int | None) -> None:
        width, height = _shown_size(path, short_side)
        self._reader: Any = _DECORD.VideoReader(
            str(path), width=width, height=height, num_threads=1, fault_tol=_NO_REPEATED_FRAMES
        )

    def next_frame(self) -> Callable[[], Pixels] | None:
        """See `Pass.next_frame`."""
        try:
            frame = self._reader.next()
        except StopIteration:
            return None
        return lambda: _without_padding(frame.asnumpy())

    def close(self) -> None:
        """See `Pass.close`."""
        self._reader = None


class TorchcodecPass(Pass):
    """Decodes with torchcodec, which resizes every frame, also those not called.

    Its public methods choose frames by their time stamps, which the packed B-frames of UCF101 do
    not have; the step to the next frame, which they are made of, needs none.
    """

    def __init__(self, path: Path, short_side: int | None) -> None:
        core, decoders, transforms = _torchcodec()
        width, height = _shown_size(path, short_side)
        self._next = core.get_next_frame
        self._decoder: Any = decoders.VideoDecoder(
            str(path),
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="approximate",  # `exact` reads the file through to know where to seek
            transforms=[transforms.Resize((height, width))],
        )

    def next_frame(self) -> Callable[[], Pixels] | None:
        """See `Pass.next_frame`."""
        try:
            frame, *_ = self._next(self._decoder._decoder)
        except IndexError:
            return None
        return lambda: cast(Pixels, frame.numpy())

    def close(self) -> None:
        """See `Pass.close`."""
        self._decoder = None


def open_container(path: Path) -> InputContainer:
    """Open a file with PyAV and see that it holds video of a sensible size.

    Raises:
        BrokenVideo: It does not.
    """
    try:
        # An absolute path, as a relative one may begin like a protocol's name ('pipe:1.avi').
        container = av.open(
            str(path.absolute()),
            metadata_errors="ignore",
            options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS},
        )
    except PYAV_ERRORS as error:
        raise BrokenVideo(path, f"not readable as a video ({one_line(error)})") from None
    reason = _unusable(container)
    if reason:
        container.close()
        raise BrokenVideo(path, reason)
    return container


def decode(container: InputContainer) -> Generator[av.VideoFrame, None, None]:
    """Its frames, up to the first packet that fails."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    try:
        yield from container.decode(stream)
    except PYAV_ERRORS:
        # Frames wait inside the decoder for the order they are shown in.
        with suppress(*PYAV_ERRORS):
            yield from cast(Any, stream.codec_context).decode(None)


def one_line(error: Exception) -> str:
    """What went wrong, short enough for a list."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _unusable(container: InputContainer) -> str:
    """Why no frame can be read; empty where one may be."""
    if not container.streams.video:
        return "it has no video stream"
    # PyAV's types say that there always is one.
    context = cast("av.VideoCodecContext | None", container.streams.video[0].codec_context)
    if context is None:
        return "no decoder knows how it is coded"
    if min(context.width, context.height) < 1:
        return "its header gives no frame size"
    if context.width * context.height > MOST_PIXELS:
        return f"its header gives frames of {context.width}x{context.height} pixels"
    return ""


def _shown_size(path: Path, short_side: int | None) -> tuple[int, int]:
    """Width and height of the frames to be returned, from the first one as PyAV decodes it.

    Raises:
        BrokenVideo: The file does not open as a video, or has no frame.
        ValueError: Only PyAV is safe to read it.
    """
    container = open_container(path)
    try:
        # decord makes room for all frames that a header promises, and ends the process without it.
        if container.streams.video[0].frames > path.stat().st_size:
            raise ValueError("its header gives more frames than it has bytes")
        frame = next(decode(container), None)
        if frame is None:
            raise BrokenVideo(path, "no frame decodes")
        width, height = _fit(frame.width, frame.height, short_side)
        return (height, width) if _quarter_turns(frame) % 2 else (width, height)
    finally:
        container.close()


def _fit(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Width and height in pixels after resizing."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _quarter_turns(frame: av.VideoFrame) -> int:
    """How often to turn a frame counter-clockwise; other angles are those of the nearest turn."""
    return round(frame.rotation / 90) % 4


def _without_padding(frame: Pixels) -> Pixels:
    """RGB of a frame in which decord took the padding of its rows for a fourth channel."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _torchcodec() -> tuple[Any, Any, Any]:
    """Its core, decoders and transforms.

    Raises:
        UserError: It is not installed, or does not find FFmpeg.
    """
    try:
        # Here, as it imports torch, and finds a missing FFmpeg only when it is imported.
        from torchcodec import _core, decoders, transforms  # pyright: ignore
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"data.decoder=torchcodec: it cannot be imported ({one_line(error)}); "
            f"pip install 'bgan_video[torchcodec]' and FFmpeg's libraries, or allowed: "
            f"auto, decord, pyav"
        ) from None
    return _core, decoders, transforms  # pyright: ignore[reportUnknownVariableType]
