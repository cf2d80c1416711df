"""PyAV, decord and torchcodec behind one interface: a pass through a video, forwards.

A pass begins at the first packet. It jumps to a place only where a file's first reading has proven
that the frames behind it are then the same ones (`bgan_video.video.index`): seeking lands on other
frames than the ones asked for in many files, such as those of UCF101. All show a frame as a player
does: its pixels square, mirrored and turned by quarter turns as the file asks for.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from bgan_video.errors import UserError
from bgan_video.video import containers
from bgan_video.video.containers import PYAV_ERRORS, BrokenVideo, Shown, one_line

try:
    import decord  # pyright: ignore[reportMissingTypeStubs]
except ImportError:  # it has no wheels for macOS and ARM
    decord = None
else:
    cast(Any, decord).logging.set_level(-8)  # AV_LOG_QUIET: failures are raised, not printed

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
Pixels = NDArray[np.uint8]
"""RGB, `[H, W, 3]` of a frame or `[..., H, W, 3]` of several."""

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

# decord reads packets faster than it decodes them, and keeps those: of a long file nearly all.
_MOST_BYTES = 64 * 2**20

_LARGEST = 2**63 - 1


class Mark(NamedTuple):
    """A place that a pass may jump to.

    Attributes:
        frame: Number of the frame that comes next.
        time: Of its packet, in units of the stream; PyAV seeks to it.
        pts: Of the frame, in the same units.
        content: Hash of the frame as it is stored.
    """

    frame: int
    time: int = 0
    pts: int = 0
    content: int = 0


class Pass(ABC):
    """One way through a video, from its first frame on.

    Args:
        path: The file.
        short_side: Pixels to resize to, keeping the aspect; None keeps the size.
        look: How its frames are shown, where that is known already.

    Raises:
        BrokenVideo: The file does not open as a video.
    """

    @abstractmethod
    def __init__(self, path: Path, short_side: int | None, look: Shown | None = None) -> None: ...

    @abstractmethod
    def next_frame(self) -> Callable[[], Pixels] | None:
        """The next frame, turned into `[H, W, 3]` only when it is called; None after the last.

        Raises:
            Exception: One of `DECODE_ERRORS` where the decoder cannot go on.
        """

    def skip(self, count: int) -> int:
        """Pass over `count` frames; returns how many there were. Raises as `next_frame`."""
        return next((done for done in range(count) if self.next_frame() is None), count)

    def seek(self, mark: Mark) -> None:
        """Jump to where the frame of a proven mark comes next.

        Raises:
            Exception: One of `DECODE_ERRORS` where it is not reached.
        """
        raise RuntimeError(f"no seek to frame {mark.frame}: this decoder goes forwards only")

    def rest(self) -> bool:
        """Decode nothing ahead until the next seek; whether that gave up the place in the video."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def stand_in(decoder: Decoder) -> Decoder:
    """The decoder asked for, or PyAV in place of decord where that has no build."""
    return "pyav" if decoder == "decord" and decord is None else decoder


def in_use(decoder: Decoder) -> Decoder:
    """The decoder that stands behind a setting."""
    asked = stand_in(decoder)
    return "pyav" if asked == "auto" else asked


def versions(decoder: Decoder) -> list[str]:
    """The build of a decoder other than PyAV, as a list of one; empty where it is not there."""
    if decoder == "torchcodec":
        with suppress(PackageNotFoundError):
            return [version("torchcodec")]
    if decoder == "decord" and decord is not None:
        return [str(_DECORD.__version__)]
    return []


def passes(decoder: Decoder) -> list[type[Pass]]:
    """The ways to decode, the one asked for first. What another cannot read, PyAV does.

    Raises:
        UserError: The decoder asked for is not installed.
    """
    used = in_use(decoder)
    if used == "decord":
        return [DecordPass, PyAVPass]
    if used == "torchcodec":
        _torchcodec()
        return [TorchcodecPass, PyAVPass]
    return [PyAVPass]


class PyAVPass(Pass):
    """Decodes with PyAV up to the first packet that fails; only frames called become pixels."""

    def __init__(self, path: Path, short_side: int | None, look: Shown | None = None) -> None:
        self._container = containers.open_container(path)
        self._frames = containers.decode(self._container)
        self._short_side = short_side
        self._look = look and look.fit(short_side)
        self._landed: av.VideoFrame | None = None
        # Held until the next one has come, whatever the caller does: what a damaged frame lacks
        # shows what was in its memory before, which is then the same each time.
        self._last: av.VideoFrame | None = None
        # One for all frames: it keeps the tables that a frame's own `reformat` makes anew.
        self._scaler = VideoReformatter()

    def next_frame(self) -> Callable[[], Pixels] | None:
        """See `Pass.next_frame`."""
        frame, self._landed = self._landed or next(self._frames, None), None
        self._last = frame
        if frame is None:
            return None
        if self._look is None:  # frames of other sizes and turns are made like the first
            self._look = containers.shown(self._container, frame).fit(self._short_side)
        return lambda: self._pixels(frame)

    def seek(self, mark: Mark) -> None:
        """See `Pass.seek`; where it lands is compared with the mark."""
        self._frames.close()
        stream = containers.video_stream(self._container)
        self._container.seek(mark.time, stream=stream)
        self._frames = containers.decode(self._container)
        frame = next(self._frames, None)
        if frame is None or frame.pts != mark.pts or content(frame) != mark.content:
            raise RuntimeError(f"the seek to frame {mark.frame} lands elsewhere than it did")
        self._landed = frame

    def close(self) -> None:
        """See `Pass.close`."""
        self._last = self._landed = None
        self._frames.close()
        self._container.close()

    def _pixels(self, frame: av.VideoFrame) -> Pixels:
        assert self._look is not None
        width, height, quarter_turns, mirrored = self._look
        scaled = self._scaler.reformat(
            frame, width, height, format="rgb24", interpolation="AREA", threads=1
        )
        pixels = cast(Pixels, scaled.to_ndarray())
        return np.rot90(pixels[::-1] if mirrored else pixels, quarter_turns)


