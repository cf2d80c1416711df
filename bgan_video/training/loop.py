"""Training, top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bgan_video.backend import Backend, resolve_backend
from bgan_video.config import Config, model_of
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Manifest
from bgan_video.data.streams import labelled_batches, unlabelled_batches
from bgan_video.errors import UserError
from bgan_video.files import append_line, truncate_after, write_atomically
from bgan_video.method.rounds import answering_rounds
from bgan_video.method.schedule import step_sizes
from bgan_video.prediction import diagnosis
from bgan_video.prediction.clips import test_chunks
from bgan_video.prediction.predict import Current, Networks, Stored, figures, predict_all
from bgan_video.prediction.trained import FINISHED, empty_discriminator, kind_of
from bgan_video.sampling import SampleBank
from bgan_video.training import checkpoints, console, rounds, run_folder, samples
from bgan_video.training.chains import Chain
from bgan_video.training.clock import Clock
from bgan_video.training.models import Models, build
from bgan_video.training.plan import network_sizes
from bgan_video.training.scalars import Scalars
from bgan_video.training.trainer import DataSize, Terms, Trainer


@dataclass(frozen=True)
class _Session:
    """What all rounds of a run share."""

    config: Config
    backend: Backend
    folder: Path
    manifest: Manifest
    frames: Frames
    bank: SampleBank
    bar: console.Console
    scalars: Scalars
    clock: Clock

    @property
    def pool(self) -> rounds.Pool:
        """The unlabelled training items."""
        return rounds.Pool(self.manifest, self.frames, self.config)

    @property
    def batches_per_epoch(self) -> int:
        """Of unlabelled items."""
        return math.ceil(len(self.manifest.part("train")) / self.config.train.batch_size)


def train(config: Config, resume: Path | None = None) -> Path:
    """Train, or continue a run from its last checkpoint.

    Args:
        config: Settings with a run name; of the run itself where it is resumed.
        resume: The run's folder.

    Returns:
        The run's folder, with the posterior bank and the supervised network in it.

    Raises:
        UserError: Data, device or settings do not go together.
    """
    backend = resolve_backend(config.run, config.spatial_dims)
    backend.forget_peak_memory()
    network_sizes(config, num_classes=2)  # a mistake shows before the data are read
    manifest, broken, frames = run_folder.prepare_data(config)
    t, total = config.train, config.total_steps
    size = DataSize(
        config.num_classes(manifest.num_classes),
        len(manifest.part("train")),
        len(manifest.labelled),
    )
    models = build(config, size, backend)
    if resume is None:
        folder = run_folder.create(config, backend, manifest, broken)
    else:
        folder = resume
        run_folder.check_unchanged(folder, manifest, backend)
    restart_every = t.steps if t.rounds else None
    bank = SampleBank(folder / "posterior", config.posterior.max_samples, restart_every)
    state = _restore(folder, config, bank) if resume else None
    done = state.pop("step") if state else 0
    bar, scalars = console.Console(done, total), Scalars(folder)
    session = _Session(
        config, backend, folder, manifest, frames, bank, bar, scalars, Clock(backend)
    )
    console.say(_describe(config, manifest, models))

    for number in range(min(done // t.steps, t.rounds), 1 + t.rounds):
        believed = _believe(session, number)
        if number > 0:
            models = build(config, size, backend, number, models.learners)
        if state:
            models.load_state_dict(state)
            state = None
        _learn(session, models, believed, done)
        done = max(done, (number + 1) * t.steps)

    bar.close()
    scalars.close()
    _store_final(models, bank)
    if not (folder / FINISHED).is_file():
        finished = {"step": total, "peak_memory_mib": backend.peak_memory_mib}
        write_atomically(folder / FINISHED, json.dumps(finished) + "\n")
    return folder


def _believe(session: _Session, number: int) -> rounds.Believed:
    """What a round learns from beside the labels: judged by the networks of the round before."""
    if number == 0 or not rounds.believers(session.config):
        return {}
    if not rounds.path(session.folder, number).is_file():
        module = empty_discriminator(session.config, session.manifest).to(session.backend.device)
        teachers: dict[str, Networks] = {
            method: Stored(session.bank, kind_of(model_of(method)), module, {number - 1})
            for method in rounds.believers(session.config)
        }
        rounds.judge(number, teachers, session.pool, session.backend, session.folder)
        before = number * session.config.train.steps
        session.scalars.believed(before, rounds.read(session.folder, number))
    rounds.say(session.folder, number, session.pool)
    return rounds.believed(session.folder, number, session.pool)


def _learn(session: _Session, models: Models, believed: rounds.Believed, done: int) -> None:
    """The steps of a round, or what is left of them after `done` steps of the run."""
    config, folder, bank = session.config, session.folder, session.bank
    t, clock, per_epoch = config.train, session.clock, session.batches_per_epoch
    data = (session.frames, config, done)
    labelled = labelled_batches(session.manifest.labelled, *data)
    unlabelled = unlabelled_batches(session.manifest.part("train"), *data)
    of_believers = {
        method: labelled_batches(session.manifest.labelled, *data, items)
        for method, items in believed.items()
    }
    schedule = step_sizes(config) if models.samples_posterior else None
    last, epochs = models.first_step + t.steps, math.ceil(config.total_steps / per_epoch)
    probe = session.manifest.part(t.evaluate_on)

    for step in range(done + 1, last + 1):  # the number of steps done after this one
        epoch = (step - 1) // per_epoch
        with clock.waiting():
            batch_lb, batch_ulb = next(labelled), next(unlabelled)
            batches = {method: next(found) for method, found in of_believers.items()}
        if step == 1:
            samples.write_real(folder / "samples", batch_ulb.weak, config)

        with clock.computing():
            terms = models.step(step - 1, batch_lb, batch_ulb, batches)
        learned = len(batch_ulb.weak) if config.needs_unlabelled else 0
        clock.count(learned + (len(batch_lb.y) if batch_lb else 0))

        if schedule is not None and schedule.takes_sample(step - 1 - models.first_step):
            _store_samples(step, models, bank, schedule.cycle(step - 1 - models.first_step))
        if step == last:
            _store_restarting(step, models, bank)
        if step % t.log_every == 0 or step == last:
            record = _record(step, epoch, terms, models, clock)
            _check_finite(record)
            append_line(folder / "log.jsonl", record)
            session.scalars.logged(record)
            console.say(console.console_line(record, epochs, per_epoch))
        if step % t.sample_every == 0 or step == config.total_steps:
            samples.write_fake(
                folder / "samples", config, session.backend, models.generators, epoch
            )
        ends_round = t.rounds > 0 and step == last
        if (step % t.evaluate_every == 0 or ends_round) and probe and models.classify_alone:
            evaluation = _evaluate(step, models, session)
            append_line(folder / "evaluations.jsonl", evaluation)
            session.scalars.evaluated(evaluation, config.item_level)
            console.say(console.evaluation_line(evaluation, config.item_level))
            if ends_round and models.round == 0:
                _warn_near_chance(evaluation, session)
        if step % t.checkpoint_every == 0 or step == last:
            checkpoints.save(folder / "checkpoints", step, models.state_dict())
            bank.prune(checkpoints.oldest_step(folder / "checkpoints"))
        session.bar.advance()


def _warn_near_chance(evaluation: dict[str, Any], session: _Session) -> None:
    """Before the first pseudo-labels: say where their teachers hardly know more than chance."""
    level, num_classes = session.config.item_level, session.manifest.num_classes
    note = console.chance_note(evaluation, level, num_classes, session.folder)
    if note and evaluation["split"] == "validation":
        console.say(note)


def _restore(folder: Path, config: Config, bank: SampleBank) -> dict[str, Any] | None:
    """Go back to the last checkpoint; what was written after it will be written again."""
    state = checkpoints.load_latest(folder / "checkpoints")
    step = state["step"] if state else 0
    bank.truncate_after(step)
    rounds.forget_after(folder, step // config.train.steps)
    for name in ("log.jsonl", "evaluations.jsonl"):
        truncate_after(folder / name, step)
    console.say(f"resuming {folder} after step {step} of {config.total_steps}")
    return state


def _record(step: int, epoch: int, terms: Terms, models: Models, clock: Clock) -> dict[str, Any]:
    """A line of log.jsonl."""
    record: dict[str, Any] = {
        "step": step,
        "epoch": epoch,
        **({"round": models.round} if models.config.train.rounds else {}),
        **({} if models.chains is None else _phase(models.chains)),
        **{name: value.item() for name, value in terms.items()},
    }
    return record | clock.lap()


def _phase(chains: Trainer) -> dict[str, Any]:
    """What the sampler does; kinetic temperatures are means over chains."""
    chain = chains.discriminators[0]
    group = chain.optimizer.param_groups[0]
    record: dict[str, Any] = {
        "phase": "sampling" if chain.is_sampling else "burn_in",
        "lr": float(group["lr"]),
    }
    if chain.is_sampling:
        record["temperature"] = group["temperature"]
    discriminators = _mean_temperatures(chains.discriminators)
    if discriminators:
        record["kinetic_temperature"] = sum(discriminators.values()) / len(discriminators)
        both = {"D": discriminators, "G": _mean_temperatures(chains.generators)}
        record["temperatures"] = {
            f"{which}.{name}": value
            for which, found in both.items()
            for name, value in found.items()
        }
    return record


def _mean_temperatures(chains: Sequence[Chain[Any]]) -> dict[str, float]:
    """Of each parameter tensor, over the chains that have a momentum for it.

    A step in fp16 that overflowed leaves a chain without one for longer than others.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for chain in chains:
        for name, temperature in chain.temperatures().items():
            found[name].append(temperature)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _check_finite(record: dict[str, Any]) -> None:
    bad = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
    if bad:
        raise UserError(
            f"{bad[0]} is not finite at step {record['step']}; try a lower posterior.lr, "
            f"posterior.burn_in_lr or posterior.temperature"
        )


