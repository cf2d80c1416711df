"""Features of frozen pretrained bodies: computed once a video, kept, read by manifest item."""

from bgan_video.data.feature_store import FeatureStore
from bgan_video.features.bodies import FrozenBody, frozen_body
from bgan_video.features.extraction import clip_vectors, fill, open_store
from bgan_video.features.scale import Scale

__all__ = [
    "FeatureStore",
    "FrozenBody",
    "Scale",
    "clip_vectors",
    "fill",
    "frozen_body",
    "open_store",
]
