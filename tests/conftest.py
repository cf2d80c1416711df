"""Fixtures and rules for all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# A shell starts what runs behind it deaf to Ctrl-C, which tests send to runs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` runs as many processes as there are cores: one thread for each and for what it starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

from bgan_video.data import motion_shapes

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run where they are asked for: `-m slow`."""
    if "slow" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@pytest.fixture(autouse=True)
def _restore_random_state():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recordings that live beside the project."""
    folder = Path(os.environ.get("BGAN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}; set BGAN_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def small_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six groups of the eight motions, as AVI files in UCF101 layout."""
    root = tmp_path_factory.mktemp("videos") / "small"
    motion_shapes.render(root, num_groups=6, clips_per_group=1, size=32)
    return root
