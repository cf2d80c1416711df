"""What judges the looks of items, apart from what judges their classes.

A critic has no norm: over a batch, real items and fakes would be normalised apart, and gradients of
its judgement by an item, which its penalties are made of, would reach into other items.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from bgan_video.models import nd
from bgan_video.models.discriminators import dcgan_body, frame_differences
from bgan_video.models.shapes import Plan


class Critic(nn.Module):
    """How real items look: one number of a clip's motion, one of single frames of it.

    The first branch sees all frames and their differences in three dimensions; the second one sees
    frames one by one, in which a texture has nowhere to hide. Of images there is the second alone.

    Args:
        plan: Of the items.
        frame_plan: Of one frame; the same as `plan` for images.
        channels: Of the items.
        width: Channels of the first maps.
    """

    def __init__(self, plan: Plan, frame_plan: Plan, channels: int, width: int) -> None:
        super().__init__()
        self.of_frames = _branch(frame_plan, channels, width)
        self.of_clips = None
        if plan.spatial_dims == 3:
            self.of_clips = _branch(plan, 2 * channels, width)

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """The judgements `[B, 1]` of images, `[B, 2]` of clips; they know no zero, see `pairing`.

        Args:
            x: Items `[B, C, (T,) H, W]` in [-1, 1].
            frames: `[F]`, which frames of all clips are looked at one by one; None for images.
        """
        if self.of_clips is None:
            return self.of_frames(x)
        assert frames is not None, "clips have frames to look at"
        shown = x.index_select(2, frames)  # [B, C, F, H, W]
        single = self.of_frames(rearrange(shown, "b c f h w -> (b f) c h w"))
        single = reduce(single, "(b f) one -> b one", "mean", f=len(frames))
        motion = self.of_clips(torch.cat([x, frame_differences(x)], dim=1))
        return torch.cat([motion, single], dim=1)


def _branch(plan: Plan, channels: int, width: int) -> nn.Module:
    body, features = dcgan_body(plan, channels, width, "none", "flatten")
    # Judgements are compared with each other alone: a bias would say nothing.
    return nn.Sequential(body, nd.Head(features, 1, bias=False))
