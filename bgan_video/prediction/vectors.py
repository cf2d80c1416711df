"""Where a run's networks put videos: the features in front of their last layer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from einops import reduce

from bgan_video.acquisition.coverage import Floats, unit_vectors
from bgan_video.backend import Backend
from bgan_video.models import Classifier
from bgan_video.prediction.chunks import ClipChunk
from bgan_video.prediction.predict import Networks

_BATCH = 64
_MOST_NETWORKS = 4
"""Of a posterior, whose features stand side by side; more of them say hardly anything new."""


@torch.no_grad()
def network_vectors(networks: Networks, chunks: Iterable[ClipChunk], backend: Backend) -> Floats:
    """Unit vectors `[V, L]` of videos: means over clips, of the last networks side by side.

    Every network's part has the same length, so that the cosine of two videos is the mean of the
    networks' cosines.

    Args:
        networks: Of one body.
        chunks: What they see of the videos.
        backend: Device and precision.
    """
    first = max(0, len(networks) - _MOST_NETWORKS)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(networks) - first)]
    for chunk in chunks:
        seen = chunk.clips.to(backend.device)
        for part, network in zip(parts, islice(networks, first, None), strict=True):
            assert isinstance(network, Classifier)
            with backend.autocast():
                features = torch.cat([network.features(x) for x in seen.split(_BATCH)])
            means = reduce(features.float(), "(v n) f -> v f", "mean", n=chunk.clips_per_video)
            part.append(means.cpu().numpy())
    return unit_vectors(np.concatenate([unit_vectors(np.concatenate(p)) for p in parts], axis=1))
