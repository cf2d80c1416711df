"""A file is what a player shows of it: the right stream, square pixels, any container."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgan_video.video import cropping, index, open_video
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


MATRICES: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "left and right": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "along one diagonal": ((0, 1, 1, 0), lambda stored: stored.transpose(1, 0, 2)),
    "along the other": ((0, -1, -1, 0), lambda stored: np.rot90(stored, 2).transpose(1, 0, 2)),
    "turned alone": ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", MATRICES)
def test_a_mirrored_film_is_mirrored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: Decoder
) -> None:
    """As the matrix of ISO 14496-12 says: where a point (x, y) goes is (ax + cy, bx + dy)."""
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    (a, b, c, d), shown = MATRICES[name]
    path = tmp_path / "mirrored.mp4"
    with av.open(str(path), "w") as opened:
        container: Any = opened
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        one = 1 << 16
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[:32, :48], picture[:32, 48:], picture[32:, :48] = 200, 140, 80
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    before = read_all(path, decoder)
    index.of(path, decoder)
    for frames in (before, read_all(path, decoder)):
        assert np.abs(frames[0].astype(int) - shown(picture)).max() <= 4


def with_aperture(path: Path, width: int, height: int) -> Path:
    """An MP4 of 96×64 with the box that asks a player to show less of it."""
    content = bytearray(write(path, "libx264", "yuv420p", (96, 64)).read_bytes())
    numbers = (width, 1, height, 1, width - 96, 2, height - 64, 2)
    box = struct.pack(">I4s8i", 40, b"clap", *numbers)
    entry = content.index(b"avc1", content.index(b"stsd")) - 4
    end = entry + int.from_bytes(content[entry : entry + 4])
    content[end:end] = box
    for name in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = content.rindex(name, 0, entry + 8) - 4
        content[at : at + 4] = (int.from_bytes(content[at : at + 4]) + len(box)).to_bytes(4)
    path.write_bytes(content)
    return path


def with_pixel_crop(path: Path, bottom: int) -> Path:
    """A Matroska file of 96×64 with `PixelCropBottom` in the place of its colours."""
    colours = {"color_range": 1, "colorspace": 5, "color_primaries": 5, "color_trc": 6}
    content = write(path, "libx264", "yuv420p", (96, 64), **colours).read_bytes()
    at = content.index(b"\x55\xb0")
    size = 3 + (content[at + 2] & 0x7F)
    crop = bytes([0x54, 0xAA, 0x81, bottom, 0xEC, 0x80 | size - 6])
    path.write_bytes(content[:at] + crop + bytes(size - 6) + content[at + size :])
    return path


def test_cropping_by_the_container_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    files = {
        with_aperture(tmp_path / "less.mp4", 80, 48): True,
        with_aperture(tmp_path / "all.mp4", 96, 64): False,
        with_pixel_crop(tmp_path / "less.mkv", 16): True,
        with_pixel_crop(tmp_path / "all.mkv", 0): False,
        write(tmp_path / "plain.avi", "mpeg4", "yuv420p", (96, 64)): False,
    }
    for path, expected in files.items():
        for _ in range(2):
            assert index.of(path, "pyav").is_to_be_cut is expected
            index._kept.clear()  # read from the disk
        assert read_all(path).shape == (LENGTH, 64, 96, 3)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_header_asks_for_nothing_or_something(
    cut_files: tuple[bytes, ...], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(data.draw(st.sampled_from(cut_files)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    cropping.is_asked_for(path)


@pytest.fixture(scope="module")
def cut_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("cut")
    files = with_aperture(folder / "a.mp4", 80, 48), with_pixel_crop(folder / "a.mkv", 16)
    return tuple(file.read_bytes() for file in files)


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
