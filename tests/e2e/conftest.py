from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e import runs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_videos: Path) -> Path:
    """A tiny run that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    process = runs.start(*runs.arguments(small_videos, folder, "whole"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (folder / "whole" / "console.txt").write_text(out + err)
    return folder / "whole"


def draw_shape(kind: str, random: np.random.Generator) -> np.ndarray:
    """A coloured disc, square or bar on a dark ground."""
    y, x = np.mgrid[:16, :16] - random.integers(6, 10, (2, 1, 1))
    inside = {"disc": x**2 + y**2 <= 16, "square": np.maximum(abs(x), abs(y)) <= 4}
    picture = np.full((16, 16, 3), 20, np.uint8)
    picture[inside.get(kind, abs(y) <= 1)] = random.integers(80, 256, 3)
    return picture


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of three classes: 8 images of each to train on and 4 to test."""
    root, random = tmp_path_factory.mktemp("shapes") / "set", np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for kind in ("bar", "disc", "square"):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw_shape(kind, random)).save(folder / f"{i}.png")
    return root
