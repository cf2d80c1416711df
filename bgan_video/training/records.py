"""A line of log.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from bgan_video.training.chains import Chain
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
    discriminators = _mean_temperatures(chains.discriminators)
    if discriminators:
        record["kinetic_temperature"] = sum(discriminators.values()) / len(discriminators)
        both = {"D": discriminators, "G": _mean_temperatures(chains.generators)}
        record["temperatures"] = {
            f"{which}.{name}": value
            for which, temperatures in both.items()
            for name, value in temperatures.items()
        }
    return record


def _mean_temperatures(chains: Sequence[Chain[Any]]) -> dict[str, float]:
    """Of each parameter tensor, over the chains that have a momentum for it.

    A step in fp16 that overflowed leaves a chain without one for longer than others.
    """
    temperatures: dict[str, list[float]] = defaultdict(list)
    for chain in chains:
        for name, temperature in chain.temperatures().items():
            temperatures[name].append(temperature)
    return {name: sum(values) / len(values) for name, values in temperatures.items()}
