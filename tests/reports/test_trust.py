"""Calibration table, unknown classes, the chains' verdict, suggestions, rivals."""

import json
import re
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from bgan_video.reports import comparison, plots, trust, write_report
from bgan_video.reports.reading import read_run


@pytest.fixture(name="run")
def _run(shared_run, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))
    return shutil.copytree(shared_run, tmp_path / "run")


def _add(run, **fields):
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _page(run):
    return write_report(run).read_text(encoding="utf-8")


def test_calibration_of_every_model_raw_and_scaled(run):
    scaled = {"nll": 0.4, "ece": 0.02, "ece_equal_mass": 0.03, "brier": 0.2}
    first = {"ece_equal_mass": 0.11, "aurc": 0.2, "temperature": 1.5, "scaled": scaled}
    second = {"ece_equal_mass": 0.10, "aurc": 0.3, "temperature": None, "scaled": None}
    _add(run, calibration={"bayesian": {"video": first}, "supervised": {"video": second}})
    table = trust.calibration(read_run(run))
    rows = dict(table.rows)
    assert list(rows) == ["semi-supervised", "supervised"]
    cells = dict(zip(table.columns, rows["semi-supervised"], strict=True))
    assert (cells["AURC"].text, cells["AURC"].best) == ("0.200", True)
    assert not cells["ECE, equal mass"].best
    assert cells["temperature"].text == "1.500"
    assert not cells["temperature"].best, "a temperature is not better for being low"
    assert cells["NLL, scaled"].text == "0.400"
    other = dict(zip(table.columns, rows["supervised"], strict=True))
    assert other["temperature"].text == "–"
    assert "AURC" in _page(run)


def test_images_are_calibrated_too(run):
    _add(run, calibration={"bayesian": {"image": {"aurc": 0.25}}}, models={})
    table = trust.calibration(read_run(run))
    assert table.columns == ["AURC"]


def test_distances_in_features_that_tell_no_classes(run):
    looks = {"change": 0.9, "nearest_training": 1.1, "certainty": None, "covered_by_all": None}
    distances = {"frechet": 2.0, "frechet_floor": 1.0, "extractor": "VideoMAE-v2", "count": 40}
    (run / "quality.json").write_text(json.dumps(distances | {"looks": looks}))
    rows = dict(trust.quality(read_run(run))["looks"])
    assert rows["classes that generators cover"] == "these features tell no classes"
    assert not any("certainty" in title for title in rows)
    page = _page(run)
    assert "in the features of: VideoMAE-v2" in page
    assert "these features tell no classes" in page


def test_unknown_classes(run):
    auroc = {"bayesian": {"p_fake": 0.61, "mutual_information": 0.83}, "cold_gan": {"p_fake": 0.5}}
    _add(
        run,
        open_set={
            "classes": ["Hop & skip"],
            "count": 22,
            "auroc": auroc,
            "flagged": {"open": 0.71, "test": 0.06},
        },
    )
    found = trust.open_set(read_run(run))
    assert found["table"].columns == ["p(fake)", "mutual information"]
    page = _page(run)
    assert "Hop &amp; skip" in page
    assert "0.830" in page
    assert "71 %" in page


def test_the_last_verdict_comes_first(run):
    chains = trust.chains(read_run(run))
    assert chains.verdict == ["On target at step 1000."]
    assert chains.picture is not None
    assert ("R-hat of log p(label), median", "1.08") in chains.facts
    assert ("weights that learn, d", "6,000") in chains.facts
    assert ("configurational temperature / T, median layer", "3") in chains.facts
    assert not any("least" in title for title, _ in chains.facts), "null is not shown"
    page = _page(run)
    assert page.index("On target at step 1000.") < page.index('id="samples"')


def test_chains_without_a_momentum_have_no_picture(run):
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    lines[-1]["diagnostics"] = {"kinetic": None, "function_space": None, "verdict": ["No noise."]}
    (run / "evaluations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    chains = trust.chains(read_run(run))
    assert (chains.verdict, chains.picture, chains.facts) == (["No noise."], None, [])
    assert "No noise." in _page(run)


@pytest.mark.parametrize("count", [5, 150])
def test_temperatures_of_few_and_of_many_layers(count):
    ratios = {f"D.layer.{i}": 1.0 + i for i in range(count)}
    assert plots.temperatures(ratios).uri.startswith("data:image/svg+xml")


def test_open_suggestions_are_shown_where_there_are_some(run):
    assert trust.suggestions(read_run(run)) == []
    assert 'id="suggestions"' not in _page(run)
    answered = ["a.mp4,up,1,up,0.5,0.25,\n", "b.mp4,,2,up,0.5,0.25,skipped\n"]
    answered += ["c.mp4,,3,up,0.5,0.25,none of these\n", "d.mp4,up,,,,,\n"]
    rows = [f"left/{i}.mp4,,{i},left,0.5,0.25,\n" for i in range(4, 31)]
    header = "path,label,rank,predicted,probability,mutual_information,note\n"
    (run / "suggestions.csv").write_text(header + "".join([*answered, *rows]))
    shown = trust.suggestions(read_run(run))
    assert [row["rank"] for row in shown] == [str(i) for i in range(4, 31)]
    page = _page(run)
    assert "left/23.mp4" in page
    assert "left/24.mp4" not in page
    assert "left/6.mp4 and 24 more" in page


def test_every_rival_is_held_against_the_posterior_on_the_same_items(run):
    assert comparison.against_rivals(read_run(run)) == []
    path = run / "predictions" / "test.safetensors"
    tensors = load_file(path)
    for rival in ("deep_ensemble", "cold_gan"):
        tensors[f"{rival}/video_probs"] = tensors["bayesian/video_probs"]
    save_file(tensors, path)
    rows = comparison.against_rivals(read_run(run))
    assert [row.rival for row in rows] == ["supervised", "deep ensemble", "same GAN, T = 0"]
    assert (rows[1].difference, rows[1].interval) == ("0.0 points", "0.0 to 0.0")
    assert rows[0].difference != "0.0 points"


def test_the_number_of_networks_is_shown(run):
    _add(run, networks={"bayesian": 20, "supervised": 1})
    table = comparison.tables(read_run(run).metrics)[0]
    assert [cell.text for cell in table.rows[0].cells] == ["20", "1"]
    assert re.search(r"networks<span[^>]*>averaged", _page(run))
