"""`bgan-video features`: what it prints, goes on with and finds damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgan_video import cli
from tests.data.store import stores
from tests.features import tiny


@pytest.fixture
def words(small_videos: Path, tmp_path: Path) -> list[str]:
    """Two videos of each of two classes, seen by a tiny body."""
    root = stores.few_videos(small_videos, tmp_path / "videos", per_class=2)
    return [
        *["data.layout=video_folder", f"data.root={root}", "clip.num_frames=4", "run.device=cpu"],
        *["features.size=32", "features.clips=3", f"features.store={tmp_path / 'store'}"],
        *tiny.save(tmp_path),
    ]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["features", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["features", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_features_are_computed_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(printed(capsys, "--json", *words))
    counts = {"videos": 4, "added": 4, "clips": 3, "length": tiny.LENGTH, "rejected": []}
    assert counts.items() <= first.items()
    again = json.loads(printed(capsys, "--json", *words))
    assert again == first | {"added": 0}
    both = json.loads(printed(capsys, "--json", *words, "features.summary=both"))
    assert both == again | {"length": 2 * tiny.LENGTH}


def test_a_file_that_does_not_read_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos" / "Grow" / "other.avi").write_bytes(b"no video")
    told = printed(capsys, *words)
    assert "Grow/other.avi: does not read: " in told
    assert "4 videos × 3 clips × 256 numbers; 4 of them new, 1 files do not read" in told


def test_what_is_damaged_is_named_and_computed_anew(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "bgan-video features without --verify makes it" in refused(capsys, "--verify", *words)
    folder = Path(json.loads(printed(capsys, "--json", *words))["folder"])
    assert "all 4 videos are whole" in printed(capsys, "--verify", *words)
    shard = next(folder.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert "of 1 of 4 videos are damaged: " in refused(capsys, "--verify", *words)
    assert json.loads(printed(capsys, "--json", *words))["added"] == 1
    assert "all 4 videos are whole" in printed(capsys, "--verify", *words)


def test_features_are_those_of_the_bodies_that_a_run_would_have(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever `features.body` says, which no part of such a run reads."""
    bodies = f"discriminator.bodies=[dcgan,features:timm:{tiny.MODEL}]"
    of_run = [*(word for word in words if not word.startswith("features.body=")), bodies]
    found = json.loads(printed(capsys, "--json", *of_run))
    assert tiny.MODEL in found["folder"]
    assert json.loads(printed(capsys, "--json", *words)) == found | {"added": 0}
    told = printed(capsys, "--verify", *of_run)
    assert told == f"timm:{tiny.MODEL}: the features of all 4 videos are whole\n"


def test_images_have_no_clips(capsys: pytest.CaptureFixture[str]) -> None:
    of_images = ["data.layout=cifar10", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    assert "data.layout=cifar10 has images" in refused(capsys, *of_images)
