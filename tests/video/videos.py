"""Test videos whose every frame carries its number, in many codecs, containers and formats.

The number is ten black or white blocks, which survive lossy coding and resizing; a block that is
neither, as in a blend of two frames, reads as `UNREADABLE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from bgan_video.errors import UserError
from bgan_video.video import decoders

ROWS, COLUMNS = 2, 5
BLACK, WHITE = 20, 235
MARGIN = 70
UNREADABLE = -1
LONGEST = 1 << (ROWS * COLUMNS)
RATE = 25
_VOP, _USER_DATA = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2"
_PACKED_MARK = b"DivX503b1393p"
_PLACEHOLDER = _VOP + bytes([0x50, 0x01, 0x7F])
_OPEN_GOP = {"x264-params": "open-gop=1:keyint=24:min-keyint=24:scenecut=0"}
_FAST_VPX = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}
_X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1"}


@dataclass(frozen=True)
class Spec:
    """How a test video is coded. Sizes are of the stored frames, before any rotation."""

    codec: str
    suffix: str
    gop: int = 12
    b_frames: int = 0
    pixels: str = "yuv420p"
    width: int = 96
    height: int = 64
    length: int = 131
    rotation: int = 0
    packed: bool = False
    variable_rate: bool = False
    sound: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the frames as they are shown."""
        turned = self.rotation % 180 == 90
        return (self.width, self.height) if turned else (self.height, self.width)


SPECS: dict[str, Spec] = {
    "mpeg4-gop12": Spec("mpeg4", ".avi", 12, 2),
    "mpeg4-gop50": Spec("mpeg4", ".avi", 50, 2),
    "mpeg4-gop300": Spec("mpeg4", ".avi", 300, 2, length=401),
    "mpeg4-no-b": Spec("mpeg4", ".avi", 12),
    "mpeg4-packed-one-key": Spec("mpeg4", ".avi", 600, 1, packed=True, sound="mp2"),
    "mpeg4-packed-gop50": Spec("mpeg4", ".avi", 50, 1, packed=True),
    "mpeg4-mp4": Spec("mpeg4", ".mp4", 12, 2),
    "msmpeg4": Spec("msmpeg4", ".avi", 50),
    "mpeg2": Spec("mpeg2video", ".mpg", 12, 2),
    "mjpeg-avi": Spec("mjpeg", ".avi", pixels="yuvj420p"),
    "mjpeg-mov": Spec("mjpeg", ".mov", pixels="yuvj422p"),
    "h264-mp4": Spec("libx264", ".mp4", 24, 2, sound="aac"),
    "h264-avi": Spec("libx264", ".avi", 24, 3),
    "h264-mov-no-b": Spec("libx264", ".mov", 12),
    "h264-gop300-mkv": Spec("libx264", ".mkv", 300, 3, length=401),
    "h264-open-gop-mp4": Spec("libx264", ".mp4", 24, 3, options=_OPEN_GOP),
    "h264-open-gop-mkv": Spec("libx264", ".mkv", 24, 3, options=_OPEN_GOP),
    "h264-variable-mp4": Spec("libx264", ".mp4", 24, 2, variable_rate=True),
    "h264-variable-mkv": Spec("libx264", ".mkv", 24, 2, variable_rate=True),
    "h264-grey": Spec("libx264", ".mp4", 24, 2, "gray"),
    "h264-10-bit": Spec("libx264", ".mkv", 24, 2, "yuv420p10le"),
    "h264-odd-size": Spec("libx264", ".mp4", 24, 2, "yuv444p", 101, 67),
    "h264-turned-90": Spec("libx264", ".mp4", 24, 2, rotation=90),
    "h264-turned-180": Spec("libx264", ".mov", 24, 2, rotation=180),
    "h264-turned-270": Spec("libx264", ".mp4", 24, 2, rotation=270),
    "hevc-10-bit": Spec("libx265", ".mp4", 24, 3, "yuv420p10le", options=_X265),
    "vp8": Spec("libvpx", ".webm", 50, options={**_FAST_VPX, "auto-alt-ref": "1"}),
    "vp9": Spec("libvpx-vp9", ".webm", 50, sound="libopus", options=_FAST_VPX),
    "ffv1": Spec("ffv1", ".mkv", 1, pixels="bgr0", width=97, height=63),
}


def _installed(decoder: decoders.Decoder) -> bool:
    try:
        decoders.passes(decoder)
    except UserError:
        return False
    return True


