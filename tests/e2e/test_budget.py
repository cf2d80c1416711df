"""`train_video.py --budget`: settings from what steps cost here, and the run that they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgan_video import cli
from bgan_video import config as config_module
from tests.e2e import runs

pytestmark = pytest.mark.e2e


def small(videos: Path, folder: Path, name: str, *more: str) -> list[str]:
    words = runs.arguments(videos, folder, name, runs.FEW, *more)
    return ["train", *words, "train.evaluate_every=14", "data.num_workers=0"]


def test_a_run_within_a_budget_is_the_run_of_the_settings_it_says(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = small(small_videos, tmp_path, "within", "train.rounds=1", "train.labelled_batch_size=3")
    loose = [w for w in words if not w.startswith(("train.steps", "posterior.burn_in"))]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {steps: 8}\nposterior: {burn_in: 4, thinning: 2}\n")
    given = [*loose, "--config", str(recipe), "--budget", "90s"]
    assert cli.main(given) == 0
    said = capsys.readouterr().err
    config = config_module.load_run(tmp_path / "within")
    # 90 s are more than four times the eight steps need.
    assert (config.train.steps, config.posterior.burn_in) == (32, 16)
    assert (config.train.rounds, config.train.labelled_batch_size) == (1, 3)
    assert config.posterior.thinning == 2  # set by hand
    assert "a step takes" in said
    assert "train.steps=32 in place of 8" in said

    settled = ["--config", str(tmp_path / "within" / "config.yaml"), "run.name=by_hand"]
    assert cli.main(["train", *settled]) == 0
    assert runs.log(tmp_path / "by_hand") == runs.log(tmp_path / "within")


def test_too_little_is_refused_before_there_is_a_folder(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = small(small_videos, tmp_path, "never", "train.steps=100000")
    assert cli.main([*words, "--budget", "5s"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: --budget=5s is too little here: 100000 steps")
    assert not (tmp_path / "never").exists()


def test_dry_run_shows_what_fits(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Also where a body sees features, which are computed of some videos only."""
    features = ["features.size=32", "features.clips=1", f"features.store={tmp_path / 'features'}"]
    bodies = "discriminator.bodies=[dcgan,'features:efficientnet-lite0']"
    words = small(small_videos, tmp_path, "dry", bodies, *features)
    assert cli.main([*words, "--budget", "1m", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "budget 1m:" in said.err
    assert "steps: 14" in said.out
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize("resumed", ["auto", "runs/demo"])
def test_a_run_that_goes_on_has_its_settings(resumed: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", "--resume", resumed, "--budget", "10m"]) == 2
    assert "--budget" in capsys.readouterr().err
