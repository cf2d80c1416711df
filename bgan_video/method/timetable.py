"""When a run's chains sample, from its settings."""

from __future__ import annotations

import math

from bgan_video.config import DRAWN, GANS, SIZED, Config
from bgan_video.errors import UserError
from bgan_video.method.bodies import chain_settings
from bgan_video.method.rounds import answering_rounds
from bgan_video.sampling import StepSize

# Of SWAG, as in Maddox et al. 2019: iterates kept at most (K = 20), and the path's step size as a
# part of the first one (0.01 of 0.05).
_PATH = 20
_PATH_LR = 0.2
# More are hardly meant: an ensemble trains and keeps all of them at once, MC-dropout answers as
# often for every clip, SWAG and Laplace store as many whole networks.
_LARGEST_RIVAL = 64


def step_sizes(config: Config) -> StepSize:
    """The schedule of the samplers, with the steps that give a posterior sample.

    Raises:
        UserError: The cycles do not fit into the steps after burn-in.
    """
    p = config.posterior
    try:
        return StepSize(
            kind=p.schedule,
            lr=p.lr,
            total_steps=config.train.steps,
            burn_in=p.burn_in,
            thinning=p.thinning,
            num_cycles=p.num_cycles if p.schedule == "cyclical" else 1,
            decay=p.lr_decay,
        )
    except ValueError as error:
        raise UserError(f"posterior.schedule={p.schedule} does not fit: {error}") from None


def adam_lr(config: Config, lr: float, step: int, total: int) -> float:
    """Adam's step size at a step.

    `cosine` is `lr/2·(1 + cos(π·step/total))` (Loshchilov & Hutter 2017, eq. 5, one period).

    Args:
        config: Its `train.adam_schedule`.
        lr: The first step's.
        step: From 0, below `total`.
        total: Steps under Adam.
    """
    if config.train.adam_schedule == "constant":
        return lr
    return 0.5 * lr * (1 + math.cos(math.pi * step / total))


def path_steps(total: int) -> list[int]:
    """After which steps, from 0, SWAG keeps the weights: the last quarter's, 20 of them at most.

    Evenly spread, the last step among them.

    Args:
        total: Steps of the network.
    """
    quarter = total // 4
    kept = min(_PATH, quarter)
    return [total - 1 - (k * quarter) // kept for k in reversed(range(kept))]


def path_lr(config: Config, lr: float, step: int, total: int) -> float:
    """Step size of SWAG's network: that of its path for the last quarter.

    Before that as the code of Maddox et al. 2019 has it: the first step's for one half, then
    linearly down to the path's, which is reached at nine tenths.

    Args:
        config: Its `baseline.swag_lr`.
        lr: The first step's.
        step: From 0, below `total`.
        total: Steps of the network.
    """
    of_path = swag_lr(config, lr)
    done = step / (total - total // 4)
    return lr + (of_path - lr) * min(1.0, max(0.0, (done - 0.5) / 0.4))


def swag_lr(config: Config, lr: float) -> float:
    """Step size of the steps that SWAG takes its Gaussian from."""
    return config.baseline.swag_lr or _PATH_LR * lr


def posterior_size(config: Config) -> int:
    """How many networks the posterior predictive of a finished run is the mean of."""
    chains = num_chains(config) * len(answering_rounds(config.rounds, config.train.rounds))
    return chains * _samples(config)


def _samples(config: Config) -> int:
    """Of each chain of the first body, in a round."""
    if not config.samples_posterior:
        return 1
    own = chain_settings(config)
    return min(own.posterior.max_samples, step_sizes(own).num_samples)


def num_chains(config: Config) -> int:
    """Discriminator chains of a round."""
    return config.posterior.num_discriminators * config.posterior.num_mcmc


def rival_size(config: Config) -> int:
    """Networks of a deep ensemble and answers of MC-dropout.

    As many as the posterior of the first body has; with rounds, as many as its chains are started,
    which is equal compute. An ensemble of one is none, so there are two where the posterior is one
    network.
    """
    rounds = config.train.rounds
    size = num_chains(config) * (1 + rounds) if rounds else posterior_size(config)
    return config.baseline.num_networks or max(2, size)


def draws_in_round(config: Config, number: int) -> int:
    """Networks that SWAG and Laplace draw at a round's end: as many as the posterior stores."""
    rounds, given = 1 + config.train.rounds, config.baseline.num_networks
    if given is not None:
        return (number + 1) * given // rounds - number * given // rounds
    return max(2, num_chains(config) * _samples(config))


def draws_in_run(config: Config) -> int:
    """Networks that SWAG and Laplace store in all rounds."""
    return sum(draws_in_round(config, number) for number in range(1 + config.train.rounds))


def check_rivals(config: Config) -> None:
    """Refuse rivals that would be very many networks where nobody asked for a number.

    Raises:
        UserError: Says which, and how to ask.
    """
    if config.baseline.num_networks is not None:
        return
    for method in (m for m in config.baseline.methods if m in SIZED and m not in GANS):
        size = draws_in_run(config) if method in DRAWN else rival_size(config)
        if size > _LARGEST_RIVAL:
            raise UserError(
                f"baseline.methods: {method} would be {size} networks; allowed where no number is "
                f"set: up to {_LARGEST_RIVAL}; say how many with baseline.num_networks (such as 10)"
            )


def ensemble_in_round(config: Config, number: int) -> range:
    """The members of a deep ensemble that are trained in a round: each takes one round's steps."""
    size, rounds = rival_size(config), 1 + config.train.rounds
    return range(number * size // rounds, (number + 1) * size // rounds)