DECODERS = [d for d in ("pyav", "decord", "torchcodec") if _installed(d)]


def write(path: Path, spec: Spec, length: int | None = None) -> Path:
    """Write a video of frames 0, 1, …"""
    with av.open(str(path), "w") as opened:
        container: Any = opened
        stream = container.add_stream(spec.codec, rate=RATE, options=dict(spec.options))
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pixels
        stream.gop_size, stream.max_b_frames = spec.gop, spec.b_frames
        stream.bit_rate, stream.thread_type = 2_000_000, "NONE"
        stream.thread_count = 1
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        if spec.variable_rate:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        count = spec.length if length is None else length
        if spec.sound:
            silence = _silence(container, spec.sound, count)
        packets = _encode(stream, spec, count)
        container.mux(list(_pack(packets, stream)) if spec.packed else packets)
        if spec.sound:
            container.mux(silence)
    return path


def numbered(number: int, height: int, width: int) -> np.ndarray:
    """A frame `[height, width, 3]` that carries its number."""
    bits = np.array([number >> bit & 1 for bit in range(ROWS * COLUMNS)]).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    blocks = np.where(bits, WHITE, BLACK).astype(np.uint8)[rows][:, columns]
    return np.repeat(blocks[..., None], 3, axis=2)


def numbers(frames: np.ndarray) -> list[int]:
    """The number that each frame of `[T, H, W, 3]` carries, or `UNREADABLE`."""
    height, width = frames.shape[1:3]
    rows = [int((row + 0.5) * height / ROWS) for row in range(ROWS)]
    columns = [int((column + 0.5) * width / COLUMNS) for column in range(COLUMNS)]
    blocks = frames[:, rows][:, :, columns].astype(float).mean(-1).reshape(len(frames), -1)
    bits = blocks > (BLACK + WHITE) / 2
    clear = (np.abs(blocks - np.where(bits, WHITE, BLACK)) < MARGIN).all(axis=1)
    values = (bits * (1 << np.arange(ROWS * COLUMNS))).sum(axis=1)
    return np.where(clear, values, UNREADABLE).tolist()


def _encode(stream: Any, spec: Spec, length: int) -> list[Any]:
    packets: list[Any] = []
    for number in range(length):
        picture = np.rot90(numbered(number, *spec.shown), -spec.rotation // 90)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if spec.variable_rate:
            # 20 to 50 ms between frames, and a pause of a second in the middle.
            frame.pts = 40 * number + 10 * (number % 3) + 1000 * (number > length // 2)
            frame.time_base = stream.codec_context.time_base
        packets += stream.encode(frame)
    return packets + list(stream.encode())


def _pack(packets: Sequence[Any], stream: Any) -> Iterator[Any]:
    """Put every B-frame into the packet of the frame before it, as DivX and XviD do in AVI.

    A placeholder of a few bytes stands where the B-frame was; such files are most of UCF101.
    """
    contents = [bytes(packet) for packet in packets]
    head, vop, rest = contents[0].partition(_VOP)
    contents[0] = head + _USER_DATA + _PACKED_MARK + vop + rest
    followed = [False] * len(contents)
    for i in range(1, len(contents)):
        if _is_b_frame(contents[i]):
            contents[i - 1] += contents[i]
            contents[i] = _PLACEHOLDER
            followed[i - 1] = True
    for number, (content, packet) in enumerate(zip(contents, packets, strict=True)):
        fresh: Any = av.Packet(content)
        fresh.stream, fresh.time_base = stream, packet.time_base
        fresh.pts = fresh.dts = number
        fresh.is_keyframe = packet.is_keyframe
        yield fresh


def _is_b_frame(packet: bytes) -> bool:
    return packet[packet.index(_VOP) + 4] >> 6 == 2


def _silence(container: Any, codec: str, num_frames: int) -> list[Any]:
    """Packets of a silent track as long as the video."""
    rate = 48_000
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "mono"
    kind = stream.format.name
    samples = rate * num_frames // RATE
    dtype = np.int16 if kind.startswith("s16") else np.float32
    frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, samples), dtype), kind, "mono")
    frame.sample_rate = rate
    fifo: Any = av.AudioFifo()
    fifo.write(frame)
    size = stream.codec_context.frame_size or 960
    packets: list[Any] = []
    while (part := fifo.read(size)) is not None:
        packets += stream.encode(part)
    return packets + list(stream.encode())
