"""Rounds of self-training in whole runs: what they believe, that a kill changes nothing, leaks."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bgan_video import api, cli
from bgan_video.config import SELF_TRAINING
from bgan_video.data import splits
from bgan_video.data.manifest import Item
from bgan_video.prediction import bodies
from bgan_video.prediction.chunks import test_chunks as chunks_of
from bgan_video.prediction.predict import Stored, predict
from bgan_video.prediction.trained import empty_discriminator
from bgan_video.reports import plots
from bgan_video.training import console
from tests.e2e import runs

pytestmark = pytest.mark.e2e

STEPS, ROUNDS = 8, 2
SETTINGS = [
    f"baseline.methods=[bayesian_gan,{','.join(SELF_TRAINING)},deep_ensemble,supervised]",
    "objective.consistency_weight=0",
    "objective.pretext_weight=0",
    "posterior.thinning=1",
    f"train.steps={STEPS}",
    f"train.rounds={ROUNDS}",
    "train.checkpoint_every=3",
    "train.evaluate_every=5",
    "train.final_split=validation",
    "rounds.answer=all",
]
KINDS = ("discriminator", "generator", *SELF_TRAINING, "deep_ensemble", "supervised")
BELIEVERS = {"bayesian_gan": "discriminator"} | {method: method for method in SELF_TRAINING}


def train(videos: Path, folder: Path, *more: str) -> Path:
    """A run in this process, so that all compared ones have as many threads."""
    assert cli.main(["train", *runs.arguments(videos, folder, "run", *SETTINGS, *more)]) == 0
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    """Plots are composed but not drawn, which is most of a short run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))
        yield


@pytest.fixture(scope="module")
def judged() -> list[Item]:
    """Every item that a network of the run `whole` was asked about."""
    return []


@pytest.fixture(scope="module")
def whole(small_videos: Path, tmp_path_factory: pytest.TempPathFactory, judged: list[Item]) -> Path:
    """A run that ends on validation and was never interrupted."""

    def noted(items: Sequence[Item], *args: Any) -> Any:
        judged.extend(items)
        return chunks_of(items, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "test_chunks", noted)  # all that is asked of networks goes through
        return train(small_videos, tmp_path_factory.mktemp("rounds"))


# --- what is believed --------------------------------------------------------------------------


def test_the_log_tells_the_rounds_and_every_round_burns_in_and_samples(whole: Path) -> None:
    log = runs.lines(whole / "log.jsonl")
    assert [line["step"] for line in log] == list(range(1, (1 + ROUNDS) * STEPS + 1))
    assert [line["round"] for line in log] == [r for r in range(1 + ROUNDS) for _ in range(STEPS)]
    phases = ["burn_in"] * 5 + ["sampling"] * (STEPS - 5)
    assert [line["phase"] for line in log] == phases * (1 + ROUNDS)
    ends = [line for line in runs.lines(whole / "evaluations.jsonl") if line["step"] % STEPS == 0]
    assert [line["round"] for line in ends[:3]] == [0, 1, 2]
    for line in ends[:3]:
        assert {"bayesian", *SELF_TRAINING} == set(line["of_round"])
        assert {"bayesian", *SELF_TRAINING, "supervised"} == set(line["models"])
    assert ends[0]["of_round"]["bayesian"] == ends[0]["models"]["bayesian"]
    assert ends[2]["of_round"]["bayesian"] != ends[2]["models"]["bayesian"]


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
@pytest.mark.parametrize("method", BELIEVERS)
def test_a_round_believes_what_the_networks_before_it_are_surest_of(
    method: str, number: int, whole: Path
) -> None:
    run = api.load(whole)
    pool = [item for item in run.manifest.part("train") if not item.labelled]
    module = empty_discriminator(run.config, run.manifest)
    teacher = Stored(run.bank, BELIEVERS[method], module, {number - 1})
    said = predict(teacher, chunks_of(pool, run.frames(pool), run.config), run.backend)
    p = said.video_probabilities
    quota = max(1, int(0.8 * len(pool) * number / ROUNDS / run.manifest.num_classes + 1e-9))
    expected: list[tuple[str, int, float]] = []
    for label in range(run.manifest.num_classes):
        taken = [i for i in range(len(pool)) if p[i].argmax() == label]
        surest = sorted(taken, key=lambda i: -p[i, label].item())[:quota]
        expected += [(pool[i].path, label, p[i, label].item()) for i in surest]
    file = whole / "pseudo_labels" / f"round_{number:02d}.jsonl"
    found = [line for line in runs.lines(file) if line["model"] == method]
    assert sorted((x["path"], x["label"], x["probability"]) for x in found) == sorted(expected)
    order = {item.path: place for place, item in enumerate(pool)}
    places = [order[line["path"]] for line in found]
    assert places == sorted(places), "in the pool's order"
    assert all(line["class"] == run.classes[line["label"]] for line in found)


