"""The strided K+1-class discriminator. Index 0 of its logits is 'fake'."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bgan_video.models import nd
from bgan_video.models.shapes import Plan


class Classifier(nn.Module):
    """A body that makes features `[B, F]` and a linear head that makes logits from them.

    Args:
        body: From items `[B, C, (T,) H, W]` in [-1, 1] to features `[B, F]`.
        num_features: F.
        num_logits: Size of the head's output: K+1.
        dropout: Probability of dropping a feature before the head.
        differences: The body sees what changes from frame to frame.
        appearance: Where it is given, this module, from items to `[B, 1]`, adds what the frames
            themselves say to the fake logit. What stands still may tell real from fake, but not one
            class from another. The class logits are normalised then, so that the fake logit is the
            log-odds of being fake, and nothing adversarial reaches the classes: the fake detector
            stands beside the classifier and shares its body.
        head_bias: Whether the head has a bias.
    """

    def __init__(
        self,
        body: nn.Module,
        num_features: int,
        num_logits: int,
        dropout: float,
        *,
        differences: bool = False,
        appearance: nn.Module | None = None,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        self.differences = differences
        self.appearance = appearance
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nd.Head(num_features, num_logits, bias=head_bias)

    def features(self, x: Tensor) -> Tensor:
        """The penultimate features `[B, F]`."""
        return self.body(frame_differences(x) if self.differences else x)

    def judge(self, features: Tensor, x: Tensor) -> Tensor:
        """The logits `[B, K+1]` of items whose features are known."""
        logits = self.head(self.dropout(features))
        if self.appearance is None:
            return logits
        fake = logits[:, :1] + self.appearance(x)
        return torch.cat([fake, logits[:, 1:].log_softmax(dim=1)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.features(x), x)


def dcgan_body(
    plan: Plan, channels: int, width: int, norm: str, head: str
) -> tuple[nn.Module, int]:
    """Strided convolutions, LeakyReLU 0.2, no norm on the first (Radford et al. 2016).

    Returns:
        The body and its number of features: the last map averaged (`head='pool'`) or whole
        (`head='flatten'`).
    """
    layers: list[nn.Module] = []
    channels_out = width
    for index, stage in enumerate(plan.stages):
        normalised = index > 0 and norm != "none"
        layers.append(nd.downsample(channels, channels_out, stage, bias=not normalised))
        if normalised:
            layers.append(nd.norm(norm, channels_out, plan.spatial_dims))
        layers.append(nn.LeakyReLU(0.2))
        channels, channels_out = channels_out, 2 * channels_out
    if head == "flatten":
        return nn.Sequential(*layers, nn.Flatten()), channels * math.prod(plan.base)
    return nn.Sequential(*layers, GlobalAverage()), channels


def frame_differences(clips: Tensor) -> Tensor:
    """Each frame minus the one before it, the first one zero: `[B, C, T, H, W]` as before.

    What stands still vanishes. People and places, which tell clips apart better than actions do,
    are mostly what stands still (temporal gradient: Xiao et al. 2022, LTG).
    """
    return clips.diff(dim=2, prepend=clips[:, :, :1])


class GlobalAverage(nn.Module):
    """Mean over every axis behind batch and channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2)
