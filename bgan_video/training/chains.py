"""Chains: networks with the sampler that moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from bgan_video import ranks, rng
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.method.timetable import adam_lr, step_sizes
from bgan_video.models import Classifier
from bgan_video.sampling import MCLMC, SGHMC, SGLD, AdaptiveSGHMC, Virial, kinetic_temperature
from bgan_video.sampling.sampler import Sampler, standard_normal
from bgan_video.training import compat

N = TypeVar("N", bound=nn.Module)

# β1 of DCGAN (Radford et al. 2016) and of both published Bayesian GANs.
ADAM_BETAS = (0.5, 0.999)
CRITIC_BETAS = (0.0, 0.99)
"""Of critics and of the generators that face them (Huang et al. 2024)."""


_TUNING_PART = 0.1  # of the sampling phase, for `mclmc` to find its step size (Robnik et al. 2024)


class Chain(Generic[N]):
    """One set of weights being sampled: Adam through burn-in, the sampler after it.

    Its weights *and* its normalisation statistics are its own. With `posterior.bayes=false` it is
    an ordinary network under Adam to the end; with `compat.adam` it is one as well, but for the
    noise that the published codes add to its gradients.

    Args:
        network: On its device.
        config: Its `posterior` and `compat` sections.
        role: Discriminator or generator.
        burn_in_lr: Step size of Adam.
        num_data: N of the chain's mean-loss potential.
        noise: Generator of the sampler's noise, on the network's device.
        backend: Device and precision.
        betas: Of Adam.

    Attributes:
        temperature: T of its noise.
    """

    def __init__(
        self,
        network: N,
        config: Config,
        role: compat.Role,
        burn_in_lr: float,
        num_data: int,
        noise: torch.Generator,
        backend: Backend,
        betas: tuple[float, float] = ADAM_BETAS,
    ) -> None:
        self.network = network.train()
        if isinstance(network, Classifier) and config.posterior.prior_mean == "pretrained":
            network.centre_prior()  # a state that is loaded later has other weights
        self._config = config
        self._posterior = config.posterior
        self._burn_in_lr = burn_in_lr
        self._step_sizes = step_sizes(config) if config.samples_posterior else None
        self._num_data = num_data
        self._noise = noise
        self.optimizer: torch.optim.Optimizer = adam(network, burn_in_lr, backend, betas)
        lr = config.posterior.lr if config.samples_posterior else burn_in_lr
        self.temperature = compat.temperature(config, role, lr, num_data)
        self._sampler = self._make_sampler() if config.samples_posterior else None
        self._virial = None if self._sampler is None else Virial(self._sampler)
        # Before a step gradients are unscaled, and a step that overflowed is not made at all.
        if isinstance(self._sampler, AdaptiveSGHMC):
            learn = self._sampler.observe
            self.optimizer.register_step_pre_hook(lambda *_: learn())
        elif config.posterior.bayes and config.compat.adam:
            friction = config.posterior.friction
            std = compat.noise_coefficient(friction, self.temperature, lr, num_data)
            self.optimizer.register_step_pre_hook(lambda *_: self._add_noise(std))

    @property
    def is_sampling(self) -> bool:
        """Whether burn-in is over."""
        return isinstance(self.optimizer, Sampler)

    def begin_step(self, step: int) -> None:
        """Set what the schedule wants for this step; at the end of burn-in, start to sample."""
        p = self._posterior
        if self._step_sizes is None or step < p.burn_in:
            lr = adam_lr(self._config, self._burn_in_lr, step, self._config.adam_steps)
            set_lr(self.optimizer, lr)
            return
        if not self.is_sampling:
            self._start_sampling()
        for group in self.optimizer.param_groups:
            group["lr"] = self._step_sizes.lr_at(step) * _part(group)
            exploring = self._step_sizes.is_exploring(step)
            group["temperature"] = 0.0 if exploring else self.temperature
        sampling = self._step_sizes.num_steps
        if isinstance(self._sampler, MCLMC) and step - p.burn_in >= _TUNING_PART * sampling:
            self._sampler.freeze()

    @property
    def moves(self) -> tuple[bool, float, float, bool]:
        """How a step moves the weights, but for what is kept in tensors."""
        group = self.optimizer.param_groups[0]
        if not self.is_sampling:
            return (False, 0, 0, False)
        return (True, group["lr"], group["temperature"], group.get("frozen", True))

    def temperatures(self) -> dict[str, float]:
        """Kinetic temperature of each parameter tensor by name.

        Empty during burn-in, and with SGLD, which has no momentum.
        """
        if not isinstance(self.optimizer, Sampler):
            return {}
        state, names = self.optimizer.state, self._names
        moving = [
            names[param]
            for group in self.optimizer.param_groups
            for param in group["params"]
            if "momentum" in state.get(param, {})
        ]
        return dict(zip(moving, kinetic_temperature(self.optimizer), strict=True))

    def configurational_temperatures(self) -> dict[str, float]:
        """Of each parameter tensor by name, over the steps since they were last asked for.

        Empty during burn-in.
        """
        if self._virial is None:
            return {}
        names = [self._names[param] for param in self._virial.params]
        means = self._virial.take()
        return dict(zip(names, means, strict=True)) if means else {}

    @property
    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.network.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics and the state of both optimisers."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "is_sampling": self.is_sampling,
        }
        if not self.is_sampling:
            state["optimizer"] = self.optimizer.state_dict()
        if self._sampler is not None:
            state["sampler"] = self._sampler.state_dict()
        if self._virial is not None:
            state["virial"] = self._virial.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.network.load_state_dict(state["network"])
        if self._sampler is not None:
            self._sampler.load_state_dict(state["sampler"])
        if self._virial is not None and "virial" in state:  # states of earlier versions have none
            self._virial.load_state_dict(state["virial"])
        if not state["is_sampling"]:
            self.optimizer.load_state_dict(state["optimizer"])
        elif not self.is_sampling:
            self._start_sampling()

    def _add_noise(self, std: float) -> None:
        """The gradient of the published codes' noise loss, fresh for every weight."""
        for param in self.network.parameters():
            if std > 0 and param.grad is not None:
                param.grad.add_(standard_normal(param, self._noise), alpha=std)

    def _start_sampling(self) -> None:
        assert self._sampler is not None, "a chain without a posterior does not sample"
        if isinstance(self._sampler, AdaptiveSGHMC):
            if not self._sampler.state:
                raise UserError(
                    "posterior.sampler=adaptive_sghmc has seen no gradient in burn-in: every step "
                    "overflowed in fp16; try a longer posterior.burn_in, or run.precision=bf16"
                )
            self._sampler.freeze()
        self.optimizer = self._sampler

    def _make_sampler(self) -> Sampler:
        p, params = self._posterior, step_groups(self.network)
        common: dict[str, Any] = {
            "lr": p.lr,
            "temperature": self.temperature,
            "num_data": self._num_data,
            "generator": self._noise,
        }
        if p.sampler == "sgld":
            return SGLD(params, **common)
        if p.sampler == "adaptive_sghmc":
            return AdaptiveSGHMC(params, friction=p.friction, **common)
        if p.sampler == "mclmc":
            return MCLMC(params, friction=p.friction, energy_variance=p.energy_variance, **common)
        return SGHMC(
            params,
            friction=p.friction,
            integrator=p.integrator,
            gradient_noise=p.gradient_noise,
            **common,
        )


