"""Killed anywhere and gone on with, a command ends where it would have ended."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.store import stores
from tests.e2e.conftest import draw_shape
from tests.faults import ends, injector
from tests.faults.injector import Boundary
from tests.features import tiny

pytestmark = pytest.mark.e2e

FEW = 6
"""Boundaries of the fast suite; `-m slow` kills at all."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    """Ten images of two classes, so that a run takes less than a second."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 1)):
        for kind in ("bar", "disc"):
            place = folder / "pictures" / split / kind
            place.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(draw_shape(kind, draws)).save(place / f"{index}.png")
    return folder / "pictures"


def train(pictures: Path, run: Path) -> list[str]:
    """A command that begins or goes on with a run in which every kind of file is written."""
    return [
        *("train", "--resume", "auto", f"run.dir={run.parent}", f"run.name={run.name}"),
        *("data.layout=image_folder", f"data.root={pictures}", "run.device=cpu"),
        *("data.validation_fraction=0.3", "data.labels_per_class=1", "rounds.min_pool=0"),
        *("clip.num_frames=1", "clip.stride=1", "clip.test_clips=1", "clip.size=32"),
        *("generator.name=dcgan", "generator.width=4", "generator.latent_dim=4"),
        *("discriminator.width=4", "discriminator.input=rgb", "discriminator.dropout=0.2"),
        *("objective.pretext_weight=0", "posterior.burn_in=2", "posterior.thinning=2"),
        *("posterior.max_samples=1", "train.rounds=1", "train.steps=5", "train.batch_size=2"),
        *("train.labelled_batch_size=2", "train.log_every=1", "train.evaluate_every=3"),
        *("train.checkpoint_every=2", "train.sample_every=5"),
    ]


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
    return Victim(lambda run: train(pictures, run), place, ends.of_run)


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
