"""The pretext task: which transformation lies between an unlabelled item and its transform.

It can be learned without a label, and not without seeing directions, of things and of motion.
Asking for what lies between the features of two views, not what was done to one, is Zhang et al.
2019 (AET, section 3), who regress its parameters; quarter turns as classes are Gidaris et al. 2018
(RotNet), time's direction, of a single clip, Wei et al. 2018. Chen et al. 2019 give a GAN's
discriminator (and its generator; here it alone) such a task, Zhai et al. 2019 (S4L) a
semi-supervised classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

QUARTER_TURNS = 4
_RANK = 256


def num_transformations(spatial_dims: int) -> int:
    """Quarter turns of an image; of a clip, each with time forwards and backwards."""
    return QUARTER_TURNS * (2 if spatial_dims == 3 else 1)


def transform(items: Tensor, which: Tensor, spatial_dims: int) -> Tensor:
    """Every item by a transformation of its own.

    Args:
        items: `[B, C, (T,) S, S]`.
        which: `[B]` in 0..R-1: `which % 4` quarter turns, counterclockwise, and from 4 on the
            frames in reverse.
        spatial_dims: 2 or 3.

    Returns:
        Of the shape of `items`; 0 is the identity.
    """
    # All items by every transformation, of which those are kept that are asked for: a GPU's host
    # would have to wait to know how many these are.
    which = which.view(-1, *(1,) * (items.ndim - 1))
    in_time = [items, items.flip(2)] if spatial_dims == 3 else [items]
    transformed = items
    for kind in range(1, num_transformations(spatial_dims)):
        direction, turns = divmod(kind, QUARTER_TURNS)
        turned = in_time[direction].rot90(turns, (-2, -1))
        transformed = torch.where(which == kind, turned, transformed)
    return transformed


class TransformationHead(nn.Module):
    """From the features `[B, F]` of items and of their transforms to logits `[B, R]`.

    Low-rank bilinear, `P((U f + b) ∘ (V f' + c)) + d` (Kim et al. 2017, the full model without its
    nonlinearities). Which turn lies between two directions is a property of neither (an exclusive
    or), so a linear map of both cannot tell it, and a hidden layer over both starts from a saddle
    that some runs never leave.

    Args:
        num_features: F.
        spatial_dims: 2 or 3.
    """

    def __init__(self, num_features: int, spatial_dims: int) -> None:
        super().__init__()
        self.before = nn.Linear(num_features, _RANK)
        self.after = nn.Linear(num_features, _RANK)
        self.out = nn.Linear(_RANK, num_transformations(spatial_dims))

    def forward(self, features: Tensor, transformed: Tensor) -> Tensor:
        """Logits of what lies between the two."""
        return self.out(self.before(features) * self.after(transformed))
