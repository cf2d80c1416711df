"""The temperature of a run's chains: a number, or what a noise budget allows."""

from __future__ import annotations

import dataclasses

from torch import nn

from bgan_video.config import Config
from bgan_video.sampling import Noise


def noise_of(config: Config, weights: int, num_data: int) -> Noise:
    """What the discriminators' chains are sampled at.

    Generators are sampled at the same temperature, so that both conditionals are tempered alike.

    Args:
        config: Its `posterior.temperature`, and `posterior.noise_budget` where that is `auto`.
        weights: d, the weights of a discriminator that learn.
        num_data: N of its potential.
    """
    p = config.posterior
    if isinstance(p.temperature, str):
        return Noise.within(p.noise_budget, weights, num_data)
    return Noise(p.temperature, weights, num_data)


def tempered(config: Config, noise: Noise) -> Config:
    """The settings with the number that `posterior.temperature=auto` stands for."""
    posterior = dataclasses.replace(config.posterior, temperature=noise.temperature)
    return dataclasses.replace(config, posterior=posterior)


def num_learning(network: nn.Module) -> int:
    """d, the weights of a network that learn."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def describe(noise: Noise, items: str) -> str:
    """T, d, N and the nats in a sentence for the user."""
    return (
        f"noise: T = {noise.temperature:.3g} on d = {noise.weights:,} weights and "
        f"N = {noise.num_data:,} {items} adds at most d·T/2N = {noise.nats:.3g} nats to the mean "
        f"loss of weights at rest"
    )
