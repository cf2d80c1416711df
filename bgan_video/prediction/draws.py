"""What each further posterior sample is worth: its NLL, and that of the mean up to it."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

_TINY = 1e-12


def nll_of_draws(probabilities: Tensor, labels: Tensor, num_chains: int) -> dict[str, list[float]]:
    """NLL of the draws, in nats, in the order in which they were taken.

    Sampling longer must not make the mean worse: `so_far` is to stay level or fall.

    Args:
        probabilities: `[S, V, K]`, network by network: draw by draw, and chain by chain in it.
        labels: `[V]`.
        num_chains: Chains, which divides S.

    Returns:
        Of every draw `alone`, the mean over chains of the NLL of one network; and `so_far`, the NLL
        of the mean of all networks up to that draw.
    """
    p = rearrange(probabilities.double(), "(d c) v k -> d c v k", c=num_chains)
    of_label = p[:, :, torch.arange(len(labels)), labels]  # [D, C, V]
    counts = torch.arange(1, len(p) + 1, dtype=torch.float64)
    mean = of_label.mean(dim=1).cumsum(dim=0) / rearrange(counts, "d -> d 1")
    return {
        "alone": _nll(of_label).mean(dim=1).tolist(),
        "so_far": _nll(mean).tolist(),
    }


def _nll(of_label: Tensor) -> Tensor:
    """Mean over videos, which stand last."""
    return -of_label.clamp_min(_TINY).log().mean(dim=-1)
