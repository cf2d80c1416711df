"""What every sampler of this package shares: settings, checks and the source of its noise."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

Check = tuple[Callable[[float], bool], str]

COMMON_CHECKS: dict[str, Check] = {
    "lr": (lambda value: value > 0, "> 0"),
    "temperature": (lambda value: value >= 0, ">= 0"),
    "num_data": (lambda value: value > 0, "> 0"),
}


class Sampler(torch.optim.Optimizer):
    """Base of the samplers: an optimizer whose step leaves a probability density invariant.

    Every sampler reads `.grad` of the mean-loss potential L = U/N, where U is the full-data
    potential (the negative log posterior) and N is `num_data`, and targets exp(-U(theta)/T) at
    temperature T. Only T/N enters the noise, so twice the data with the same mean loss is twice N.

    All settings live in the parameter groups: they may differ between groups and be changed between
    steps. The generator is the caller's: its state is *not* in `state_dict()`, so that one
    generator shared by several samplers is saved once.
    """

    def __init__(
        self,
        params: ParamsT,
        defaults: dict[str, Any],
        generator: torch.Generator | None,
    ) -> None:
        """Stores the settings; every group is checked as it is added.

        Args:
            params: Parameters or groups of them, float32 or float64.
            defaults: Settings of the groups that do not set their own.
            generator: Source of the noise, on the parameters' device; None is torch's default one.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        self.generator = generator
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as `torch.optim.Optimizer` does, after checking it.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        super().add_param_group(param_group)
        try:
            self.check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def check(self, group: dict[str, Any]) -> None:
        """Raises ValueError, in one line, where a group cannot be sampled."""
        check_settings(group, COMMON_CHECKS)
        for param in group["params"]:
            if param.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"parameters must be float32 or float64, got {param.dtype}")

    def standard_normal(self, like: Tensor) -> Tensor:
        """Fresh standard normal numbers of the shape, dtype and device of `like`."""
        return standard_normal(like, self.generator)

    def add_noise(self, tensors: list[Tensor], std: float) -> None:
        """Adds N(0, std^2) to each tensor in turn; std = 0 draws no random number.

        On a GPU all at once: kernels are dear there, and it draws other numbers than a CPU anyway.
        """
        if std == 0:
            return
        if all(tensor.is_cuda for tensor in tensors):
            torch._foreach_add_(tensors, normal_together(tensors, self.generator), alpha=std)
            return
        for tensor in tensors:
            tensor.add_(self.standard_normal(tensor), alpha=std)


def standard_normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def normal_together(tensors: list[Tensor], generator: torch.Generator | None) -> list[Tensor]:
    """Standard normal numbers of the shapes and layouts of tensors of one dtype and device.

    One draw, of which each tensor has its part, laid out as its own: then they add in one kernel.
    """
    sizes = [tensor.numel() for tensor in tensors]
    drawn = standard_normal(tensors[0].new_empty(sum(sizes)), generator)
    return [
        part.as_strided(tensor.shape, tensor.stride())
        for tensor, part in zip(tensors, torch.split(drawn, sizes), strict=True)
    ]


def check_settings(group: dict[str, Any], checks: dict[str, Check]) -> None:
    """Raises ValueError naming the first setting that is not finite or fails its check."""
    for name, (is_valid, allowed) in checks.items():
        value = float(group[name])
        if not (math.isfinite(value) and is_valid(value)):
            raise ValueError(f"{name} must be finite and {allowed}, got {group[name]}")


def with_gradient(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a group that have a gradient, and their gradients."""
    params: list[Tensor] = [param for param in group["params"] if param.grad is not None]
    return params, [param.grad for param in params if param.grad is not None]
