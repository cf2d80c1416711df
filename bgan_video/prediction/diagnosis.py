"""Did the chains sample? Temperatures from the log, agreement from what the networks say."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from bgan_video.config import Config
from bgan_video.method.timetable import num_chains, step_sizes
from bgan_video.metrics.entropy import entropy
from bgan_video.metrics.kinetic import COLD, HOT
from bgan_video.prediction.draws import nll_of_draws
from bgan_video.sampling import StepSize, effective_sample_size, split_r_hat

MIXED, STUCK = 1.1, 2.0
"""R-hat. Gelman et al. 2013 call chains below 1.1 mixed (1.01 needs hundreds of draws); at 2 the
chains lie three times as far apart, in variance, as any one of them has moved."""
MAX_PROBE = 200
_MIN_DRAWS = 8
"""Split R-hat compares halves; with halves of two, chains that mix well look stuck."""
_TINY = 1e-12


def diagnose(folder: Path, config: Config, probabilities: Tensor, labels: Tensor) -> dict[str, Any]:
    """Everything a run records about its chains, of the latest round that is in its log.

    Args:
        folder: The run's folder, with its log.
        config: Its settings.
        probabilities: `[S, V, K]`, what that round's networks say of the probe videos.
        labels: `[V]`, of the probe videos.
    """
    p = config.posterior
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = [json.loads(line) for line in lines]
    number = max((line.get("round", 0) for line in log), default=0)
    before = number * config.train.steps
    log = [line | {"step": line["step"] - before} for line in log if line.get("round", 0) == number]
    temperatures = kinetic(log, p.friction, step_sizes(config))
    chains = num_chains(config)
    functions = function_space(probabilities, labels, chains)
    return {
        "noise": next((line["noise"] for line in reversed(log) if "noise" in line), None),
        "kinetic": temperatures,
        "function_space": functions,
        "draws": nll_of_draws(probabilities, labels, chains),
        "verdict": verdict(temperatures, functions),
    }


def kinetic(
    log: Sequence[Mapping[str, Any]], friction: float, steps: StepSize
) -> dict[str, Any] | None:
    """Kinetic temperature of every layer, its mean over the sampling phase, and its target.

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

    def is_usable(line: Mapping[str, Any]) -> bool:
        is_warm = steps.steps_with_noise(line["step"] - 1) >= 3 / friction
        return is_warm and bool(line.get("temperature") and line.get("temperatures"))

    usable = [line for line in log if is_usable(line)]
    if not usable:
        return None
    count = len(usable)
    names = usable[-1]["temperatures"]
    layers = {name: sum(line["temperatures"][name] for line in usable) / count for name in names}
    return {
        "target": sum(line["temperature"] for line in usable) / count,
        "median": statistics.median(layers.values()),
        "layers": layers,
    }


def function_space(probabilities: Tensor, labels: Tensor, num_chains: int) -> dict[str, Any]:
    """How far the chains agree on the probe videos, and how many draws they are worth.

    R-hat and effective sample size are those of log p(label) of each probe video, of at most 200,
    evenly chosen; videos on which nothing moves have none.

    Args:
        probabilities: `[S, V, K]`, network by network: draw by draw, and chain by chain in it.
        labels: `[V]`.
        num_chains: Chains, which divides S.

    Returns:
        `chains`, `draws`, `probe` (V), `r_hat_median`, `r_hat_max`, `ess_median`, `ess_min` (None
        with fewer than 8 draws); `disagreement`, the mutual information in nats between label and
        chain, mean over videos; `chains_differ`, the part of the videos that the chains do not all
        give one class.
    """
    p = rearrange(probabilities.double(), "(d c) v k -> c d v k", c=num_chains)
    chains, draws, videos, _ = p.shape
    figures: dict[str, Any] = {"chains": chains, "draws": draws, "probe": videos}
    figures |= dict.fromkeys(("r_hat_median", "r_hat_max", "ess_median", "ess_min"))
    if draws >= _MIN_DRAWS:
        places = torch.linspace(0, videos - 1, min(videos, MAX_PROBE)).round().long()
        of_label = p[:, :, places, labels[places]].clamp_min(_TINY).log()  # [C, D, V']
        r_hats = _known(split_r_hat(of_label[..., v]) for v in range(len(places)))
        sizes = _known(effective_sample_size(of_label[..., v]) for v in range(len(places)))
        if len(r_hats):
            figures |= {"r_hat_median": r_hats.median().item(), "r_hat_max": r_hats.max().item()}
        if len(sizes):
            figures |= {"ess_median": sizes.median().item(), "ess_min": sizes.min().item()}
    of_chain = p.mean(dim=1)  # [C, V, K]
    information = entropy(of_chain.mean(dim=0)) - entropy(of_chain).mean(dim=0)
    said = of_chain.argmax(dim=2)
    return figures | {
        "disagreement": information.clamp_min(0).mean().item(),
        "chains_differ": (said != said[0]).any(dim=0).double().mean().item(),
    }


def verdict(
    temperatures: Mapping[str, Any] | None, functions: Mapping[str, Any] | None
) -> list[str]:
    """Whether the chains were cold, hot or stuck, in sentences."""
    said: list[str] = []
    if temperatures is None:
        said.append(
            "No kinetic temperature: nothing was sampled with noise and a momentum for more than "
            "the 3/friction steps in which that warms up."
        )
    else:
        said.append(_temperature_verdict(temperatures))
    if functions is not None:
        said.append(_mixing_verdict(functions))
    return said


def _temperature_verdict(temperatures: Mapping[str, Any]) -> str:
    target = temperatures["target"]
    ratio = temperatures["median"] / target
    ratios = {name: value / target for name, value in temperatures["layers"].items()}
    measured = (
        f"kinetic temperature {ratio:.2f} times its target T = {target:g} in the median layer"
    )
    if ratio < COLD:
        return f"Cold ({measured}): the noise is too small, or the chains had no time to warm up."
    heated = [name for name, value in ratios.items() if value > HOT]
    hottest = max(ratios, key=lambda name: ratios[name])
    where = f"{len(heated)} of {len(ratios)} layers are above {HOT}, most of all {hottest}"
    where = f"{where} at {ratios[hottest]:.1f}"
    remedy = "a smaller posterior.lr, larger batches or posterior.gradient_noise would cool"
    if ratio > HOT:
        return f"Hot ({measured}; {where}): minibatch noise heats the chains; {remedy} them."
    if heated:
        return f"On target ({measured}). {where}: minibatch noise heats those; {remedy} them."
    return f"On target ({measured})."


def _mixing_verdict(functions: Mapping[str, Any]) -> str:
    r_hat = functions["r_hat_median"]
    if functions["chains"] < 2 or r_hat is None:
        return f"Mixing is not known: it takes two chains and {_MIN_DRAWS} draws of each."
    differ = f"{100 * functions['chains_differ']:.0f} %"
    measured = f"R-hat of log p(label) {r_hat:.2f} for the median probe video"
    measured = f"{measured}; on {differ} of them the chains prefer different classes"
    if r_hat <= MIXED:
        return f"Mixed ({measured})."
    longer = "longer chains or posterior.schedule=cyclical would move them"
    if r_hat <= STUCK:
        return f"Not mixed yet ({measured}): {longer} on."
    return f"Stuck ({measured}): each chain keeps its own function, an ensemble; {longer}."


def _known(values: Any) -> Tensor:
    return torch.tensor([v for v in values if not math.isnan(v)], dtype=torch.float64)
