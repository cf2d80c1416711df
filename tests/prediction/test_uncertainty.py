"""What `metrics.json` says of calibration."""

from __future__ import annotations

import math

import pytest
import torch

from bgan_video.metrics.scores import scores
from bgan_video.prediction.uncertainty import _calibration


def test_a_probability_of_zero_is_survived() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    found = _calibration(p, torch.tensor([1, 0]), 2.0)
    assert all(math.isfinite(value) for value in found["scaled"].values())


def test_without_validation_nothing_is_scaled() -> None:
    random = torch.Generator().manual_seed(1)
    p = torch.randn(60, 4, generator=random, dtype=torch.float64).softmax(1)
    labels = torch.randint(4, (60,), generator=random)
    found = _calibration(p, labels, None)
    assert (found["temperature"], found["scaled"]) == (None, None)
    assert set(found) == {"ece_equal_mass", "aurc", "temperature", "scaled"}
    again = _calibration(p, labels, 1.0)["scaled"]
    assert again["nll"] == pytest.approx(scores(p, labels)["nll"])
