"""The index of a file: its frames and times, and seeks that are proven or not made."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgan_video.video import containers, decoders, index, open_video, proof
from bgan_video.video.decoders import Decoder, DecordPass, PyAVPass
from bgan_video.video.reader import BrokenVideo, OpenFiles, OpenVideo, read_all
from tests.video.videos import DECODERS, SPECS, numbers, write

CLIP, TEN_THOUSAND = 16, 10_000
SOME = "h264-mp4"
LENGTH = SPECS[SOME].length


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("indexed")
    return {name: write(folder / (name + spec.suffix), spec) for name, spec in SPECS.items()}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_kept", type(index._kept)())


def wrong_clips(path: Path, length: int, decoder: Decoder, count: int, seed: int = 0) -> list[Any]:
    """Random clips, from a file that stays open, that are not the ones asked for."""
    random = np.random.default_rng(seed)
    files = OpenFiles(decoder, None, 2)
    wrong: list[Any] = []
    for _ in range(count):
        stride = int(random.integers(1, 4))
        start = int(random.integers(0, length - CLIP * stride))
        asked = list(range(start, start + CLIP * stride, stride))
        found = numbers(files.read(path, asked))
        if found != asked:
            wrong.append((asked, found))
    files.close()
    return wrong


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", SPECS)
def test_clips_are_exact_where_seeks_are_proven(
    videos: dict[str, Path], name: str, decoder: Decoder
) -> None:
    found = index.of(videos[name], decoder)
    assert found.num_frames == SPECS[name].length
    assert wrong_clips(videos[name], found.num_frames, decoder, 12) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("decoder", DECODERS)
def test_ten_thousand_clips_are_exact_where_seeks_are_proven(
    videos: dict[str, Path], decoder: Decoder
) -> None:
    each = -(-TEN_THOUSAND // len(SPECS))
    for name, spec in SPECS.items():
        index.of(videos[name], decoder)
        assert wrong_clips(videos[name], spec.length, decoder, each, seed=1) == [], name


def without_index(content: bytes) -> bytes:
    """An AVI whose index is passed over."""
    at = content.rindex(b"idx1")
    return content[:at] + b"JUNK" + content[at + 4 :]


def wrong_index(content: bytes) -> bytes:
    """An AVI whose index gives for each packet the place of another, and calls all keyframes."""
    at = content.rindex(b"idx1") + 4
    size = int.from_bytes(content[at : at + 4], "little")
    entries = np.frombuffer(content[at + 4 : at + 4 + size], "<u4").reshape(-1, 4).copy()
    entries[:, 1] |= 0x10
    entries[20:, 2] = np.roll(entries[20:, 2], 7)
    return content[: at + 4] + entries.tobytes() + content[at + 4 + size :]


def wrong_keyframes(content: bytes) -> bytes:
    """An MP4 whose list of keyframes names the frames behind them, but for the first."""
    at = content.index(b"stss") + 8
    count = int.from_bytes(content[at : at + 4], "big")
    numbers = np.frombuffer(content[at + 4 : at + 4 + 4 * count], ">u4").copy()
    numbers[1:] += 5
    return content[: at + 4] + numbers.tobytes() + content[at + 4 + 4 * count :]


BROKEN_INDEX = {
    "mpeg4-gop50 without": ("mpeg4-gop50", without_index),
    "mpeg4-gop12 wrong": ("mpeg4-gop12", wrong_index),
    "h264-avi without": ("h264-avi", without_index),
    "h264-avi wrong": ("h264-avi", wrong_index),
    "h264-mp4 wrong": ("h264-mp4", wrong_keyframes),
    "hevc-10-bit wrong": ("hevc-10-bit", wrong_keyframes),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", BROKEN_INDEX)
def test_clips_are_exact_where_the_index_of_the_container_is_wrong(
    videos: dict[str, Path], tmp_path: Path, name: str, decoder: Decoder
) -> None:
    spec, spoil = BROKEN_INDEX[name]
    path = tmp_path / videos[spec].name
    path.write_bytes(spoil(videos[spec].read_bytes()))
    with open_video(path, "pyav") as video:
        whole = numbers(video.read_all())
    found = index.of(path, decoder)
    assert found.num_frames == len(whole)
    files, random = OpenFiles(decoder, None, 2), np.random.default_rng(0)
    for start in random.integers(0, len(whole) - CLIP, 12).tolist():
        assert numbers(files.read(path, range(start, start + CLIP))) == whole[start : start + CLIP]
    files.close()


PROVEN = ("h264-mp4", "h264-open-gop-mkv", "h264-variable-mkv", "hevc-10-bit", "vp9", "mjpeg-avi")


@pytest.mark.parametrize("name", [*PROVEN, "h264-avi", "mpeg4-gop12"])
def test_pyav_seeks_where_it_may(videos: dict[str, Path], name: str) -> None:
    marks = index.of(videos[name], "pyav").marks[:, 0].tolist()
    assert len(marks) >= 2
    assert all(b - a >= proof._LEAST_GAP for a, b in pairwise(marks))


@pytest.mark.skipif("decord" not in DECODERS, reason="decord is not installed")
def test_decord_seeks_only_where_that_is_exact(videos: dict[str, Path]) -> None:
    assert len(index.of(videos["h264-mp4"], "decord").marks) >= 2
    for name in ("mpeg4-gop12", "h264-avi", "mpeg4-packed-gop50"):  # it lands 12 to 98 frames off
        assert len(index.of(videos[name], "decord").marks) == 0


@pytest.mark.parametrize("decoder", [d for d in DECODERS if d != "torchcodec"])
def test_a_clip_at_the_end_decodes_no_more_than_from_the_last_proven_place(
    videos: dict[str, Path], decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = index.of(videos[SOME], decoder).mark(LENGTH - 1)
    assert mark is not None
    own = {"pyav": PyAVPass, "decord": DecordPass}[decoder]
    sought: list[int] = []
    seek: Callable[..., None] = own.seek
    monkeypatch.setattr(own, "seek", lambda s, m: (sought.append(m.frame), seek(s, m)))
    with open_video(videos[SOME], decoder) as video:
        assert numbers(video.read([LENGTH - 2, LENGTH - 1])) == [LENGTH - 2, LENGTH - 1]
        assert numbers(video.read([3])) == [3]
        assert numbers(video.read([4, mark.frame + 1])) == [4, mark.frame + 1]
    assert sought == [mark.frame, mark.frame]


def test_a_seek_that_lands_elsewhere_than_it_did_is_not_believed(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.of(videos[SOME], "pyav")
    seek = containers.InputContainer.seek
    moved = lambda self, time, **more: seek(self, 0, **more)  # noqa: E731
    passes = []

    class Misled(PyAVPass):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            passes.append(self)
            inner = self._container
            self._container = type(  # type: ignore[assignment]
                "Moved",
                (),
                {
                    "seek": lambda _, time, **more: moved(inner, time, **more),
                    "__getattr__": lambda _, name: getattr(inner, name),
                },
            )()

    monkeypatch.setattr("bgan_video.video.decoders.PyAVPass", Misled)
    with open_video(videos[SOME], "pyav") as video:
        assert numbers(video.read([LENGTH - 2])) == [LENGTH - 2]
    assert len(passes) == 2  # the second from the start


@pytest.mark.parametrize("name", ["h264-variable-mp4", "h264-variable-mkv"])
def test_times_are_those_of_the_frames(videos: dict[str, Path], name: str) -> None:
    n = np.arange(LENGTH)
    written = (40 * n + 10 * (n % 3) + 1000 * (n > LENGTH // 2)) / 1000
    assert np.allclose(index.of(videos[name], "pyav").times, written, atol=1e-6)


@pytest.mark.parametrize("name", ["mpeg4-packed-gop50", "h264-mp4", "mpeg2"])
def test_a_constant_rate_gives_even_times(videos: dict[str, Path], name: str) -> None:
    assert np.allclose(index.of(videos[name], "pyav").times, np.arange(LENGTH) / 25, atol=1e-6)


def test_it_is_kept_on_disk_and_made_anew_for_another_file(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(videos[SOME].read_bytes())
    made = index.of(path, "pyav")
    index._kept.clear()
    monkeypatch.setattr(proof, "first_reading", lambda _: pytest.fail("it is known"))
    again = index.known(path, "pyav")
    assert again is not None
    assert again.marks.tolist() == made.marks.tolist()
    assert (again.clock, again.ticks, again.look) == (made.clock, made.ticks, made.look)
    assert index.known(path, "torchcodec") is None
    path.write_bytes(videos["h264-grey"].read_bytes())
    assert index.known(path, "pyav") is None
    (kept,) = (tmp_path / "cache").rglob("*.json")
    kept.write_text(kept.read_text()[:-9])  # a kill, a full disk
    path.write_bytes(videos[SOME].read_bytes())
    index._kept.clear()
    assert index.known(path, "pyav") is None


def test_no_file_is_open_across_a_fork_and_few_at_a_time(videos: dict[str, Path]) -> None:
    files = OpenFiles("pyav", None, 2)
    for name in ("h264-mp4", "mpeg4-gop12", "vp8"):
        files.read(videos[name], [5])
    assert len(files._open) == 2
    if hasattr(os, "fork"):
        process = multiprocessing.get_context("fork").Process(
            target=files.read, args=(videos["vp8"], [9])
        )
        process.start()
        assert len(files._open) == 0
        process.join(30)
        assert process.exitcode == 0
    assert numbers(files.read(videos["vp8"], [7])) == [7]


def test_threads_that_want_one_file_each_have_it_for_themselves(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path, together = OpenFiles("pyav", None, 2), videos[SOME], threading.Barrier(4)
    index.of(path, "pyav")
    opened: list[OpenVideo] = []
    read = OpenVideo.read

    def reading(video: OpenVideo, indices: Sequence[int]) -> Any:
        opened.append(video)
        together.wait(20)
        return read(video, indices)

    monkeypatch.setattr(OpenVideo, "read", reading)
    with ThreadPoolExecutor(4) as pool:
        asked = [[i, i + 3] for i in (0, 9, 20, 31)]
        found = list(pool.map(lambda some: numbers(files.read(path, some)), asked))
    assert found == asked
    assert len(set(map(id, opened))) == 4
    assert sum(video._pass is not None for video in opened) == 1, "the others are closed"


def test_a_file_that_changes_while_it_is_open_is_opened_anew(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "v.mp4"
    files = OpenFiles("pyav", None, 2)
    write(path, SPECS[SOME], 40)
    index.of(path, "pyav")
    assert numbers(files.read(path, [39])) == [39]
    write(path, SPECS[SOME], 30)
    with pytest.raises(BrokenVideo, match="it has 30 frames"):
        files.read(path, [39])


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_frame_is_the_same_to_the_last_bit_however_it_is_reached(
    decoder: Decoder, small_videos: Path
) -> None:
    """decord's `skip_frames` gave the frame before or after once in some hundred passes."""
    random = np.random.default_rng(0)
    paths = sorted(small_videos.rglob("*.avi"))[:16]
    files, first = OpenFiles(decoder, 18, 16), {}
    for path in paths:
        index.of(path, decoder)
        with open_video(path, decoder, 18) as reader:
            first[path] = reader.read(range(len(reader)))
    for path in random.choice(len(paths), 600).tolist():
        path, whole = paths[path], first[paths[path]]
        start = int(random.integers(len(whole)))
        asked = [i for i in range(start, start + 5) if i < len(whole) and random.random() < 0.8]
        found = files.read(path, asked) if asked else []
        assert all(np.array_equal(x, whole[i]) for x, i in zip(found, asked, strict=True)), asked
    files.close()


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_leave_nothing_for_the_garbage_collector(
    videos: dict[str, Path], decoder: Decoder
) -> None:
    """decord's `asnumpy` makes reference cycles: an hour of video was 5 GiB of them."""
    index.of(videos[SOME], decoder)
    gc.collect()
    gc.disable()
    try:
        with open_video(videos[SOME], decoder) as video:
            assert len(video.read(range(60))) == 60
        assert gc.collect() < 60
    finally:
        gc.enable()


@pytest.mark.skipif("decord" not in DECODERS, reason="decord is not installed")
def test_what_decord_might_hold_in_memory_as_a_whole_is_read_by_pyav(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos[SOME]
    monkeypatch.setattr(decoders, "_MOST_BYTES", path.stat().st_size)
    assert index.of(path, "decord").decoder == "decord"
    monkeypatch.setattr(decoders, "_MOST_BYTES", path.stat().st_size - 1)
    monkeypatch.setattr(DecordPass, "next_frame", lambda self: pytest.fail("decord reads"))
    assert numbers(read_all(path, "decord")) == list(range(LENGTH))
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "anew"))
    index._kept.clear()
    assert index.of(path, "decord").decoder == "pyav"
    assert numbers(read_all(path, "decord")) == list(range(LENGTH))
