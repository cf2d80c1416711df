"""A run whose posterior has two bodies: clips, and features of a frozen body."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import bgan_video
from bgan_video import cli
from bgan_video.backend import Backend
from bgan_video.config import Features
from bgan_video.data import splits
from bgan_video.data.frames import Frames
from bgan_video.features import FrozenBody, frozen_body
from bgan_video.prediction.together import WEIGHTS
from bgan_video.prediction.video_files import VideoPrediction
from bgan_video.reports import plots
from tests.e2e import runs

BODIES = ("dcgan", "features:timm:test_resnet")


def told(file: Path) -> list[str]:
    """Lines, but for what a clock said."""
    return [re.sub(r'"seconds": [^,}]*', "", line) for line in file.read_text().splitlines()]


def write_weights(file: Path, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet").state_dict(), file)


def arguments(videos: Path, folder: Path, name: str) -> list[str]:
    given = runs.arguments(videos, folder, name, "baseline.methods=[bayesian_gan,supervised]")
    weights = folder / "body.safetensors"
    if not weights.is_file():
        write_weights(weights, seed=0)
    return [
        *given,
        f"discriminator.bodies=[{','.join(BODIES)}]",
        f"features.weights={weights}",
        f"features.store={folder / 'features'}",
        "features.size=32",
        "features.clips=2",
        "clip.stride=8",  # so that a video is one window
        "objective.consistency_weight=0",
        "objective.pretext_weight=0",
    ]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, small_videos: Path) -> Path:
    folder = tmp_path_factory.mktemp("bodies")
    words = [*arguments(small_videos, folder, "two"), "discriminator.combine=weighed"]
    assert cli.main(["train", *words]) == 0
    return folder / "two"


@pytest.mark.e2e
def test_figures_are_there_of_each_body_and_of_both(of_two: Path) -> None:
    metrics = json.loads((of_two / "metrics.json").read_text())
    assert set(metrics["models"]) == {"bayesian", "supervised"}
    assert set(metrics["bodies"]) == set(BODIES)
    assert metrics["information"]["between"] > 0
    assert metrics["information"]["within"] > 0
    chains, samples = 2, 2  # of the later round, which answers
    assert metrics["networks"]["bayesian"] == len(BODIES) * chains * samples
    believed = (of_two / "pseudo_labels" / "round_01.jsonl").read_text().splitlines()
    assert {json.loads(line)["model"] for line in believed} == {"bayesian_gan"}


@pytest.mark.e2e
def test_a_file_is_judged_by_both_bodies_as_evaluation_judges_it(of_two: Path) -> None:
    run = bgan_video.load(of_two)
    items = run.manifest.part("test")[:3]
    judged, of_bodies = run.predict_items(items, run.frames(items))
    weights = json.loads((of_two / "posterior" / "body_weights.json").read_text())
    assert list(weights) == list(BODIES)
    assert 1.0 not in weights.values()
    powers = [of_bodies[name].video_probabilities ** weights[name] for name in BODIES]
    pool = powers[0] * powers[1]
    expected = pool / pool.sum(dim=1, keepdim=True)
    torch.testing.assert_close(judged["bayesian"].video_probabilities, expected)
    files = [Path(run.manifest.root) / item.path for item in items]
    predictions = list(run.predict(files))
    for index, prediction in enumerate(predictions):
        assert isinstance(prediction, VideoPrediction)
        assert len(prediction.windows) == 1
        assert list(prediction.bodies) == list(BODIES)
        told = [prediction.probabilities, *prediction.bodies.values()]
        asked = [judged["bayesian"], *of_bodies.values()]
        for p, of in zip(told, asked, strict=True):
            expected = of.video_probabilities[index]
            found = torch.tensor(p, dtype=expected.dtype)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert set(of_bodies) == set(BODIES)
    suggested = run.suggest(2)
    assert len(suggested) == 2
    assert all([guess.body for guess in s.bodies] == list(BODIES) for s in suggested)
    informative = run.choose(2, "information")
    assert len(informative) == 2
    assert all(suggestion.gain is not None for suggestion in informative)


@pytest.mark.e2e
def test_evaluate_shows_each_body(of_two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(of_two)]) == 0
    shown = capsys.readouterr().out
    of = json.loads((of_two / "metrics.json").read_text())["bodies"]
    for name in BODIES:
        (line,) = re.findall(rf"^body {re.escape(name)} +video .*$", shown, re.MULTILINE)
        assert f"{of[name]['video']['nll']:9.3f}" in line


@pytest.mark.e2e
def test_what_each_body_says_of_a_file_is_printed_and_in_the_table(
    of_two: Path, small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, table = str(min(small_videos.glob("*/*.avi"))), tmp_path / "said.csv"
    assert cli.main(["predict", str(of_two), video]) == 0
    line = capsys.readouterr().out
    assert all(f"; {name}: " in line for name in BODIES)
    assert cli.main(["predict", str(of_two), video, "--out", str(table)]) == 0
    header = table.read_text(encoding="utf-8-sig").splitlines()[0]
    assert header.endswith(",".join(f"class({b}),probability({b})" for b in BODIES))


def stopped(run: Path, name: str) -> Path:
    """A copy that ended before its last checkpoint."""
    again = run.parent / name
    shutil.copytree(run, again)
    max((again / "checkpoints").glob("step_*.pt")).unlink()
    (again / "posterior" / "finished.json").unlink()
    (again / "metrics.json").unlink()
    return again


@pytest.mark.e2e
def test_a_run_of_two_bodies_goes_on_where_it_stopped(of_two: Path) -> None:
    again = stopped(of_two, "again")
    assert cli.main(["train", "--resume", str(again)]) == 0
    assert runs.log(again) == runs.log(of_two)
    for name in ("evaluations.jsonl", "pseudo_labels/round_01.jsonl", WEIGHTS):
        assert told(again / name) == told(of_two / name), name
    left, right = (json.loads((run / "metrics.json").read_text()) for run in (again, of_two))
    assert (left["models"], left["bodies"]) == (right["models"], right["bodies"])


@pytest.mark.e2e
def test_weights_that_were_replaced_are_not_taken_for_those_a_run_learned_from(
    of_two: Path, small_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, video = of_two.parent / "body.safetensors", str(min(small_videos.glob("*/*.avi")))
    again, kept = stopped(of_two, "replaced"), weights.read_bytes()
    write_weights(weights, seed=1)
    try:
        for words in (["predict", str(of_two), video], ["train", "--resume", str(again)]):
            assert cli.main(words) == 2
            told = capsys.readouterr().err
            assert f"features.weights={weights}: these are not the weights" in told
    finally:
        weights.write_bytes(kept)
    assert cli.main(["predict", str(of_two), video]) == 0


@pytest.mark.e2e
def test_a_run_is_not_resumed_with_another_file_of_weights(
    small_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.safetensors"
    more = ["discriminator.name=timm:test_resnet", f"discriminator.weights={weights}"]
    few = ["train.steps=6", "train.rounds=0", "clip.size=32", "baseline.methods=[supervised]"]
    write_weights(weights, seed=0)
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "run", *more, *few)]) == 0
    write_weights(weights, seed=1)
    again = stopped(tmp_path / "run", "again")
    assert cli.main(["train", "--resume", str(again)]) == 2
    assert f"discriminator.weights={weights}: this is not the file" in capsys.readouterr().err


@pytest.mark.e2e
def test_true_labels_of_unlabelled_videos_change_nothing(
    small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what bodies teach each other, not a probe, not the scale of the features."""
    methods = ["baseline.methods=[bayesian_gan,self_training_probe]", "train.steps=8"]
    methods += ["features.body=timm:test_resnet", "discriminator.combine=weighed"]
    monkeypatch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))
    found = []
    for name, split in (("one", splits.split), ("other", runs.scrambled(splits.split))):
        monkeypatch.setattr(splits, "split", split)
        assert cli.main(["train", *arguments(small_videos, tmp_path, name), *methods]) == 0
        found.append(tmp_path / name)
    runs.assert_scrambled(*found)
    runs.assert_same(*found, ("discriminator", "discriminator_b", "self_training_probe"))
    one, other = ((run / WEIGHTS).read_text() for run in found)
    assert one == other