class DecordPass(Pass):
    """Decodes with decord, which resizes every frame, also those not called.

    Its `skip_frames` would spare that. It is not used: it tells a thread that has decoded ahead,
    and once in some hundred passes the next frame was the one before or after (docs/adr/0017).
    """

    def __init__(self, path: Path, short_side: int | None, look: Shown | None = None) -> None:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("decord may hold all of so large a file in memory")
        seen = look or _look(path)
        width, height = seen.fit(short_side).turned
        self._shape = (height, width)
        self._reader: Any = _DECORD.VideoReader(
            str(path), width=width, height=height, num_threads=1, fault_tol=_NO_REPEATED_FRAMES
        )
        self.keyframes: list[int] = self._reader.get_key_indices()

    def next_frame(self) -> Callable[[], Pixels] | None:
        """See `Pass.next_frame`."""
        try:
            frame = self._reader.next()
        except StopIteration:
            return None
        # Where time stamps repeat, it takes a frame for one of those that were to be skipped.
        if frame.shape[:2] != self._shape:
            raise RuntimeError("decord gives an empty frame")
        return lambda: _without_padding(cast(Pixels, np.from_dlpack(_Shared(frame)))).copy()

    def seek(self, mark: Mark) -> None:
        """See `Pass.seek`. decord seeks differently from behind: it is sent to the start first."""
        self._reader.seek(0)
        self._reader.seek(mark.frame)

    def rest(self) -> bool:
        """See `Pass.rest`: a thread decodes what was read ahead, often all of a short file."""
        self._reader.seek(0)
        return True

    def close(self) -> None:
        """See `Pass.close`."""
        self._reader = None


class _Shared:
    """An array of decord's as numpy takes it over, for as long as numpy needs it.

    Its own `asnumpy` makes a copy in a reference cycle: of a long video most would still wait for
    the garbage collector at its end.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU


class TorchcodecPass(Pass):
    """Decodes with torchcodec, which resizes every frame, also those not called.

    Its public methods choose frames by their time stamps, which the packed B-frames of UCF101 do
    not have; the step to the next frame, which they are made of, needs none.
    """

    def __init__(self, path: Path, short_side: int | None, look: Shown | None = None) -> None:
        core, decoders, transforms = _torchcodec()
        seen = look or _look(path)
        width, height = seen.fit(short_side).turned
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


def content(frame: av.VideoFrame) -> int:
    """Hash of a frame as it is stored: of its first plane, and of the others."""
    first, *others = (_stored(frame, number) for number in range(len(frame.planes)))
    rest = 0
    for plane in others:
        rest = zlib.crc32(plane, rest)
    return (zlib.crc32(first) << 32 | rest) & _LARGEST


def _stored(frame: av.VideoFrame, number: int) -> memoryview:
    """The bytes of a plane without what pads its rows, which differs from time to time."""
    plane = frame.planes[number]
    stored = np.frombuffer(cast(Any, plane), np.uint8)
    if plane.line_size <= 0:  # a palette
        return stored.data
    bits = frame.format.padded_bits_per_pixel  # of all that lies in one plane
    if len(frame.planes) > 1:
        bits = sum(8 * -(-c.bits // 8) for c in frame.format.components if c.plane == number)
    rows = stored.reshape(plane.height, plane.line_size)
    return np.ascontiguousarray(rows[:, : -(-plane.width * bits // 8)]).data


def _look(path: Path) -> Shown:
    """How frames are shown, from the first one as PyAV decodes it.

    Raises:
        BrokenVideo: The file does not open as a video, or has no frame.
        ValueError: Only PyAV is safe to read it, or sure to choose the right stream.
    """
    with containers.open_container(path) as container:
        check_for_others(container, path)
        frame = next(containers.decode(container), None)
        if frame is None:
            raise BrokenVideo(path, "no frame decodes")
        look = containers.shown(container, frame)
        if look.mirrored:
            raise ValueError("only PyAV's frames are mirrored")
        return look


def check_for_others(container: Any, path: Path) -> None:
    """Raises ValueError where only PyAV is safe to read a file, or sure to choose its stream."""
    # decord makes room for all frames that a header promises, and ends the process without it.
    if containers.video_stream(container).frames > path.stat().st_size:
        raise ValueError("its header gives more frames than it has bytes")
    if not containers.only_stream(container):
        raise ValueError("it has several video streams")


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
