"""A line of log.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bgan_video.training.lineup import Models
from bgan_video.training.trainer import Terms, Trainer


def make_record(step: int, epoch: int, terms: Terms, models: Models) -> dict[str, Any]:
    """What there is to say of a step, but for what a clock says."""
    return {
        "step": step,
        "epoch": epoch,
        **({"round": models.round} if models.config.train.rounds else {}),
        **({} if models.chains is None else _phase(models.chains)),
        **{name: value.item() for name, value in terms.items()},
    }


def _phase(chains: Trainer) -> dict[str, Any]:
    """What the sampler does; kinetic temperatures are means over chains."""
    chain = next(chains.chains)
    group = chain.optimizer.param_groups[0]
    record: dict[str, Any] = {
        "phase": "sampling" if chain.is_sampling else "burn_in",
        "lr": float(group["lr"]),
    }
    if chain.is_sampling:
        record["temperature"] = group["temperature"]
        record["noise"] = chains.noise.facts()
    kinetic = {
        which: _mean_temperatures([chain.temperatures() for chain in of])
        for which, of in (("D", chains.discriminators), ("G", chains.generators))
    }
    if kinetic["D"]:
        record["kinetic_temperature"] = sum(kinetic["D"].values()) / len(kinetic["D"])
        record["temperatures"] = _by_layer(kinetic)
    if chain.is_sampling:
        # The generators' potential is a game's, which moves with the discriminators'.
        of_weights = [chain.configurational_temperatures() for chain in chains.discriminators]
        record["configurational"] = _by_layer({"D": _mean_temperatures(of_weights)})
    return record


def _by_layer(temperatures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{which}.{n}": value for which, of in temperatures.items() for n, value in of.items()}


def _mean_temperatures(of_chains: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each parameter tensor, over the chains that have one for it.

    A step in fp16 that overflowed leaves a chain without a momentum for longer than others.
    """
    temperatures: dict[str, list[float]] = defaultdict(list)
    for of_chain in of_chains:
        for name, temperature in of_chain.items():
            temperatures[name].append(temperature)
    return {name: sum(values) / len(values) for name, values in temperatures.items()}
