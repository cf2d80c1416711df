"""Scale-adapted SGHMC (Springenberg, Klein, Falkner & Hutter 2016, NIPS)."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bgan_video.sampling.sampler import Sampler, check_settings, with_gradient

EPSILON = 1e-8  # keeps the preconditioner finite where a gradient has always been zero

_MOST_OF_MEDIAN = 100.0


class AdaptiveSGHMC(Sampler):
    """SGHMC whose step size per element is learned in burn-in and then held.

    With P = 1 / (sqrt(V) + 1e-8), V a running mean of g^2, and all products element by element:

        v <- (1 - a) v - lr P g + sqrt(2 a T lr P / N) xi
        theta <- theta + v

    which is the symplectic SGHMC with lr P for lr. For a constant P it targets exp(-U(theta)/T),
    the same density as every other sampler here. While P follows the gradients it targets no known
    density, so `freeze()` belongs at the end of burn-in, before the first sample is taken.

    V is learned as in the authors' code, with window tau and running mean m of g:
        tau <- tau - tau m^2 / V + 1,  m <- m + (g - m) / (tau + 1),  V <- V + (g^2 - V) / (tau + 1)
    with the old tau on the right. It starts from the first gradient, m = g, V = g^2, tau = 1, where
    the authors start from 1, so that the scale of a gradient does not matter. (The paper prints
    1 / tau: with it, m = g, V = g^2, tau = 1 is where the recursion comes back to and stays.)

    The paper also subtracts lr^2 P^2 V from the noise variance, taking V for the variance of the
    minibatch noise; at the scale of a mean loss V is mostly something else, so it is left out.
    The stored momentum is r = v / sqrt(lr P), of stationary variance T/N, as in `SGHMC`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        friction: float,
        temperature: float,
        num_data: float,
        generator: torch.Generator | None = None,
    ) -> None:
        """Starts every chain at rest, adapting.

        Args:
            params: Parameters or groups of them, float32 or float64.
            lr: Step size on L in units of the gradient's size, > 0.
            friction: a per step, in (0, 1].
            temperature: T >= 0; 1 samples the posterior, 0 descends.
            num_data: N > 0, the number of data items L is the mean over.
            generator: Source of the noise, on the parameters' device; None is torch's default one.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        defaults = {
            "lr": lr,
            "friction": friction,
            "temperature": temperature,
            "num_data": num_data,
            "frozen": False,
        }
        super().__init__(params, defaults, generator)

    def check(self, group: dict[str, Any]) -> None:
        """Raises ValueError, in one line, where a group cannot be sampled."""
        super().check(group)
        check_settings(group, {"friction": (lambda a: 0 < a <= 1, "in (0, 1]")})

    @torch.no_grad()
    def freeze(self) -> None:
        """Holds the preconditioner from now on; kept in `state_dict()`.

        P is held below a hundred times its median in the same tensor: weights that nothing but a
        prior pulls at, and that burn-in has brought to rest, have gradients near zero, and would
        take steps that no curvature bears. Any P that is held has the same target.
        """
        for group in self.param_groups:
            for param in group["params"]:
                if param in self.state:
                    square = self.state[param]["square"]
                    square.clamp_(min=float(square.median()) / _MOST_OF_MEDIAN**2)
            group["frozen"] = True

    @torch.no_grad()
    def observe(self) -> None:
        """Learns from the gradients without moving, while another optimiser burns in.

        What is frozen learns no more.
        """
        for group in self.param_groups:
            if not group["frozen"]:
                for param, gradient in zip(*with_gradient(group), strict=True):
                    adapt(self.state[param], gradient)

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - takes no closure
        """Moves every parameter that has a gradient.

        Raises:
            RuntimeError: A parameter gets its first gradient after `freeze()`.
        """
        self.observe()
        for group in self.param_groups:
            params, gradients = with_gradient(group)
            if not params:
                continue
            states = [self.state[param] for param in params]
            if not all(states):
                raise RuntimeError("a parameter got its first gradient after freeze()")
            momenta = [state["momentum"] for state in states]
            scales = self._scales(group, [state["square"] for state in states])
            torch._foreach_mul_(momenta, 1 - group["friction"])
            torch._foreach_addcmul_(momenta, scales, gradients, value=-1)
            variance = 2 * group["friction"] * group["temperature"] / group["num_data"]
            self.add_noise(momenta, math.sqrt(variance))
            torch._foreach_addcmul_(params, scales, momenta)

    @staticmethod
    def _scales(group: dict[str, Any], squares: list[Tensor]) -> list[Tensor]:
        """sqrt(lr P) of every parameter."""
        scales = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(scales, EPSILON)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, group["lr"])
        torch._foreach_sqrt_(scales)
        return scales


def adapt(state: dict[str, Tensor], gradient: Tensor) -> None:
    """One step of the running means of a parameter, in place (the docstring of the class)."""
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
        state["mean"], state["square"] = gradient.clone(), gradient.square()
        state["window"] = torch.ones_like(gradient)
        return
    window, mean, square = state["window"], state["mean"], state["square"]
    weight = 1 / (window + 1)
    signal = mean.square() / (square + EPSILON**2)  # m^2 / V, in [0, 1]
    window.mul_(1 - signal).add_(1)
    mean.lerp_(gradient, weight)
    square.lerp_(gradient.square(), weight)
