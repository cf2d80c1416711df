"""A whole run: what it writes, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bgan_video import api, cli
from tests.e2e import runs

pytestmark = pytest.mark.e2e


def test_the_run_folder_holds_what_the_contract_names(finished: Path):
    for name in (
        "config.yaml",
        "environment.json",
        "manifest.json",
        "log.jsonl",
        "evaluations.jsonl",
        "metrics.json",
        "broken.jsonl",
        "report.html",
        "samples/real_samples.png",
        "samples/real_samples.mp4",
        "predictions/test.safetensors",
    ):
        assert (finished / name).is_file(), name
    fakes = {p.name for p in (finished / "samples").glob("fake_samples_*")}
    for chain in ("G_z00_m00", "G_z01_m00"):
        assert any(re.fullmatch(rf"fake_samples_epoch_\d{{3}}_{chain}.mp4", f) for f in fakes)
        assert any(re.fullmatch(rf"fake_samples_epoch_\d{{3}}_{chain}.png", f) for f in fakes)


def test_metrics_follow_schema_1(finished: Path):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert set(metrics["data"]) == {
        "name",
        "num_classes",
        "num_labelled",
        "num_unlabelled",
        "num_test",
        "fold",
    }
    assert set(metrics["models"]) == {
        "bayesian" if method == "bayesian_gan" else method for method in runs.METHODS
    }
    for model in metrics["models"]:
        for level, per_video in (("clip", 2), ("video", 1)):
            figures = metrics["models"][model][level]
            assert set(figures) == runs.FIGURES
            assert figures["count"] == metrics["data"]["num_test"] * per_video
            assert 0 <= figures["top1"] <= figures["top5"] <= 1


def test_the_log_has_the_terms_and_both_phases(finished: Path):
    lines = runs.log(finished)
    assert [line["step"] for line in lines] == list(range(1, 29))
    assert [line["round"] for line in lines] == [0] * 14 + [1] * 14
    assert [line["phase"] for line in lines] == (["burn_in"] * 5 + ["sampling"] * 9) * 2
    keys = {"epoch", "loss_d", "loss_g", "d_real", "d_fake_before", "d_fake_after", "train_top1"}
    assert all(keys <= set(line) for line in lines)
    # Terms add up to the loss they are terms of; the pretext task ends with each burn-in.
    assert ["pretext" in line for line in lines] == ([True] * 5 + [False] * 9) * 2
    names = ("labelled", "real", "fake", "consistency", "pretext", "prior_d")
    for line in lines:
        total = sum(line.get(name, 0.0) for name in names)
        assert total == pytest.approx(line["loss_d"], rel=1e-4)


def test_the_console_prints_the_line_of_the_original(finished: Path):
    text = (finished / "console.txt").read_text()
    number = r"[\d.]+"
    assert re.search(
        rf"\[\d+/\d+\]\[\d+/\d+\] Loss_D: {number} Loss_G: {number} D\(x\): {number} "
        rf"D\(G\(z\)\): {number} / {number} \| Acc {number} / {number}",
        text,
    )
    assert "report.html" in text
    assert re.search(r"semi-supervised +video", text)
    assert re.search(r"same GAN, T = 0 +video", text)


def test_the_bank_holds_the_latest_samples_of_every_chain_and_round(finished: Path):
    names = {p.name for p in (finished / "posterior").glob("discriminator_*")}
    # The second last checkpoint, after step 24, is where a run may still be resumed from.
    steps = (11, 13, 21, 23, 25, 27)
    assert names == {f"discriminator_{s:08d}_{c:02d}.safetensors" for s in steps for c in (0, 1)}
    in_view = api.load(finished).bank.records("discriminator")
    assert [r.step for r in in_view] == [s for s in (11, 13, 25, 27) for _ in range(2)]
    state = load_file(finished / "posterior" / "discriminator_00000027_00.safetensors")
    assert any("running_mean" in key for key in state), "statistics belong to a sample"


def test_no_group_is_on_two_sides(finished: Path):
    items = json.loads((finished / "manifest.json").read_text())["items"]
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item["group"], set()).add(item["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {item["split"] for item in items} == {"train", "validation", "test"}


def test_a_run_from_the_clip_store_is_bitwise_that_from_the_files(
    finished: Path, small_videos: Path, tmp_path: Path
):
    words = runs.arguments(small_videos, tmp_path, "stored", f"data.store={tmp_path / 'v.store'}")
    assert cli.main(["prepare", "--config", "demo", *words]) == 0
    process = runs.start(*words)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    stored = tmp_path / "stored"
    assert runs.log(stored) == runs.log(finished)
    items = [json.loads((r / "manifest.json").read_text())["items"] for r in (stored, finished)]
    assert items[0] == items[1]
    models = [json.loads((r / "metrics.json").read_text())["models"] for r in (stored, finished)]
    assert models[0] == models[1]


def test_killed_and_resumed_is_bitwise_the_run_that_was_not(
    finished: Path, small_videos: Path, tmp_path: Path
):
    process = runs.start(*runs.arguments(small_videos, tmp_path, "killed"))
    run = tmp_path / "killed"
    # Past the second checkpoint (step 8), in the middle of sampling.
    deadline = time.monotonic() + 240
    while _logged(run) < 10 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (run / "metrics.json").exists()

    resumed = runs.start("--resume", str(run))
    _, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert "resuming" in err

    assert runs.log(run) == runs.log(finished)
    for name in ("metrics.json",):
        one, other = (json.loads((r / name).read_text()) for r in (run, finished))
        assert one["models"] == other["models"]
    for path in sorted((finished / "posterior").glob("*.safetensors")):
        one, other = load_file(path), load_file(run / "posterior" / path.name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), path.name


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    before = (finished / "metrics.json").read_text(), runs.log(finished)
    assert cli.main(["train", "--resume", str(finished)]) == 0
    assert (finished / "metrics.json").read_text() == before[0]
    assert runs.log(finished) == before[1]


def test_a_run_whose_data_moved_is_resumed_where_they_are(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    moved = Path(shutil.copytree(small_videos, tmp_path / "moved"))
    before = (finished / "metrics.json").read_text()
    assert cli.main(["train", "--resume", str(finished), f"data.root={moved}"]) == 0
    assert (finished / "metrics.json").read_text() == before
    min(moved.glob("*/*.avi")).write_bytes(b"other")
    assert cli.main(["train", "--resume", str(finished), f"data.root={moved}"]) == 2
    assert f"{min(moved.glob('*/*.avi')).name}" in capsys.readouterr().err


def test_another_number_of_workers_gives_the_same_run(
    finished: Path, small_videos: Path, tmp_path: Path
):
    args = runs.arguments(small_videos, tmp_path, "workers", "data.num_workers=2")
    process = runs.start(*args, "data.cache_mib=0")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert runs.log(tmp_path / "workers") == runs.log(finished)


def test_an_unfinished_run_is_not_evaluated(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    (cut / "posterior" / "finished.json").unlink()
    assert cli.main(["evaluate", str(cut)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_video_that_changed_is_not_evaluated(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copied = tmp_path / "videos"
    shutil.copytree(small_videos, copied)
    items = json.loads((finished / "manifest.json").read_text())["items"]
    victim = next(item["path"] for item in items if item["split"] == "test")
    other = next(item["path"] for item in items if item["split"] == "train")
    shutil.copy(copied / other, copied / victim)
    assert cli.main(["evaluate", str(finished), f"data.root={copied}"]) == 2
    assert victim in capsys.readouterr().err


def test_bayes_false_is_the_plain_semi_supervised_gan(small_videos: Path, tmp_path: Path):
    plain = ["posterior.bayes=false", runs.FEW]
    args = runs.arguments(small_videos, tmp_path, "ml", *plain)
    assert cli.main(["train", *args]) == 0
    lines = runs.log(tmp_path / "ml")
    assert {line["phase"] for line in lines} == {"burn_in"}
    assert not any("prior_d" in line for line in lines)
    stored = {p.name[:22] for p in (tmp_path / "ml" / "posterior").glob("discriminator_*")}
    last = {"discriminator_00000014", "discriminator_00000028"}
    assert stored == last, "the last weights of each round, and no samples"


def test_evaluate_again_gives_the_same_figures(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["evaluate", str(finished), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == json.loads((finished / "metrics.json").read_text())["models"]


def test_predict_names_a_broken_file_and_goes_on(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"not a video")
    good = next(small_videos.rglob("*.avi"))
    assert cli.main(["predict", str(finished), str(broken), str(good), "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["path"] == str(broken)
    assert first["error"]
    assert sum(second["probabilities"]) == pytest.approx(1)
    assert second["mutual_information"] >= 0


def test_a_name_that_is_not_utf_8_is_printed_and_once_in_a_table(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    odd = tmp_path / os.fsdecode(b"caf\xe9.avi")
    shutil.copy(next(small_videos.rglob("*.avi")), odd)
    assert cli.main(["predict", str(finished), str(odd)]) == 0
    assert "caf\\udce9.avi" in capsys.readouterr().out
    table = tmp_path / "x.csv"
    for _ in range(2):
        assert cli.main(["predict", str(finished), str(odd), "--out", str(table)]) == 0
    assert len(table.read_text(encoding="utf-8-sig").splitlines()) == 2


def _logged(run: Path) -> int:
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.is_file() else 0