@pytest.mark.e2e
def test_bodies_without_a_sampler_answer_with_their_last_weights(
    small_videos: Path, tmp_path: Path
) -> None:
    args = arguments(small_videos, tmp_path, "plain")
    few = ["posterior.bayes=false", "train.steps=6", "baseline.methods=[bayesian_gan]"]
    assert cli.main(["train", *args, *few]) == 0
    metrics = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert metrics["networks"]["bayesian"] == 2 * len(BODIES)


@pytest.mark.e2e
def test_features_alone_ask_for_no_network_or_schedule_of_clips(
    small_videos: Path, tmp_path: Path
) -> None:
    args = arguments(small_videos, tmp_path, "alone")
    unused = ["posterior.burn_in=300", "discriminator.name=nonsense", "generator.name=nonsense"]
    alone = ["baseline.methods=[bayesian_gan]", f"discriminator.bodies=[{BODIES[1]}]"]
    alone += ["objective.adversarial_weight=0", "train.rounds=0"]
    assert cli.main(["train", *args, *alone, *unused]) == 0
    metrics = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert metrics["networks"] == {"bayesian": 4}
    assert bgan_video.load(tmp_path / "alone").suggest(1)


METHODS = ("linear_probe", "knn", "self_training_probe")


def on_features(videos: Path, folder: Path, name: str, *more: str) -> list[str]:
    """A run of nothing but the methods on frozen features."""
    given = [word for word in arguments(videos, folder, name) if "bodies=" not in word]
    methods = f"baseline.methods=[{','.join(METHODS)}]"
    body = "features.body=timm:test_resnet"
    return [word for word in given if "baseline.methods" not in word] + [methods, body, *more]


