"""Filling a clip store: once, in parallel, through kills, full disks and broken files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgan_video import cli
from bgan_video.data import layouts
from bgan_video.data.frames import Frames, survey
from bgan_video.data.store import clip_store, prepare, shards
from bgan_video.errors import UserError
from bgan_video.video import reader
from bgan_video.video.reader import BrokenVideo
from tests.data.store import stores

ONCE = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def videos(small_videos: Path, tmp_path: Path) -> Path:
    return stores.few_videos(small_videos, tmp_path / "videos")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some.store"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_frame_is_the_one_that_decodes(videos: Path, folder: Path, workers: int):
    said: list[str] = []
    of = stores.settings(videos, folder, f"data.num_workers={workers}")
    prepared = stores.fill(of, said)
    assert (prepared.videos, prepared.added, prepared.rejected) == (6, 6, [])
    assert prepared.num_bytes == sum(p.stat().st_size for p in folder.glob("frames-*.bin"))
    assert "6 videos at 18 pixels need about" in said[0]
    stores.assert_complete(of)


def test_running_again_does_nothing(videos: Path, folder: Path):
    of = stores.settings(videos, folder)
    stores.fill(of)
    before = contents(folder)
    said: list[str] = []
    again = stores.fill(of, said)
    assert (again.videos, again.added, said) == (6, 0, [])
    assert contents(folder) == before


def test_a_shard_is_begun_where_one_is_full(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "_SHARD_BYTES", 50_000)
    of = stores.settings(videos, folder)
    stores.fill(of)
    assert len(list(folder.glob("frames-*.bin"))) == 3
    stores.assert_complete(of)


def test_files_that_do_not_read_are_kept_by_reason_and_tried_again(videos: Path, folder: Path):
    (videos / "Grow" / "a.avi").write_bytes(b"")
    (videos / "Grow" / "b.avi").write_text("no video")
    (videos / "Grow" / "c.avi").symlink_to("nowhere.avi")
    of = stores.settings(videos, folder, "data.max_broken=3")
    reasons = dict(stores.fill(of).rejected)
    assert reasons["Grow/a.avi"] == "the file is empty"
    assert "not readable as a video" in reasons["Grow/b.avi"]
    assert reasons["Grow/c.avi"] == "a link to nothing"

    manifest = layouts.read(of.data)
    frames = Frames(manifest.root, of)
    _, broken = survey(manifest, frames, of)
    assert dict(broken) == reasons

    before = contents(folder)
    assert stores.fill(of).added == 0
    assert contents(folder) == before
    shutil.copy(next((videos / "MoveUp").glob("*.avi")), videos / "Grow" / "a.avi")
    with pytest.raises(UserError, match=r"a\.avi changed since"):
        Frames(str(videos), of).survey(next(i for i in manifest.items if "a.avi" in i.path))
    mended = stores.fill(of)
    assert (mended.added, len(mended.rejected)) == (1, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again_it_goes_on(
    small_videos: Path, tmp_path: Path, folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
):
    videos = stores.few_videos(small_videos, tmp_path / "twelve", per_class=6)
    of = stores.settings(videos, folder, f"data.num_workers={workers}")
    stores.slow_decoding(monkeypatch, 0.1)
    for lines in (1, 4, 8):
        process = stores.start(of)
        stores.wait_for_lines(folder, lines, process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was over before it could be killed"
    prepared = stores.fill(of)
    assert prepared.videos == 12
    assert prepared.added <= 4
    stores.assert_complete(of)


@ONCE
@given(cut=st.floats(0, 1), rest=st.binary(max_size=200))
def test_it_goes_on_from_whatever_a_kill_leaves(
    small_videos: Path, tmp_path_factory: pytest.TempPathFactory, cut: float, rest: bytes
):
    """An index cut anywhere; frames that no line names, in an old shard and in a new one."""
    place = tmp_path_factory.mktemp("cut")
    of = stores.settings(stores.few_videos(small_videos, place / "videos", 2), place / "s")
    stores.fill(of)
    index = place / "s" / clip_store.INDEX
    os.truncate(index, int(cut * index.stat().st_size))
    with (place / "s" / "frames-00000.bin").open("ab") as shard:
        shard.write(rest)
    (place / "s" / "frames-00007.bin").write_bytes(rest)
    kept = index.read_bytes().count(b"\n")
    assert stores.fill(of).added == 4 - kept
    stores.assert_complete(of)
    whole = sum(r.num_bytes for r in clip_store.read_lines(place / "s"))
    assert sum(p.stat().st_size for p in (place / "s").glob("frames-*.bin")) == whole


def test_two_processes_at_once_decode_each_video_once(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    of = stores.settings(videos, folder, "data.num_workers=2")
    stores.slow_decoding(monkeypatch, 0.03)
    first = stores.start(of)
    stores.wait_for_lines(folder, 1, first)
    said: list[str] = []
    second = stores.fill(of, said)
    first.join()
    assert first.exitcode == 0
    assert said == [f"another process is filling {folder}; waiting for it"]
    assert (second.videos, second.added) == (6, 0)
    assert set(Counter(r.path for r in clip_store.read_lines(folder)).values()) == {1}
    stores.assert_complete(of)


@ONCE
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_and_mended(
    small_videos: Path, tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
):
    place = tmp_path_factory.mktemp("bit")
    of = stores.settings(stores.few_videos(small_videos, place / "videos", 1), place / "s")
    stores.fill(of)
    shard = place / "s" / "frames-00000.bin"
    data = bytearray(shard.read_bytes())
    at = int(where * len(data))
    data[at] ^= 1 << bit
    shard.write_bytes(data)
    lines = clip_store.read_lines(place / "s")
    (victim,) = (r.path for r in lines if r.offset <= at < r.offset + r.num_bytes)
    with pytest.raises(UserError) as caught:
        stores.verify(of)
    assert f"1 of 2 videos are damaged: {victim}; decode them anew: bgan" in str(caught.value)
    with pytest.raises(BrokenVideo, match="damaged"):
        clip_store.Store(place / "videos", of).read(victim, [0])
    assert stores.fill(of).added == 1
    stores.assert_complete(of)


def test_frames_that_are_cut_off_or_gone_are_found(videos: Path, folder: Path):
    of = stores.settings(videos, folder)
    stores.fill(of)
    last = clip_store.read_lines(folder)[-1]
    os.truncate(folder / last.shard, last.offset + last.num_bytes - 1)
    with pytest.raises(UserError, match=f"1 of 6 videos are damaged: {last.path};"):
        stores.verify(of)
    stores.fill(of)
    (folder / "frames-00000.bin").unlink()
    with pytest.raises(UserError, match="5 of 6 videos are damaged"):
        stores.verify(of)
    stores.fill(of)
    stores.assert_complete(of)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_leaves_what_was_written(
    videos: Path, folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
):
    """After two videos of a process there is room for half of one."""
    whole, calls = os.write, [0]

    def write(file: int, data: memoryview) -> int:
        calls[0] += 1
        if calls[0] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(file, data[: len(data) // 2] if calls[0] == 3 else data)

    of = stores.settings(videos, folder, f"data.num_workers={workers}")
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "write", write)
        with pytest.raises(UserError) as caught:
            stores.fill(of)
    kept = len(clip_store.read_lines(folder))
    assert kept == 2 if workers == 0 else 2 <= kept <= 4
    assert str(caught.value) == (
        f"data.store={folder}: No space left on device after {kept} of 6 videos; they are kept: "
        f"make room, and run the command again to go on"
    )
    assert stores.verify(of) == kept
    named = sum(r.num_bytes for r in clip_store.read_lines(folder))
    assert sum(p.stat().st_size for p in folder.glob("frames-*.bin")) == named
    assert stores.fill(of).added == 6 - kept
    stores.assert_complete(of)


def test_a_disk_that_is_full_at_the_index_leaves_what_was_written(videos: Path, folder: Path):
    """The system itself cuts the write short: no file may grow beyond some lines of the index."""
    of = stores.settings(videos, folder, "clip.size=8")
    with pytest.MonkeyPatch.context() as patch:
        tiny = reader.read_all(next(videos.rglob("*.avi")), "auto", 9)[:1, :2, :2]
        patch.setattr(reader.OpenVideo, "pieces", lambda _: iter([tiny]))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
            with pytest.raises(UserError, match=f"data.store={folder}: .* of 6 videos; they are"):
                stores.fill(of)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        kept = len(clip_store.read_lines(folder))
        assert 0 < kept < 6
        assert stores.verify(of) == kept
        assert stores.fill(of).added == 6 - kept


def test_too_little_room_is_told_before_the_start(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    class Usage(NamedTuple):
        free: int = 1000

    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: Usage())
    of = stores.settings(videos, folder)
    with pytest.raises(UserError, match=r"6 videos at 18 pixels need about .* free; make room"):
        stores.fill(of)
    assert not list(folder.glob("frames-*"))


def test_the_estimate_is_near_the_size(small_videos: Path, tmp_path: Path, folder: Path):
    videos = stores.few_videos(small_videos, tmp_path / "twelve", per_class=6)
    of = stores.settings(videos, folder, "clip.size=96")
    said: list[str] = []
    size = stores.fill(of, said).num_bytes / 2**20
    told = float(said[0].partition("about ")[2].split()[0])
    assert told == pytest.approx(size, rel=0.25)


def test_a_process_that_dies_is_told_with_what_it_may_have_read(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    victim = next((videos / "MoveUp").glob("*.avi"))
    pieces, parent = reader.OpenVideo.pieces, os.getpid()

    def die(video: Any) -> Any:
        if video._path == victim and os.getpid() != parent:
            os._exit(9)
        return pieces(video)

    of = stores.settings(videos, folder, "data.num_workers=1")
    with monkeypatch.context() as patch:
        patch.setattr(reader.OpenVideo, "pieces", die)
        with pytest.raises(UserError) as caught:
            stores.fill(of)
    assert f"MoveUp/{victim.name}" in str(caught.value)
    assert "Run the command again" in str(caught.value)
    stores.fill(of)
    stores.assert_complete(of)


def test_what_is_no_store_is_left_alone(videos: Path, folder: Path):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="holds other files"):
        stores.fill(stores.settings(videos, folder))
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(videos: Path):
    with pytest.raises(UserError, match=r"^data\.store=.*/x: Not a directory$"):
        stores.fill(stores.settings(videos, next(videos.rglob("*.avi")) / "x"))


def test_the_command_says_what_it_did(
    videos: Path, folder: Path, capsys: pytest.CaptureFixture[str]
):
    (videos / "Grow" / "a.avi").write_bytes(b"")
    words = ["prepare", "data.layout=video_folder", f"data.root={videos}", "clip.size=16"]
    assert cli.main(words) == 2
    assert "data.store=video_folder.store" in capsys.readouterr().err
    words.append(f"data.store={folder}")
    assert cli.main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Grow/a.avi: does not read: the file is empty"
    assert out[1].endswith("6 of them new, 1 files do not read")
    assert cli.main([*words, "--verify"]) == 0
    assert "all 6 videos are whole" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    assert '"added": 0' in capsys.readouterr().out
