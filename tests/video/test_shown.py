"""A file is what a player shows of it: the right stream, square pixels, any container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bgan_video.video import index, open_video
from bgan_video.video.containers import BrokenVideo
from bgan_video.video.decoders import Decoder
from bgan_video.video.reader import read_all
from bgan_video.video.times import frame_times
from tests.video.videos import DECODERS, numbered, numbers

LENGTH = 12
# Container, codec, pixels and size of what it takes.
CONTAINERS: dict[str, tuple[str, str, str, tuple[int, int]]] = {
    "gif": ("a.gif", "gif", "rgb8", (96, 64)),
    "apng": ("a.apng", "apng", "rgb24", (96, 64)),
    "mxf": ("a.mxf", "mpeg2video", "yuv422p", (96, 64)),
    "dv": ("a.dv", "dvvideo", "yuv420p", (720, 576)),
    "transport stream": ("a.ts", "mpeg2video", "yuv420p", (96, 64)),
    "camera": ("a.mts", "libx264", "yuv420p", (96, 64)),
    "phone": ("a.3gp", "mpeg4", "yuv420p", (96, 64)),
    "windows media": ("a.wmv", "wmv2", "yuv420p", (96, 64)),
    "flash": ("a.flv", "flv", "yuv420p", (96, 64)),
    "vob": ("a.vob", "mpeg2video", "yuv420p", (96, 64)),
    "ogg": ("a.ogv", "libtheora", "yuv420p", (96, 64)),
    "raw": ("a.y4m", "rawvideo", "yuv420p", (96, 64)),
    "nut": ("a.nut", "ffv1", "yuv420p", (96, 64)),
    "bare h264": ("a.h264", "libx264", "yuv420p", (96, 64)),
}


def write(path: Path, codec: str, pixels: str, size: tuple[int, int], **stream_has: Any) -> Path:
    width, height = size
    with av.open(str(path), "w") as opened:
        container: Any = opened
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for name, value in stream_has.items():
            setattr(stream.codec_context, name, value)
        for number in range(LENGTH):
            picture = np.ascontiguousarray(numbered(number, height, width))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_that_decodes_is_read(tmp_path: Path, name: str, decoder: Decoder) -> None:
    file, codec, pixels, size = CONTAINERS[name]
    try:
        path = write(tmp_path / file, codec, pixels, size)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg does not write {file}: {error}")
    assert numbers(read_all(path, decoder)) == list(range(LENGTH))
    index.of(path, decoder)
    with open_video(path, decoder) as video:
        assert numbers(video.read([LENGTH - 1, 2])) == [LENGTH - 1, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.txt", "ffconcat version 1.0\nfile '{}'\n"),
        ("session.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_what_opens_another_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    film = write(tmp_path / "film.ts", "mpeg2video", "yuv420p", (96, 64))
    path = tmp_path / name
    path.write_text(content.format(film))
    with pytest.raises(BrokenVideo, match="not readable as a video"):
        read_all(path)


def with_cover(path: Path, cover_first: bool) -> Path:
    """A film with the picture of a cover, as shops and phones write it."""
    slow = {"framerate": 10, "time_base": Fraction(1, 10)}
    film = write(path.with_name("film.mp4"), "libx264", "yuv420p", (96, 64), **slow)
    with av.open(str(film)) as read, av.open(str(path), "w") as opened:
        container: Any = opened
        source = read.streams.video[0]
        copy = container.add_stream_from_template(source)
        cover = container.add_stream("png", rate=25)
        cover.width, cover.height, cover.pix_fmt = 128, 128, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        black = np.zeros((128, 128, 3), np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        for packet in read.demux(source):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    if cover_first:
        path.write_bytes(_metadata_first(path.read_bytes()))
    return path


def _metadata_first(content: bytes) -> bytes:
    """Move the box with the cover (`udta`) to before the tracks; no offset changes."""
    start = content.index(b"moov") + 4
    end = start - 8 + int.from_bytes(content[start - 8 : start - 4])
    boxes: list[bytes] = []
    while start < end:
        size = int.from_bytes(content[start : start + 4])
        boxes.append(content[start : start + size])
        start += size
    ordered = sorted(boxes, key=lambda box: {b"mvhd": 0, b"udta": 1}.get(box[4:8], 2))
    return content.replace(b"".join(boxes), b"".join(ordered))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cover_first", [False, True])
def test_a_cover_is_not_the_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cover_first: bool, decoder: Decoder
) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    path = with_cover(tmp_path / "covered.mp4", cover_first)
    with av.open(str(path)) as container:
        first, second = (stream.disposition for stream in container.streams.video)
    assert bool((first if cover_first else second) & av.stream.Disposition.attached_pic)
    assert numbers(read_all(path, decoder)) == list(range(LENGTH))
    assert frame_times(path, LENGTH, decoder) == pytest.approx(np.arange(LENGTH) / 10)
    assert index.of(path, decoder).num_frames == LENGTH


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(16, 15), Fraction(8, 9)])
def test_pixels_are_made_square(tmp_path: Path, aspect: Fraction, decoder: Decoder) -> None:
    path = tmp_path / "wide.mp4"
    write(path, "libx264", "yuv420p", (96, 64), sample_aspect_ratio=aspect)
    width = round(96 * aspect)
    assert read_all(path, decoder).shape == (LENGTH, 64, width, 3)
    short = min(width, 64)
    frames = read_all(path, decoder, 32)
    assert frames.shape[1:3] == (round(64 * 32 / short), round(width * 32 / short))
    assert numbers(frames) == list(range(LENGTH))


def test_an_aspect_that_cannot_be_is_no_aspect(tmp_path: Path) -> None:
    path = tmp_path / "thin.mkv"
    write(path, "ffv1", "yuv420p", (96, 64), sample_aspect_ratio=Fraction(1, 200))
    assert read_all(path).shape == (LENGTH, 64, 96, 3)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("color_range", "shade"), [(1, 0), (2, 16)])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".webm", "libvpx-vp9")])
def test_full_range_is_not_stretched(
    tmp_path: Path, suffix: str, codec: str, color_range: int, shade: int, decoder: Decoder
) -> None:
    """A luma of 16 is black in limited range, and a dark grey in full range."""
    path = tmp_path / f"dark{suffix}"
    with av.open(str(path), "w") as opened:
        container: Any = opened
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.color_range = color_range
        for _ in range(3):
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.color_range = color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(int(read_all(path, decoder)[0].mean()) - shade) <= 2
