"""What a person does with a finished run: trust it, ask it what to label, compare it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bgan_video import api, cli, config
from bgan_video.prediction.judging import most_entropy
from bgan_video.reports import page as report_page
from tests.e2e import runs

pytestmark = pytest.mark.e2e


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_the_number_of_networks_behind_every_figure_is_told(finished: Path):
    counts = metrics(finished)["networks"]
    # Two chains, two samples of each, of the round that believed; the ensemble has as many networks
    # as two rounds start chains, which is equal compute, and MC-dropout answers as often; SWAG and
    # Laplace draw as many as the posterior stores.
    assert counts == {
        "bayesian": 4,
        "supervised": 1,
        "deep_ensemble": 4,
        "mc_dropout": 4,
        "self_training": 1,
        "self_training_ensemble": 2,
        "swag": 4,
        "laplace": 4,
        "pseudo_label": 1,
        "mean_teacher": 1,
        "fixmatch": 1,
        "ml_gan": 1,
        "cold_gan": 4,
    }


def test_every_model_is_calibrated_raw_and_scaled(finished: Path):
    found = metrics(finished)
    assert set(found["calibration"]) == set(found["models"])
    for detail in (levels["video"] for levels in found["calibration"].values()):
        assert 0 <= detail["ece_equal_mass"] <= 1
        assert 0 <= detail["aurc"] <= 1
        assert detail["temperature"] > 0
        assert set(detail["scaled"]) == {"nll", "ece", "ece_equal_mass", "brier", "aurc"}
    assert "open_set" not in found


def test_evaluations_say_whether_the_chains_sampled(finished: Path):
    lines = [json.loads(x) for x in (finished / "evaluations.jsonl").read_text().splitlines()]
    last = lines[-1]["diagnostics"]
    friction = config.load(str(finished / "config.yaml")).posterior.friction
    assert last["kinetic"]["target"] == pytest.approx(0.01 / (1 - friction / 2))
    noise, draws = last["noise"], last["draws"]
    assert noise["nats"] == pytest.approx(0.01 * noise["weights"] / (2 * noise["num_data"]))
    assert len(draws["alone"]) == len(draws["so_far"]) == last["function_space"]["draws"]
    layers = last["kinetic"]["layers"]
    assert {name[0] for name in layers} == {"D", "G"}
    assert all(value > 0 for value in layers.values())
    assert last["function_space"]["chains"] == 2
    assert {name[0] for name in last["configurational"]["layers"]} == {"D"}
    assert len(last["verdict"]) == 3
    assert last["verdict"][2].startswith("Not enough draws to say")
    page = (finished / "report.html").read_text()
    assert last["verdict"][0].split(" (")[0] in page


def test_suggestions_are_filled_in_and_read_back(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = tmp_path / "next.csv"
    assert cli.main(["suggest", str(finished), "--budget", "5", "--out", str(table)]) == 0
    told = capsys.readouterr().out.splitlines()[-1].partition("train with ")[2].split()
    assert told == ["data.labels_per_class=null", f"data.label_list={table}"]
    with table.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    items = {i["path"]: i for i in json.loads((finished / "manifest.json").read_text())["items"]}
    asked = [row for row in rows if row["rank"]]
    assert len(asked) == 5
    for row in asked:
        assert items[row["path"]]["split"] == "train"
        assert not items[row["path"]]["labelled"]
        assert row["label"] == ""
        row["label"] = Path(row["path"]).parent.name
    cut_from = {(Path(row["path"]).parent.name, row["group"]) for row in asked}
    assert len(cut_from) == 5, "every class numbers its own recordings"
    with table.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    more = [*told, runs.FEW]
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "second", *more)]) == 0
    counts = metrics(tmp_path / "second")["data"], metrics(finished)["data"]
    assert counts[0]["num_labelled"] == counts[1]["num_labelled"] + 5


def test_suggestions_stand_in_the_run_and_its_report_by_default(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["suggest", str(finished), "--budget", "3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [s["rank"] for s in shown] == [1, 2, 3]
    assert cli.main(["suggest", str(finished), "--budget", "3"]) == 0
    assert shown[0]["path"] in (finished / "report.html").read_text()


@pytest.mark.parametrize(
    ("args", "named"), [(["--budget", "0"], "--budget=0"), (["--out", "no/such/x.csv"], "no/such")]
)
def test_a_suggestion_that_cannot_be_made_is_refused(
    args: list[str], named: str, finished: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["suggest", str(finished), *args]) == 2
    assert named in capsys.readouterr().err


def test_classes_held_out_are_the_open_set(small_videos: Path, tmp_path: Path):
    more = ["data.held_out=Grow,Shrink", runs.FEW]
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "open", *more)]) == 0
    found = metrics(tmp_path / "open")
    assert found["data"]["num_classes"] == 6
    assert found["open_set"]["classes"] == ["Grow", "Shrink"]
    assert found["open_set"]["count"] == 2 * found["data"]["num_test"] // 6
    for model, scores in found["open_set"]["auroc"].items():
        measures = {"mutual_information", "total_entropy", "max_probability"}
        assert set(scores) == (measures | {"p_fake"} if model == "bayesian" else measures)
        assert all(0 <= score <= 1 for score in scores.values())
    assert 0 <= found["open_set"]["flagged"]["test"] <= 1
    assert found["unfamiliar"]["total_entropy"] > 0
    assert "Unknown classes" in (tmp_path / "open" / "report.html").read_text()


def test_an_unknown_class_cannot_be_held_out(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    args = runs.arguments(small_videos, tmp_path, "bad", "data.held_out=Fly")
    assert cli.main(["train", *args]) == 2
    assert "'Fly'" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_the_threshold_of_predict_is_that_of_the_same_clips_and_networks(
    finished: Path, tmp_path: Path
):
    copied = tmp_path / "copied"
    shutil.copytree(finished, copied)
    plain = api.load(copied)
    before, clips = most_entropy(plain), plain.config.clip.test_clips
    assert before == metrics(copied)["unfamiliar"]["total_entropy"]
    plain.evaluate(renormalise=True)
    renormalised = metrics(copied)
    more = api.load(copied, [f"clip.test_clips={clips + 1}"])
    assert most_entropy(more) is None
    more.evaluate()
    told = [(m["test_clips"], m["renormalised"]) for m in (renormalised, metrics(copied))]
    assert told == [(clips, True), (clips + 1, False)]
    assert most_entropy(more) == metrics(copied)["unfamiliar"]["total_entropy"]
    assert most_entropy(api.load(copied)) == before


def test_what_cannot_be_predicted_is_no_success(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for path, said in (("nowhere.avi", "no such file"), ("run.device=cpu", "behind --set")):
        assert cli.main(["predict", str(finished), path]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "broken.avi").write_bytes(b"no video")
    assert cli.main(["predict", str(finished), str(tmp_path / "broken.avi"), "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]
    assert "none of the files reads" in told.err


def test_a_long_video_is_judged_window_by_window(
    finished: Path, small_videos: Path, capsys: pytest.CaptureFixture[str]
):
    video = min(small_videos.glob("*/*.avi"))
    assert cli.main(["predict", str(finished), str(video), "--json"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(record["windows"]) > 1
    p = record["probabilities"]
    assert record["class"] == record["classes"][p.index(max(p))]
    assert record["unfamiliar"] is (
        record["total_entropy"] > metrics(finished)["unfamiliar"]["total_entropy"]
    )
    assert record["windows"][-1]["end"] == record["num_frames"]
    assert cli.main(["predict", str(finished), str(video)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(record["windows"])
    assert "frames 0-" in lines[1]


def test_statistics_may_be_taken_anew(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copied = tmp_path / "run"
    shutil.copytree(finished, copied)
    assert cli.main(["evaluate", str(copied), "--renormalise", "--json"]) == 0
    anew = json.loads(capsys.readouterr().out)
    stored = metrics(finished)["models"]
    assert anew["bayesian"]["video"]["nll"] != stored["bayesian"]["video"]["nll"]
    assert '"renormalised": true' in (copied / "evaluations.jsonl").read_text()
    assert "normalisation statistics taken anew" in (copied / "report.html").read_text()
    assert "normalisation statistics taken anew" not in (finished / "report.html").read_text()


def test_a_run_without_a_gan_answers_all_questions(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    only = "baseline.methods=[fixmatch]"
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "alone", only)]) == 0
    run = tmp_path / "alone"
    shown = capsys.readouterr()
    assert "Loss_fixmatch: " in shown.err
    assert "Loss_D" not in shown.err
    assert set(metrics(run)["models"]) == set(metrics(run)["networks"]) == {"fixmatch"}
    assert metrics(run)["peak_memory_mib"] > 50
    assert not list((run / "posterior").glob("generator*"))
    assert cli.main(["suggest", str(run), "--budget", "2", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert min(first["total_entropy"], second["total_entropy"]) > 0
    assert cli.main(["predict", str(run), str(small_videos)]) == 0
    assert "fake" not in capsys.readouterr().out
    assert cli.main(["predict", str(run), str(small_videos), "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(record["p_fake"] is None for record in said)
    assert cli.main(["report", str(run)]) == 0
    for more in ([], ["--quality"]):
        assert cli.main(["sample", str(run), *more]) == 2
        assert "trained no generator" in capsys.readouterr().err


def test_generated_clips_are_measured_and_shown_beside_real_ones(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(report_page, "LARGEST", 10**7)  # the figures of so many methods fill a page
    run = tmp_path / "measured"
    shutil.copytree(finished, run)
    assert cli.main(["sample", str(run), "--quality"]) == 0
    assert json.loads(capsys.readouterr().out)["selected"] is False
    with Image.open(run / "samples" / "real_and_generated.webp") as shown:
        assert shown.n_frames == api.load(run).config.clip.num_frames
    assert "data:image/webp;base64," in (run / "report.html").read_text()
    assert cli.main(["sample", str(run), "--quality", "--select"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    assert chosen["selected"] is True
    assert chosen["log_odds_times"].keys() == chosen["looks"]["covered"].keys()


def test_a_run_whose_networks_were_removed_says_so(
    finished: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "cell"
    shutil.copytree(finished, run)
    for file in (run / "posterior").glob("*.safetensors"):
        file.unlink()
    for args in (["evaluate"], ["suggest"], ["predict", str(small_videos)]):
        assert cli.main([args[0], str(run), *args[1:]]) == 2
        assert "--keep-weights" in capsys.readouterr().err
