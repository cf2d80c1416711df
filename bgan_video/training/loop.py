"""Training, top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bgan_video import ranks
from bgan_video.backend import Backend, resolve_backend
from bgan_video.config import ON_FEATURES, Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import class_frequencies
from bgan_video.errors import Stopped, UserError
from bgan_video.features import FrozenBodies
from bgan_video.files import append_line, write_atomically
from bgan_video.method.class_weights import class_weights
from bgan_video.method.temperature import describe
from bgan_video.method.timetable import check_rivals
from bgan_video.prediction.bodies import Body, open_bodies, open_features
from bgan_video.prediction.body_checks import body_settings
from bgan_video.prediction.body_checks import check as check_bodies
from bgan_video.prediction.body_checks import notes as body_notes
from bgan_video.prediction.judging import FINISHED
from bgan_video.sampling import SampleBank
from bgan_video.training import (
    changes,
    checkpoints,
    console,
    drawn,
    faults,
    rounds,
    run_folder,
    samples,
    saving,
    shared_memory,
    trackers,
)
from bgan_video.training.clock import Clock
from bgan_video.training.lineup import Models, build
from bgan_video.training.plan import networks
from bgan_video.training.records import make_record
from bgan_video.training.scalars import Scalars
from bgan_video.training.session import Session, check_validation
from bgan_video.training.stopping import Stop, heard_out, watching
from bgan_video.training.storing import Sampled, go_on, sampled, store_final, store_restarting
from bgan_video.training.trainer import DataSize, Terms


class _Opened(NamedTuple):
    """What a run reads once, however often it goes back to a checkpoint."""

    backend: Backend
    frozen: FrozenBodies
    manifest: Manifest
    frames: Frames
    folder: Path


@dataclass(frozen=True)
class _Tools:
    """What the steps of a run are told to and measured by, and how often it has gone back."""

    bar: console.Console
    scalars: Scalars
    clock: Clock
    stop: Stop
    roll_backs: int
    said: set[str] = field(default_factory=set[str])


def train(config: Config, held: ExitStack, resume: Path | None = None) -> Path:
    """Train, or continue a run from its last checkpoint.

    Args:
        config: Settings with a run name; of the run itself where it is resumed.
        held: Keeps other processes out of a new run's folder until it is closed.
        resume: The run's folder, claimed already.

    Returns:
        The run's folder, with the posterior bank and the supervised network in it.

    Raises:
        UserError: Data, device or settings do not go together, or the run cannot go on; says how
            it can.
        Stopped: SIGINT or SIGTERM asked for the end, and the run is saved.
    """
    backend = resolve_backend(config.run, config.spatial_dims)
    backend.forget_peak_memory()
    trackers.check(config)
    drawn.check(config)
    if resume is None:
        check_rivals(config)
    frozen = FrozenBodies(backend)
    for fit in check_bodies(config, frozen):  # a mistake shows before the data are read
        console.say(f"weights: {fit}")
    for note in body_notes(config):
        console.say(f"note: {note}")
    networks(config, body_settings(config, frozen), num_classes=2)
    manifest, broken, frames = run_folder.prepare_data(config)
    for key in ("batch_size", "labelled_batch_size"):
        ranks.mine(getattr(config.train, key), f"train.{key}")
    check_validation(config, manifest)
    # Those of several bodies are built once these are open, for which a folder has to be there.
    bodied = bool(config.discriminator.bodies)
    models = None if bodied else build(config, data_size(config, manifest), backend)
    folder = resume or config.run_dir
    with ranks.first_goes_first():
        if resume is None and ranks.is_first():
            run_folder.create(config, backend, manifest, broken, held)
        else:
            run_folder.check_unchanged(folder, manifest, backend)
    opened = _Opened(backend, frozen, manifest, frames, folder)
    with heard_out():
        _with_roll_backs(config, opened, models, begun=resume is not None)
    return folder


def _with_roll_backs(config: Config, opened: _Opened, models: Models | None, begun: bool) -> None:
    """Train to the end, however often the run goes back; arguments as of `_go_on`."""
    stop, back = Stop(), None
    backend, folder = opened.backend, opened.folder
    while True:
        try:
            return _go_on(config, opened, models, begun, back, stop)
        except faults.NotFiniteError as fault:
            if ranks.first_says(lambda: changes.roll_backs(folder)) >= config.train.roll_back:
                raise
            if asked := ranks.highest(stop.signal or 0, backend.device):
                console.say(f"{fault.back.what} not finite after step {fault.back.after}")
                step = checkpoints.newest_step(folder / "checkpoints")
                raise _stopped(step, config, folder, asked) from None
            config, back = changes.smaller(config), fault.back
        opened = opened._replace(backend=backend.with_own_scaler())
        models, begun = None, True


def _go_on(
    config: Config,
    opened: _Opened,
    models: Models | None,
    begun: bool,
    back: changes.RollBack | None,
    stop: Stop,
) -> None:
    """Train to the end, or to where something is not finite.

    Args:
        config: The settings.
        opened: The data.
        models: Of the first round, where they were built already.
        begun: Whether the run goes on from its newest sound checkpoint.
        back: Why it goes back there by itself, if it does.
        stop: Remembers a signal, until it is heeded.
    """
    backend, frozen, manifest, frames, folder = opened
    t, total, size = config.train, config.total_steps, data_size(config, manifest)
    restart_every = t.steps if t.rounds else None
    bank = SampleBank(folder / "posterior", config.posterior.max_samples, restart_every)
    with ranks.first_goes_first():
        state = saving.restore(folder, config, bank, back) if begun else None
    done = state.pop("step") if state else 0
    bodies: Sequence[Body] = ()
    if "bayesian_gan" in config.baseline.methods:
        given = (config, manifest, frames, frozen, folder)
        bodies = open_bodies(*given, console.say, console.progress)
    models = models or build(config, size, backend, bodies=bodies)
    features = None
    if {*config.baseline.methods} & {*ON_FEATURES}:
        seen = (config, manifest, frozen, folder, console.say, console.progress)
        features = open_features(*seen)
    session = Session(config, backend, folder, manifest, frames, bank, bodies, features)
    console.say(_describe(config, manifest, models))

    bar, clock = console.Console(done, total), Clock(backend)
    with watching(stop), trackers.writing(config, folder) as writers, closing(bar):
        roll_backs = ranks.first_says(lambda: changes.roll_backs(folder))
        tools = _Tools(bar, Scalars(writers), clock, stop, roll_backs)
        for number in range(min(done // t.steps, t.rounds), 1 + t.rounds):
            run_folder.check_weights(folder, config)
            believed = session.believe(number)
            if believed:
                tools.scalars.believed(number * t.steps, rounds.read(folder, number))
            if number > 0:
                own = {m: data_size(config, manifest, items) for m, items in believed.items()}
                models = build(config, size, backend, number, models.learners, bodies, own)
                if config.rounds.start == "warm":
                    go_on(models, bank)
            if state:
                saving.load(models, state, folder)
                state = None
            _learn(session, models, believed, done, tools)
            done = max(done, (number + 1) * t.steps)
        bar.close()
        _finish(session, models)
        if asked := ranks.highest(stop.signal or 0, backend.device):
            raise _stopped(total, config, folder, asked)


def _finish(session: Session, models: Models) -> None:
    """What is stored and fitted behind the last step; the file that says so comes last."""
    began = time.perf_counter()
    if ranks.is_first():
        store_final(models, session.bank)
    session.finish()
    finished = {
        "step": session.config.total_steps,
        "seconds": time.perf_counter() - began,
        "peak_memory_mib": session.backend.peak_memory_mib,
    }
    if ranks.is_first() and not (session.folder / FINISHED).is_file():
        write_atomically(session.folder / FINISHED, json.dumps(finished) + "\n")
    ranks.meet(session.bank.folder)  # where that lies


def data_size(config: Config, manifest: Manifest, believed: Sequence[Item] = ()) -> DataSize:
    """What networks need to know of the data, in a round that believes some pseudo-labels."""
    num_classes, labelled = config.num_classes(manifest.num_classes), manifest.labelled
    total, weights = len(labelled) + len(believed), None
    if config.train.class_weights != "none" and labelled:
        found = class_frequencies(labelled, believed, config, num_classes)
        weights = class_weights(config.train.class_weights, found, total)
    return DataSize(num_classes, len(manifest.part("train")), total, weights)


class _Due(NamedTuple):
    """What is to be done after a step.

    Attributes:
        samples: Chains that are stored.
        logs: Whether the log gets a line.
        ends: Whether it is a round's last.
        judges: Whether the models are evaluated.
        saves: Whether there is a checkpoint.
    """

    samples: Sequence[Sampled]
    logs: bool
    ends: bool
    judges: bool
    saves: bool


def _learn(
    session: Session, models: Models, believed: rounds.Believed, done: int, tools: _Tools
) -> None:
    """The steps of a round, or what is left of them after `done` steps of the run."""
    config, t, stop = session.config, session.config.train, tools.stop
    streams = session.streams(models, believed)
    line = shared_memory.note(streams.values())
    if line is not None and line not in tools.said:
        console.say(line)
        tools.said.add(line)
    batches = session.batches(streams, done)
    samplers = sampled(models)
    last = models.first_step + t.steps

    for step in range(done + 1, last + 1):  # the number of steps done after this one
        with tools.clock.waiting(), _saved_before(step - 1, done, session, models):
            batch_lb, batch_ulb, own = next(batches)
        if step == 1 and ranks.is_first():
            samples.write_real(session.folder / "samples", batch_ulb.weak, config)

        with tools.clock.computing():
            terms = models.step(step - 1, batch_lb, batch_ulb, own)
        learned = t.batch_size if config.needs_unlabelled else 0
        tools.clock.count(learned + (0 if config.is_unsupervised else t.labelled_batch_size))

        asked = ranks.highest(stop.signal or 0, session.backend.device)
        ends = step == last
        due = _Due(
            [s for s in samplers if s.is_due(step - 1 - models.first_step)],
            step % t.log_every == 0 or ends,
            ends,
            step % t.evaluate_every == 0 or (ends and t.rounds > 0),
            step % t.checkpoint_every == 0 or ends or asked > 0,
        )
        whole = bool(due.samples) or due.judges or due.saves
        if whole or due.logs:
            terms = ranks.mean(terms)
            faults.check_finite(step, terms, models, faults.way_on(session.folder), whole)
        if due.saves:
            ranks.check_equal(models.networks)
        if due.ends:
            batches.close()  # its processes, before others are begun
            store_restarting(step, models, session.bank, partial(session.learned, models.round))
        if ranks.is_first():
            _write(step, due, terms, session, models, tools)
        if due.judges:
            _evaluate(step, session, models, tools)
        if due.saves and ranks.is_first():
            saving.save(step, session, models)
        tools.bar.advance()
        if asked:
            raise _stopped(step, config, session.folder, asked)


def _write(
    step: int, due: _Due, terms: Terms, session: Session, models: Models, tools: _Tools
) -> None:
    """What a step leaves in the folder, before the checkpoint that vouches for it."""
    config, folder, bank = session.config, session.folder, session.bank
    t, per_epoch = config.train, session.batches_per_epoch
    epoch, epochs = (step - 1) // per_epoch, math.ceil(config.total_steps / per_epoch)
    for sampler in due.samples:
        sampler.store(step, step - 1 - models.first_step, bank)
    if due.ends:
        session.end_round(models.round)
    if due.logs:
        record = make_record(step, epoch, terms, models) | tools.clock.lap()
        record |= {"roll_backs": tools.roll_backs} if tools.roll_backs else {}
        append_line(folder / "log.jsonl", record)
        tools.scalars.logged(record)
        console.say(console.console_line(record, epochs, per_epoch))
    if step % t.sample_every == 0 or step == config.total_steps:
        samples.write_fake(folder / "samples", config, session.backend, models.generators, epoch)


def _evaluate(step: int, session: Session, models: Models, tools: _Tools) -> None:
    """How the models stand, where any can be judged."""
    config = session.config
    ranks.meet(session.bank.folder)
    if not session.manifest.part(config.train.evaluate_on) or not session.can_judge(models):
        return
    evaluation = session.evaluate(step, models)
    if not ranks.is_first():
        return
    append_line(session.folder / "evaluations.jsonl", evaluation)
    tools.scalars.evaluated(evaluation, config.item_level)
    console.say(console.evaluation_line(evaluation, config.item_level))
    if step == config.train.steps and config.train.rounds > 0:
        _warn_near_chance(evaluation, session)


def _stopped(step: int, config: Config, folder: Path, signal: int) -> Stopped:
    total, way = config.total_steps, faults.way_on(folder)
    return Stopped(f"saved and ended after step {step} of {total}; {way} goes on", signal)


@contextmanager
def _saved_before(done: int, began: int, session: Session, models: Models) -> Iterator[None]:
    """Where the next batch cannot be had, nothing of the steps before is lost by one process.

    Args:
        done: Steps done.
        began: Steps done when this process began with the round.
        session: The run.
        models: After `done` steps.
    """
    try:
        yield
    except UserError as error:
        # Other ranks may be within a step; what is not finite the next checkpoint will tell of.
        may_be_saved = done > began and ranks.count() == 1
        if may_be_saved and faults.first_not_finite(models.state_dict()) is None:
            saving.save(done, session, models)
        step = checkpoints.newest_step(session.folder / "checkpoints")
        way = faults.way_on(session.folder)
        saved = f"{step} steps are saved: put it right, and {way} goes on"
        raise UserError(f"{error}; {saved}") from None


def _warn_near_chance(evaluation: dict[str, Any], session: Session) -> None:
    """Before the first pseudo-labels: say where their teachers hardly know more than chance."""
    level, num_classes = session.config.item_level, session.manifest.num_classes
    note = console.chance_note(evaluation, level, num_classes, session.folder)
    if note and evaluation["split"] == "validation":
        console.say(note)


def _describe(config: Config, manifest: Manifest, models: Models) -> str:
    critics = f"{len(models.critics)} critics, " if models.critics else ""
    chains = (
        f"{len(models.generators)} generators, {critics}"
        f"{len(models.discriminators)} discriminators, "
    )
    noise = ""
    if models.chains is not None and models.samples_posterior:
        noise = "\n" + describe(models.chains.noise, config.items)
    hardware = f"{models.backend.precision} on {models.backend.hardware}"
    return (
        f"{manifest.name}, fold {manifest.fold}: {len(manifest.labelled)} labelled of "
        f"{len(manifest.part('train'))} training {config.items}, "
        f"{len(manifest.part('validation'))} for validation, "
        f"{len(manifest.part('test'))} for test, {manifest.num_classes} classes\n"
        f"{', '.join(config.baseline.methods)}; {chains if models.chains else ''}"
        f"{hardware}; run folder {config.run_dir}{noise}"
    )
