"""Generated clips in the features of CD-FVD, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgan_video import cli
from bgan_video.reports import page as report_page
from tests.e2e import runs
from tests.features.tiny_videomae import FILE, LIBRARY, small, write

pytestmark = pytest.mark.e2e


def test_a_run_in_the_features_of_cd_fvd(
    small_videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Of a run that has no supervised network. What does not serve is said in one line, code 2."""
    library = pytest.importorskip(LIBRARY, reason="cd-fvd is not installed")
    monkeypatch.setattr(library, "vit_giant_patch14_224", small)
    monkeypatch.setattr(report_page, "LARGEST", 10**7)
    args = ["baseline.methods=[bayesian_gan]", "clip.test_clips=1"]
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "run", *args)]) == 0
    run = tmp_path / "run"
    capsys.readouterr()

    def measured(file: Path) -> int:
        return cli.main(["sample", str(run), "--quality", "--extractor", f"videomae:{file}"])

    file = write(tmp_path / FILE, small(num_classes=174))
    assert measured(file) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found == json.loads((run / "quality.json").read_text())
    assert found["extractor"].startswith("VideoMAE-v2 ViT-g/14")
    assert f"{FILE}; 4 frames" in found["extractor"]
    assert min(found["frechet"], found["frechet_floor"]) > 0
    assert found["looks"]["nearest_training"] > 0
    assert found["looks"]["certainty"] is found["looks"]["covered"] is None
    assert "tell no classes" in shown.err
    assert "these features tell no classes" in (run / "report.html").read_text()

    text, other, moved = tmp_path / "w.txt", tmp_path / "other.pth", tmp_path / "moved.pth"
    text.write_text("not weights")
    write(other, small(num_classes=174, depth=3))
    refusals = {text: "no file of weights", other: "is not VideoMAE-v2", moved: "no such file"}
    for bad, reason in refusals.items():
        assert measured(bad) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
