"""Priors over weights: independent, of one scale, summed over every element."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Prior(ABC):
    """Independent elements theta with one density each.

    All sums run over every element of every tensor and are never averaged: the strength of a prior
    does not depend on how weights are cut into tensors.
    """

    def __post_init__(self) -> None:
        """Raises ValueError where a setting is not finite and positive."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be finite and > 0, got {value}")

    @property
    @abstractmethod
    def log_peak(self) -> float:
        """Log density of one element at zero."""

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
        count = sum(tensor.numel() for tensor in tensors)
        return count * self.log_peak - self.negative_log_density(tensors)


@dataclass(frozen=True)
class Gaussian(Prior):
    """N(0, std^2): -log p = 1/2 sum (theta / std)^2 + const."""

    std: float

    @property
    def log_peak(self) -> float:
        """-log(std sqrt(2 pi))."""
        return -math.log(self.std) - 0.5 * math.log(2 * math.pi)

    def energy(self, param: Tensor) -> Tensor:
        """1/2 sum (theta / std)^2."""
        return param.square().sum() * (0.5 / self.std**2)


@dataclass(frozen=True)
class Laplace(Prior):
    """Laplace(0, scale): -log p = sum |theta| / scale + const."""

    scale: float

    @property
    def log_peak(self) -> float:
        """-log(2 scale)."""
        return -math.log(2 * self.scale)

    def energy(self, param: Tensor) -> Tensor:
        """Sum of |theta| / scale."""
        return param.abs().sum() / self.scale


@dataclass(frozen=True)
class StudentT(Prior):
    """Student's t: -log p = (df + 1)/2 sum log(1 + (theta / scale)^2 / df) + const."""

    df: float
    scale: float

    @property
    def log_peak(self) -> float:
        """lgamma((df + 1)/2) - lgamma(df/2) - log(scale sqrt(df pi))."""
        log_norm = math.lgamma(0.5 * (self.df + 1)) - math.lgamma(0.5 * self.df)
        return log_norm - math.log(self.scale) - 0.5 * math.log(self.df * math.pi)

    def energy(self, param: Tensor) -> Tensor:
        """(df + 1)/2 times the sum of log(1 + (theta / scale)^2 / df)."""
        squares = (param / self.scale).square() / self.df
        return 0.5 * (self.df + 1) * squares.log1p().sum()


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
