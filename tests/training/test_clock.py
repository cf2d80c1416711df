"""What a log line says of time."""

from __future__ import annotations

import time

import pytest
import torch

from bgan_video.backend import Backend
from bgan_video.training.clock import Clock

BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))


def test_waits_are_told_from_steps_and_every_lap_begins_anew() -> None:
    clock = Clock(BACKEND)
    with clock.waiting():
        time.sleep(0.05)
    with clock.computing():
        time.sleep(0.1)
    clock.count(30)
    lap = clock.lap()
    assert set(lap) == {"seconds", "data_seconds", "items_per_second"}
    assert 0.05 <= lap["data_seconds"] < 0.1
    assert lap["seconds"] >= 0.15
    assert lap["items_per_second"] == pytest.approx(30 / lap["seconds"])
    after = clock.lap()
    assert after["data_seconds"] == after["items_per_second"] == 0