@pytest.fixture(scope="module")
def of_features(tmp_path_factory: pytest.TempPathFactory, small_videos: Path) -> Path:
    folder = tmp_path_factory.mktemp("on_features")
    assert cli.main(["train", *on_features(small_videos, folder, "probe")]) == 0
    return folder / "probe"


@pytest.mark.e2e
def test_methods_on_features_are_judged_and_believe_as_others_do(of_features: Path) -> None:
    metrics = json.loads((of_features / "metrics.json").read_text())
    assert set(metrics["models"]) == {*METHODS}
    assert metrics["networks"] == {"linear_probe": 1, "knn": 1, "self_training_probe": 1}
    believed = (of_features / "pseudo_labels" / "round_01.jsonl").read_text().splitlines()
    assert {json.loads(line)["model"] for line in believed} == {"self_training_probe"}
    lines = (of_features / "evaluations.jsonl").read_text().splitlines()
    first, second, final = map(json.loads, lines)
    assert [line["round"] for line in (first, second)] == [0, 1]
    for line in (first, second):
        assert set(line["of_round"]) == set(line["models"]) == {"self_training_probe"}
    assert first["of_round"] == first["models"]
    assert second["of_round"] != first["of_round"], "it learned from what it believed"
    assert set(final["models"]) == {*METHODS}
    # Only what was learned from pseudo-labels differs.
    of = metrics["models"]
    assert of["linear_probe"]["video"]["nll"] != of["self_training_probe"]["video"]["nll"]


@pytest.mark.e2e
def test_methods_that_believe_nothing_end_a_run_with_rounds(
    tmp_path: Path, small_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        pytest.fail("videos are decoded that nobody looks at")

    opened: list[str] = []

    def counted(features: Features, backend: Backend) -> FrozenBody:
        opened.append(features.body)
        return frozen_body(features, backend)

    monkeypatch.setattr(Frames, "fill", decode)
    monkeypatch.setattr("bgan_video.features.bodies.frozen_body", counted)
    words = on_features(small_videos, tmp_path, "none", "train.rounds=2")
    assert cli.main(["train", *words, "baseline.methods=[linear_probe,knn]"]) == 0
    metrics = json.loads((tmp_path / "none" / "metrics.json").read_text())
    assert set(metrics["models"]) == {"linear_probe", "knn"}
    lines = (tmp_path / "none" / "log.jsonl").read_text().splitlines()
    steps = sum(json.loads(line)["seconds"] for line in lines)
    assert metrics["seconds"] > steps, "fitting takes time too"
    assert len(opened) == 2, "once in training, once by the run that is judged"


@pytest.mark.e2e
def test_a_file_is_predicted_by_a_probe_as_evaluation_judges_it(of_features: Path) -> None:
    run = bgan_video.load(of_features)
    assert run.answering == "linear_probe"
    items = run.manifest.part("test")[:2]
    judged, _ = run.predict_items(items, run.frames(items))
    files = [Path(run.manifest.root) / item.path for item in items]
    for index, prediction in enumerate(run.predict(files)):
        assert isinstance(prediction, VideoPrediction)
        expected = judged["linear_probe"].video_probabilities[index]
        torch.testing.assert_close(
            torch.as_tensor(prediction.probabilities, dtype=torch.float64),
            expected,
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.fixture(params=["linear_probe", "knn"])
def answering(request: pytest.FixtureRequest, of_features: Path, tmp_path: Path) -> Path:
    return runs.alone(of_features, request.param, tmp_path)


@pytest.mark.e2e
def test_probes_ask_for_typical_videos_in_the_space_of_their_features(answering: Path) -> None:
    run = bgan_video.load(answering)
    assert run.answering == answering.name
    suggested = run.suggest(2, by="typical")
    assert len({suggestion.path for suggestion in suggested}) == 2
    assert all(suggestion.predicted in run.classes for suggestion in suggested)


@pytest.mark.e2e
def test_what_goes_by_validation_videos_needs_some(
    tmp_path: Path, small_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = on_features(small_videos, tmp_path, "none", "data.validation_fraction=0")
    assert cli.main(["train", *words]) == 2
    assert "linear_probe goes by validation videos" in capsys.readouterr().err
    words = arguments(small_videos, tmp_path, "two")
    words += ["discriminator.combine=weighed", "data.validation_fraction=0"]
    assert cli.main(["train", *words]) == 2
    assert "combine=weighed goes by validation videos" in capsys.readouterr().err
    words = [*words[:-1], "train.final_split=validation"]
    assert cli.main(["train", *words]) == 2
    assert "is fitted to the validation videos" in capsys.readouterr().err
