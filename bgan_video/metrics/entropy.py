"""Entropy of class probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """`-Σ p log p` over the last axis, in nats, with 0·log 0 = 0."""
    return torch.special.entr(probabilities).sum(dim=-1)
