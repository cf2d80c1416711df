"""Did the chains sample: temperatures from log lines, agreement from predictions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bgan_video.prediction import diagnosis
from bgan_video.sampling import StepSize, effective_sample_size, split_r_hat


def line(step: int, value: float, target: float = 0.5, **more: Any) -> dict[str, Any]:
    temperatures = {"a": value, "b": 2 * value}
    found = {"step": step, "phase": "sampling", "temperature": target, "temperatures": temperatures}
    return found | more


def networks(seed: int, chains: int, draws: int, apart: float) -> Tensor:
    """`[S, V, K]`: draws scatter by 1 about chains that are `apart` from one another."""
    random = torch.Generator().manual_seed(seed)
    centre = apart * torch.randn(1, chains, 12, 3, generator=random)
    logits = centre + torch.randn(draws, chains, 12, 3, generator=random)
    return logits.double().softmax(3).flatten(0, 1)


def constant(burn_in: int) -> StepSize:
    return StepSize(kind="constant", lr=0.1, total_steps=1000, burn_in=burn_in)


LABELS = torch.arange(12) % 3


def test_the_first_steps_of_sampling_are_left_out() -> None:
    burn_in = {"step": 10, "phase": "burn_in"}
    log = [burn_in, line(20, 0.0), line(40, 0.1), line(50, 0.4), line(60, 0.6)]
    found = diagnosis.kinetic(log, 0.1, constant(20))  # 30 steps from step 20 on
    assert found == {"target": 0.5, "median": 0.75, "layers": {"a": 0.5, "b": 1.0}}


def test_a_run_that_ends_before_momenta_are_warm_has_no_temperature() -> None:
    assert diagnosis.kinetic([line(21, 0.1), line(49, 0.3)], 0.1, constant(20)) is None
    assert diagnosis.kinetic([line(21, 0.1), line(50, 0.3)], 0.1, constant(20)) is not None


@pytest.mark.parametrize(
    "log",
    [
        [],
        [{"step": 1, "phase": "burn_in"}],
        [line(1, 0.0, target=0.0)],
        [{"step": 1, "phase": "sampling", "temperature": 1.0}],
    ],
    ids=["nothing", "burn-in", "cold", "no momentum"],
)
def test_nothing_to_measure(log: list[dict[str, Any]]) -> None:
    assert diagnosis.kinetic(log, 0.1, constant(0)) is None


@pytest.mark.parametrize(("length", "warm"), [(100, []), (200, [230, 240, 430, 440])])
def test_steps_that_explore_cold_do_not_count(length: int, warm: list[int]) -> None:
    """Nor do those in which the momentum warms up after them, whether one of them is logged or not.

    The last fifth of a cycle has noise: of 100 steps the 20 in which nothing is warm yet.
    """
    steps = StepSize(kind="cyclical", lr=0.1, total_steps=40 + 4 * length, burn_in=40, num_cycles=4)
    logged = [s for s in range(10, 441, 10) if not steps.is_exploring(s - 1)]
    found = diagnosis.kinetic([line(s, float(s in warm)) for s in logged], 0.1, steps)
    assert (found is not None) == bool(warm)
    if found is not None:
        assert found["layers"]["a"] == 1


def test_functionals_are_those_of_each_probe_video() -> None:
    p = networks(0, chains=2, draws=8, apart=1.0)
    found = diagnosis.function_space(p, LABELS, 2)
    r_hats, sizes = [], []
    for v, label in enumerate(LABELS.tolist()):
        series = torch.stack([p[chain::2, v, label].log() for chain in range(2)])
        r_hats.append(split_r_hat(series))
        sizes.append(effective_sample_size(series))
    assert (found["chains"], found["draws"], found["probe"]) == (2, 8, 12)
    assert found["r_hat_max"] == pytest.approx(max(r_hats))
    assert found["r_hat_median"] == pytest.approx(torch.tensor(r_hats).double().median().item())
    assert found["ess_min"] == pytest.approx(min(sizes))


def test_chains_apart_disagree_and_chains_together_do_not() -> None:
    apart = diagnosis.function_space(networks(1, 3, 8, apart=6.0), LABELS, 3)
    together = diagnosis.function_space(networks(1, 3, 8, apart=0.0), LABELS, 3)
    assert apart["r_hat_median"] > 2 > together["r_hat_median"]
    assert apart["disagreement"] > 5 * together["disagreement"]
    assert apart["chains_differ"] > together["chains_differ"]


def test_equal_chains_differ_nowhere() -> None:
    p = networks(2, 1, 5, apart=1.0).repeat_interleave(2, dim=0)
    found = diagnosis.function_space(p, LABELS, 2)
    assert found["disagreement"] == pytest.approx(0, abs=1e-12)
    assert found["chains_differ"] == 0


def test_few_draws_and_frozen_networks_have_no_r_hat() -> None:
    few = diagnosis.function_space(networks(3, 2, 7, apart=1.0), LABELS, 2)
    frozen = diagnosis.function_space(networks(3, 2, 1, apart=1.0).repeat(9, 1, 1), LABELS, 2)
    assert few["r_hat_median"] is None
    assert few["ess_min"] is None
    assert frozen["draws"] == 9
    assert diagnosis.verdict(None, few)[1].startswith("Mixing is not known")


@pytest.mark.parametrize(
    ("value", "word"), [(0.2, "Cold"), (0.45, "On target"), (0.55, "On target"), (1.2, "Hot")]
)
def test_the_temperature_in_a_word(value: float, word: str) -> None:
    kinetic = {"target": 0.5, "median": value, "layers": {"a": value, "far": 3 * value}}
    (sentence,) = diagnosis.verdict(kinetic, None)
    assert sentence.startswith(word)
    assert f"{value / 0.5:.2f} times" in sentence
    assert ("far" in sentence) == (word != "Cold")


def test_no_layer_is_named_where_all_are_on_target() -> None:
    kinetic = {"target": 0.5, "median": 0.55, "layers": {"a": 0.5, "b": 0.6}}
    (sentence,) = diagnosis.verdict(kinetic, None)
    assert sentence.endswith("median layer).")


@pytest.mark.parametrize(
    ("r_hat", "word"), [(1.0, "Mixed"), (1.05, "Mixed"), (1.5, "Not mixed yet"), (3.0, "Stuck")]
)
def test_mixing_in_a_word(r_hat: float, word: str) -> None:
    functions = {"chains": 2, "draws": 9, "r_hat_median": r_hat, "chains_differ": 0.25}
    said = diagnosis.verdict(None, functions)
    assert said[0].startswith("No kinetic temperature")
    assert said[1].startswith(word)
    assert "25 %" in said[1]
