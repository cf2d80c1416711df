"""Files as PyAV opens them: which containers, which stream of them, and how its frames are shown.

What PyAV decodes from the first packet on is the truth about a file, whatever decoder reads it.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

av.logging.set_level(av.logging.PANIC)

MOST_PIXELS = 8192 * 4320
"""Pixels of the largest frame that is read: of one made up by a damaged header, decoding a second
of video would take minutes and gigabytes."""

# A pixel wider or higher than this is a damaged header's, and taken for a square one.
_MOST_ASPECT = 16

# Containers that hold their own video. Others, such as playlists and patterns of image files, name
# files to be read instead: a file of a data set must not open one outside of it.
_CONTAINERS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo,m4v,mjpeg,mjpeg_2000,mpjpeg,"
    "asf,asf_o,flv,live_flv,kux,ogg,h261,h263,h264,hevc,vvc,evc,av1,obu,ivf,nut,gif,apng,mxf,gxf,"
    "lxf,dv,rm,ivr,wtv,ty,pva,nsv,nuv,swf,yuv4mpegpipe,vc1,vc1test,cavsvideo,avs2,avs3,dirac,"
    "dnxhd,amv,bink,smk,roq,flic,film_cpk,smjpeg,thp,4xm,vivo,dhav,mv,cine,ser,mtv,mods,moflex"
)

PYAV_ERRORS = (FFmpegError, OSError, ValueError)


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


class Shown(NamedTuple):
    """How the frames of a video are shown: made `width` by `height`, mirrored, then turned.

    Attributes:
        width: In square pixels, before turning.
        height: Likewise.
        quarter_turns: How often to turn counter-clockwise; other angles are those of the nearest.
        mirrored: Whether the last row comes first, before turning.
    """

    width: int
    height: int
    quarter_turns: int
    mirrored: bool = False

    def fit(self, short_side: int | None) -> Shown:
        """Resized to a short side in pixels, keeping the aspect; None keeps the size."""
        if short_side is None:
            return self
        scale = short_side / min(self.width, self.height)
        width, height = (max(1, round(side * scale)) for side in (self.width, self.height))
        return self._replace(width=width, height=height)

    @property
    def turned(self) -> tuple[int, int]:
        """Width and height after turning."""
        if self.quarter_turns % 2:
            return self.height, self.width
        return self.width, self.height


def check_file(path: Path) -> None:
    """Raises BrokenVideo where there is no file with something in it."""
    try:
        state = path.stat()
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
    except (OSError, ValueError) as error:  # no permission, a name that cannot be
        reason = one_line(error)
    else:
        if stat.S_ISREG(state.st_mode) and state.st_size > 0:
            return
        is_file = stat.S_ISREG(state.st_mode)
        special = "it is a folder" if stat.S_ISDIR(state.st_mode) else "it is no regular file"
        reason = "the file is empty" if is_file else special
    raise BrokenVideo(path, reason)


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


def video_stream(container: InputContainer) -> VideoStream:
    """The stream a player would choose; never the picture of a cover.

    The container has passed `open_container`.
    """
    stream = _choose(container)
    assert stream is not None, "open_container refuses such a file"
    return stream


def only_stream(container: InputContainer) -> bool:
    """Whether there is no second video stream that another decoder might choose."""
    return len(container.streams.video) == 1


def decode(container: InputContainer) -> Generator[av.VideoFrame, None, None]:
    """The frames of its video from where it stands, up to the first packet that fails."""
    stream = video_stream(container)
    if not stream.codec_context.is_open:
        stream.thread_type = "NONE"
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    try:
        yield from container.decode(stream)
    except PYAV_ERRORS:
        # Frames wait inside the decoder for the order they are shown in.
        with suppress(*PYAV_ERRORS):
            yield from cast(Any, stream.codec_context).decode(None)


def shown(container: InputContainer, frame: av.VideoFrame) -> Shown:
    """How a player shows a video, from its first frame: pixels made square, mirrored, turned."""
    turns = round(frame.rotation / 90) % 4
    aspect = video_stream(container).sample_aspect_ratio
    width = frame.width
    if aspect and 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        width = max(1, round(frame.width * aspect))
    if width * frame.height > MOST_PIXELS:
        width = frame.width
    return Shown(width, frame.height, turns, _is_mirrored(frame))


def one_line(error: Exception) -> str:
    """What went wrong, short enough for a list."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _is_mirrored(frame: av.VideoFrame) -> bool:
    """Whether its display matrix mirrors: `rotation` is then the turn of the rows alone."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    return a * d < b * c


def _choose(container: InputContainer) -> VideoStream | None:
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    if best in films:
        return cast(VideoStream, best)
    return films[0] if films else None


def _unusable(container: InputContainer) -> str:
    """Why no frame can be read; empty where one may be."""
    if not container.streams.video:
        return "it has no video stream"
    stream = _choose(container)
    if stream is None:
        return "it has no video stream but the picture of a cover"
    # PyAV's types say that there always is one.
    context = cast("av.VideoCodecContext | None", stream.codec_context)
    if context is None:
        return "no decoder knows how it is coded"
    if min(context.width, context.height) < 1:
        return "its header gives no frame size"
    if context.width * context.height > MOST_PIXELS:
        return f"its header gives frames of {context.width}x{context.height} pixels"
    return ""
