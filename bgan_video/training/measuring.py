"""What a run costs on this machine: some steps of its own models on its own videos, timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bgan_video import ranks
from bgan_video.backend import Backend, resolve_backend
from bgan_video.config import ON_FEATURES, Clip, Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.parallel import silent, unsaid
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies
from bgan_video.method.rounds import candidates
from bgan_video.method.timetable import check_rivals
from bgan_video.prediction.bodies import Body, open_bodies, open_features, predict_models
from bgan_video.prediction.body_checks import check
from bgan_video.prediction.predict import Current, Networks
from bgan_video.sampling import SampleBank
from bgan_video.training import budget, console, run_folder
from bgan_video.training.budget import Cost, Videos
from bgan_video.training.lineup import Models, build
from bgan_video.training.loop import data_size
from bgan_video.training.session import Session, check_validation

_LABELLED, _UNLABELLED = 4, 8
"""How many videos are tried."""

_PART, _LONGEST = 1 / 20, 15.0
"""Part of the budget, and seconds, after which no further step is measured."""

_MOST_STEPS = 30

_WARM_UP, _RECORDED = 2, 16
"""Steps that are not counted: loaders start, and a GPU records each kind of step."""


def within(config: Config, seconds: float, kept: Collection[str]) -> Config:
    """The settings nearest to a recipe's that train in `seconds` on this machine; says them.

    Args:
        config: The recipe, with what the user set.
        seconds: The budget, from now on.
        kept: Dotted keys that the user set, which stay.

    Raises:
        UserError: As `budget.fit`, or what would stop the run.
    """
    if ranks.launched() > 1:
        raise UserError(
            "--budget measures one process, and torchrun started several; set train.steps"
        )
    backend = resolve_backend(config.run, config.spatial_dims)
    check(config, FrozenBodies(backend))
    check_rivals(config)
    run_folder.settle(config, "run")  # a name that is taken says so
    told = budget.duration(seconds)
    console.say(f"budget {told}: measuring what a step costs on this machine")
    measure = _Measure(backend, min(_LONGEST, _PART * seconds))
    manifest = measure.data(config)[0]
    check_validation(config, manifest)
    pool = len(manifest.part("train")) - len(manifest.labelled)
    shown = len(manifest.part(config.train.evaluate_on))
    videos = Videos(pool, shown, _judged_at_end(config, manifest))
    fitted = budget.fit(config, seconds, measure, videos, kept)
    for line in fitted.lines(seconds):
        console.say(line)
    return fitted.config


class _Measure:
    """Costs by settings, in seconds since it was made.

    Args:
        backend: Device and precision.
        limit: Seconds after which no further step is measured.
    """

    def __init__(self, backend: Backend, limit: float) -> None:
        self._backend, self._limit = backend, limit
        self._began = time.perf_counter()
        self._data: dict[Clip, tuple[Manifest, Frames, float]] = {}

    def data(self, config: Config) -> tuple[Manifest, Frames, float]:
        """The videos under these settings, and how long they took to read."""
        if config.clip not in self._data:
            began = time.perf_counter()
            manifest, _, frames = run_folder.prepare_data(config)
            self._data = {config.clip: (manifest, frames, time.perf_counter() - began)}
        return self._data[config.clip]

    def __call__(self, config: Config) -> Cost:
        """Train and judge for a moment in a folder that nobody keeps."""
        manifest, frames, reading = self.data(config)
        few = manifest.replace(tuple(_few(manifest)))
        with TemporaryDirectory() as folder:
            bodies, features = self._bodies(config, few, frames, Path(folder))
            size = data_size(config, manifest)
            named = bodies if config.discriminator.bodies else ()
            models = build(config, size, self._backend, bodies=named)
            bank = SampleBank(Path(folder) / "posterior", config.posterior.max_samples)
            session = Session(config, self._backend, Path(folder), few, frames, bank, bodies)
            step, steps = self._steps(session, models)
            video, answer = self._judging(session, models)
        start = reading + features * len(manifest.items)
        spent = time.perf_counter() - self._began
        return Cost(start, step, video, answer, spent, steps)

    def _bodies(
        self, config: Config, few: Manifest, frames: Frames, folder: Path
    ) -> tuple[Sequence[Body], float]:
        """The bodies, and the seconds that features of a video take which are not there yet."""
        unseen = (unsaid, silent)

        def opened() -> Sequence[Body]:
            frozen = FrozenBodies(self._backend)
            if {*config.baseline.methods} & {*ON_FEATURES}:
                open_features(config, few, frozen, folder, *unseen)
            if "bayesian_gan" not in config.baseline.methods:
                return ()
            return open_bodies(config, few, frames, frozen, folder, *unseen)

        _, first = _timed(opened)
        bodies, again = _timed(opened)  # the features are there then, and only weights are read
        return bodies, max(0.0, first - again) / len(few.items)

    def _steps(self, session: Session, models: Models) -> tuple[float, int]:
        """Seconds of a step, and how many were measured."""
        batches = session.batches(session.streams(models, {}), 0)
        warm_up = _RECORDED if self._backend.records else _WARM_UP
        for index in range(warm_up):
            models.step(index, *next(batches))
        self._wait()
        began, steps = time.perf_counter(), 0
        while steps < _MOST_STEPS and (steps == 0 or time.perf_counter() - began < self._limit):
            models.step(warm_up + steps, *next(batches))
            steps += 1
            self._wait()
        return (time.perf_counter() - began) / steps, steps

    def _judging(self, session: Session, models: Models) -> tuple[float, float]:
        """Seconds to read a video's test clips, and of one network of each body to judge them."""
        if not models.classify_alone:
            return 0.0, 0.0
        config, items = _one_by_one(session.config), session.manifest.part("train")
        bodies = [
            dataclasses.replace(body, config=_one_by_one(body.config)) for body in session.bodies
        ]
        alone = {m.model: Current(m.networks) for m in models.learners if m.answers_alone}
        rivals: dict[str, Networks] = {} if models.chains else {**alone}
        posteriors = {"": lambda body: Current(models.of_body(body))} if models.chains else {}
        given = (items, session.frames, config, rivals, posteriors, bodies, self._backend)
        _timed(lambda: predict_models(*given))
        _, seconds = _timed(lambda: predict_models(*given))
        _, reading = _timed(lambda: [list(body.chunks(items)) for body in bodies])
        networks = sum(len(r) for r in rivals.values()) or len(models.discriminators)
        return reading / len(items), max(0.0, seconds - reading) / len(items) / networks

    def _wait(self) -> None:
        if self._backend.device.type == "cuda":
            torch.cuda.synchronize(self._backend.device)


def _judged_at_end(config: Config, manifest: Manifest) -> int:
    """How many videos, each as often as it is judged.

    With test videos are asked those of held-out classes, and those of validation: for a temperature
    of the answers, for what bodies are worth, for the rounds that answer.
    """
    split = manifest.judged_on(config.train.final_split)
    if split == "validation":
        return len(manifest.part(split))
    rounds = config.train.rounds
    chosen = candidates(rounds) if rounds and config.rounds.answer == "auto" else ()
    again = 1 + len(chosen) + config.weighs_bodies
    held_out = manifest.part("open")
    return len(manifest.part(split)) + len(held_out) + again * len(manifest.part("validation"))


def _one_by_one(config: Config) -> Config:
    """No thread reads ahead, so that reading and judging take the sum of their times."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, num_workers=0))


def _few(manifest: Manifest) -> list[Item]:
    """Some training videos, evenly spread, labelled ones among them."""
    train = manifest.part("train")
    others = [item for item in train if not item.labelled]
    labelled = manifest.labelled[:: max(1, len(manifest.labelled) // _LABELLED)][:_LABELLED]
    return [*labelled, *others[:: max(1, len(others) // _UNLABELLED)][:_UNLABELLED]]


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = act()
    return found, time.perf_counter() - began
