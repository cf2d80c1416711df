"""NLL of draws: of each alone, and of the mean up to it."""

from __future__ import annotations

import math

import pytest
import torch

from bgan_video.prediction.draws import nll_of_draws


def test_draws_alone_and_so_far_by_hand() -> None:
    """Two draws of two chains on one video of class 0."""
    of_label = torch.tensor([0.9, 0.1, 0.5, 0.7])
    p = torch.stack([of_label, 1 - of_label], dim=1).unsqueeze(1)
    found = nll_of_draws(p, torch.tensor([0]), 2)
    alone = [-(math.log(0.9) + math.log(0.1)) / 2, -(math.log(0.5) + math.log(0.7)) / 2]
    assert found["alone"] == pytest.approx(alone)
    assert found["so_far"] == pytest.approx([-math.log(0.5), -math.log(0.55)])


def test_a_label_thought_impossible_stays_finite() -> None:
    found = nll_of_draws(torch.tensor([[[1.0, 0.0]]]), torch.tensor([1]), 1)
    assert all(math.isfinite(value) for of in found.values() for value in of)
