"""Sampling longer does not hurt where the temperature is within its budget: the small form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    settings = config.load("isl_exact", posterior.COMMON)
    assert settings.features.temperature == 1
    assert settings.posterior.num_discriminators == 4


@pytest.mark.slow
@pytest.mark.e2e
def test_sampling_longer_does_not_make_the_posterior_mean_worse(tmp_path: Path) -> None:
    rows = posterior.lengths(tmp_path, "demo", [16, 300], TOY)
    assert posterior.never_hurts(rows), posterior.table(rows)
    assert all(row["nats"] == pytest.approx(0.1) for row in rows)


def rung(temperature: float, nll: float) -> dict[str, Any]:
    row = {
        "steps": 4,
        "temperature": temperature,
        "nll": nll,
        "nats": 0.1,
        "draws": 4,
        "first": 1.0,
    }
    return row | {"last": 1.0, "behind": nll - 0.5, "chance": 0.01, "items": 64}


def test_a_ladder_names_its_best_temperature_and_whether_it_is_at_an_end() -> None:
    rungs = [rung(0.001, 0.6), rung(0.01, 0.5), rung(0.1, 0.7)]
    said = posterior.ladder_table(rungs).splitlines()[-1]
    assert said == "least on 64 validation items: posterior.temperature=0.01"
    said = posterior.ladder_table(rungs[1:]).splitlines()[-1]
    assert said.endswith("posterior.temperature=0.01, at an end of the ladder")


@pytest.mark.e2e
def test_a_ladder_compares_temperatures_after_the_same_burn_in(tmp_path: Path) -> None:
    short = ["posterior.burn_in=4", "train.steps=8", "posterior.thinning=2", *TOY[2:]]
    short.append("train.log_every=4")
    rows = posterior.ladder(tmp_path, "demo", [0.01, 10.0], short)
    assert [row["temperature"] for row in rows] == [0.01, 10.0]
    assert min(row["behind"] for row in rows) == 0
    assert rows[0]["nll"] != rows[1]["nll"]
    best, other = sorted(rows, key=lambda row: row["nll"])
    assert other["behind"] == pytest.approx(other["nll"] - best["nll"], abs=1e-4)
    logs = [(tmp_path / f"demo_T_{t}" / "log.jsonl").read_text() for t in ("0.01", "10")]
    losses = [[json.loads(line)["loss_d"] for line in log.splitlines()] for log in logs]
    assert losses[0][:1] == losses[1][:1]
