"""What a dry run counts: what is built, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.models import build_critic, build_generator
from bgan_video.training import plan
from tests.features import tiny

K = 8  # motions
SMALL = ["discriminator.width=4", "generator.width=4", "clip.size=16", "clip.num_frames=4"]


def told(videos: Path, place: Path, *more: str) -> list[str]:
    small = [
        *("data.layout=ucf101", f"data.root={videos}", "data.labels_per_class=1"),
        *SMALL,
        *("features.size=32", "run.device=cpu", f"features.store={place}", *tiny.save(place)),
    ]
    return plan.plan(config.load(None, [*small, *more])).splitlines()


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
