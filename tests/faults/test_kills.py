"""Killed anywhere and gone on with, a command ends where it would have ended."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.store import stores
from tests.faults import ends, injector, runs
from tests.faults.injector import Boundary
from tests.features import tiny

pytestmark = pytest.mark.e2e

FEW = 6
"""Boundaries of the fast suite; `-m slow` kills at all."""


class Victim:
    """A command that is killed, and run again to its end.

    Args:
        command: From its folder to its words.
        folder: Where it works.
        end: What it leaves, of its folder.
    """

    def __init__(
        self, command: Callable[[Path], list[str]], folder: Path, end: Callable[[Path], Any]
    ) -> None:
        self._command, self._folder, self._end = command, folder, end
        whole, heard = folder / "whole", folder / "heard"
        began = time.monotonic()
        assert injector.run(command(whole), whole, None, heard) == 0, said(heard)
        self.seconds = time.monotonic() - began
        self.boundaries = injector.read(heard)
        self._expected = end(whole)

    def killed_at(self, boundary: Boundary) -> None:
        work, heard = self._folder / "killed", self._folder / "heard-killed"
        code = injector.run(self._command(work), work, boundary, heard)
        assert code == -9, f"{boundary}: {code}\n{said(heard)}"
        self._goes_on(work, heard, boundary)

    def killed_after(self, seconds: float) -> None:
        work, heard = self._folder / "killed", self._folder / "heard-killed"
        process = injector.start(self._command(work), work, None, heard)
        process.join(seconds)
        process.kill()
        process.join()
        self._goes_on(work, heard, seconds)

    def _goes_on(self, work: Path, heard: Path, when: object) -> None:
        code = injector.run(self._command(work), work, None, heard)
        assert code == 0, f"{when}: {code}\n{said(heard)}"
        found = self._end(work)
        assert found == self._expected, f"{when}: {different(found, self._expected)}"
        shutil.rmtree(work)


def said(heard: Path) -> str:
    return heard.with_suffix(".txt").read_text()[-2000:]


def different(found: Any, expected: Any) -> list[str]:
    if not isinstance(found, dict):
        return [str(found ^ expected)]
    return sorted(k for k in found.keys() | expected if found.get(k, 0) != expected.get(k, 0))


@pytest.fixture(scope="module")
def training(folder: Path, pictures: Path) -> Victim:
    place = folder / "training"
    place.mkdir()
    return Victim(lambda run: runs.train(pictures, run), place, ends.of_run)


@pytest.fixture(scope="module")
def stores_of(folder: Path, small_videos: Path) -> Callable[[str], Victim]:
    """Of `prepare` and `features`, on six videos."""
    videos = stores.few_videos(small_videos, folder / "videos")
    body = tiny.save(folder)

    def victim(name: str) -> Victim:
        place = folder / name
        place.mkdir(exist_ok=True)

        def command(store: Path) -> list[str]:
            words = ["data.layout=video_folder", f"data.root={videos}", "clip.size=16"]
            if name == "prepare":
                return ["prepare", *words, f"data.store={store}"]
            more = [f"features.store={store}", "features.size=32", "features.clips=2"]
            return ["features", *words, *body, *more, "run.device=cpu"]

        return Victim(command, place, ends.of_store)

    return victim


def chosen(boundaries: Sequence[Boundary], count: int) -> list[Boundary]:
    """A few, each of another kind of file, the same ones every time."""
    of_kind = {b.what: b for b in random.Random(0).sample(boundaries, len(boundaries))}
    return random.Random(1).sample(list(of_kind.values()), count)


def test_every_kind_of_file_is_written(training: Victim) -> None:
    written = " ".join(boundary.what for boundary in training.boundaries)
    for kind in (
        "checkpoints/step_#.pt",
        "posterior/discriminator_#_#.safetensors",
        "log.jsonl",
        "evaluations.jsonl",
        "pseudo_labels/round_#.jsonl",
        "metrics.json",
        "report.html",
        "predictions/test.safetensors",
    ):
        assert kind in written, kind


def test_a_run_killed_at_some_writes_ends_the_same(training: Victim) -> None:
    for boundary in chosen(training.boundaries, FEW):
        training.killed_at(boundary)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_at_every_write_ends_the_same(training: Victim) -> None:
    for boundary in training.boundaries:
        training.killed_at(boundary)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_at_fifty_moments_ends_the_same(training: Victim) -> None:
    moments = random.Random(0)
    for _ in range(50):
        training.killed_after(moments.uniform(0, training.seconds))


@pytest.mark.parametrize("name", ["prepare", "features"])
def test_a_store_killed_at_some_writes_ends_the_same(
    name: str, stores_of: Callable[[str], Victim]
) -> None:
    victim = stores_of(name)
    for boundary in chosen(victim.boundaries, 3):
        victim.killed_at(boundary)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["prepare", "features"])
def test_a_store_killed_at_every_write_ends_the_same(
    name: str, stores_of: Callable[[str], Victim]
) -> None:
    victim = stores_of(name)
    for boundary in victim.boundaries:
        victim.killed_at(boundary)