def _evaluate(step: int, models: Models, session: _Session) -> dict[str, Any]:
    """The posterior so far, and every network that answers alone, on the probe items."""
    started = time.perf_counter()
    config, bank, manifest = session.config, session.bank, session.manifest
    split, level = config.train.evaluate_on, config.item_level
    items = manifest.part(split)
    labels = torch.tensor([item.label for item in items])
    module = empty_discriminator(config, manifest).to(session.backend.device)
    so_far, now = answering_rounds(config.rounds, models.round), {models.round}
    networks: dict[str, Networks] = {}
    of_round: dict[str, Networks] = {}
    steps = {record.step for record in bank.records("discriminator", so_far)}
    if steps:
        networks["bayesian"] = Stored(bank, "discriminator", module, so_far)
        of_round["bayesian"] = Stored(bank, "discriminator", module, now)
    elif models.chains is not None:
        networks["bayesian"] = Current(models.discriminators)
    for learner in models.learners:
        if learner.answers_alone:
            networks[learner.model] = Current(learner.networks)
        if learner.model == "self_training" and bank.records("self_training", now):
            of_round["self_training"] = networks["self_training"]
            networks["self_training"] = Stored(bank, "self_training", module, so_far)
    of_round = {model: found for model, found in of_round.items() if len(found)}
    asked = {**networks, **{f"{model} of this round": of_round[model] for model in of_round}}
    predictions = predict_all(asked, test_chunks(items, session.frames, config), session.backend)
    found = {name: figures(p, labels, level) for name, p in predictions.items()}
    record: dict[str, Any] = {
        "step": step,
        "split": split,
        "samples": len(steps),
        "models": {name: found[name] for name in networks},
    }
    if config.train.rounds:
        record["round"] = models.round
        record["of_round"] = {name: found[f"{name} of this round"] for name in of_round}
    if "bayesian" in of_round:
        said = predictions["bayesian of this round"].network_probabilities
        record["diagnostics"] = diagnosis.diagnose(session.folder, config, said, labels)
    return record | {"seconds": time.perf_counter() - started}


