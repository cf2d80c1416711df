"""Semi-supervised video classification with Bayesian GANs.

>>> config = bgan_video.config.load("demo")  # doctest: +SKIP
>>> result = bgan_video.train(config)  # doctest: +SKIP
>>> predictions = list(bgan_video.load(result.folder).predict(["clip.avi"]))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgan_video.api import load, prepare, resume, train

__all__ = ["load", "prepare", "resume", "train"]


def __getattr__(name: str) -> Any:
    # On first use, so that reading a config does not import torch.
    if name in __all__:
        from bgan_video import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
