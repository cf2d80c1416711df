"""Damaged, hostile and odd files: each gives the frames of PyAV in sequence, or says why not."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError

from bgan_video.data import frames
from bgan_video.video import containers, open_video
from bgan_video.video.reader import BrokenVideo, Decoder, read_all
from tests.video.videos import DECODERS, SPECS, numbers, write

BASES = (
    "mpeg4-no-b",
    "mpeg4-gop12",
    "mpeg4-packed-gop50",
    "mpeg4-mp4",
    "mjpeg-avi",
    "h264-mp4",
    "h264-open-gop-mkv",
    "mpeg2",
    "vp8",
)
LENGTH = 40
TIMEOUT = 60

pytestmark = pytest.mark.timeout(TIMEOUT)
Damage = Callable[[bytes], bytes]


def cut(part: float) -> Damage:
    return lambda content: content[: int(len(content) * part)]


def flip(count: int, seed: int) -> Damage:
    def damage(content: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), count).tolist():
            damaged[position] ^= 1 << int(rng.integers(8))
        return bytes(damaged)

    return damage


def blank(start: float, part: float, value: int = 0) -> Damage:
    def damage(content: bytes) -> bytes:
        first, size = int(len(content) * start), int(len(content) * part)
        return content[:first] + bytes([value]) * size + content[first + size :]

    return damage


def drop(start: float, part: float) -> Damage:
    def damage(content: bytes) -> bytes:
        first, size = int(len(content) * start), int(len(content) * part)
        return content[:first] + content[first + size :]

    return damage


DAMAGE: dict[str, Damage] = {
    **{f"cut {p}": cut(p) for p in (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.99)},
    **{f"flip {n} {seed}": flip(n, seed) for n in (1, 5, 25, 125) for seed in (0, 1)},
    **{f"blank {s}": blank(s, 0.08) for s in (0, 0.3, 0.6, 0.9)},
    "blank ones": blank(0.4, 0.1, 255),
    "drop": drop(0.4, 0.1),
    "twice": lambda content: content + content,
    "tail": lambda content: content + os.urandom(3000),
}


@cache
def _sound(folder: Path, name: str) -> bytes:
    return write(folder / (name + SPECS[name].suffix), SPECS[name], LENGTH).read_bytes()


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """From the name of a test video to its content."""
    folder = tmp_path_factory.mktemp("sound")
    return lambda name: _sound(folder, name)


def in_sequence(path: Path) -> list[np.ndarray]:
    """Frames by PyAV alone, up to the first error; none where it does not open."""
    found: list[np.ndarray] = []
    with suppress(FFmpegError, IndexError), av.open(str(path), metadata_errors="ignore") as file:
        stream = file.streams.video[0]
        stream.thread_type = "NONE"
        pictures = file.decode(stream)
        while True:
            try:
                picture = next(pictures)
            except StopIteration:
                break
            except FFmpegError:
                if stream.codec_context is None:  # no decoder for it
                    break
                with suppress(FFmpegError):
                    late = stream.codec_context.decode(None)
                    found += [_rgb(picture, found, stream) for picture in late]
                break
            found.append(_rgb(picture, found, stream))
    return found


def _rgb(picture: av.VideoFrame, before: list[np.ndarray], stream: Any) -> np.ndarray:
    aspect = stream.sample_aspect_ratio or 1
    shown = round(picture.width * aspect) if 1 / 16 <= aspect <= 16 else picture.width
    height, width = before[0].shape[:2] if before else (picture.height, shown)
    scaled = picture.reformat(width, height, format="rgb24", interpolation="AREA", threads=1)
    return scaled.to_ndarray()


def check(path: Path, decoder: Decoder, *, damaged: bool = True) -> None:
    """Read a file in every way there is: the frames are PyAV's in sequence, or it is broken.

    Other decoders find as many frames, and paint over damage inside a frame in their own ways.
    """
    truth = in_sequence(path)
    if not truth:
        with pytest.raises(BrokenVideo) as caught:
            read_all(path, decoder)
        with pytest.raises(BrokenVideo), open_video(path, decoder) as video:
            len(video)
        assert caught.value.path == path
        assert caught.value.reason
        assert "\n" not in str(caught.value)
        return
    found = read_all(path, decoder)
    assert len(found) == len(truth)
    errors = np.abs(found.astype(int) - np.stack(truth)).mean((1, 2, 3))
    if decoder == "pyav":
        assert errors.max() == 0
    elif not damaged:
        assert errors.max() < 1.5  # they round colours differently
    with open_video(path, decoder) as video:
        assert len(video) == len(truth)
        asked = [0, len(truth) - 1, len(truth) // 2]
        some = video.read(asked)
        assert len(some) == len(asked)
        assert np.array_equal(some, found[asked]) or (damaged and decoder != "pyav")
        with pytest.raises(IndexError):
            video.read([len(truth)])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("base", BASES)
def test_a_damaged_file(
    sound: Callable[[str], bytes], base: str, damage: str, decoder: Decoder, tmp_path: Path
) -> None:
    path = tmp_path / f"damaged{SPECS[base].suffix}"
    path.write_bytes(DAMAGE[damage](sound(base)))
    check(path, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ".txt", ""])
@pytest.mark.parametrize("base", BASES)
def test_the_content_says_what_a_file_is_and_not_its_name(
    sound: Callable[[str], bytes], base: str, suffix: str, decoder: Decoder, tmp_path: Path
) -> None:
    path = tmp_path / f"video{suffix}"
    path.write_bytes(sound(base))
    check(path, decoder, damaged=False)
    assert numbers(read_all(path, decoder)) == list(range(LENGTH))


def patched(content: bytes, tag: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite what stands `offset` bytes behind the first `tag`."""
    start = content.index(tag) + offset
    return content[:start] + value + content[start + len(value) :]


