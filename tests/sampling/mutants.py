"""Wrong samplers and priors, each with a mistake someone has made; the suite has to catch them all.

The mistakes marked (published) are in public codes of Bayesian GANs or of SGHMC.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bgan_video.sampling import SGHMC, Gaussian


class HalfNoise(SGHMC):
    """Noise too small by half."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return 0.5 * super().noise_std(group)


class NoiseFivePercentHigh(SGHMC):
    """The smallest mistake the suite promises to see."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return 1.05 * super().noise_std(group)


class NoiseOverN(SGHMC):
    """1/N in place of 1/sqrt(N): the sampler is N times too cold (published)."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return super().noise_std(group) / math.sqrt(group["num_data"])


class NoiseTimesStepTwice(SGHMC):
    """The noise of a step goes through the step size again (published)."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return super().noise_std(group) * math.sqrt(group["lr"])


class TemperatureIgnored(SGHMC):
    """Always T = 1."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return super().noise_std({**group, "temperature": 1.0})


class GradientNoiseAdded(SGHMC):
    """beta-hat with the wrong sign."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return super().noise_std({**group, "gradient_noise": -group["gradient_noise"]})


class GradientNoiseIgnored(SGHMC):
    """beta-hat left out."""

    def noise_std(self, group: dict[str, Any]) -> float:
        return super().noise_std({**group, "gradient_noise": 0.0})


class FrictionSign(SGHMC):
    """1 + a in place of 1 - a."""

    def _step_chen(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        for momentum in r:
            momentum.mul_((1 + group["friction"]) / (1 - group["friction"]))
        super()._step_chen(group, params, gradients, r)


class FrictionTenPercentLow(SGHMC):
    """Momentum 1 - 0.9 a with the noise of a."""

    def _step_chen(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        for momentum in r:
            momentum.mul_((1 - 0.9 * group["friction"]) / (1 - group["friction"]))
        super()._step_chen(group, params, gradients, r)


class GradientSign(SGHMC):
    """Climbs the potential."""

    def _step_chen(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        super()._step_chen(group, params, [-gradient for gradient in gradients], r)


class EulerForSymplectic(SGHMC):
    """Both lines from the old state."""

    def _step_chen(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor], r: list[Tensor]
    ) -> None:
        super()._step_chen({**group, "integrator": "euler"}, params, gradients, r)


class NoiseSharedByChains(SGHMC):
    """One draw for all rows of a parameter."""

    def standard_normal(self, like: Tensor) -> Tensor:
        return super().standard_normal(like[:1]).expand_as(like)


class NoiseSharedByParameters(SGHMC):
    """One draw for all parameters of a step (published: one buffer for all generators)."""

    def add_noise(self, tensors: list[Tensor], std: float) -> None:
        noise = super().standard_normal(tensors[0])
        for tensor in tensors:
            tensor.add_(noise, alpha=std)


class NoiseReused(SGHMC):
    """The same draw in every step."""

    def add_noise(self, tensors: list[Tensor], std: float) -> None:
        self.generator = torch.Generator().manual_seed(1)
        super().add_noise(tensors, std)


SAMPLERS = [
    HalfNoise,
    NoiseFivePercentHigh,
    NoiseOverN,
    NoiseTimesStepTwice,
    TemperatureIgnored,
    GradientNoiseAdded,
    GradientNoiseIgnored,
    FrictionSign,
    FrictionTenPercentLow,
    GradientSign,
    EulerForSymplectic,
    NoiseSharedByChains,
    NoiseSharedByParameters,
    NoiseReused,
]


class AveragedPrior(Gaussian):
    """Mean over elements in place of the sum (published)."""

    def energy(self, param: Tensor) -> Tensor:
        return super().energy(param) / param.numel()


class PriorWithoutHalf(Gaussian):
    """(theta / std)^2 without its 1/2 (published)."""

    def energy(self, param: Tensor) -> Tensor:
        return 2 * super().energy(param)


PRIORS = [AveragedPrior, PriorWithoutHalf]
