"""Sampling longer does not hurt where the temperature is within its budget: the small form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import posterior
from bgan_video import config

TOY = [
    "posterior.temperature=auto",
    "posterior.burn_in=150",
    "discriminator.width=4",
    "clip.size=16",
    "clip.num_frames=4",
    "objective.adversarial_weight=0",
    "objective.consistency_weight=0",
    "train.batch_size=4",
]


def row(steps: int, nll: float) -> dict[str, float]:
    return {"steps": steps, "nll": nll}


def test_level_or_falling_is_told_from_rising() -> None:
    assert posterior.never_hurts([row(300, 0.5), row(16, 0.6), row(3000, 0.505)])
    assert not posterior.never_hurts([row(16, 0.5), row(300, 0.4), row(3000, 0.45)])


def test_the_settings_of_the_exact_run_are_settings() -> None:
    settings = config.load("isl", [*posterior.COMMON, *posterior.EXACT])
    assert settings.features.temperature == 1
    assert settings.posterior.num_discriminators == 4


@pytest.mark.slow
@pytest.mark.e2e
def test_sampling_longer_does_not_make_the_posterior_mean_worse(tmp_path: Path) -> None:
    rows = posterior.lengths(tmp_path, "demo", [16, 300], TOY)
    assert posterior.never_hurts(rows), posterior.table(rows)
    assert all(row["nats"] == pytest.approx(0.1) for row in rows)