def _store_samples(step: int, models: Models, bank: SampleBank, cycle: int) -> None:
    """One posterior sample of every chain, and the cold GAN's weights of the same step."""
    warm = models.config.posterior.temperature
    kinds = [("discriminator", warm, models.discriminators)]
    kinds += [(m.model, 0.0, m.networks) for m in models.learners if m.is_sampled]
    for kind, temperature, networks in kinds:
        for j, network in enumerate(networks):
            state = network.state_dict()
            bank.add(kind, step, j, state, temperature=temperature, cycle=cycle)


def _store_restarting(step: int, models: Models, bank: SampleBank) -> None:
    """At a round's end: the last weights of the networks that the next round begins anew."""
    last: dict[str, Sequence[nn.Module]] = {
        m.model: m.networks for m in models.learners if m.restarts and not m.is_sampled
    }
    if not models.samples_posterior:
        last["discriminator"] = models.discriminators
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, step, j, network.state_dict())


def _store_final(models: Models, bank: SampleBank) -> None:
    """What evaluation and sampling read: the last weights of all that learned to the end."""
    last: dict[str, Sequence[nn.Module]] = {"generator": models.generators}
    last |= {m.model: m.networks for m in models.learners if not (m.is_sampled or m.restarts)}
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, models.config.total_steps, j, network.state_dict())


def _describe(config: Config, manifest: Manifest, models: Models) -> str:
    chains = f"{len(models.generators)} generators, {len(models.discriminators)} discriminators, "
    return (
        f"{manifest.name}, fold {manifest.fold}: {len(manifest.labelled)} labelled of "
        f"{len(manifest.part('train'))} training {config.items}, "
        f"{len(manifest.part('validation'))} for validation, "
        f"{len(manifest.part('test'))} for test, {manifest.num_classes} classes\n"
        f"{', '.join(config.baseline.methods)}; {chains if models.chains else ''}"
        f"{models.backend.precision} on {models.backend.hardware}; run folder {config.run_dir}"
    )
