"""The first lines of a report, and that it stays small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from bgan_video.reports import items, next_steps, page, sections
from bgan_video.reports.items import Film, Samples
from bgan_video.reports.next_steps import wilson
from bgan_video.reports.reading import ModelPredictions, Predictions, read_run


@pytest.mark.parametrize(("right", "count"), [(0, 3), (3, 3), (17, 20), (400, 1000)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    oracle = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right, count) == pytest.approx((oracle.low, oracle.high), abs=1e-4)


def test_nothing_counted_says_nothing() -> None:
    assert wilson(0, 0) == (0, 1)


@pytest.fixture
def run_dir(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", num_test=40, steps=100)


def rows_of(confusions: list[list[int]], folder) -> list[next_steps.ClassRow]:
    counts = np.array(confusions)
    labels = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    said = np.concatenate([np.repeat(np.arange(len(counts)), row) for row in counts])
    return list(next_steps._rows(folder, labels, ModelPredictions(np.eye(len(counts))[said])))


def test_classes_are_trusted_doubted_or_unknown(run_dir: Path) -> None:
    rows = rows_of([[40, 0, 0, 0], [0, 2, 30, 0], [0, 18, 4, 0], [1, 0, 0, 0]], read_run(run_dir))
    assert [row.verdict for row in rows] == ["trust", "doubt", "doubt", "doubt"]
    assert rows[1].taken_for == "right"
    assert rows[3].said == 0
    few = rows_of([[4, 0], [0, 4]], read_run(run_dir))
    assert [row.verdict for row in few] == ["unknown", "unknown"]


def test_classes_are_judged_by_the_model_that_answers(run_dir: Path) -> None:
    """Which `metrics.json` has first; predictions have models in the order that tables show."""
    labels = np.arange(40) % 2
    models = {
        "supervised": ModelPredictions(np.eye(2)[1 - labels]),
        "self_training": ModelPredictions(np.eye(2)[labels]),
    }
    folder = replace(
        read_run(run_dir),
        predictions=Predictions(labels, models),
        metrics={"models": {"self_training": {}, "supervised": {}}},
    )
    assert [row.verdict for row in next_steps.next_steps(folder, []).classes] == ["trust"] * 2


def test_the_page_begins_with_what_to_do(run_dir: Path) -> None:
    table = run_dir / "suggestions.csv"
    table.write_text("path,label,rank\n<b>a.avi,,1\nb.avi,left,2\nc.avi,,3\n")
    shown = page.render(read_run(run_dir))
    assert shown.index('id="next"') < shown.index('id="result"')
    assert "Label next: &lt;b&gt;a.avi, c.avi (in suggestions.csv)" in shown
    table.unlink()
    assert "Label more: bgan-video label" in page.render(read_run(run_dir))


def test_nobody_is_sent_to_a_command_that_fails(run_dir: Path) -> None:
    folder = read_run(run_dir)
    labelled = [item | {"labelled": True} for item in folder.items]
    first, *_ = next_steps.next_steps(replace(folder, items=labelled), []).lines
    assert first == "Nothing is left to label: every one of the training videos is labelled."
    for file in (run_dir / "posterior").glob("*.safetensors"):
        file.unlink()
    folder = read_run(run_dir)
    asked = [{"path": "a.avi"}]
    lines = [next_steps.next_steps(folder, suggested).lines[0] for suggested in ([], asked)]
    assert "networks were removed" in lines[0]
    assert lines[1] == "Label next: a.avi (in suggestions.csv)."


def test_the_page_says_which_methods_were_trained(run_dir: Path) -> None:
    folder = read_run(run_dir)
    methods = ["bayesian_gan", "fixmatch", "deep_ensemble"]
    leads = [
        sections.lead(replace(folder, config={"baseline": {"methods": of}}))
        for of in (["supervised", "bayesian_gan"], methods)
    ]
    assert leads[0].endswith("against a network trained on labels alone.")
    assert leads[1] == "Trained on few labels: Bayesian GAN, FixMatch, deep ensemble."
    assert sections.lead(folder) in page.render(folder)


def test_films_are_left_out_until_the_page_is_small(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = Samples(None, [Film("x", "s" * 10_000, "v" * 3_000_000)], [])
    monkeypatch.setattr(items, "samples", lambda _: heavy)
    shown = page.render(read_run(run_dir))
    assert len(shown.encode()) <= page.LARGEST
    assert "v" * 1000 not in shown
    assert "s" * 10_000 in shown
