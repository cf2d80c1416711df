"""A user's mistake: one line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bgan_video import cli
from tests.e2e import runs

pytestmark = pytest.mark.e2e


def refuse(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run `train`, expect the refusal, and give back its line."""
    capsys.readouterr()
    assert cli.main(["train", *args]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.step=3", ["train.step", "train.steps"]),
        ("posterior.temprature=1", ["posterior.temprature", "posterior.temperature"]),
        ("run.precision=fp8", ["run.precision", "fp8", "bf16"]),
        ("run.precision=fp16", ["run.precision=fp16", "CUDA"]),
        ("data.labels_per_class=99", ["labels_per_class=99", "up to 3"]),
        ("data.fold=9", ["data.fold=9", "trainlist01.txt"]),
        ("clip.size=33", ["clip.size=33", "32"]),
        ("clip.num_frames=9", ["clip.num_frames=9", "8"]),
        ("generator.name=dcgn", ["generator.name=dcgn", "dcgan"]),
        ("discriminator.name=timm:resnet19", ["resnet19", "did you mean"]),
        ("posterior.burn_in=14", ["posterior.burn_in", "train.steps=14"]),
        ("posterior.schedule=cyclical", ["posterior.schedule=cyclical"]),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(
    override: str,
    named: list[str],
    small_videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    if override == "run.precision=fp16":
        named = [*named, "CPU"]
        override_args = [override, "run.device=cpu"]
    else:
        override_args = [override]
    line = refuse(runs.arguments(small_videos, tmp_path, "bad", *override_args), capsys)
    assert all(part in line for part in named), line
    assert not (tmp_path / "bad").exists(), "a run that cannot start leaves nothing"


@pytest.mark.parametrize("layout", ["ucf101", "video_folder", "hmdb51"])
def test_a_missing_root_names_the_card(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    line = refuse([f"data.layout={layout}", f"data.root={tmp_path / 'nowhere'}"], capsys)
    assert "nowhere" in line
    assert f"datasets/{layout}.md" in line
    assert (runs.REPOSITORY / "datasets" / f"{layout}.md").is_file()


@pytest.mark.parametrize("layout", ["ucf101", "video_folder"])
def test_an_empty_root_says_what_was_looked_for(
    layout: str, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    empty = tmp_path / "empty"
    empty.mkdir()
    more = [f"data.layout={layout}", f"data.root={empty}"]
    if layout == "ucf101":
        more.append(f"data.lists={small_videos / 'ucfTrainTestlist'}")
    line = refuse(runs.arguments(small_videos, tmp_path, "bad", *more), capsys)
    assert "holds no videos; looked for" in line


def test_a_wrong_line_of_a_list_is_named_by_file_and_number(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lists = tmp_path / "lists"
    shutil.copytree(small_videos / "ucfTrainTestlist", lists)
    file = lists / "trainlist01.txt"
    file.write_text(file.read_text() + "Grow\\v_Grow_g01_c01.avi 7\n")
    number = len(file.read_text().splitlines())
    line = refuse(runs.arguments(small_videos, tmp_path, "bad", f"data.lists={lists}"), capsys)
    assert f"trainlist01.txt:{number}" in line


def test_a_zero_byte_video_stops_the_run_by_name_and_is_left_out_where_allowed(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    videos = tmp_path / "videos"
    shutil.copytree(small_videos, videos)
    victim = sorted((videos / "Grow").glob("*.avi"))[-1]
    victim.write_bytes(b"")
    line = refuse(runs.arguments(videos, tmp_path, "stopped"), capsys)
    assert victim.name in line
    assert "empty" in line
    assert "data.max_broken=0" in line

    allowed = runs.arguments(videos, tmp_path, "left-out", "data.max_broken=1")
    assert cli.main(["train", *allowed]) == 0
    assert victim.name in (tmp_path / "left-out" / "broken.jsonl").read_text()
    assert victim.name not in (tmp_path / "left-out" / "manifest.json").read_text()


def test_a_name_that_is_taken_is_refused_and_the_run_is_left_alone(
    finished: Path, small_videos: Path, capsys: pytest.CaptureFixture[str]
):
    before = sorted(p.name for p in finished.rglob("*"))
    line = refuse(runs.arguments(small_videos, finished.parent, finished.name), capsys)
    assert "--resume" in line
    assert sorted(p.name for p in finished.rglob("*")) == before


def test_resuming_with_other_settings_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    assert "--resume" in refuse(["--resume", str(finished), "train.steps=99"], capsys)


def test_resuming_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "config.yaml" in refuse(["--resume", str(tmp_path)], capsys)


def test_a_training_setting_cannot_be_changed_in_evaluation(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["evaluate", str(finished), "clip.size=32"]) == 2
    assert "clip.size" in capsys.readouterr().err
