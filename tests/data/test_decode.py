"""Frames are exact with every decoder and codec, and broken files say so."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bgan_video.data import decode
from bgan_video.data.decode import BrokenVideo, open_video, read_all
from bgan_video.errors import UserError

BITS = 8
WIDTH, HEIGHT = 96, 64
LENGTH = 131
OPEN_GOP = {"x264-params": "open-gop=1:keyint=24:min-keyint=24:scenecut=0"}
# name -> codec, group of pictures, B-frames, pixel format, options
FILES: dict[str, tuple[str, int, int, str, dict[str, str]]] = {
    "mpeg4-gop12.avi": ("mpeg4", 12, 2, "yuv420p", {}),
    "mpeg4-gop50.avi": ("mpeg4", 50, 2, "yuv420p", {}),
    "mpeg4-no-b.avi": ("mpeg4", 12, 0, "yuv420p", {}),
    "mpeg4.mp4": ("mpeg4", 12, 2, "yuv420p", {}),
    "mjpeg.avi": ("mjpeg", 12, 0, "yuvj420p", {}),
    "h264.mp4": ("libx264", 24, 2, "yuv420p", {}),
    "h264.avi": ("libx264", 24, 3, "yuv420p", {}),
    "h264-open-gop.mp4": ("libx264", 24, 3, "yuv420p", OPEN_GOP),
    "h264-open-gop.mkv": ("libx264", 24, 3, "yuv420p", OPEN_GOP),
}
DECODERS = [
    "pyav",
    pytest.param(
        "decord", marks=pytest.mark.skipif(decode.decord is None, reason="decord is not installed")
    ),
]


def numbered(number: int) -> np.ndarray:
    """A frame that carries its number: one black or white block a bit."""
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        block = slice(bit * WIDTH // BITS, (bit + 1) * WIDTH // BITS)
        frame[: HEIGHT // 2, block] = 235 if number >> bit & 1 else 20
    return frame


def numbers(frames: np.ndarray) -> list[int]:
    """The number that each of `[T, H, W, 3]` carries."""
    height, width = frames.shape[1:3]
    columns = [round((bit + 0.5) * width / BITS) for bit in range(BITS)]
    bits = frames[:, height // 4, columns].mean(-1) > 128
    return [int(sum(1 << i for i in range(BITS) if row[i])) for row in bits]


def write(path: Path, length: int = LENGTH, spec: str = "mpeg4-gop12.avi") -> Path:
    codec, gop, b_frames, pixels, options = FILES[spec]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"bf": str(b_frames), **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.gop_size, stream.bit_rate, stream.thread_type = gop, 2_000_000, "NONE"
        for number in range(length):
            picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write(folder / name, spec=name) for name in FILES}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_the_one_asked_for(
    videos: dict[str, Path], name: str, decoder: decode.Decoder
) -> None:
    rng = np.random.default_rng(0)
    assert numbers(read_all(videos[name], decoder, 32)) == list(range(LENGTH))
    for start in rng.integers(0, LENGTH - 31, 6).tolist():
        asked = list(range(start, start + 32, 2))
        with open_video(videos[name], decoder, 32) as video:
            assert len(video) == LENGTH
            assert numbers(video.read(asked)) == asked


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_reader_reads_in_any_order(videos: dict[str, Path], decoder: decode.Decoder) -> None:
    with open_video(videos["mpeg4-gop12.avi"], decoder) as video:
        for asked in ([100, 3, 3, 50], [51, 52], [51], [0], [LENGTH - 1], [7, 6, 5]):
            assert numbers(video.read(asked)) == asked


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("short_side", [None, 17, 32])
def test_shape_type_and_aspect(
    videos: dict[str, Path], decoder: decode.Decoder, short_side: int | None
) -> None:
    expected = (HEIGHT, WIDTH) if short_side is None else (short_side, round(short_side * 1.5))
    with open_video(videos["mpeg4-gop12.avi"], decoder, short_side) as video:
        frames = video.read([1, 5])
    assert frames.shape == (2, *expected, 3)
    assert frames.dtype == np.uint8
    assert read_all(videos["mpeg4-gop12.avi"], decoder, short_side).shape == (LENGTH, *expected, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_rows_of_any_width_keep_their_pixels(
    videos: dict[str, Path], decoder: decode.Decoder
) -> None:
    for short_side in range(20, 64):
        with open_video(videos["mpeg4-gop12.avi"], decoder, short_side) as video:
            frames = video.read([5])
        assert frames.shape == (1, short_side, round(short_side * 1.5), 3)
        assert numbers(frames) == [5]


@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_are_red_green_blue(tmp_path: Path, decoder: decode.Decoder) -> None:
    path = tmp_path / "red.avi"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        red = np.zeros((32, 32, 3), np.uint8)
        red[..., 0] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    color = read_all(path, decoder)[0].mean((0, 1))
    assert np.abs(color - [200, 0, 0]).max() < 20


@pytest.mark.parametrize("decoder", DECODERS)
def test_indices_outside_the_video_are_refused(
    videos: dict[str, Path], decoder: decode.Decoder
) -> None:
    with open_video(videos["mpeg4-gop12.avi"], decoder) as video:
        with pytest.raises(IndexError, match=f"it has {LENGTH} frames"):
            video.read([0, LENGTH])
        with pytest.raises(IndexError, match="start at 0"):
            video.read([-1])
        assert numbers(video.read([4])) == [4]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("decoder", DECODERS)
def test_very_short_videos(tmp_path: Path, decoder: decode.Decoder, length: int) -> None:
    path = write(tmp_path / "short.avi", length)
    assert numbers(read_all(path, decoder)) == list(range(length))
    with open_video(path, decoder) as video:
        assert len(video) == length


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_rewritten_file_is_counted_anew(tmp_path: Path, decoder: decode.Decoder) -> None:
    for length in (5, 9):
        with open_video(write(tmp_path / "v.avi", length), decoder) as video:
            assert len(video) == length


def silent_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def broken_files(folder: Path) -> Iterator[tuple[Path, str]]:
    good = write(folder / "good.avi", 20).read_bytes()
    contents = {
        "empty.avi": (b"", "empty"),
        "text.avi": (b"this is no video\n" * 99, "not readable"),
        "header.avi": (good[:2000], "not readable"),
        "zeros.avi": (bytes(5000), "not readable"),
    }
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name, reason
    (folder / "folder.avi").mkdir()
    yield folder / "folder.avi", "folder"
    yield folder / "missing.avi", "no such file"
    yield silent_audio(folder / "sound.avi"), "no video stream"


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_what_is_no_video_says_why_in_one_line(tmp_path: Path, decoder: decode.Decoder) -> None:
    for path, reason in broken_files(tmp_path):
        with pytest.raises(BrokenVideo, match=reason) as caught:
            read_all(path, decoder)
        assert caught.value.path == path
        assert "\n" not in str(caught.value)
        with pytest.raises(BrokenVideo, match=reason), open_video(path, decoder) as video:
            video.read([0])


def test_a_broken_video_survives_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BrokenVideo(Path("a.avi"), "the file is empty")))
    assert (error.path, error.reason) == (Path("a.avi"), "the file is empty")
    assert str(error) == "a.avi: the file is empty"


def damage(content: bytes) -> Iterator[bytes]:
    rng = np.random.default_rng(7)
    for part in (0.1, 0.3, 0.5, 0.7, 0.95):
        yield content[: int(len(content) * part)]
    for flips in (1, 3, 10, 30, 100):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), flips).tolist():
            damaged[position] ^= 1 << int(rng.integers(8))
        yield bytes(damaged)
    middle = len(content) // 2
    yield content[:middle] + bytes(len(content) // 10) + content[middle + len(content) // 10 :]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_frames_or_says_it_is_broken(
    videos: dict[str, Path], name: str, decoder: decode.Decoder, tmp_path: Path
) -> None:
    for i, content in enumerate(damage(videos[name].read_bytes())):
        path = tmp_path / f"{i}-{name}"
        path.write_bytes(content)
        with suppress(BrokenVideo), open_video(path, decoder, 32) as video:
            length = len(video)
            assert len(video.read([0, length - 1])) == 2
            assert len(read_all(path, decoder, 32)) >= length


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_cut_file_is_exact_up_to_the_cut(
    videos: dict[str, Path], decoder: decode.Decoder, part: float, tmp_path: Path
) -> None:
    content = videos["mpeg4-no-b.avi"].read_bytes()
    path = tmp_path / "cut.avi"
    header = content.index(b"movi")
    path.write_bytes(content[: header + int((len(content) - header) * part)])
    found = numbers(read_all(path, decoder))
    assert 10 < len(found) < LENGTH
    assert found[:-1] == list(range(len(found) - 1))  # the cut goes through the last one


@pytest.mark.skipif(decode.decord is None, reason="decord is not installed")
def test_where_decord_fails_pyav_reads(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_half_way(path: Path, size: tuple[int, int] | None) -> Iterator[Any]:
        yield from (lambda: np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in range(20))
        raise decode.decord.DECORDError("cannot decode")

    monkeypatch.setattr(decode, "_decord_frames", fails_half_way)
    path = videos["mpeg4-gop12.avi"]
    assert numbers(read_all(path, "auto")) == list(range(LENGTH))
    with open_video(path, "decord") as video:
        assert numbers(video.read([3, 60])) == [3, 60]


def test_without_decord_auto_is_pyav(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "decord", None)
    assert numbers(read_all(videos["mjpeg.avi"], "auto")) == list(range(LENGTH))
    with pytest.raises(UserError, match=r"data\.decoder=decord"):
        read_all(videos["mjpeg.avi"], "decord")


def test_a_long_video_is_not_held_in_memory(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    original = decode._pyav_frames

    def counting(path: Path, size: tuple[int, int] | None) -> Iterator[Any]:
        def count(grab: Any) -> Any:
            nonlocal made
            made += 1
            return grab()

        for grab in original(path, size):
            yield lambda grab=grab: count(grab)

    monkeypatch.setattr(decode, "_pyav_frames", counting)
    with open_video(videos["mpeg4-gop12.avi"], "pyav") as video:
        video.read([LENGTH - 2, LENGTH - 1])
    assert made == 2


def recordings() -> list[Path]:
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("BGAN_SHARED_DATA", default)) / "ucf101_sample" / "videos"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}; set BGAN_SHARED_DATA")
    return sorted(folder.glob("*/*.avi"))


@pytest.mark.shared
@pytest.mark.parametrize("decoder", DECODERS)
def test_ucf101_clips_are_those_of_sequential_decoding(decoder: decode.Decoder) -> None:
    rng = np.random.default_rng(0)
    for path in recordings()[::3]:
        with av.open(str(path)) as container:
            truth = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        with open_video(path, decoder) as video:
            assert len(video) == len(truth)
            for start in rng.integers(0, len(truth) - 16, 2).tolist():
                asked = list(range(start, start + 16))
                # The decoders round colours differently, by less than a neighbour differs.
                error = np.abs(video.read(asked).astype(int) - truth[asked]).mean()
                assert error < 1.0
        assert len(read_all(path, decoder, 32)) == len(truth)
