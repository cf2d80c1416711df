"""Did the chains sample: temperatures from log lines, agreement from predictions."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bgan_video.config import Config, Posterior
from bgan_video.prediction import diagnosis
from bgan_video.prediction.verdict import verdict
from bgan_video.sampling import (
    SGHMC,
    StepSize,
    bulk_effective_size,
    kinetic_temperature,
    monte_carlo_error,
    r_hat,
    tail_effective_size,
)


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
FEW: dict[str, Any] = {
    "chains": 4, "draws": 100, "needed": "more", "r_hat_median": None, "chains_differ": 0.25,
    "error": 0.03,
}  # fmt: skip


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
    p = networks(0, chains=4, draws=100, apart=1.0)
    found = diagnosis.function_space(p, LABELS, 4)
    hats, bulk, tail, errors = [], [], [], []
    for v, label in enumerate(LABELS.tolist()):
        series = torch.stack([p[chain::4, v, label] for chain in range(4)])
        hats.append(r_hat(series.log()))
        bulk.append(bulk_effective_size(series.log()))
        tail.append(tail_effective_size(series.log()))
        errors.append(monte_carlo_error(series))
    assert (found["chains"], found["draws"], found["probe"]) == (4, 100, 12)
    assert found["r_hat_max"] == pytest.approx(max(hats))
    assert found["r_hat_median"] == pytest.approx(statistics.median(hats))
    assert found["bulk_median"] == pytest.approx(statistics.median(bulk))
    assert found["bulk_min"] == pytest.approx(min(bulk))
    assert found["tail_min"] == pytest.approx(min(tail))
    assert found["error"] == pytest.approx(statistics.median(errors))


def test_chains_apart_disagree_and_chains_together_do_not() -> None:
    apart = diagnosis.function_space(networks(1, 4, 100, apart=6.0), LABELS, 4)
    together = diagnosis.function_space(networks(1, 4, 100, apart=0.0), LABELS, 4)
    assert apart["r_hat_median"] > 2 > 1.05 > together["r_hat_median"]
    assert apart["error"] > 3 * together["error"]
    assert apart["disagreement"] > 5 * together["disagreement"]
    assert apart["chains_differ"] > 0.5


def test_equal_chains_differ_nowhere() -> None:
    p = networks(2, 1, 5, apart=1.0).repeat_interleave(2, dim=0)
    found = diagnosis.function_space(p, LABELS, 2)
    assert found["disagreement"] == pytest.approx(0, abs=1e-12)
    assert found["chains_differ"] == 0


@pytest.mark.parametrize(("chains", "draws"), [(3, 100), (4, 99), (2, 20)])
def test_few_draws_have_no_r_hat_but_an_error(chains: int, draws: int) -> None:
    p = networks(3, chains, draws, apart=1.0)
    found = diagnosis.function_space(p, LABELS, chains)
    assert found["r_hat_median"] is None
    assert found["bulk_min"] is None
    means = torch.stack([p[c::chains].mean(dim=0) for c in range(chains)])
    of_label = means[:, torch.arange(12), LABELS]
    assert found["error"] == pytest.approx((of_label.std(dim=0) / chains**0.5).quantile(0.5).item())
    said = verdict(None, None, found)[2]
    assert "probe items" in said
    assert "validation" not in said
    assert said.startswith("Not enough draws to say")
    assert f"{chains} chains of {draws}" in said


def test_one_chain_has_no_error() -> None:
    found = diagnosis.function_space(networks(3, 1, 20, apart=1.0), LABELS, 1)
    assert found["error"] is None
    assert "±" not in verdict(None, None, found)[2]


def test_networks_that_do_not_move_have_no_r_hat() -> None:
    p = networks(3, 1, 1, apart=1.0).repeat(400, 1, 1)
    found = diagnosis.function_space(p, LABELS, 4)
    assert (found["draws"], found["needed"], found["r_hat_max"]) == (100, None, None)
    assert verdict(None, None, found)[2].startswith("The networks do not move")


def test_weights_are_judged_by_the_later_half_of_the_warm_lines() -> None:
    log = [line(step, 0.5, configurational={"a": float(step)}) for step in range(10, 101, 10)]
    found = diagnosis.configurational(log, 0.1, constant(20))  # warm from step 50 on: 50 .. 100
    assert found == {"target": 0.5, "median": 90, "layers": {"a": 90.0}}


@pytest.mark.parametrize(
    ("value", "word"), [(0.2, "Cold"), (0.45, "On target"), (0.55, "On target"), (1.2, "Hot")]
)
def test_the_temperature_in_a_word(value: float, word: str) -> None:
    kinetic = {"target": 0.5, "median": value, "layers": {"a": value, "far": 3 * value}}
    sentence = verdict(kinetic, None, FEW)[0]
    assert sentence.startswith(word)
    assert f"{value / 0.5:.2f} times" in sentence
    assert ("far" in sentence) == (word != "Cold")


def test_no_layer_is_named_where_all_are_on_target() -> None:
    kinetic = {"target": 0.5, "median": 0.55, "layers": {"a": 0.5, "b": 0.6}}
    assert verdict(kinetic, None, FEW)[0].endswith("median layer).")


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "are at rest"), (-3.0, "are not at rest"), (9.0, "are not at rest")]
)
def test_weights_in_a_word(value: float, words: str) -> None:
    configurational = {"target": 0.5, "median": value, "layers": {"a": value}}
    sentence = verdict(None, configurational, FEW)[1]
    assert words in sentence
    assert f"{value / 0.5:.3g} times" in sentence


def test_weights_that_nobody_looked_at() -> None:
    kinetic = {"target": 0.5, "median": 0.5, "layers": {"a": 0.5}}
    assert "not measured" in verdict(kinetic, None, FEW)[1]
    assert "optimiser's solutions" in verdict(None, None, FEW)[1]


@pytest.mark.parametrize(
    ("hat", "words"),
    [
        (1.0, "The chains agree"),
        (1.05, "The chains agree"),
        (1.5, "do not agree yet"),
        (3.0, "Stuck"),
    ],
)
def test_mixing_in_a_word(hat: float, words: str) -> None:
    functions = FEW | {"needed": None, "r_hat_median": hat, "r_hat_max": hat, "bulk_median": 50.0}
    said = verdict(None, None, functions)
    assert said[0].startswith("No kinetic temperature")
    assert words in said[2]
    assert "25 %" in said[2]
    assert "worth 50 independent" in said[2]
    assert "±0.03" in said[2]


def test_a_run_that_has_logged_nothing_yet_is_diagnosed_by_its_networks_alone(tmp_path: Path):
    probabilities = torch.full((4, 3, 2), 0.5)
    found = diagnosis.diagnose(tmp_path, Config(), 1, probabilities, torch.tensor([0, 1, 0]))
    assert (found["noise"], found["kinetic"], found["configurational"]) == (None, None, None)
    assert found["draws"]["alone"]
    assert found["verdict"]


@pytest.mark.parametrize("friction", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("integrator", ["symplectic", "euler", "baoa"])
def test_momenta_at_rest_are_those_of_the_samplers_themselves(
    friction: float, integrator: Any
) -> None:
    """A chain on a nearly flat potential, 20,000 weights, against what is told to be its target."""
    weights = torch.zeros(20_000)
    generator = torch.Generator().manual_seed(0)
    settings: Any = {"friction": friction, "integrator": integrator}
    chain = SGHMC([weights], 0.01, temperature=1.0, num_data=50, generator=generator, **settings)
    for _ in range(60):
        weights.grad = torch.zeros(20_000)
        chain.step()
    expected = diagnosis.momentum_at_rest(Posterior(**settings))
    assert kinetic_temperature(chain)[0] == pytest.approx(expected, rel=0.03)


def test_an_integrator_that_the_sampler_does_not_read_changes_nothing() -> None:
    adaptive = Posterior(sampler="adaptive_sghmc", integrator="baoa", friction=0.5)
    assert diagnosis.momentum_at_rest(adaptive) == pytest.approx(1 / 0.75)
    assert diagnosis.momentum_at_rest(Posterior(sampler="mclmc", friction=0.5)) == 1
