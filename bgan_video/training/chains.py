"""Chains: networks with the sampler that moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from bgan_video import rng
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.inference import SGHMC, StepSize, kinetic_temperature

N = TypeVar("N", bound=nn.Module)

# β1 of DCGAN (Radford et al. 2016) and of both published Bayesian GANs.
ADAM_BETAS = (0.5, 0.999)


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


class Chain(Generic[N]):
    """One set of weights being sampled: Adam through burn-in, SGHMC after it.

    Its weights *and* its normalisation statistics are its own. With `posterior.bayes=false` it is
    an ordinary network under Adam to the end.

    Args:
        network: On its device.
        config: Its `posterior` section.
        burn_in_lr: Step size of Adam.
        num_data: N of the chain's mean-loss potential.
        noise: Generator of the sampler's noise, on the network's device.
    """

    def __init__(
        self,
        network: N,
        config: Config,
        burn_in_lr: float,
        num_data: int,
        noise: torch.Generator,
    ) -> None:
        self.network = network.train()
        self._posterior = config.posterior
        self._step_sizes = step_sizes(config) if config.posterior.bayes else None
        self._num_data = num_data
        self._noise = noise
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            network.parameters(), lr=burn_in_lr, betas=ADAM_BETAS
        )

    @property
    def is_sampling(self) -> bool:
        """Whether burn-in is over."""
        return isinstance(self.optimizer, SGHMC)

    def begin_step(self, step: int) -> None:
        """Set what the schedule wants for this step; at the end of burn-in, start to sample."""
        if self._step_sizes is None or step < self._posterior.burn_in:
            return
        if not self.is_sampling:
            self.optimizer = self._sampler()
        for group in self.optimizer.param_groups:
            group["lr"] = self._step_sizes.lr_at(step)
            exploring = self._step_sizes.is_exploring(step)
            group["temperature"] = 0.0 if exploring else self._posterior.temperature

    def temperatures(self) -> list[float]:
        """Kinetic temperature of each parameter tensor; empty during burn-in."""
        return kinetic_temperature(self.optimizer) if isinstance(self.optimizer, SGHMC) else []

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics and sampler state."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "is_sampling": self.is_sampling,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.network.load_state_dict(state["network"])
        if state["is_sampling"] and not self.is_sampling:
            self.optimizer = self._sampler()
        self.optimizer.load_state_dict(state["optimizer"])

    def _sampler(self) -> SGHMC:
        p = self._posterior
        return SGHMC(
            self.network.parameters(),
            lr=p.lr,
            friction=p.friction,
            temperature=p.temperature,
            num_data=self._num_data,
            integrator=p.integrator,
            generator=self._noise,
        )


def initialised(build: Callable[[], N], device: torch.device, *seed: object) -> N:
    """A network whose initial weights depend on `seed` alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: `torch.manual_seed` would seed those of all devices.
        torch.default_generator.manual_seed(rng.derive_seed(*seed))
        return build().to(device)


@contextmanager
def without_gradients(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Weights that are looked through, not learned: no gradient is computed or kept for them."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
