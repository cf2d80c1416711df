"""A small frozen body of random weights: most of what a store does, it does with any body."""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.features import FrozenBody, frozen_body
from tests.data.store import stores

MODEL = "test_efficientnet"
LENGTH = 256


def save(folder: Path) -> list[str]:
    """The settings that name it."""
    file = folder / "tiny.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model(MODEL).state_dict(), file)
    return [f"features.body=timm:{MODEL}", f"features.weights={file}"]


def settings(root: Path, place: Path, *more: str) -> Config:
    features = ["features.size=32", "features.clips=3", f"features.store={place}"]
    return stores.settings(root, None, "run.device=cpu", *features, *more)


def body_of(of: Config) -> FrozenBody:
    return frozen_body(of.features, resolve_backend(of.run, 3))
