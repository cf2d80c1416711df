"""Microcanonical Langevin Monte Carlo (Robnik & Seljak 2023, arXiv:2303.18221)."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bgan_video.sampling.sampler import COMMON_CHECKS, Sampler, check_settings, with_gradient

_MEMORY = 150  # steps the tuner's average is over, as the authors'
_TRUST = 1.5  # how many powers of e from the wanted step one is still worth listening to
_TINY = 1e-30


class MCLMC(Sampler):
    r"""Microcanonical Langevin on a mean-loss potential L = U/N: momenta of a fixed length.

    Target: p(theta, r) ~ exp(-U(theta)/T) on the sphere |r|^2 = d T / N, uniform in the direction
    of r, d being the weights of all groups together. Its theta-marginal is exp(-U(theta)/T), as of
    every sampler here. Large gradients turn a chain and do not speed it up. With k = sqrt(lr) g (of
    each group its own lr), u = r / |r| and e = -k / |k|, a step is, in the order of SGHMC's baoa,

        r <- sqrt(d T / N) (u + e (sinh x + c (cosh x - 1))) / (cosh x + c sinh x),
             with c = e.u and x = |k| sqrt(d N / T) / (d - 1)
        theta <- theta + sqrt(lr) r / 2
        r <- sqrt(d T / N) z / |z|, z = exp(-a) r + sqrt((1 - exp(-2 a)) T / N) xi
        theta <- theta + sqrt(lr) r / 2

    (arXiv:2303.18221, section 3, in our units). lr and friction a mean what they do in SGHMC.

    For large d, on a Gaussian target whose L has curvatures of mean c, h = lr c, and with gradients
    whose noise is alike in all directions, of variance V each, the variance of theta over its
    target T / (N c) is in every direction, whatever the friction,

        X = (1 + A) / (2 B), with x = sqrt(h X + lr N V / T), y = h / (2 x),
        A = 1 / (cosh x - y sinh x), B = A (sinh x - y (cosh x - 1)) / x

    which is 1 + (h + lr N V / T) / 12 for small steps. The same noise multiplies that of SGHMC by
    1 + lr N V / (2 a T) and more. Noise that is not alike in all directions biases this sampler as
    well (Sommer et al. 2026, SMILE, arXiv:2602.06500); their preconditioning is not built.

    The step size is tuned until `freeze()`: all lr are times shrink^2, shrink in (0, 1] one number
    for all groups, so that the mean squared energy error of a step is `energy_variance` d (the
    tuner of SMILE, after Robnik et al. 2024, arXiv:2212.08549: that error goes with lr^3). The
    change of U along a step is taken by the trapezoid of its two gradients, which on a Gaussian
    target is exact. Minibatch noise counts as error, to its second order.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        friction: float,
        temperature: float,
        num_data: float,
        generator: torch.Generator | None = None,
        energy_variance: float = 5e-4,
    ) -> None:
        """Starts every chain with a momentum of random direction, drawn at its first step.

        Args:
            params: Parameters or groups of them, float32 or float64, at least two weights.
            lr: Largest step size on L, > 0.
            friction: a per step, > 0.
            temperature: T > 0, alike in all groups; 1 samples the posterior.
            num_data: N > 0, alike in all groups, the number of data items L is the mean over.
            generator: Source of the noise, on the parameters' device; None is torch's default one.
            energy_variance: Of a step and weight, > 0; 5e-4 is the authors'.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        defaults = {
            "lr": lr,
            "friction": friction,
            "temperature": temperature,
            "num_data": num_data,
            "energy_variance": energy_variance,
            "frozen": False,
        }
        super().__init__(params, defaults, generator)

    def check(self, group: dict[str, Any]) -> None:
        """Raises ValueError, in one line, where a group cannot be sampled."""
        super().check(group)
        positive = COMMON_CHECKS["lr"]
        names = ("temperature", "friction", "energy_variance")
        check_settings(group, dict.fromkeys(names, positive))

    def freeze(self) -> None:
        """Holds the step size from now on; kept in `state_dict()`."""
        for group in self.param_groups:
            group["frozen"] = True
        for state in self.state.values():
            state.pop("moved", None)

    @property
    def shrink(self) -> float:
        """What the tuner has made of the root of the step size, in (0, 1]."""
        tuned = [state["tuner"] for state in self.state.values() if "tuner" in state]
        return float(tuned[0][0]) if tuned else 1.0

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - takes no closure
        """Moves every parameter that has a gradient.

        Raises:
            ValueError: They are fewer than two weights.
        """
        found = [with_gradient(group) for group in self.param_groups]
        params = [param for of_group, _ in found for param in of_group]
        if not params:
            return
        group, count = self.param_groups[0], sum(param.numel() for param in params)
        if count < 2:
            raise ValueError(f"a momentum of a fixed length needs two weights, got {count}")
        roots = [
            math.sqrt(own["lr"])
            for own, (of_group, _) in zip(self.param_groups, found, strict=True)
            for _ in of_group
        ]
        tuner = self._tuner(params[0])
        shrink = tuner[0].clone()  # of this move, whatever is learned before it is made
        scales = [root * shrink for root in roots]  # sqrt(lr), tuned
        gradients = [gradient for _, of_group in found for gradient in of_group]
        forces = [scale * g for scale, g in zip(scales, gradients, strict=True)]
        momenta = self._momenta(params, group)
        first, second = self.kick(group, momenta, forces, count)
        if not group["frozen"]:
            self._tune(group, params, gradients, tuner, first, count)
        moved = [scale * r / 2 for scale, r in zip(scales, momenta, strict=True)]
        self.refresh(group, momenta, count)
        torch._foreach_add_(moved, [s * r / 2 for s, r in zip(scales, momenta, strict=True)])
        torch._foreach_add_(params, moved)
        if not group["frozen"]:
            work = _dot(gradients, moved) * group["num_data"] / (2 * group["temperature"])
            tuner[3].copy_(second + work)
            tuner[4].copy_(shrink)
            torch._foreach_copy_(self._moved(params), moved)

    def kick(
        self, group: dict[str, Any], momenta: list[Tensor], forces: list[Tensor], count: int
    ) -> tuple[Tensor, Tensor]:
        """Turns the momenta, in place.

        Args:
            group: Its temperature and N.
            momenta: r of every parameter.
            forces: k of every parameter.
            count: d.

        Returns:
            The change of the kinetic energy in the first and in the second half of the kick, over
            T: (d - 1) log(cosh x + c sinh x) with half of x.
        """
        length, size = _norm(momenta), _norm(forces).clamp_min(_TINY)
        cosine = -_dot(momenta, forces) / (length * size)
        x = size * math.sqrt(count * group["num_data"] / group["temperature"]) / (count - 1)
        decay = torch.exp(-x)  # everything times 2 exp(-x), so that nothing overflows
        spread = (1 + decay.square() + cosine * (1 - decay.square())).clamp_min(_TINY)
        along = (1 - decay) * (1 + decay + cosine * (1 - decay)) / spread
        radius = self.radius(group, count)
        torch._foreach_mul_(momenta, 2 * decay / spread * radius / length)
        torch._foreach_add_(momenta, torch._foreach_mul(forces, -along * radius / size))
        first = (count - 1) * _log_stretch(x / 2, cosine)
        return first, (count - 1) * _log_stretch(x, cosine) - first

    def refresh(self, group: dict[str, Any], momenta: list[Tensor], count: int) -> None:
        """Adds noise to the momenta and brings them back to their length, in place."""
        torch._foreach_mul_(momenta, math.exp(-group["friction"]))
        variance = group["temperature"] / group["num_data"]
        self.add_noise(momenta, math.sqrt(variance * -math.expm1(-2 * group["friction"])))
        torch._foreach_mul_(momenta, self.radius(group, count) / _norm(momenta))

    def radius(self, group: dict[str, Any], count: int) -> float:
        """sqrt(d T / N), the length of all momenta together."""
        return math.sqrt(count * group["temperature"] / group["num_data"])

    def _momenta(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Of all parameters; of random direction where there is none yet."""
        for param in params:
            if "momentum" not in self.state[param]:
                variance = group["temperature"] / group["num_data"]
                self.state[param]["momentum"] = self.standard_normal(param) * math.sqrt(variance)
        return [self.state[param]["momentum"] for param in params]

    def _tuner(self, param: Tensor) -> Tensor:
        """shrink; sums of errors and of weights; what the last step left, and its shrink."""
        state = self.state[param]
        if "tuner" not in state:
            state["tuner"] = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0], device=param.device)
        return state["tuner"]

    def _moved(self, params: list[Tensor]) -> list[Tensor]:
        """The way of each parameter in its last step; the same tensors in every step."""
        for param in params:
            if "moved" not in self.state[param]:
                self.state[param]["moved"] = torch.zeros_like(param)
        return [self.state[param]["moved"] for param in params]

    def _tune(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        gradients: list[Tensor],
        tuner: Tensor,
        first: Tensor,
        count: int,
    ) -> None:
        """Learns from the energy error between the middles of the last kick and of this one.

        The error squared goes with the sixth power of the step's shrink. It is weighed by
        `exp(-(log ratio / 6 trust)^2 / 2)`, so that steps far from the wanted size say little.
        """
        if any("moved" not in self.state[param] for param in params):  # the first step of all
            return
        shrink, total, weights, last, its_shrink = tuner.unbind()
        work = _dot(gradients, self._moved(params)) * group["num_data"] / (2 * group["temperature"])
        error = last + work + first
        ratio = error.square() / (count * group["energy_variance"]) + 1e-8
        weight = torch.exp(-0.5 * (ratio.log() / (6 * _TRUST)).square())
        keep = (_MEMORY - 1) / (_MEMORY + 1)
        total.mul_(keep).add_(weight * ratio / its_shrink**6)
        weights.mul_(keep).add_(weight)
        shrink.copy_((weights / total).pow(1 / 6).clamp(max=1.0))


def _log_stretch(x: Tensor, cosine: Tensor) -> Tensor:
    """log(cosh x + c sinh x), which does not overflow."""
    stretch = (1 + cosine) + (1 - cosine) * torch.exp(-2 * x)
    return x + (stretch / 2).clamp_min(_TINY).log()


def _norm(tensors: list[Tensor]) -> Tensor:
    return _dot(tensors, tensors).sqrt()


def _dot(left: list[Tensor], right: list[Tensor]) -> Tensor:
    return torch.stack([product.sum() for product in torch._foreach_mul(left, right)]).sum()
