"""Features of frozen pretrained bodies: computed once a video, kept, read by manifest item."""

from bgan_video.data.feature_store import FeatureStore
from bgan_video.features.bodies import FrozenBodies, FrozenBody, frozen_body
from bgan_video.features.extraction import (
    Extracted,
    Readable,
    clip_vectors,
    extract,
    fill,
    open_store,
    verify,
)
from bgan_video.features.scale import Scale

__all__ = [
    "Extracted",
    "FeatureStore",
    "FrozenBodies",
    "FrozenBody",
    "Readable",
    "Scale",
    "clip_vectors",
    "extract",
    "fill",
    "frozen_body",
    "open_store",
    "verify",
]
