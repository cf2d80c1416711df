"""Priors whose scale is another one for biases, norms, heads, or by a weight's fan-in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

# torch keeps these bases to itself.
# pyright: reportPrivateUsage=false
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_TRANSPOSED = nn.modules.conv._ConvTransposeNd


@dataclass(frozen=True)
class PriorGroups:
    """By how much the scale of a prior differs from its own, group by group.

    A parameter is of the norms where its module is one; else of the biases where it is named `bias`
    or has at most one dimension; else a weight, of the head or not.

    Attributes:
        bias: Factor of biases, > 0.
        norm: Factor of norms' scales and shifts, > 0.
        head: Factor of the head's weights, > 0.
        by_fan_in: Divide a weight's scale by the root of its fan-in, the number of inputs that one
            output sums: then what passes through a layer keeps its size under the prior, however
            wide the layer (Neal 1996, section 2.1; MacKay 1992 has scales by kind of weight).
    """

    bias: float = 1.0
    norm: float = 1.0
    head: float = 1.0
    by_fan_in: bool = False

    def factors(self, module: nn.Module, head: nn.Module | None = None) -> dict[Tensor, float]:
        """The factor of every parameter of a module whose factor is not 1.

        Args:
            module: Any module.
            head: The part of it whose weights are the head's, if any.
        """
        of_head: set[Tensor] = set() if head is None else set(head.parameters())
        found = {
            parameter: self._factor(owner, name, parameter, parameter in of_head)
            for owner, name, parameter in _parameters(module)
        }
        return {parameter: factor for parameter, factor in found.items() if factor != 1}

    def _factor(self, owner: nn.Module, name: str, parameter: Tensor, of_head: bool) -> float:
        if isinstance(owner, _NORMS):
            return self.norm
        if name == "bias" or parameter.ndim <= 1:
            return self.bias
        factor = self.head if of_head else 1.0
        # A token, or a code of places, is added as it is.
        is_kernel = name.endswith("weight") and not isinstance(owner, nn.Embedding)
        if not (self.by_fan_in and is_kernel):
            return factor
        return factor / math.sqrt(_fan_in(owner, parameter))


def _parameters(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            yield owner, name, parameter


def _fan_in(owner: nn.Module, weight: Tensor) -> int:
    """How many inputs an output sums; of a transposed convolution, at a stride of 1."""
    if isinstance(owner, _TRANSPOSED):
        return weight.numel() // (weight.shape[1] * owner.groups)
    return weight.numel() // weight.shape[0]
