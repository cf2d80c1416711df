"""`predict --out` run again: what is done stays, and the table of another run is left alone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from bgan_video import cli, config
from bgan_video.models import build_discriminator
from tests.prediction.finished import CLASSES, run_of


def finished(folder: Path, seed: int = 0) -> str:
    """A run's folder, whose one network is not trained."""
    small = ["clip.num_frames=4", "clip.size=16", "discriminator.width=4", "run.device=cpu"]
    c = config.load(None, [*small, "run.name=hands", f"run.seed={seed}"])
    folder.mkdir()
    run_of(folder, c, build_discriminator(c, len(CLASSES)).state_dict())
    return str(folder)


@pytest.fixture(name="videos")
def _videos(small_videos: Path, tmp_path: Path) -> Path:
    """One that reads, and one that does not."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(min(small_videos.glob("*/*.avi")), folder / "good.avi")
    (folder / "torn.avi").write_bytes(b"no video")
    return folder


def rows(table: Path) -> dict[str, dict[str, str]]:
    with table.open(newline="", encoding="utf-8-sig") as text:
        return {Path(row["path"]).name: row for row in csv.DictReader(text)}


def test_a_file_that_did_not_read_is_tried_again(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "said.csv"
    words = ["predict", finished(tmp_path / "run"), str(videos), "--out", str(table)]
    for _ in range(2):  # that nothing of the rest reads is no fault: there are predictions
        assert cli.main(words) == 0
        assert rows(table)["torn.avi"]["error"]
    assert "1 files added, 1 of them do not read" in capsys.readouterr().out
    shutil.copy(videos / "good.avi", videos / "torn.avi")
    assert cli.main(words) == 0
    assert [row["error"] for row in rows(table).values()] == ["", ""]
    assert "has 1 of 2 files; going on" in capsys.readouterr().err
    kept = table.read_bytes()
    assert cli.main(words) == 0
    assert table.read_bytes() == kept


def test_where_nothing_reads_at_all_it_says_so_each_time(videos: Path, tmp_path: Path) -> None:
    (videos / "good.avi").unlink()
    words = ["predict", finished(tmp_path / "run"), str(videos), "--out", str(tmp_path / "x.csv")]
    assert cli.main(words) == cli.main(words) == 2


def test_another_run_or_other_clips_do_not_go_on_with_a_table(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, table = finished(tmp_path / "run"), tmp_path / "said.csv"
    assert cli.main(["predict", run, str(videos), "--out", str(table)]) == 0
    kept = table.read_bytes()
    capsys.readouterr()
    for another in ([finished(tmp_path / "next", 1)], [run, "--set", "clip.test_clips=1"]):
        assert cli.main(["predict", *another, str(videos), "--out", str(table)]) == 2
        assert "has predictions of run hands " in capsys.readouterr().err
    assert table.read_bytes() == kept
    shutil.move(run, tmp_path / "moved")
    moved = ["predict", str(tmp_path / "moved"), str(videos), "--out", str(table)]
    assert cli.main(moved) == 0
