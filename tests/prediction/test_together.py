"""How several bodies answer together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from bgan_video.prediction.predict import Prediction, entropy
from bgan_video.prediction.together import (
    combine,
    fit_weights,
    information,
    read_weights,
    write_weights,
)


def said(seed: int, networks: int, videos: int = 5, classes: int = 3) -> Prediction:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(networks, videos, classes, generator=random, dtype=torch.float64)
    p = (2 * logits).softmax(dim=2)
    p_fake = torch.rand(videos, generator=random, dtype=torch.float64)
    return Prediction(p.mean(dim=0).repeat_interleave(2, dim=0), p, p_fake)


def test_one_body_answers_as_it_is() -> None:
    alone = said(0, 4)
    assert combine([alone], "product", [1.0, 1.0]) is alone


def test_the_product_is_bayes_rule_where_bodies_err_independently() -> None:
    """Two bodies that see `x_b` drawn independently given a class with a uniform prior."""
    random = torch.Generator().manual_seed(1)
    likelihoods = [torch.rand(6, 4, generator=random, dtype=torch.float64) for _ in range(2)]
    answers = [of / of.sum(dim=1, keepdim=True) for of in likelihoods]
    joint = likelihoods[0] * likelihoods[1]
    expected = joint / joint.sum(dim=1, keepdim=True)
    parts = [Prediction(p, p[None], torch.zeros(6)) for p in answers]
    torch.testing.assert_close(combine(parts, "product", [1.0, 1.0]).video_probabilities, expected)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_a_mean_is_a_mean_of_bodies_however_many_networks_they_have(
    seed: int, first: int, second: int
) -> None:
    parts = [said(seed, first), said(seed + 1, second)]
    together = combine(parts, "mean", [1.0, 1.0])
    expected = (parts[0].video_probabilities + parts[1].video_probabilities) / 2
    torch.testing.assert_close(together.video_probabilities, expected)
    # As many networks of each body stand side by side, so that bodies weigh alike.
    assert len(together.network_probabilities) == 2 * min(first, second)
    if first == second:
        torch.testing.assert_close(together.network_probabilities.mean(dim=0), expected)


def test_of_a_body_with_more_networks_evenly_spread_ones_are_taken() -> None:
    many, few = said(0, 9), said(1, 3)
    together = combine([many, few], "product", [1.0, 1.0]).network_probabilities
    assert torch.equal(together[:3], many.network_probabilities[[0, 4, 8]])
    assert torch.equal(together[3:], few.network_probabilities)


def test_only_the_first_body_says_what_is_fake() -> None:
    first, second = said(0, 2), said(1, 2)
    assert torch.equal(combine([first, second], "product", [1.0, 1.0]).p_fake, first.p_fake)


@given(st.integers(0, 1000), st.sampled_from(["product", "mean"]))
def test_mutual_information_is_that_within_and_between_bodies(seed: int, how: str) -> None:
    parts = [said(seed, 3), said(seed + 1, 3)]
    together = combine(parts, how, [1.0, 1.0])
    means = torch.stack([p.video_probabilities for p in parts])
    between = entropy(means.mean(dim=0)) - entropy(means).mean(dim=0)
    within = torch.stack([p.mutual_information for p in parts]).mean(dim=0)
    torch.testing.assert_close(together.mutual_information, between + within)
    for found, expected in zip(information(parts), (within, between), strict=True):
        torch.testing.assert_close(found, expected)
    many = [said(seed, 5), said(seed + 1, 3)]
    total = combine(many, how, [1.0, 1.0]).mutual_information
    torch.testing.assert_close(sum(information(many)), total)


def test_a_class_that_a_body_rules_out_stays_a_number() -> None:
    sure = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    parts = [Prediction(p, p[None], torch.zeros(1)) for p in (sure, sure.flip(1))]
    assert combine(parts, "product", [1.0, 1.0]).video_probabilities.isfinite().all()


def test_parts_of_a_prediction_keep_what_bodies_say_together() -> None:
    together = combine([said(0, 2), said(1, 2)], "product", [1.0, 1.0])
    expected = together.video_probabilities[1:3]
    assert torch.equal(together.part(1, 3).video_probabilities, expected)


def test_a_weighed_product_is_one_of_powers() -> None:
    parts = [said(0, 2), said(1, 2)]
    found = combine(parts, "weighed", [2.0, 0.5]).video_probabilities
    powers = parts[0].video_probabilities ** 2 * parts[1].video_probabilities ** 0.5
    torch.testing.assert_close(found, powers / powers.sum(dim=1, keepdim=True))
    alike = combine(parts, "weighed", [1.0, 1.0]).video_probabilities
    torch.testing.assert_close(alike, combine(parts, "product", [2.0, 0.5]).video_probabilities)


def test_weights_are_those_another_optimiser_finds() -> None:
    parts, labels = [said(seed, 3, videos=40) for seed in (2, 3, 4)], torch.arange(40) % 3
    log_p = np.log(np.stack([p.video_probabilities.numpy() for p in parts]))

    def potential(log_weights: np.ndarray) -> float:
        scores = np.einsum("b,bvk->vk", np.exp(log_weights), log_p)
        log_z = np.log(np.exp(scores).sum(1))
        return (log_z - scores[np.arange(40), labels.numpy()]).sum() + 0.5 * (log_weights**2).sum()

    expected = minimize(potential, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8})
    found = np.log(fit_weights(parts, labels))
    assert found == pytest.approx(expected.x, abs=1e-3)


def test_a_body_that_knows_weighs_more_than_one_that_guesses() -> None:
    labels = torch.arange(60) % 3
    knows = torch.eye(3, dtype=torch.float64)[labels] * 0.4 + 0.2
    guesses = said(5, 1, videos=60).video_probabilities
    parts = [Prediction(p, p[None], torch.zeros(60)) for p in (knows, guesses)]
    first, second = fit_weights(parts, labels)
    assert first > 1.5 > 0.8 > second


def test_without_videos_all_words_are_worth_one() -> None:
    nothing = Prediction(*(torch.zeros(s) for s in ((0, 3), (1, 0, 3), (0,))))
    assert fit_weights([nothing, nothing], torch.zeros(0).long()) == [1.0, 1.0]


def test_weights_are_kept_with_a_run(tmp_path: Path) -> None:
    (tmp_path / "posterior").mkdir()
    assert read_weights(tmp_path) == {}
    write_weights(tmp_path, {"dcgan": 1.25, "features:a": 0.5})
    assert read_weights(tmp_path) == {"dcgan": 1.25, "features:a": 0.5}
    json.loads((tmp_path / "posterior" / "body_weights.json").read_text())
