"""How several bodies answer together."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.errors import UserError
from bgan_video.prediction import bodies
from bgan_video.prediction.bodies import combine, kinds, names, of_features
from bgan_video.prediction.predict import Prediction, entropy


def said(seed: int, networks: int, videos: int = 5, classes: int = 3) -> Prediction:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(networks, videos, classes, generator=random, dtype=torch.float64)
    p = (2 * logits).softmax(dim=2)
    p_fake = torch.rand(videos, generator=random, dtype=torch.float64)
    return Prediction(p.mean(dim=0).repeat_interleave(2, dim=0), p, p_fake)


def test_one_body_answers_as_it_is() -> None:
    alone = said(0, 4)
    assert combine([alone], "product") is alone


def test_the_product_is_bayes_rule_where_bodies_err_independently() -> None:
    """Two bodies that see `x_b` drawn independently given a class with a uniform prior."""
    random = torch.Generator().manual_seed(1)
    likelihoods = [torch.rand(6, 4, generator=random, dtype=torch.float64) for _ in range(2)]
    answers = [of / of.sum(dim=1, keepdim=True) for of in likelihoods]
    joint = likelihoods[0] * likelihoods[1]
    expected = joint / joint.sum(dim=1, keepdim=True)
    parts = [Prediction(p, p[None], torch.zeros(6)) for p in answers]
    torch.testing.assert_close(combine(parts, "product").video_probabilities, expected)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_a_mean_is_a_mean_of_bodies_however_many_networks_they_have(
    seed: int, first: int, second: int
) -> None:
    parts = [said(seed, first), said(seed + 1, second)]
    together = combine(parts, "mean")
    expected = (parts[0].video_probabilities + parts[1].video_probabilities) / 2
    torch.testing.assert_close(together.video_probabilities, expected)
    # As many networks of each body stand side by side, so that bodies weigh alike.
    assert len(together.network_probabilities) == 2 * min(first, second)
    if first == second:
        torch.testing.assert_close(together.network_probabilities.mean(dim=0), expected)


def test_of_a_body_with_more_networks_evenly_spread_ones_are_taken() -> None:
    many, few = said(0, 9), said(1, 3)
    together = combine([many, few], "product").network_probabilities
    assert torch.equal(together[:3], many.network_probabilities[[0, 4, 8]])
    assert torch.equal(together[3:], few.network_probabilities)


def test_only_the_first_body_says_what_is_fake() -> None:
    first, second = said(0, 2), said(1, 2)
    assert torch.equal(combine([first, second], "product").p_fake, first.p_fake)


@given(st.integers(0, 1000), st.sampled_from(["product", "mean"]))
def test_mutual_information_is_that_within_and_between_bodies(seed: int, how: str) -> None:
    parts = [said(seed, 3), said(seed + 1, 3)]
    together = combine(parts, how)
    means = torch.stack([p.video_probabilities for p in parts])
    between = entropy(means.mean(dim=0)) - entropy(means).mean(dim=0)
    within = torch.stack([p.mutual_information for p in parts]).mean(dim=0)
    torch.testing.assert_close(together.mutual_information, between + within)


def test_a_class_that_a_body_rules_out_stays_a_number() -> None:
    sure = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    parts = [Prediction(p, p[None], torch.zeros(1)) for p in (sure, sure.flip(1))]
    assert combine(parts, "product").video_probabilities.isfinite().all()


def test_parts_of_a_prediction_keep_what_bodies_say_together() -> None:
    together = combine([said(0, 2), said(1, 2)], "product")
    expected = together.video_probabilities[1:3]
    assert torch.equal(together.part(1, 3).video_probabilities, expected)


def settings(*overrides: str) -> config.Config:
    return config.load(None, ["posterior.burn_in=5", "posterior.thinning=1", *overrides])


def test_bodies_have_names_in_the_bank() -> None:
    assert names(settings()) == ("dcgan",)
    assert kinds(settings()) == ["discriminator"]
    several = settings("discriminator.bodies=[dcgan,dcgan@rgb,features:efficientnet-lite0]")
    assert kinds(several) == ["discriminator", "discriminator_b", "discriminator_c"]


def test_a_layer_on_features_has_a_prior_scaled_by_its_length() -> None:
    c = of_features(settings("features.prior_scale=8", "train.steps=30"), 400)
    assert c.spatial_dims == 0
    assert c.channels == 400
    assert c.posterior.prior_std == pytest.approx(8 / math.sqrt(400))
    assert not c.gans_need_unlabelled


def test_a_clip_body_may_see_something_else() -> None:
    c = settings("discriminator.input=difference")
    other = bodies._of_clips(c, "dcgan@rgb", 1)
    assert (other.discriminator.name, other.discriminator.input) == ("dcgan", "rgb")
    assert other.objective.adversarial_weight == 0
    with pytest.raises(UserError, match="rgb, difference"):
        bodies._of_clips(c, "dcgan@sound", 1)


CPU = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
FEATURES = "features:efficientnet-lite0"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["discriminator.bodies=[dcgan,dcgan]"], "twice"),
        ([f"discriminator.bodies=[{FEATURES},dcgan]"], "sees no clips"),
        (["discriminator.bodies=[dcgan,nonsense]"], "nonsense"),
        ([f"discriminator.bodies=[dcgan,{FEATURES}]", "clip.num_frames=1"], "summary"),
    ],
    ids=lambda value: str(value),
)
def test_bodies_that_cannot_be_are_refused_before_any_video(
    overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        bodies.check(settings(*overrides), CPU)


def test_the_cold_gan_follows_one_body() -> None:
    with pytest.raises(UserError, match="cold_gan"):
        settings("baseline.methods=[bayesian_gan,cold_gan]", "discriminator.bodies=[dcgan]")


def test_what_is_meant_for_a_pretrained_body_does_not_reach_the_layer_on_features() -> None:
    c = settings("discriminator.freeze=2", "discriminator.body_lr=0.1", "train.steps=30")
    layer = of_features(c, 10).discriminator
    assert (layer.freeze, layer.body_lr) == (0, 1.0)


def test_other_bodies_begin_elsewhere() -> None:
    c = settings()
    assert bodies._seeded(c, "dcgan", 0) is c
    assert bodies._seeded(c, "dcgan", 1).run.seed != c.run.seed


def test_vectors_of_an_item_are_its_frames(tmp_path) -> None:
    class Store:
        def read(self, item) -> object:
            return torch.arange(6.0).view(3, 2).numpy()

    class Doubled:
        def __call__(self, vectors: Tensor) -> Tensor:
            return 2 * vectors

    item = dataclasses.make_dataclass("Item", ["path"])("a.avi")
    vectors = bodies.FeatureVectors(Store(), Doubled())  # type: ignore[arg-type]
    assert vectors.read(item, [2, 0]).tolist() == [[8.0, 10.0], [0.0, 2.0]]  # type: ignore[arg-type]
