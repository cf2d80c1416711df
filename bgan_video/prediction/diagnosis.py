"""Did the chains sample? Temperatures from the log, agreement from what the networks say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from bgan_video.config import Config, Posterior
from bgan_video.files import read_lines
from bgan_video.method.timetable import num_chains, step_sizes
from bgan_video.metrics.entropy import entropy
from bgan_video.prediction.draws import nll_of_draws
from bgan_video.prediction.verdict import verdict
from bgan_video.sampling import (
    StepSize,
    bulk_effective_size,
    monte_carlo_error,
    r_hat,
    tail_effective_size,
)

MAX_PROBE = 200
MIN_CHAINS, MIN_DRAWS = 4, 100
"""Vehtari et al. 2021 trust R-hat from four chains and 50 effective draws of each of their halves:
with fewer draws than 100 a chain even independent ones would not do."""
_TINY = 1e-12

Log = Sequence[Mapping[str, Any]]


def diagnose(
    folder: Path, config: Config, number: int, probabilities: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Everything a run records about its chains of a round.

    Args:
        folder: The run's folder, with its log.
        config: Its settings.
        number: Of the round, from 0.
        probabilities: `[S, V, K]`, what that round's networks say of the probe videos.
        labels: `[V]`, of the probe videos.
    """
    p = config.posterior
    log = read_lines(folder / "log.jsonl")
    before = number * config.train.steps
    log = [line | {"step": line["step"] - before} for line in log if line.get("round", 0) == number]
    momenta = kinetic(log, p.friction, step_sizes(config))
    if momenta is not None:
        momenta["target"] *= momentum_at_rest(p)
    weights = configurational(log, p.friction, step_sizes(config))
    functions = function_space(probabilities, labels, num_chains(config))
    return {
        "noise": next((line["noise"] for line in reversed(log) if "noise" in line), None),
        "kinetic": momenta,
        "configurational": weights,
        "function_space": functions,
        "draws": nll_of_draws(probabilities, labels, num_chains(config)),
        "verdict": verdict(momenta, weights, functions),
    }


def momentum_at_rest(posterior: Posterior) -> float:
    """Variance of a momentum in units of T/N that the steps themselves give, at no curvature.

    Friction a is taken off in one step, so that it is 1 / (1 - a/2), and h / 4 more in its
    denominator for a curvature h = lr c (`sampling.SGHMC`); `baoa` and `mclmc` refresh momenta to
    the full T.
    """
    refreshed = {"sghmc": posterior.integrator == "baoa", "adaptive_sghmc": False}
    if refreshed.get(posterior.sampler, True):
        return 1.0
    return 1 / (1 - posterior.friction / 2)


def kinetic(log: Log, friction: float, steps: StepSize) -> dict[str, Any] | None:
    """Kinetic temperature of every layer, its mean over the sampling phase, and the target T.

    The steps at temperature 0 of a cycle are left out, and the 3 / friction steps in which the
    momentum warms up, at first and after those.

    Args:
        log: Lines of log.jsonl.
        friction: Per step.
        steps: Says which steps had noise.

    Returns:
        `target`, `median` over layers and `layers` by name, in the units of T; None where nothing
        was sampled with a momentum that had warmed up.
    """
    return _means(_usable(log, friction, steps, "temperatures"), "temperatures")


