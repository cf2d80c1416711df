"""Where videos lie before anything was trained: a pretrained body's features, or plain motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from torch.nn import functional as F

from bgan_video.acquisition.coverage import Floats, unit_vectors
from bgan_video.acquisition.suggestions import Space
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.cutting import ItemFrames
from bgan_video.data.manifest import Item
from bgan_video.features import FrozenBody, Scale, fill, frozen_body
from bgan_video.models.weights import PACKAGED
from bgan_video.video import clips

_FRAMES = 8
_SIDE = 8


def untrained_space(
    items: Sequence[Item],
    root: Path | str,
    frames: ItemFrames,
    config: Config,
    backend: Backend,
    say: Callable[[str], None],
    progress: Callable[..., Any],
) -> Space:
    """The videos in the features of `features.body` where it has weights, else in plain motion.

    Args:
        items: Surveyed.
        root: Folder that their paths are relative to.
        frames: Theirs.
        config: Which features.
        backend: Device and precision.
        say: Gets the lines for the user.
        progress: Wraps the videos whose features are computed.

    Raises:
        UserError: The features cannot be had although the body can.
    """
    if not has_pretrained(config):
        say(
            "no pretrained body: videos are told apart by plain motion; bgan_video[pretrained] adds"
        )
        vectors = np.stack([_plain_motion(item, frames) for item in items])
        return Space(items, unit_vectors(vectors), tells_copies=False)
    body = frozen_body(config.features, backend)
    return Space(items, pretrained_vectors(items, root, config, body, say, progress), True)


def has_pretrained(config: Config) -> bool:
    """Whether a frozen body with weights is at hand."""
    f = config.features
    known = PACKAGED.get(f.body)
    return f.weights is not None if known is None else find_spec(known.package) is not None


def pretrained_vectors(
    items: Sequence[Item],
    root: Path | str,
    config: Config,
    body: FrozenBody,
    say: Callable[[str], None],
    progress: Callable[..., Any],
) -> Floats:
    """Unit vectors `[V, L]` of a frozen body's features, means over clips, which are kept."""
    store = fill(items, root, config, body, say, progress)
    vectors = torch.from_numpy(store.read_all(items))
    scaled = Scale.of(vectors, store.num_summaries)(vectors)
    return unit_vectors(reduce(scaled, "v c l -> v l", "mean").numpy())


def _plain_motion(item: Item, frames: ItemFrames) -> np.ndarray:
    """What changes between evenly spread frames, grey and small, one behind the other."""
    (indices,) = clips.uniform_clips(
        item.num_frames, _FRAMES, max(1, item.num_frames // _FRAMES), 1, "repeat_last"
    )
    seen = torch.from_numpy(frames.read(item, indices)).float()
    grey = rearrange(seen.mean(dim=-1), "t h w -> t 1 h w")
    small = F.adaptive_avg_pool2d(grey, _SIDE)
    return small.diff(dim=0).flatten().numpy()
