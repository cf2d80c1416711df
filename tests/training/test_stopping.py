"""A signal is remembered as long as a run learns, however often it begins to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bgan_video.errors import UserError
from bgan_video.training.stopping import Stop, heard_out, watching


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_that_went_back_hears_signals_still(
    processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    before, stop = signal.getsignal(signal.SIGTERM), Stop()
    with heard_out():
        with pytest.raises(UserError), watching(stop):
            raise UserError
        with watching(stop):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("processes", "is_deaf"), [("1", False), ("2", True)])
def test_one_of_several_that_dies_says_why(
    processes: str, is_deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(UserError), heard_out(), watching(Stop()):
        raise UserError
    assert (signal.getsignal(signal.SIGTERM) is signal.SIG_IGN) == is_deaf