def configurational(log: Log, friction: float, steps: StepSize) -> dict[str, Any] | None:
    """Configurational temperature of every layer (`sampling.Virial`), and its target.

    Of the later half of the lines that `kinetic` looks at, since weights take longer than momenta.

    Args:
        log: Lines of log.jsonl.
        friction: Per step.
        steps: Says which steps had noise.

    Returns:
        As `kinetic` does.
    """
    usable = _usable(log, friction, steps, "configurational")
    return _means(usable[len(usable) // 2 :], "configurational")


def _usable(log: Log, friction: float, steps: StepSize, key: str) -> Log:
    def is_warm(line: Mapping[str, Any]) -> bool:
        return steps.steps_with_noise(line["step"] - 1) >= 3 / friction

    return [line for line in log if is_warm(line) and line.get("temperature") and line.get(key)]


def _means(usable: Log, key: str) -> dict[str, Any] | None:
    if not usable:
        return None
    count = len(usable)
    layers = {name: sum(line[key][name] for line in usable) / count for name in usable[-1][key]}
    return {
        "target": sum(line["temperature"] for line in usable) / count,
        "median": statistics.median(layers.values()),
        "layers": layers,
    }


def function_space(probabilities: Tensor, labels: Tensor, num_chains: int) -> dict[str, Any]:
    """How far the chains agree on the probe videos, and how many draws they are worth.

    R-hat and effective draws are those of log p(label) of each probe video, of at most 200, evenly
    chosen; videos on which nothing moves have none.

    Args:
        probabilities: `[S, V, K]`, network by network: draw by draw, and chain by chain in it.
        labels: `[V]`.
        num_chains: Chains, which divides S.

    Returns:
        `chains`, `draws`, `probe` (V); `r_hat_median`, `r_hat_max`, `bulk_median`, `bulk_min`,
        `tail_min` (None with fewer than four chains of 100 draws, which `needed` then says);
        `error`, the standard error of p(label) in the median probe video, from the chains' own
        draws where those are enough, else from how far the means of chains lie apart (None of one
        chain); `disagreement`, the mutual information in nats between label and chain, mean over
        videos; `chains_differ`, the part of the videos that the chains do not all give one class.
    """
    p = rearrange(probabilities.double(), "(d c) v k -> c d v k", c=num_chains)
    chains, draws, videos, _ = p.shape
    figures: dict[str, Any] = {"chains": chains, "draws": draws, "probe": videos}
    is_enough = chains >= MIN_CHAINS and draws >= MIN_DRAWS
    figures["needed"] = None if is_enough else f"{MIN_CHAINS} chains of {MIN_DRAWS} draws"
    figures |= dict.fromkeys(("r_hat_median", "r_hat_max", "bulk_median", "bulk_min", "tail_min"))
    places = torch.linspace(0, videos - 1, min(videos, MAX_PROBE)).round().long()
    of_label = p[:, :, places, labels[places]]  # [C, D, V']
    error = _median(of_label.mean(dim=1).std(dim=0) / math.sqrt(chains)) if chains > 1 else None
    if is_enough:
        log_p = of_label.clamp_min(_TINY).log()
        hats = _of_videos(r_hat, log_p)
        bulk, tail = (_of_videos(f, log_p) for f in (bulk_effective_size, tail_effective_size))
        figures |= {"r_hat_median": _median(hats), "r_hat_max": _largest(hats)}
        figures |= {"bulk_median": _median(bulk), "bulk_min": _least(bulk)}
        figures["tail_min"] = _least(tail)
        error = _median(_of_videos(monte_carlo_error, of_label))
    of_chain = p.mean(dim=1)  # [C, V, K]
    information = entropy(of_chain.mean(dim=0)) - entropy(of_chain).mean(dim=0)
    said = of_chain.argmax(dim=2)
    return figures | {
        "error": error,
        "disagreement": information.clamp_min(0).mean().item(),
        "chains_differ": (said != said[0]).any(dim=0).double().mean().item(),
    }


def _of_videos(figure: Callable[[Tensor], float], draws: Tensor) -> Tensor:
    """A figure of `[C, D]` for each of `[C, D, V]`, without those that have none."""
    found = [figure(draws[..., v]) for v in range(draws.shape[2])]
    return torch.tensor([value for value in found if not math.isnan(value)], dtype=torch.float64)


def _median(values: Tensor) -> float | None:
    return values.quantile(0.5).item() if len(values) else None


def _largest(values: Tensor) -> float | None:
    return values.max().item() if len(values) else None


def _least(values: Tensor) -> float | None:
    return values.min().item() if len(values) else None
