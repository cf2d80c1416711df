"""Frames are exact with every decoder, codec and container."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bgan_video.errors import UserError
from bgan_video.video import decoders, open_video
from bgan_video.video.reader import BrokenVideo, Decoder, read_all
from tests.video.videos import DECODERS, SPECS, numbered, numbers, write

FAST_CLIPS, ALL_CLIPS = 300, 10_000
SOME = "mpeg4-gop12"
LENGTH = SPECS[SOME].length


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write(folder / (name + spec.suffix), spec) for name, spec in SPECS.items()}


@pytest.mark.parametrize("name", SPECS)
def test_the_test_videos_are_what_they_say(videos: dict[str, Path], name: str) -> None:
    spec = SPECS[name]
    with av.open(str(videos[name])) as container:
        stream = container.streams.video[0]
        packets = list(container.demux(stream))
        assert len(container.streams.audio) == (spec.sound is not None)
    assert sum(p.is_keyframe for p in packets) >= max(1, spec.length // spec.gop)
    gaps = np.diff(sorted(p.pts for p in packets if p.pts is not None))
    assert not spec.variable_rate or len(set(gaps)) >= 3


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", SPECS)
def test_all_frames_come_once_and_upright(
    videos: dict[str, Path], name: str, decoder: Decoder
) -> None:
    spec = SPECS[name]
    frames = read_all(videos[name], decoder)
    assert numbers(frames) == list(range(spec.length))
    assert frames.shape[1:] == (*spec.shown, 3)
    with open_video(videos[name], decoder) as video:
        assert len(video) == spec.length


def wrong_clips(videos: dict[str, Path], decoder: Decoder, count: int) -> list[Any]:
    """Clips of 16 frames at random starts, strides and sizes that are not the ones asked for."""
    rng = np.random.default_rng(0)
    wrong: list[Any] = []
    for name in islice(cycle(SPECS), count):
        stride = int(rng.integers(1, 5))
        start = int(rng.integers(0, SPECS[name].length - 15 * stride))
        asked = list(range(start, start + 16 * stride, stride))
        size = [None, 32, 48][rng.integers(3)]
        with open_video(videos[name], decoder, size) as video:
            found = numbers(video.read(asked))
        if found != asked:
            wrong.append((name, size, asked, found))
    return wrong


@pytest.mark.parametrize("decoder", DECODERS)
def test_random_clips_are_exact(videos: dict[str, Path], decoder: Decoder) -> None:
    assert wrong_clips(videos, decoder, FAST_CLIPS) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("decoder", DECODERS)
def test_ten_thousand_clips_are_exact(videos: dict[str, Path], decoder: Decoder) -> None:
    assert wrong_clips(videos, decoder, ALL_CLIPS) == []


def test_the_numbers_tell_frames_apart_and_blends_from_frames() -> None:
    frames = np.stack([numbered(n, 64, 96) for n in (0, 1, 341, 1023)])
    assert numbers(frames) == [0, 1, 341, 1023]
    blend = frames[:2].astype(int).mean(0).astype(np.uint8)
    assert numbers(blend[None]) == [-1]
    assert numbers(np.rot90(frames, 2, axes=(1, 2))) != [0, 1, 341, 1023]


@pytest.mark.parametrize("decoder", [d for d in DECODERS if d != "pyav"])
@pytest.mark.parametrize("name", SPECS)
def test_no_decoder_leaves_a_sound_file_to_pyav(
    videos: dict[str, Path], name: str, decoder: Decoder
) -> None:
    (own, _) = decoders.passes(decoder)
    running = own(videos[name], None)
    count = 0
    while running.next_frame() is not None:
        count += 1
    running.close()
    assert count == SPECS[name].length


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_reader_reads_in_any_order(videos: dict[str, Path], decoder: Decoder) -> None:
    with open_video(videos[SOME], decoder) as video:
        for asked in ([100, 3, 3, 50], [51, 52], [51], [0], [LENGTH - 1], [7, 6, 5]):
            assert numbers(video.read(asked)) == asked


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [None, 17, 32])
def test_shape_type_and_aspect(videos: dict[str, Path], decoder: Decoder, size: int | None) -> None:
    expected = SPECS[SOME].shown if size is None else (size, round(size * 1.5))
    with open_video(videos[SOME], decoder, size) as video:
        frames = video.read([1, 5])
    assert frames.shape == (2, *expected, 3)
    assert frames.dtype == np.uint8
    assert read_all(videos[SOME], decoder, size).shape == (LENGTH, *expected, 3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_rows_of_any_width_keep_their_pixels(videos: dict[str, Path], decoder: Decoder) -> None:
    for size in range(20, 64):
        with open_video(videos[SOME], decoder, size) as video:
            frames = video.read([5])
        assert frames.shape == (1, size, round(size * 1.5), 3)
        assert numbers(frames) == [5]


@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_are_red_green_blue(tmp_path: Path, decoder: Decoder) -> None:
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
def test_indices_outside_the_video_are_refused(videos: dict[str, Path], decoder: Decoder) -> None:
    with open_video(videos[SOME], decoder) as video:
        with pytest.raises(IndexError, match=f"it has {LENGTH} frames"):
            video.read([0, LENGTH])
        with pytest.raises(IndexError, match="start at 0"):
            video.read([-1])
        assert numbers(video.read([4])) == [4]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("decoder", DECODERS)
def test_very_short_videos(tmp_path: Path, decoder: Decoder, length: int) -> None:
    path = write(tmp_path / "short.avi", SPECS[SOME], length)
    assert numbers(read_all(path, decoder)) == list(range(length))
    with open_video(path, decoder) as video:
        assert len(video) == length


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_rewritten_file_is_counted_anew(tmp_path: Path, decoder: Decoder) -> None:
    for length in (5, 9):
        with open_video(write(tmp_path / "v.avi", SPECS[SOME], length), decoder) as video:
            assert len(video) == length


def test_a_broken_video_survives_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BrokenVideo(Path("a.avi"), "the file is empty")))
    assert (error.path, error.reason) == (Path("a.avi"), "the file is empty")
    assert str(error) == "a.avi: the file is empty"


@pytest.mark.skipif("decord" not in DECODERS, reason="decord is not installed")
def test_where_decord_fails_pyav_reads(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailsHalfWay(decoders.PyAVPass):
        count = 0

        def next_frame(self) -> Callable[[], decoders.Pixels] | None:
            self.count += 1
            if self.count > 20:
                raise decoders.decord.DECORDError("cannot decode")
            return lambda: np.zeros((64, 96, 3), np.uint8)

    monkeypatch.setattr(decoders, "DecordPass", FailsHalfWay)
    assert numbers(read_all(videos[SOME], "decord")) == list(range(LENGTH))
    with open_video(videos[SOME], "decord") as video:
        assert numbers(video.read([3, 60])) == [3, 60]


def test_auto_gives_the_same_pixels_everywhere(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_all(videos[SOME], "auto")
    monkeypatch.setattr(decoders, "decord", None)
    assert np.array_equal(read_all(videos[SOME], "auto"), before)


def test_where_decord_has_no_build_pyav_stands_in(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "decord", None)
    assert decoders.in_use("decord") == "pyav"
    assert np.array_equal(read_all(videos[SOME], "decord"), read_all(videos[SOME], "pyav"))


def test_a_decoder_that_is_not_there_is_a_users_error(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(UserError, match=r"bgan_video\[torchcodec\].*allowed: auto, decord, pyav"):
        read_all(videos[SOME], "torchcodec")


def test_only_the_frames_asked_for_become_pixels(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    original = decoders.PyAVPass._pixels

    def counting(self: Any, frame: Any) -> Any:
        nonlocal made
        made += 1
        return original(self, frame)

    monkeypatch.setattr(decoders.PyAVPass, "_pixels", counting)
    with open_video(videos[SOME], "pyav") as video:
        video.read([LENGTH - 2, LENGTH - 1])
    assert made == 2


def test_a_clip_from_the_start_does_not_decode_the_rest(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    original = decoders.PyAVPass.next_frame

    def counting(self: Any) -> Any:
        nonlocal asked
        asked += 1
        return original(self)

    monkeypatch.setattr(decoders.PyAVPass, "next_frame", counting)
    with open_video(videos[SOME], "pyav") as video:
        video.read(range(16))
    assert asked == 16


@pytest.mark.shared
@pytest.mark.parametrize("decoder", DECODERS)
def test_ucf101_clips_are_those_of_sequential_decoding(shared_data: Path, decoder: Decoder) -> None:
    rng = np.random.default_rng(0)
    paths = sorted((shared_data / "ucf101_sample" / "videos").glob("*/*.avi"))
    assert paths
    for path in paths:
        with av.open(str(path)) as container:
            truth = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        with open_video(path, decoder) as video:
            assert len(video) == len(truth)
            for start in rng.integers(0, len(truth) - 16, 2).tolist():
                asked = list(range(start, start + 16))
                error = np.abs(video.read(asked).astype(int) - truth[asked]).mean((1, 2, 3))
                # The decoders round colours differently, by less than a neighbour differs.
                assert error.max() < 1.0
        assert len(read_all(path, decoder, 32)) == len(truth)
