"""A whole study: two methods on real video files, each cell a training run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bgan_video import cli
from tests.e2e import runs

pytestmark = pytest.mark.e2e


def test_a_study_trains_compares_and_does_not_run_twice(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "recipe.yaml").write_text(f"data: {{layout: ucf101, root: {small_videos}}}\n")
    pairs = [setting.split("=") for setting in runs.TINY]
    grid_sets = ("data.labels_per_class", "baseline.methods")
    content = {
        "config": "recipe.yaml",
        "settings": {k: yaml.safe_load(v) for k, v in pairs if k not in grid_sets},
        "methods": {"supervised": {}, "bayesian_gan": {}},
        "labels": {"data.labels_per_class": [1]},
        "reference": "supervised",
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    given = ["study", str(file), "--out", str(tmp_path / "out"), "--json"]
    assert cli.main(given) == 0
    out, err = capsys.readouterr()
    assert "[2/2] bayesian_gan-1-fold1-seed0" in err
    summary = json.loads(out)
    assert (summary["finished"], summary["failed"], summary["missing"]) == (2, {}, [])
    trained, compared = summary["entries"]
    assert trained["num_labelled"] == compared["num_labelled"] == 8
    assert trained["networks"] == 1
    assert compared["networks"] > 1
    assert compared["peak_memory_mib"] > 0
    paired = compared["difference"]["figures"]["nll"]
    stored = [entry["figures"]["nll"]["mean"] for entry in (trained, compared)]
    assert paired["estimate"] == pytest.approx(stored[1] - stored[0], abs=1e-5)
    assert (tmp_path / "out" / "study.html").stat().st_size > 50_000
    cells = tmp_path / "out" / "cells"
    assert (cells / "supervised-1-fold1-seed0" / "report.html").is_file()
    assert not list(cells.rglob("posterior/*.safetensors"))
    before = (cells / "supervised-1-fold1-seed0.log").read_text()
    assert cli.main(given) == 0
    assert (cells / "supervised-1-fold1-seed0.log").read_text() == before
