"""A run that is taken away, made without training: where it goes, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bgan_video import api, config
from bgan_video.errors import UserError
from bgan_video.exporting import hub
from bgan_video.files import append_line
from bgan_video.labelling import again, source
from bgan_video.prediction.extractors import Extractor
from bgan_video.prediction.generated import generate, measure, side_by_side
from bgan_video.prediction.judging import most_entropy
from bgan_video.prediction.trained import TrainedRun
from tests.prediction.finished import run_of


@pytest.fixture
def run(tmp_path: Path) -> TrainedRun:
    folder = tmp_path / "run"
    folder.mkdir()
    return run_of(folder, config.load(None, ["run.device=cpu"]), {"w": torch.zeros(1)})


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("torch", "folder", "is a folder; give the name of a file"),
        ("hub", "file", "is a file; give the name of a folder"),
        ("torch", "file/program.pt2", "File exists"),
    ],
)
def test_a_place_that_does_not_serve_is_told(
    to: str, out: str, said: str, run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"--out={tmp_path / out}.*{said}"):
        api.export(run, to, tmp_path / out)


@pytest.mark.parametrize("as_it_answers", [True, False])
def test_the_card_says_how_its_figures_were_judged(as_it_answers: bool, run: TrainedRun) -> None:
    figures = dict.fromkeys(("top1", "nll", "ece", "brier"), 0.5)
    own = {"test_clips": run.config.clip.test_clips, "test_crops": 1, "renormalised": False}
    other = {"test_clips": 7, "test_crops": 1, "renormalised": True}
    data = {"fold": 1, "name": "made", "num_labelled": 3, "num_unlabelled": 9}
    metrics = {"models": {"bayesian": {"video": figures}}, "data": data}
    card = hub.card(run, metrics | (own if as_it_answers else other), "hub")
    clips = run.config.clip.test_clips
    assert clips > 1
    assert (f"out of 9 (judged by {clips} clips):" in card) is as_it_answers
    told = "out of 9 (judged by 7 clips; normalisation statistics taken anew):"
    assert (told in card) is not as_it_answers
    assert (f"answers otherwise, by {clips} clips and" in card) is not as_it_answers


def evaluated(run: TrainedRun, clips: int, limit: float) -> None:
    """What an evaluation leaves, as far as it says what is unfamiliar."""
    judged = {"test_clips": clips, "test_crops": 1, "renormalised": False}
    append_line(run.folder / "evaluations.jsonl", judged | {"unfamiliar": {"total_entropy": limit}})
    (run.folder / "metrics.json").write_text(json.dumps(judged))


@pytest.mark.parametrize("judged", [True, False])
def test_what_is_unfamiliar_is_known_by_the_clips_that_predict_looks_at(
    judged: bool, run: TrainedRun, tmp_path: Path
) -> None:
    """Whatever was evaluated last, and where nothing tells of it any more."""
    clips = run.config.clip.test_clips
    evaluated(run, clips, 0.5)
    evaluated(run, clips + 1, 0.7)
    if not judged:
        (run.folder / "metrics.json").unlink()
    taken = api.load(api.export(run, "hub", tmp_path / "hub"))
    assert most_entropy(run) == most_entropy(taken) == 0.5
    assert most_entropy(api.load(taken.folder, [f"clip.test_clips={clips + 1}"])) is None


def test_the_card_loads_the_folder_by_its_name(run: TrainedRun, tmp_path: Path) -> None:
    taken = api.export(run, "hub", tmp_path / "hands")
    assert 'bgan_video.load("hands")' in (taken / "README.md").read_text()


def test_packaged_weights_are_named_not_copied(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    named = ["features.body=timm:tf_efficientnet_lite0", "features.weights=efficientnet-lite0"]
    made = config.load(None, ["run.device=cpu", *named])
    taken = api.export(run_of(tmp_path / "run", made, {"w": torch.zeros(1)}), "hub", tmp_path / "h")
    assert api.load(taken).config.features.weights == "efficientnet-lite0"


@pytest.mark.parametrize("inside", [".", "samples/.."])
def test_a_run_has_its_name_from_inside_too(
    inside: str, run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.folder / "samples").mkdir()
    monkeypatch.chdir(run.folder)
    opened = api.load(Path(inside))
    assert api.export(opened, "hub").resolve() == run.folder / "export" / "run"
    command = again.command(source.of_run(opened), Path("suggestions.csv"), ["a", "b"])
    assert command.folder == run.folder.parent / "run-2"


def test_an_exported_run_says_what_it_cannot_be_asked(run: TrainedRun, tmp_path: Path) -> None:
    taken = api.load(api.export(run, "hub", tmp_path / "hub"))
    asked = (
        lambda: taken.suggest(5),
        lambda: taken.evaluate(),
        lambda: next(generate(taken, 1)),
    )
    for ask in asked:
        with pytest.raises(UserError, match="hub was exported: it predicts, and knows no videos"):
            ask()


def test_generated_clips_need_test_clips_to_be_held_against(run: TrainedRun) -> None:
    run.bank.add("generator", 1, 0, {"w": torch.zeros(1)})
    unasked = Extractor("unasked", lambda _: pytest.fail("features were taken"))
    for hold_against in (lambda: measure(run, unasked), lambda: side_by_side(run)):
        with pytest.raises(UserError, match="fold 1 has no test videos, which generated ones"):
            hold_against()