def step_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The weights of a network that learn, by what part of the step size they take.

    The first group takes all of it: the head, where the body takes a smaller part.
    """
    learning = [p for p in network.parameters() if p.requires_grad]
    if not isinstance(network, Classifier) or network.body_lr == 1:
        return [{"params": learning, "part": 1.0}]
    body = {*network.body.parameters()}
    groups = [
        {"params": [p for p in learning if p not in body], "part": 1.0},
        {"params": [p for p in learning if p in body], "part": network.body_lr},
    ]
    return [group for group in groups if group["params"]]


def adam(
    network: nn.Module,
    lr: float,
    backend: Backend,
    betas: tuple[float, float] = ADAM_BETAS,
) -> torch.optim.Adam:
    """Adam for a network that is on its device."""
    groups = step_groups(network)
    if backend.device.type != "cuda" or backend.scaler.is_enabled():
        # Fused, Adam would be called for gradients that overflowed too, and hooks on its step.
        return torch.optim.Adam(groups, lr=lr, betas=betas)
    for group in groups:  # each a step size of its own, in a place of its own
        group["lr"] = torch.tensor(lr * group["part"], device=backend.device)
    return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True, capturable=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The step size of the next step; where it is a tensor, in the same place."""
    for group in optimizer.param_groups:
        value = lr * _part(group)
        if isinstance(group["lr"], Tensor):
            # A loaded state brings its own, which is on the CPU.
            group["lr"] = group["lr"].to(group["params"][0].device).fill_(value)
        else:
            group["lr"] = value


def _part(group: dict[str, Any]) -> float:
    """What part of the step size a group takes; states of earlier versions do not say."""
    return group.get("part", 1.0)


def initialised(build: Callable[[], N], backend: Backend, *seed: object) -> N:
    """A network whose initial weights depend on `seed` alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: `torch.manual_seed` would seed those of all devices.
        torch.default_generator.manual_seed(rng.derive_seed(*seed))
        network = build()
    if backend.device.type != "cpu":  # tensors without numbers refuse to be moved where they are
        network = network.to(backend.device)
    for parameter in network.parameters():
        parameter.data = backend.place(parameter.data)
    return cast("N", ranks.synchronised(network))


@contextmanager
def without_gradients(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Weights that are looked through, not learned: no gradient is computed or kept for them."""
    learning = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def descend(
    loss: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    backend: Backend,
    max_grad_norm: float | None,
) -> None:
    """Backward and step. A step whose scaled gradients overflowed moves nothing.

    Here the gradients of all ranks meet: each has that of its own items.
    """
    scaler = backend.scaler
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    for optimizer in optimizers:
        ranks.mean_gradients(p for group in optimizer.param_groups for p in group["params"])
        if max_grad_norm is not None:
            scaler.unscale_(optimizer)
            params = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(params, max_grad_norm)
        scaler.step(optimizer)
