"""A finished run's folder, made without training: settings, no videos, one stored network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data.manifest import Manifest
from bgan_video.prediction.judging import FINISHED
from bgan_video.prediction.trained import TrainedRun
from bgan_video.sampling import SampleBank

CLASSES = ("a", "b", "c")


def run_of(folder: Path, c: Config, state: Mapping[str, Tensor]) -> TrainedRun:
    """A run of these settings whose posterior is one network with these weights."""
    SampleBank(folder / "posterior", 10).add("discriminator", 1, 0, state)
    (folder / "config.yaml").write_text(config.to_yaml(c), encoding="utf-8")
    manifest = Manifest("made", str(folder), 1, CLASSES, ())
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    (folder / FINISHED).write_text("{}\n", encoding="utf-8")
    return TrainedRun(folder)
