"""What the diagnostics of chains mean, in sentences for who knows neither chains nor posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgan_video.metrics.kinetic import COLD, HOT

MIXED, STUCK = 1.05, 2.0
"""R-hat. Vehtari et al. 2021 ask for 1.01, which takes thousands of draws to show; at 2 the chains
lie three times as far apart, in variance, as any one of them has moved."""


def verdict(
    kinetic: Mapping[str, Any] | None,
    configurational: Mapping[str, Any] | None,
    functions: Mapping[str, Any],
) -> list[str]:
    """Whether the noise was right, whether the weights came to rest, whether the chains agree.

    Args:
        kinetic: As `diagnosis.kinetic` gives it.
        configurational: As `diagnosis.configurational` gives it.
        functions: As `diagnosis.function_space` gives it.
    """
    return [_of_noise(kinetic), _of_weights(configurational, kinetic), _of_chains(functions)]


def _of_noise(kinetic: Mapping[str, Any] | None) -> str:
    """Of the kinetic temperature: are the momenta as warm as they should be?"""
    if kinetic is None:
        return (
            "No kinetic temperature: nothing was sampled with noise and a momentum for more than "
            "the 3/friction steps in which that warms up."
        )
    target = kinetic["target"]
    ratio = kinetic["median"] / target
    ratios = {name: value / target for name, value in kinetic["layers"].items()}
    measured = f"kinetic temperature {ratio:.2f} times its target {target:.3g} in the median layer"
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


def _of_weights(
    configurational: Mapping[str, Any] | None, kinetic: Mapping[str, Any] | None
) -> str:
    """Of the configurational temperature: have the weights spread as far as they should?"""
    if configurational is None and kinetic is not None:  # the log of an earlier version
        return "Whether the weights came to rest was not measured."
    if configurational is None:
        return (
            "Nothing was sampled with noise for long enough to bring weights to rest: the networks "
            "are the optimiser's solutions, with at most a little noise about them."
        )
    ratio = configurational["median"] / configurational["target"]
    measured = f"configurational temperature {ratio:.3g} times its target in the median layer"
    if COLD <= ratio <= HOT:
        return f"The weights are at rest ({measured}): they have spread as far as the noise asks."
    return (
        f"The weights are not at rest ({measured}; at rest it is 1, while they drift anything): "
        "the networks are an optimiser's solutions with some noise about them, not yet "
        "draws of the posterior."
    )


def _of_chains(functions: Mapping[str, Any]) -> str:
    """Of R-hat, effective draws and the error of the probabilities: do the chains agree?"""
    differ = f"{100 * functions['chains_differ']:.0f} %"
    differ = f"on {differ} of the probe items they prefer different classes"
    error = functions["error"]
    exact = "" if error is None else f" Its probabilities are known to about ±{error:.2g}."
    if functions["needed"] is not None:
        return (
            f"Not enough draws to say whether the chains agree: that takes {functions['needed']}, "
            f"and there are {functions['chains']} chains of {functions['draws']}. Until then the "
            f"answer is that of an ensemble of {functions['chains']} ({differ}).{exact}"
        )
    if functions["r_hat_median"] is None:
        return f"The networks do not move: all draws say the same of every probe item ({differ})."
    measured = (
        f"R-hat of log p(label) {functions['r_hat_median']:.2f} for the median probe item and "
        f"{functions['r_hat_max']:.2f} for the worst, where 1 is agreement; {differ}"
    )
    worth = (
        f" {functions['chains'] * functions['draws']} draws are worth "
        f"{functions['bulk_median']:.0f} independent ones."
    )
    longer = "longer chains or posterior.schedule=cyclical would move them"
    if functions["r_hat_median"] <= MIXED:
        return f"The chains agree ({measured}).{worth}{exact}"
    if functions["r_hat_median"] <= STUCK:
        return f"The chains do not agree yet ({measured}): {longer} on.{worth}{exact}"
    return (
        f"Stuck ({measured}): each chain keeps its own function, an ensemble; {longer}."
        f"{worth}{exact}"
    )