@dataclass(frozen=True)
class Lie:
    """A header field that says something else than the video."""

    base: str
    tag: bytes
    offset: int
    value: bytes


MANY, HUGE = struct.pack("<I", 2**31 - 1), struct.pack("<II", 65_535, 65_535)
LIES = {
    "avi: 2^31 frames in the main header": Lie("mpeg4-no-b", b"avih", 24, MANY),
    "avi: no frames in the main header": Lie("mpeg4-no-b", b"avih", 24, bytes(4)),
    "avi: 2^31 frames in the stream header": Lie("mpeg4-no-b", b"strh", 40, MANY),
    "avi: no frames in the stream header": Lie("mpeg4-no-b", b"strh", 40, bytes(4)),
    "avi: a rate of 0": Lie("mpeg4-no-b", b"strh", 32, bytes(4)),
    "avi: a scale of 0": Lie("mpeg4-no-b", b"strh", 28, bytes(4)),
    "avi: 65535x65535 in the main header": Lie("mpeg4-no-b", b"avih", 40, HUGE),
    "avi: 65535x65535 in the format": Lie("mpeg4-no-b", b"strf", 12, HUGE),
    "avi: 0x0 in the format": Lie("mpeg4-no-b", b"strf", 12, bytes(8)),
    "avi: 65535x65535 mjpeg": Lie("mjpeg-avi", b"strf", 12, HUGE),
    "avi: an unknown codec": Lie("mpeg4-no-b", b"strf", 24, b"????"),
    "avi: raw frames of 4 GB": Lie("mpeg4-no-b", b"strf", 12, HUGE + b"\1\0\x18\0" + bytes(4)),
    "avi: a huge list": Lie("mpeg4-no-b", b"LIST", 4, b"\xff\xff\xff\x7f"),
    "mp4: 2^31 samples": Lie("h264-mp4", b"stsz", 12, b"\x7f\xff\xff\xff"),
    "mp4: samples of 2 GB": Lie("h264-mp4", b"stsz", 8, b"\x7f\xff\xff\xff"),
    "mp4: 65535x65535": Lie("h264-mp4", b"avc1", 28, b"\xff\xff\xff\xff"),
    "mp4: 0x0": Lie("h264-mp4", b"avc1", 28, bytes(4)),
    "mp4: a duration of years": Lie("h264-mp4", b"mdhd", 20, b"\x7f\xff\xff\xff"),
    "mp4: no time scale": Lie("h264-mp4", b"mdhd", 16, bytes(4)),
    "mp4: 2^31 chunks": Lie("h264-mp4", b"stco", 8, b"\x7f\xff\xff\xff"),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies(
    sound: Callable[[str], bytes], name: str, decoder: Decoder, tmp_path: Path
) -> None:
    lie = LIES[name]
    path = tmp_path / f"lie{SPECS[lie.base].suffix}"
    path.write_bytes(patched(sound(lie.base), lie.tag, lie.offset, lie.value))
    check(path, decoder, damaged=False)


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_larger_than_any_camera_makes_are_refused(
    sound: Callable[[str], bytes], decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.avi"
    path.write_bytes(sound("mpeg4-no-b"))
    monkeypatch.setattr(containers, "MOST_PIXELS", 96 * 64 - 1)
    with pytest.raises(BrokenVideo, match="frames of 96x64 pixels"):
        read_all(path, decoder)


def silent(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


NO_VIDEOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("this is no video\n" * 99), "not readable"),
    "one byte": (lambda path: path.write_bytes(b"R"), "not readable"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "not readable"),
    "noise": (lambda path: path.write_bytes(os.urandom(5000)), "not readable|no frame"),
    "only sound": (silent, "no video stream"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "missing": (lambda path: None, "no such file"),
    "a dangling link": (lambda path: path.symlink_to(path.parent / "gone"), "a link to nothing"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic link"),
    "a pipe": (lambda path: os.mkfifo(path), "no regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
}


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video_says_why(tmp_path: Path, name: str, decoder: Decoder) -> None:
    path = tmp_path / "it.avi"
    make, reason = NO_VIDEOS[name]
    make(path)
    with pytest.raises(BrokenVideo, match=reason) as caught:
        read_all(path, decoder)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)
    with pytest.raises(BrokenVideo, match=reason), open_video(path, decoder) as video:
        video.read([0])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("base", BASES)
def test_a_header_alone_has_no_frames(
    sound: Callable[[str], bytes], base: str, decoder: Decoder, tmp_path: Path
) -> None:
    path = tmp_path / f"header{SPECS[base].suffix}"
    path.write_bytes(sound(base)[:600])
    check(path, decoder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("locked", ["file", "folder"])
def test_without_permission(sound: Callable[[str], bytes], locked: str, tmp_path: Path) -> None:
    path = tmp_path / "locked" / "v.avi"
    path.parent.mkdir()
    path.write_bytes(sound("mpeg4-no-b"))
    closed = path if locked == "file" else path.parent
    closed.chmod(0)
    try:
        with pytest.raises(BrokenVideo, match="Permission denied"):
            read_all(path)
    finally:
        closed.chmod(0o700)


NAMES = [
    "with spaces.avi",
    "with\nnewline.avi",
    "with'quote\".avi",
    "with%03d.avi",
    "ビデオ-é.avi",
    "-dash.avi",
    "pipe:0.avi",
    "concat:a.avi|b.avi",
    "file:v.avi",
    "?*[x].avi",
    "no-utf8-\udcff.avi",
    "x" * 240 + ".avi",
]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(
    sound: Callable[[str], bytes],
    name: str,
    decoder: Decoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).write_bytes(sound("mpeg4-no-b"))
    except OSError:
        pytest.skip("the file system knows no such name")
    for path in (Path(name), tmp_path / name):
        assert numbers(read_all(path, decoder)) == list(range(LENGTH))
    Path(name).write_bytes(b"no video")
    with pytest.raises(BrokenVideo) as caught:
        read_all(name, decoder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 300 + ".avi", "nul\0.avi"])
def test_a_name_that_no_file_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrokenVideo):
        read_all(tmp_path / name)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{name}'\n",
    "dash": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation id="1">'
    "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_no_other_file(
    sound: Callable[[str], bytes], kind: str, decoder: Decoder, tmp_path: Path
) -> None:
    target = tmp_path / "other.mpg"
    target.write_bytes(sound("mpeg2"))
    path = tmp_path / "list.avi"
    path.write_text(PLAYLISTS[kind].format(target=target, name=target.name))
    with pytest.raises(BrokenVideo, match="not readable as a video"):
        read_all(path, decoder)


@pytest.mark.parametrize("path", ["../v.avi", "a/../../v.avi", "a/../v.avi", "/etc/passwd"])
def test_a_list_reads_nothing_outside_the_root(
    sound: Callable[[str], bytes], path: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    for folder in (tmp_path, root):
        (folder / "v.avi").write_bytes(sound("mpeg4-no-b"))
    files = frames.VideoFiles(root, "auto", 32)
    for read in (files.read_all, lambda p: files.read(p, [0])):
        with pytest.raises(BrokenVideo, match=r"outside data\.root"):
            read(path)
    assert files.fingerprint(path) == ""


def test_links_inside_the_root_may_lead_out(sound: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "v.avi").write_bytes(sound("mpeg4-no-b"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "disk")
    files = frames.VideoFiles(tmp_path / "root", "auto", 64)
    assert numbers(files.read_all("a/v.avi")) == list(range(LENGTH))


def test_a_file_that_shrinks_while_it_is_read(
    sound: Callable[[str], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(sound("mpeg4-no-b"))
    with open_video(path) as video:
        assert numbers(video.read([3])) == [3]
        os.truncate(path, 0)
        with pytest.raises((BrokenVideo, IndexError)):
            video.read([2])


def test_a_cut_file_is_exact_up_to_the_cut(sound: Callable[[str], bytes], tmp_path: Path) -> None:
    content = sound("mpeg4-no-b")
    path = tmp_path / "cut.avi"
    header = content.index(b"movi")
    path.write_bytes(content[: header + int((len(content) - header) * 0.5)])
    for decoder in DECODERS:
        found = numbers(read_all(path, decoder))
        assert 10 < len(found) < LENGTH
        assert found[:-1] == list(range(len(found) - 1))  # the cut goes through the last one
