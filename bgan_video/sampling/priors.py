"""Priors over weights, summed over every element of every tensor."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Prior(ABC):
    """Independent tensors of weights theta, each with a density.

    All sums run over every element of every tensor and are never averaged. Of all priors but the
    hierarchical one the elements are independent too: their strength does not depend on how weights
    are cut into tensors.
    """

    def __post_init__(self) -> None:
        """Raises ValueError where a setting is not finite and positive."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be finite and > 0, got {value}")

    @abstractmethod
    def log_peak(self, count: int) -> float:
        """Log density at zero of a tensor of `count` elements."""

    @abstractmethod
    def energy(self, param: Tensor) -> Tensor:
        """-log p(param) summed over its elements, zero at zero."""

    def negative_log_density(self, params: Iterable[Tensor]) -> Tensor:
        """-log p without the normalising constant: what a training loop differentiates.

        Args:
            params: Tensors of any shapes.

        Returns:
            A scalar >= 0 in the dtype of the parameters; 0 for no parameters.
        """
        return sum((self.energy(param) for param in params), start=torch.zeros(()))

    def log_prob(self, params: Iterable[Tensor]) -> Tensor:
        """Normalised log density, as `torch.distributions` would sum it.

        Args:
            params: Tensors of any shapes.

        Returns:
            A scalar in the dtype of the parameters; 0 for no parameters.
        """
        tensors = list(params)
        peak = sum(self.log_peak(tensor.numel()) for tensor in tensors)
        return peak - self.negative_log_density(tensors)


@dataclass(frozen=True)
class Gaussian(Prior):
    """N(0, std^2): -log p = 1/2 sum (theta / std)^2 + const."""

    std: float

    def log_peak(self, count: int) -> float:
        """-count log(std sqrt(2 pi))."""
        return -count * (math.log(self.std) + 0.5 * math.log(2 * math.pi))

    def energy(self, param: Tensor) -> Tensor:
        """1/2 sum (theta / std)^2."""
        return param.square().sum() * (0.5 / self.std**2)


@dataclass(frozen=True)
class Laplace(Prior):
    """Laplace(0, scale): -log p = sum |theta| / scale + const."""

    scale: float

    def log_peak(self, count: int) -> float:
        """-count log(2 scale)."""
        return -count * math.log(2 * self.scale)

    def energy(self, param: Tensor) -> Tensor:
        """Sum of |theta| / scale."""
        return param.abs().sum() / self.scale


@dataclass(frozen=True)
class StudentT(Prior):
    """Student's t: -log p = (df + 1)/2 sum log(1 + (theta / scale)^2 / df) + const."""

    df: float
    scale: float

    def log_peak(self, count: int) -> float:
        """Count (lgamma((df + 1)/2) - lgamma(df/2) - log(scale sqrt(df pi)))."""
        return count * _log_peak_of_t(1, self.df, self.scale)

    def energy(self, param: Tensor) -> Tensor:
        """(df + 1)/2 times the sum of log(1 + (theta / scale)^2 / df)."""
        squares = (param / self.scale).square() / self.df
        return 0.5 * (self.df + 1) * squares.log1p().sum()


@dataclass(frozen=True)
class HierarchicalGaussian(Prior):
    """A Gaussian whose variance, one for each tensor, has a prior of its own.

    theta_i | s^2 ~ N(0, s^2), s^2 ~ InverseGamma(df/2, df scale^2 / 2). The variance is integrated
    out, which leaves a multivariate Student t over the n elements of a tensor:
    -log p = (df + n)/2 log(1 + sum theta^2 / (df scale^2)) + const (Gelman et al. 2013, BDA3, 3.2
    and appendix A). Its gradient is that of a Gaussian whose variance follows the tensor.
    """

    df: float
    scale: float

    def log_peak(self, count: int) -> float:
        """lgamma((df + n)/2) - lgamma(df/2) - n log(scale sqrt(df pi))."""
        return _log_peak_of_t(count, self.df, self.scale)

    def energy(self, param: Tensor) -> Tensor:
        """(df + n)/2 log(1 + sum theta^2 / (df scale^2))."""
        squares = (param / self.scale).square().sum() / self.df
        return 0.5 * (self.df + param.numel()) * squares.log1p()


def named_prior(name: str, scale: float, df: float) -> Prior:
    """A prior by its name in the settings.

    Args:
        name: One of gaussian, laplace, student_t, hierarchical.
        scale: Its scale, > 0; the standard deviation of gaussian.
        df: Degrees of freedom, > 0, of the last two.

    Raises:
        ValueError: Another name, or a number out of range.
    """
    priors: dict[str, Prior] = {
        "gaussian": Gaussian(scale),
        "laplace": Laplace(scale),
        "student_t": StudentT(df, scale),
        "hierarchical": HierarchicalGaussian(df, scale),
    }
    if name not in priors:
        raise ValueError(f"a prior is one of {', '.join(priors)}, not {name!r}")
    return priors[name]


def named_prior_parameters(module: nn.Module, exempt_bias_and_norm: bool) -> list[Tensor]:
    """The trainable weights of a module that a prior applies to, in the order of their names.

    Args:
        module: Any module.
        exempt_bias_and_norm: Leave out biases and norm scales: every parameter of at most one
            dimension and every one named `bias` (the rule of timm's weight decay).

    Returns:
        The parameters themselves; a shared one appears once.
    """
    return [
        param
        for name, param in module.named_parameters()
        if param.requires_grad
        and not (exempt_bias_and_norm and (param.ndim <= 1 or name.split(".")[-1] == "bias"))
    ]


def _log_peak_of_t(count: int, df: float, scale: float) -> float:
    """Log density at zero of a Student t of `count` dimensions."""
    log_norm = math.lgamma(0.5 * (df + count)) - math.lgamma(0.5 * df)
    return log_norm - count * (math.log(scale) + 0.5 * math.log(df * math.pi))
