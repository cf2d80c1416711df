"""The pretext task: which transformation lies between two views of an unlabelled item.

A network that can tell by which quarter turn, and by which direction of time, one clip differs from
another has learned to see where things move, and needs no label for it. Predicting the
transformation from the features of both, not from the transformed item alone, is Zhang et al. 2019
(AET, section 3); quarter turns are those of Gidaris et al. 2018 (RotNet), time's direction that of
Wei et al. 2018. Chen et al. 2019 add such a task to a GAN's discriminator, Zhai et al. 2019 (S4L)
to semi-supervised learning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

QUARTER_TURNS = 4
_HIDDEN = 256


def num_transformations(spatial_dims: int) -> int:
    """Quarter turns of an image; of a clip, each with time forwards and backwards."""
    return QUARTER_TURNS * (2 if spatial_dims == 3 else 1)


def transform(items: Tensor, which: Sequence[int], spatial_dims: int) -> Tensor:
    """Every item by a transformation of its own.

    Args:
        items: `[B, C, (T,) S, S]`.
        which: Of each item, in 0..R-1: `which % 4` quarter turns, counterclockwise, and from 4 on
            the frames in reverse.
        spatial_dims: 2 or 3.

    Returns:
        Of the shape of `items`; 0 is the identity.
    """
    if spatial_dims == 3:
        items = torch.stack(
            [x.flip(1) if k >= QUARTER_TURNS else x for x, k in zip(items, which, strict=True)]
        )
    turned = [x.rot90(k % QUARTER_TURNS, (-2, -1)) for x, k in zip(items, which, strict=True)]
    return torch.stack(turned)


class TransformationHead(nn.Module):
    """From the features `[B, F]` of items and of their transforms to logits `[B, R]`.

    One hidden layer, because a linear map of both adds what each says alone, and each alone says
    nothing: which turn lies between two directions is neither's property (an exclusive or).

    Args:
        num_features: F.
        spatial_dims: 2 or 3.
    """

    def __init__(self, num_features: int, spatial_dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * num_features, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, num_transformations(spatial_dims)),
        )

    def forward(self, features: Tensor, transformed: Tensor) -> Tensor:
        return self.layers(torch.cat([features, transformed], dim=1))
