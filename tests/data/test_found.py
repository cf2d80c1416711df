"""Files in folders: by one list of suffixes, through links, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgan_video import config
from bgan_video.config import Data
from bgan_video.data import check, layouts
from bgan_video.data.found import Finder, files_under, videos_under
from bgan_video.data.manifest import VIDEO_SUFFIXES
from bgan_video.errors import UserError
from tests.video import videos


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_links_inside_a_class_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "videos/left/1.mp4", "videos/right/1.mp4", "elsewhere/deep/2.mp4")
    root = tmp_path / "videos"
    (root / "right" / "day2").symlink_to(tmp_path / "elsewhere")
    found = layouts.read(Data(layout="video_folder", root=str(root)))
    assert [i.path for i in found.items if i.label == 1] == ["right/1.mp4", "right/day2/deep/2.mp4"]


def test_loops_of_links_end_and_no_file_is_there_twice(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.mp4", "a/deep/2.mp4", "a/deep/3.mp4")
    (root / "a" / "deep" / "up").symlink_to(root / "a")
    (root / "a" / "again").symlink_to(root / "a" / "deep")
    (root / "a" / "gone").symlink_to(root / "nowhere")
    assert videos_under(root, "a") == ["a/1.mp4", "a/deep/2.mp4", "a/deep/3.mp4"]
    assert [p.name for p in files_under(root / "a")].count("gone") == 1


def test_a_link_to_a_link_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "far/1.mp4")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "near")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").symlink_to(tmp_path / "near")
    assert videos_under(tmp_path, "a") == ["a/x/1.mp4"]


def test_a_systems_own_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/._1.mp4", "a/.trash/2.mp4", "a/__MACOSX/3.mp4")
    assert videos_under(tmp_path, "a") == ["a/1.mp4"]


@pytest.mark.parametrize("suffix", [".mts", ".3gp", ".wmv", ".mxf", ".gif", ".DV", ".M2TS", ".flv"])
def test_cameras_and_archives_suffixes_are_known(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path, f"a/1{suffix}")
    assert videos_under(tmp_path, "a") == [f"a/1{suffix}"]
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)


def test_a_class_of_other_files_alone_says_which(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.mp4", "b/1.xyz", "b/2.xyz", "b/notes")
    with pytest.raises(
        UserError, match=r"'b' \(passed over: files with the suffix \(none\), \.xyz\)"
    ):
        layouts.read(Data(layout="video_folder", root=str(root)))


def test_what_is_passed_over_for_its_suffix_is_counted_and_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.xyz", "b/2.XYZ", "b/notes.txt")
    for name in ("a", "b"):
        videos.write(root / name / "v.mp4", videos.SPECS["h264-mp4"], 8)
    chosen = ["data.layout=video_folder", f"data.root={root}", "data.labels_per_class=null"]
    found = check.inspect(config.load(None, chosen), read=False)
    traps = {t.what: t.why for t in found.traps if t.kind == "suffix"}
    assert traps == {".xyz": "2 files: a/1.xyz, b/2.XYZ", ".txt": "1 files: b/notes.txt"}


def test_names_are_found_by_case_where_one_alone_fits(tmp_path: Path) -> None:
    root = touch(tmp_path, "A/One.mp4", "B/x.mp4")
    finder = Finder(root)
    assert finder.find("a/one.MP4") == "A/One.mp4"
    assert finder.find("a/two.mp4") is None
    assert finder.find("A") is None
    touch(tmp_path, "B/X.mp4")
    if len(list((root / "B").iterdir())) == 2:
        assert Finder(root).find("b/X.mp4") == "B/X.mp4"
        assert Finder(root).find("b/X.MP4") is None, "two fit"


def test_unlike_rates_are_told_and_clips_in_seconds_are_the_answer(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        videos.write(tmp_path / name / "v.mp4", videos.SPECS["h264-mp4"], 30)
    videos.write(tmp_path / "b" / "w.mp4", videos.SPECS["h264-variable-mp4"], 30)
    chosen = ["data.layout=video_folder", f"data.root={tmp_path}", "data.labels_per_class=null"]
    found = check.inspect(config.load(None, [*chosen, "clip.num_frames=4"]))
    assert found.rates == {"25": 2, "variable": 1}
    (trap,) = [t for t in found.traps if t.kind == "rate"]
    assert trap.what == "25 (2), variable (1)"
    assert "set clip.fps" in trap.why
    found = check.inspect(config.load(None, [*chosen, "clip.num_frames=4", "clip.fps=10"]))
    assert not [t for t in found.traps if t.kind == "rate"]