def test_all_rounds_answer_with_all_their_networks(whole: Path) -> None:
    networks = runs.figures(whole)["networks"]
    samples, chains = 2, 2  # posterior.max_samples of each round
    assert networks == {
        "bayesian": chains * samples * (1 + ROUNDS),
        "self_training": 1 + ROUNDS,
        "self_training_ensemble": chains * (1 + ROUNDS),
        "swag": chains * samples * (1 + ROUNDS),
        "laplace": chains * samples * (1 + ROUNDS),
        "deep_ensemble": chains * (1 + ROUNDS),
        "supervised": 1,
    }


# --- nothing is lost ---------------------------------------------------------------------------


class Killed(BaseException):
    """In place of a signal, at a known step."""


def train_until(step: int, videos: Path, folder: Path, *more: str) -> Path:
    """A run that is killed after a step."""
    left = iter(range(step - 1, -1, -1))

    def advance(_: console.Console) -> None:
        if next(left) == 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.Console, "advance", advance)
        with pytest.raises(Killed):
            train(videos, folder, *more)
    return folder / "run"


@pytest.mark.parametrize("step", [STEPS, STEPS + 5], ids=["at the end of round 0", "in round 1"])
def test_a_run_killed_between_or_in_rounds_is_bitwise_the_run_that_was_not(
    step: int, whole: Path, small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = train_until(step, small_videos, tmp_path)
    assert [line["step"] for line in runs.lines(killed / "log.jsonl")] == list(range(1, step + 1))
    processes: set[int] = set()

    def count(_: console.Console) -> None:
        processes.add(len(multiprocessing.active_children()))

    monkeypatch.setattr(console.Console, "advance", count)
    assert cli.main(["train", "--resume", str(killed), "data.num_workers=2"]) == 0
    assert processes == {2, 0}, "as many for all streams; none at the end of a round"
    runs.assert_same(whole, killed, KINDS)


def test_a_warm_run_killed_between_rounds_is_bitwise_the_run_that_was_not(
    small_videos: Path, tmp_path: Path
) -> None:
    """The next round begins at what the bank holds, not at what was in memory."""
    warm = ("rounds.start=warm", "baseline.methods=[bayesian_gan,self_training]")
    whole = train(small_videos, tmp_path / "whole", *warm)
    killed = train_until(STEPS, small_videos, tmp_path, *warm)
    assert cli.main(["train", "--resume", str(killed)]) == 0
    runs.assert_same(whole, killed, ("discriminator", "generator", "self_training"))


# --- nothing leaks -----------------------------------------------------------------------------


def test_true_labels_of_unlabelled_videos_change_nothing(
    whole: Path, small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "split", runs.scrambled(splits.split))
    other = train(small_videos, tmp_path)
    runs.assert_scrambled(whole, other)
    runs.assert_same(whole, other, KINDS)


def test_developing_does_not_look_at_test(whole: Path, judged: list[Item]) -> None:
    assert {item.split for item in judged} == {"train", "validation"}
    assert not any(item.labelled for item in judged if item.split == "train")
    assert runs.figures(whole)["split"] == "validation"
    assert [p.name for p in (whole / "predictions").iterdir()] == ["validation.safetensors"]
    labels = load_file(whole / "predictions" / "validation.safetensors")["video_labels"]
    run = api.load(whole)
    assert labels.tolist() == [item.label for item in run.manifest.part("validation")]
    assert not {"calibration", "unfamiliar", "open_set"} & set(runs.figures(whole))


# --- whose rounds answer -----------------------------------------------------------------------


def test_validation_chooses_the_rounds_that_answer(small_videos: Path, tmp_path: Path) -> None:
    run = api.load(
        train(
            small_videos,
            tmp_path,
            *("train.final_split=test", "rounds.answer=auto", "rounds.min_pool=1"),
        )
    )
    items = run.manifest.part("validation")
    labels = torch.tensor([item.label for item in items])
    module = empty_discriminator(run.config, run.manifest)
    chosen = json.loads((run.folder / "posterior" / "answering_rounds.json").read_text())
    assert set(chosen) == {"bayesian", *SELF_TRAINING}
    for model, kind in (("bayesian", "discriminator"), ("self_training", "self_training")):
        nll: dict[tuple[int, ...], float] = {}
        for among in ((2,), (0, 1, 2), (0,)):
            networks = Stored(run.bank, kind, module, among)
            said = predict(networks, chunks_of(items, run.frames(items), run.config), run.backend)
            p = said.video_probabilities[torch.arange(len(labels)), labels]
            nll[among] = -p.log().mean().item()
        best = min(nll, key=lambda among: nll[among])
        assert tuple(chosen[model]) == best
        assert run.answering_rounds(model) == list(best)
        assert runs.figures(run.folder)["answering_rounds"][model] == list(best)
        records = len(run.bank.records(kind, best))
        assert runs.figures(run.folder)["networks"][model] == records


@pytest.mark.parametrize(
    "settings",
    [
        ["rounds.answer=auto", "rounds.min_pool=1"],
        ["train.final_split=test", "rounds.answer=auto", "rounds.min_pool=9"],
        ["train.final_split=test", "rounds.answer=all", "rounds.min_pool=1"],
    ],
    ids=["judged on validation", "nothing is believed", "said by the setting"],
)
def test_else_validation_chooses_nothing(
    settings: list[str], small_videos: Path, tmp_path: Path
) -> None:
    run = train(small_videos, tmp_path, *settings, "baseline.methods=[bayesian_gan]")
    assert not (run / "posterior" / "answering_rounds.json").exists()


# --- what cannot be ----------------------------------------------------------------------------


def test_a_prior_of_other_classes_is_refused_before_any_training(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["rounds.balance=given", "rounds.class_prior=[1,2]"]
    words = runs.arguments(small_videos, tmp_path, "run", *SETTINGS, *given)
    for how in ([], ["--dry-run"]):
        assert cli.main(["train", *words, *how]) == 2
        assert "2 numbers; allowed: one for each of the 8 classes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- small pools -------------------------------------------------------------------------------


def test_a_small_pool_is_not_believed(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["baseline.methods=[self_training]", "rounds.min_pool=1000", "train.rounds=1"]
    run = train(small_videos, tmp_path, *small, "train.steps=3")
    assert (run / "pseudo_labels" / "round_01.jsonl").read_text() == ""
    assert "nothing is believed" in capsys.readouterr().err
    assert runs.figures(run)["networks"] == {"self_training": 2}


# --- nobody believes ---------------------------------------------------------------------------


def test_rounds_in_which_nobody_believes_train_an_ensemble(
    small_videos: Path, tmp_path: Path
) -> None:
    alone = ["baseline.methods=[deep_ensemble]", "train.rounds=1", "baseline.num_networks=2"]
    run = train(small_videos, tmp_path, *alone, "train.steps=3", "posterior.burn_in=1")
    assert not (run / "pseudo_labels").exists()
    assert runs.figures(run)["networks"] == {"deep_ensemble": 2}
