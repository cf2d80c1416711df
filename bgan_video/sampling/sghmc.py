"""Stochastic gradient Hamiltonian Monte Carlo (Chen, Fox & Guestrin 2014, arXiv:1402.4102)."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bgan_video.sampling.sampler import Sampler, check_settings, with_gradient

Integrator = Literal["symplectic", "euler", "baoa"]


class SGHMC(Sampler):
    r"""SGHMC on a mean-loss potential L = U/N.

    Target: p(theta, v) ~ exp(-(N/T) (L(theta) + |v|^2 / (2 lr))), whose theta-marginal is
    exp(-U(theta)/T); T = 1 is the posterior. v is the displacement of one step, a the friction, g
    the gradient of L, xi standard normal, fresh for every element of every parameter:

    symplectic (Chen et al. eq. 15, the two lines one after the other; the default)
        v <- (1 - a) v - lr g + sqrt(2 (a - b) T lr / N) xi
        theta <- theta + v
    euler (the same, both lines from the old state)
        theta <- theta + v
        v <- (1 - a) v - lr g + sqrt(2 (a - b) T lr / N) xi
    baoa (Leimkuhler & Matthews 2015, p. 271: exact Ornstein-Uhlenbeck friction)
        v <- v - lr g
        theta <- theta + v / 2
        v <- exp(-a) v + sqrt((1 - exp(-2 a)) T lr / N) xi
        theta <- theta + v / 2

    On a Gaussian target whose L has curvature c, with h = lr c, the stationary variance of theta
    over its target T / (N c) is 1 / (1 - h / (2 (2 - a))) for symplectic, stable for h < 2 (2 - a);
    2 a (2 - a + h) / ((a - h) (4 - 2 a + h)) for euler, stable only for h < a; 1 for baoa, stable
    for h < 4.

    b is `gradient_noise`, the beta-hat of Chen et al.: minibatch gradients whose covariance is V_g
    already bring the noise of b = lr N V_g / (2 T).

    What is stored is the momentum r = v / sqrt(lr), whose stationary variance T/N does not depend
    on lr. A change of lr between steps thus keeps (theta, r) at its target, up to the
    discretisation error above, and rescales the displacement by sqrt(new / old). At T = 0 and a
    constant lr the sampler is SGD with momentum 1 - a (`torch.optim.SGD` stores buf = -v / lr) and
    draws no random number.

    In the notation of `posteriors` (step eps, friction alpha, momentum std sigma, temperature T/N,
    log posterior -L): lr = eps^2 / sigma^2, r = m / sigma, a = eps alpha / sigma^2; its beta is
    2 b N / (lr T).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        friction: float,
        temperature: float,
        num_data: float,
        integrator: Integrator = "symplectic",
        generator: torch.Generator | None = None,
        gradient_noise: float = 0.0,
    ) -> None:
        """Starts every chain at rest (v = 0).

        Args:
            params: Parameters or groups of them, float32 or float64.
            lr: Step size on L, > 0 (the eta of Chen et al. times N).
            friction: a per step, in (0, 1]; for baoa any a > 0.
            temperature: T >= 0; 1 samples the posterior, 0 descends.
            num_data: N > 0, the number of data items L is the mean over.
            integrator: One of symplectic, euler, baoa.
            generator: Source of the noise, on the parameters' device; None is torch's default one.
            gradient_noise: b in [0, friction]; 0 for baoa.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        defaults = {
            "lr": lr,
            "friction": friction,
            "temperature": temperature,
            "num_data": num_data,
            "integrator": integrator,
            "gradient_noise": gradient_noise,
        }
        super().__init__(params, defaults, generator)

    def check(self, group: dict[str, Any]) -> None:
        """Raises ValueError, in one line, where a group cannot be sampled."""
        super().check(group)
        if group["integrator"] not in get_args(Integrator):
            allowed = ", ".join(get_args(Integrator))
            raise ValueError(f"integrator must be one of {allowed}, got {group['integrator']!r}")
        max_friction = math.inf if group["integrator"] == "baoa" else 1.0
        max_noise = 0.0 if group["integrator"] == "baoa" else group["friction"]
        bounds = f"for {group['integrator']}"
        check_settings(
            group,
            {
                "friction": (lambda a: 0 < a <= max_friction, f"in (0, {max_friction}] {bounds}"),
                "gradient_noise": (lambda b: 0 <= b <= max_noise, f"in [0, {max_noise}] {bounds}"),
            },
        )

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - takes no closure
        """Moves every parameter that has a gradient; the others keep their place and momentum."""
        for group in self.param_groups:
            params, gradients = with_gradient(group)
            if params:
                momenta = [self.momentum(param) for param in params]
                if group["integrator"] == "baoa":
                    self._step_baoa(group, params, gradients, momenta)
                else:
                    self._step_chen(group, params, gradients, momenta)

    def momentum(self, param: Tensor) -> Tensor:
        """The momentum r = v / sqrt(lr) of a parameter, created at rest where there is none."""
        state = self.state[param]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(param)
        return state["momentum"]

    def noise_std(self, group: dict[str, Any]) -> float:
        """Standard deviation of the noise of one step, in units of the momentum r."""
        variance = group["temperature"] / group["num_data"]
        if group["integrator"] == "baoa":
            return math.sqrt(variance * -math.expm1(-2 * group["friction"]))
        return math.sqrt(variance * 2 * (group["friction"] - group["gradient_noise"]))

    def _step_chen(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        scale = math.sqrt(group["lr"])
        if group["integrator"] == "euler":
            torch._foreach_add_(params, r, alpha=scale)
        torch._foreach_mul_(r, 1 - group["friction"])
        torch._foreach_add_(r, gradients, alpha=-scale)
        self.add_noise(r, self.noise_std(group))
        if group["integrator"] == "symplectic":
            torch._foreach_add_(params, r, alpha=scale)

    def _step_baoa(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        scale = math.sqrt(group["lr"])
        torch._foreach_add_(r, gradients, alpha=-scale)
        torch._foreach_add_(params, r, alpha=scale / 2)
        torch._foreach_mul_(r, math.exp(-group["friction"]))
        self.add_noise(r, self.noise_std(group))
        torch._foreach_add_(params, r, alpha=scale / 2)


def kinetic_temperature(optimizer: Sampler) -> list[float]:
    """N mean(r^2) of every parameter with a momentum r, in the order of the groups.

    The stationary value on a Gaussian target, with h = lr times its curvature, is T for baoa,
    T / (1 - a/2 - h/4) for symplectic and 4 a T / ((a - h) (4 - 2 a + h)) for euler. Without
    curvature both are T / (1 - a/2). Gradient noise that is not accounted for shows as heat.

    Args:
        optimizer: A sampler, after at least one step.

    Returns:
        One temperature per parameter, in the units of T.
    """
    temperatures: list[Tensor] = [
        group["num_data"] * optimizer.state[param]["momentum"].square().mean()
        for group in optimizer.param_groups
        for param in group["params"]
        if "momentum" in optimizer.state[param]
    ]
    return [float(value) for value in torch.stack(temperatures).cpu()] if temperatures else []
