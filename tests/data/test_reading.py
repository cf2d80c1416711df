"""First readings: what is known is looked up, what is not is read, and order stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgan_video.data import parallel, reading
from bgan_video.data.found import videos_under
from bgan_video.data.reading import VideoFiles
from bgan_video.video import index
from bgan_video.video.reader import BrokenVideo


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_kept", type(index._kept)())


def test_only_files_that_are_not_known_are_read_and_all_come_in_order(
    small_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", 3)
    paths = [*videos_under(small_videos)[:7], "gone.avi"]
    paths.insert(4, paths.pop())
    for path in paths[1:6:2]:
        index.of(small_videos / path, "pyav")
    read: list[str] = []
    in_order = parallel.in_order

    def noted(job, things, workers):
        read.extend(things)
        return in_order(job, things, workers)

    monkeypatch.setattr(parallel, "in_order", noted)
    files = VideoFiles(small_videos, "pyav", 18)
    found = list(files.first_readings(paths, 0))
    assert read == [path for path in paths if path not in paths[1:6:2]]
    assert isinstance(found[4], BrokenVideo)
    hashes = [known.fingerprint for known in found if not isinstance(known, BrokenVideo)]
    assert hashes == [files.fingerprint(path) for path in paths if path != "gone.avi"]
    read.clear()
    assert list(files.first_readings(paths[:4], 0)) == found[:4]
    assert read == []


@pytest.mark.parametrize("is_writable", [True, False])
def test_what_other_processes_read_is_known_afterwards(
    small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_writable: bool
) -> None:
    monkeypatch.setattr(reading, "FEW_FILES", 2)
    if not is_writable:
        (tmp_path / "cache").write_text("a file")
    paths = videos_under(small_videos)[:4]
    files = VideoFiles(small_videos, "pyav", 18)
    found = list(files.first_readings(paths, 2))
    known = [index.known(small_videos / path, "pyav") for path in paths]
    assert all(known)
    assert [one and one.content for one in known] == [getattr(one, "content", 0) for one in found]
