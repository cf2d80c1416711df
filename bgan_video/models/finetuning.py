"""What of a body never moves: layers, and the statistics of batch norms."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

from torch import nn

from bgan_video.errors import UserError
from bgan_video.models.nd import BATCH_NORMS

_LISTED = 12


def freeze(network: nn.Module, what: int | tuple[str, ...]) -> None:
    """Take layers of a body out of training, with the statistics of their batch norms.

    Args:
        network: With the names of its library.
        what: How many layers with kernels from the first on, or names of modules or parameters.

    Raises:
        UserError: It has fewer layers, or none of such a name.
    """
    norms = {n: module for n, module in network.named_modules() if isinstance(module, BATCH_NORMS)}
    if isinstance(what, int):
        what = _first(network, what)
    known = [*norms, *(name for name, _ in network.named_parameters())]  # norms may have no scales
    for name in what:
        if not any(_is_in(one, (name,)) for one in known):
            raise UserError(_unknown(network, name))
    for name, parameter in network.named_parameters():
        if _is_in(name, what):
            parameter.requires_grad_(False)
    for name, norm in norms.items():
        if _is_in(name, what):
            hold(norm)


def freeze_norms(network: nn.Module) -> None:
    """Take all batch norms of a body out of training, statistics, scales and shifts."""
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.requires_grad_(False)
            hold(module)


def hold(norm: nn.Module) -> None:
    """Let a batch norm normalise by its stored statistics, in training too, and keep them."""
    kind = type(norm)
    if not issubclass(kind, Held):
        norm.__class__ = type(f"Held{kind.__name__}", (Held, kind), {})
        norm.eval()


class Held(nn.Module):
    """A batch norm whose statistics stay, whoever trains the network or takes them anew."""

    def train(self, mode: bool = True) -> Any:
        del mode
        return super().train(False)

    def reset_running_stats(self) -> None:
        """As `torch.optim.swa_utils.update_bn` does before it takes them anew."""


def _first(network: nn.Module, count: int) -> tuple[str, ...]:
    """All parameters and modules that the network defines before its layer number `count`."""
    layers = [name for name, module in network.named_modules() if name and _has_kernel(module)]
    if not 0 <= count <= len(layers):
        raise UserError(
            f"discriminator.freeze={count}: this body has {len(layers)} layers with kernels; "
            f"allowed: 0..{len(layers)}, or names"
        )
    if count == 0:
        return ()
    modules = dict(network.named_modules())
    before = [*modules]
    if count < len(layers):
        before = before[: before.index(layers[count])]
    names = [name for name, _ in network.named_parameters() if name.rpartition(".")[0] in before]
    # A norm is frozen by the name of its module, which holds its statistics.
    return (*names, *(name for name in before if name and isinstance(modules[name], BATCH_NORMS)))


def _has_kernel(module: nn.Module) -> bool:
    own = module.named_parameters(recurse=False)
    return any(name.endswith("weight") and parameter.ndim > 1 for name, parameter in own)


def _is_in(name: str, what: Collection[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in what)


def _unknown(network: nn.Module, name: str) -> str:
    known = [known for known, module in network.named_modules() if known and [*module.parameters()]]
    outer = [known for known in known if "." not in known][:_LISTED]
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    return f"discriminator.freeze: this body has no {name}{advice}; its parts: {', '.join(outer)}"
