"""What a dry run counts: what is built, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import layouts, splits
from bgan_video.errors import UserError
from bgan_video.models import build_critic, build_generator
from bgan_video.training import measuring, plan
from tests.features import tiny

K = 8  # motions
SMALL = ["discriminator.width=4", "generator.width=4", "clip.size=16", "clip.num_frames=4"]


def small(videos: Path, place: Path, *more: str) -> Config:
    words = [
        *("data.layout=ucf101", f"data.root={videos}", "data.labels_per_class=1"),
        *SMALL,
        *("features.size=32", "run.device=cpu", f"features.store={place}", *tiny.save(place)),
    ]
    return config.load(None, [*words, *more])


def told(videos: Path, place: Path, *more: str) -> list[str]:
    return plan.plan(small(videos, place, *more)).splitlines()


def networks(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("networks: ")]


def memory(lines: list[str]) -> int:
    (line,) = (line for line in lines if line.startswith("memory: "))
    return int(line.split()[1])


FEATURES = f"features:timm:{tiny.MODEL}"
ALONE = ["objective.adversarial_weight=0", "baseline.methods=[bayesian_gan]"]
WEIGHTS = (tiny.LENGTH + 1) * (K + 1)


def test_features_alone_need_no_network_of_clips(small_videos: Path, tmp_path: Path) -> None:
    lines = told(small_videos, tmp_path, *ALONE, f"discriminator.bodies=[{FEATURES}]")
    assert networks(lines) == [
        f"networks: {FEATURES}: discriminators of {WEIGHTS:,} parameters: bayesian_gan 2"
    ]
    wide = ["discriminator.width=64", "clip.num_frames=16", "clip.size=64"]
    again = told(small_videos, tmp_path, *ALONE, f"discriminator.bodies=[{FEATURES}]", *wide)
    batch = 16 * 3 * 16 * 64 * 64 * 4 / 2**20  # that the console shows, and nobody learns from
    assert memory(again) < batch + 3


def test_networks_of_every_body_are_counted(small_videos: Path, tmp_path: Path) -> None:
    two = [*ALONE, f"discriminator.bodies=[dcgan,{FEATURES}]"]
    of_clips, of_features = networks(told(small_videos, tmp_path, *two))
    assert of_clips.startswith("networks: dcgan: discriminators of ")
    assert f"{FEATURES}: discriminators of {WEIGHTS:,} parameters" in of_features


def test_methods_on_features_have_no_network_that_takes_steps(
    small_videos: Path, tmp_path: Path
) -> None:
    lines = told(small_videos, tmp_path, "baseline.methods=[linear_probe,knn]")
    assert networks(lines) == []
    assert memory(lines) < 5


@pytest.mark.parametrize("weight", [0, 1])
def test_generators_are_counted_where_there_is_a_game(
    small_videos: Path, tmp_path: Path, weight: int
) -> None:
    (line,) = networks(told(small_videos, tmp_path, f"objective.adversarial_weight={weight}"))
    assert line.endswith("bayesian_gan 2 + 2, supervised 1 + 0" if weight else "supervised 1")
    assert ("generators of" in line) == bool(weight)


GAME = [*SMALL, "critic.name=hybrid", "critic.num=3", "critic.width=4"]


def test_critics_are_counted_and_discriminators_that_are_not_there_are_not() -> None:
    (beside,) = plan.networks(config.load(None, [*GAME, "baseline.methods=[bayesian_gan]"]), {}, K)
    assert str(beside).endswith(": bayesian_gan 2 + 3 + 2")
    c = config.load(None, [*GAME, *ALONE, "data.num_labelled=0"])
    critic, generator = of_one(build_critic(c)), of_one(build_generator(c))
    (alone,) = plan.networks(c, {}, 1)
    assert str(alone) == (
        f"networks: critics of {critic:,} parameters, generators of {generator:,} parameters: "
        f"bayesian_gan 3 + 2"
    )
    assert alone.weights == 3 * critic + 2 * generator
    assert alone.stored == 0


def of_one(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_rival_of_hundreds_is_refused_before_any_video(tmp_path: Path) -> None:
    many = ["train.steps=900", "posterior.max_samples=300", "posterior.thinning=1"]
    missing = ["data.layout=ucf101", f"data.root={tmp_path / 'nothing'}"]
    of = config.load(None, [*many, *missing, "baseline.methods=[bayesian_gan,deep_ensemble]"])
    with pytest.raises(UserError, match="deep_ensemble would be 600 networks"):
        plan.plan(of)


def budgeted(of: Config) -> Config:
    return measuring.within(of, 60, ())


@pytest.mark.parametrize("ask", [plan.plan, budgeted])
def test_what_training_would_refuse_is_refused_before_it(
    small_videos: Path, tmp_path: Path, ask: Callable[[Config], object]
) -> None:
    probe = ["baseline.methods=[linear_probe]", "data.validation_fraction=0"]
    with pytest.raises(UserError, match="linear_probe goes by validation videos, and there are no"):
        ask(small(small_videos, tmp_path, *probe))
    bodies = ["discriminator.bodies=[dcgan@rgb,dcgan@difference]", "discriminator.combine=weighed"]
    with pytest.raises(UserError, match="and this run is judged on them"):
        ask(small(small_videos, tmp_path, *bodies, "train.final_split=validation"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken exists already"):
        ask(small(small_videos, tmp_path, f"run.dir={tmp_path}", "run.name=taken"))


def test_a_plan_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.avi").touch()
    unlabelled = ["data.layout=video_folder", f"data.root={tmp_path}", "data.classes=[a,b]"]
    with pytest.raises(UserError, match=r"none of the training videos of .* is labelled in fold 1"):
        plan.plan(config.load(None, [*SMALL, *unlabelled, "run.device=cpu"]))


def test_batches_that_processes_cannot_share_are_refused(
    small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"train\.batch_size=4 cannot be shared by 3 .* multiples"):
        told(small_videos, tmp_path, "train.batch_size=4", "train.labelled_batch_size=3")


def test_what_is_judged_at_the_end_is_counted(small_videos: Path, tmp_path: Path) -> None:
    of = small(small_videos, tmp_path, "data.validation_fraction=0.3")
    manifest = splits.split(layouts.read(of.data), of.data)
    test, validation = (len(manifest.part(split)) for split in ("test", "validation"))
    assert min(test, validation) > 0
    count = measuring._judged_at_end
    assert count(of, manifest) == test + validation
    rounds = small(small_videos, tmp_path, "train.rounds=2")
    assert count(rounds, manifest) == test + 4 * validation
    alone = small(small_videos, tmp_path, "train.rounds=2", "train.final_split=validation")
    assert count(alone, manifest) == validation
