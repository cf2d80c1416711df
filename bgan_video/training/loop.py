"""Training, top to bottom."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bgan_video.backend import resolve_backend
from bgan_video.config import ON_FEATURES, Config
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError
from bgan_video.files import append_line, truncate_after, write_atomically
from bgan_video.method.temperature import describe
from bgan_video.method.timetable import step_sizes
from bgan_video.prediction.bodies import FIRST_KIND, Body, open_bodies, open_features
from bgan_video.prediction.bodies import check as check_bodies
from bgan_video.prediction.on_features import check_validation
from bgan_video.prediction.trained import FINISHED
from bgan_video.sampling import SampleBank, StepSize
from bgan_video.training import checkpoints, console, rounds, run_folder, samples
from bgan_video.training.clock import Clock
from bgan_video.training.lineup import BodyChains, ColdGAN, Models, build
from bgan_video.training.plan import network_sizes
from bgan_video.training.scalars import Scalars
from bgan_video.training.session import Session
from bgan_video.training.trainer import DataSize, Terms, Trainer


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
    check_bodies(config, backend)
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
    bodies: Sequence[Body] = ()
    if models.chains is not None:
        given = (config, manifest, frames, backend, folder)
        bodies = open_bodies(*given, console.say, console.progress)
    if bodies and config.discriminator.bodies:
        models = build(config, size, backend, bodies=bodies)
    features = None
    if on_features := [method for method in config.baseline.methods if method in ON_FEATURES]:
        check_validation(manifest, on_features)
        seen = (config, manifest, backend, folder, console.say, console.progress)
        features = open_features(*seen)
    session = Session(config, backend, folder, manifest, frames, bank, bodies, features)
    clock = Clock(backend)
    console.say(_describe(config, manifest, models))

    for number in range(min(done // t.steps, t.rounds), 1 + t.rounds):
        believed = session.believe(number)
        if believed:
            scalars.believed(number * t.steps, rounds.read(folder, number))
        if number > 0:
            more = len(believed.get("bayesian_gan", ()))
            now = dataclasses.replace(size, num_labelled=size.num_labelled + more)
            models = build(config, now, backend, number, models.learners, bodies)
        if state:
            models.load_state_dict(state)
            state = None
        _learn(session, models, believed, done, bar, scalars, clock)
        done = max(done, (number + 1) * t.steps)

    bar.close()
    scalars.close()
    _store_final(models, bank)
    session.fit_on_features()
    if not (folder / FINISHED).is_file():
        finished = {"step": total, "peak_memory_mib": backend.peak_memory_mib}
        write_atomically(folder / FINISHED, json.dumps(finished) + "\n")
    return folder


def _learn(
    session: Session,
    models: Models,
    believed: rounds.Believed,
    done: int,
    bar: console.Console,
    scalars: Scalars,
    clock: Clock,
) -> None:
    """The steps of a round, or what is left of them after `done` steps of the run."""
    config, folder, bank = session.config, session.folder, session.bank
    t, per_epoch = config.train, session.batches_per_epoch
    labelled, own = session.labelled_streams(models, believed, done)
    unlabelled = session.unlabelled_stream(done)
    samplers = _samplers(models)
    last, epochs = models.first_step + t.steps, math.ceil(config.total_steps / per_epoch)
    probe = session.manifest.part(t.evaluate_on)

    for step in range(done + 1, last + 1):  # the number of steps done after this one
        epoch = (step - 1) // per_epoch
        with clock.waiting():
            batch_lb, batch_ulb = next(labelled), next(unlabelled)
            batches = {method: next(stream) for method, stream in own.items()}
        if step == 1:
            samples.write_real(folder / "samples", batch_ulb.weak, config)

        with clock.computing():
            terms = models.step(step - 1, batch_lb, batch_ulb, batches)
        learned = len(batch_ulb.weak) if config.needs_unlabelled else 0
        clock.count(learned + (0 if config.is_unsupervised else t.labelled_batch_size))

        for sampler in samplers:
            sampler.store(step, step - 1 - models.first_step, bank)
        if step == last:
            _store_restarting(step, models, bank)
        if step % t.log_every == 0 or step == last:
            record = _record(step, epoch, terms, models, clock)
            _check_finite(record)
            append_line(folder / "log.jsonl", record)
            scalars.logged(record)
            console.say(console.console_line(record, epochs, per_epoch))
        if step % t.sample_every == 0 or step == config.total_steps:
            samples.write_fake(
                folder / "samples", config, session.backend, models.generators, epoch
            )
        ends_round = t.rounds > 0 and step == last
        if (step % t.evaluate_every == 0 or ends_round) and probe and models.classify_alone:
            evaluation = session.evaluate(step, models)
            append_line(folder / "evaluations.jsonl", evaluation)
            scalars.evaluated(evaluation, config.item_level)
            console.say(console.evaluation_line(evaluation, config.item_level))
            if ends_round and models.round == 0:
                _warn_near_chance(evaluation, session)
        if step % t.checkpoint_every == 0 or step == last:
            checkpoints.save(folder / "checkpoints", step, models.state_dict())
            bank.prune(checkpoints.oldest_step(folder / "checkpoints"))
        bar.advance()


def _warn_near_chance(evaluation: dict[str, Any], session: Session) -> None:
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
    chain = next(chains.chains)
    group = chain.optimizer.param_groups[0]
    record: dict[str, Any] = {
        "phase": "sampling" if chain.is_sampling else "burn_in",
        "lr": float(group["lr"]),
    }
    if chain.is_sampling:
        record["temperature"] = group["temperature"]
        record["noise"] = chains.noise.facts()
    kinetic = {
        which: _mean_temperatures([chain.temperatures() for chain in of])
        for which, of in (("D", chains.discriminators), ("G", chains.generators))
    }
    if kinetic["D"]:
        record["kinetic_temperature"] = sum(kinetic["D"].values()) / len(kinetic["D"])
        record["temperatures"] = _by_layer(kinetic)
    if chain.is_sampling:
        # The generators' potential is a game's, which moves with the discriminators'.
        of_weights = [chain.configurational_temperatures() for chain in chains.discriminators]
        record["configurational"] = _by_layer({"D": _mean_temperatures(of_weights)})
    return record


def _by_layer(temperatures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{which}.{n}": value for which, of in temperatures.items() for n, value in of.items()}


def _mean_temperatures(of_chains: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each parameter tensor, over the chains that have one for it.

    A step in fp16 that overflowed leaves a chain without a momentum for longer than others.
    """
    temperatures: dict[str, list[float]] = defaultdict(list)
    for of_chain in of_chains:
        for name, temperature in of_chain.items():
            temperatures[name].append(temperature)
    return {name: sum(values) / len(values) for name, values in temperatures.items()}


def _check_finite(record: dict[str, Any]) -> None:
    bad = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
    if bad:
        raise UserError(
            f"{bad[0]} is not finite at step {record['step']}; try a lower posterior.lr, "
            f"posterior.burn_in_lr or posterior.temperature"
        )


@dataclass(frozen=True)
class _Sampler:
    """Networks that are stored as the schedule of their chains has it."""

    kind: str
    temperature: float
    networks: Sequence[nn.Module]
    schedule: StepSize

    def store(self, step: int, in_round: int, bank: SampleBank) -> None:
        """One posterior sample of every chain after update `step`, if it is time for one."""
        if self.schedule.takes_sample(in_round):
            given = {"temperature": self.temperature, "cycle": self.schedule.cycle(in_round)}
            for j, network in enumerate(self.networks):
                bank.add(self.kind, step, j, network.state_dict(), **given)


def _samplers(models: Models) -> list[_Sampler]:
    """The chains, and what is stored as they are: other bodies' chains, the cold GAN's."""
    if models.chains is None or not models.samples_posterior:
        return []
    of_chains = models.chains.config
    moving = [(FIRST_KIND, of_chains, models.discriminators)]
    for learner in models.learners:
        if isinstance(learner, BodyChains | ColdGAN):
            moving.append((learner.model, learner.config, learner.networks))
    return [_Sampler(k, c.temperature, n, step_sizes(c)) for k, c, n in moving]


def _store_restarting(step: int, models: Models, bank: SampleBank) -> None:
    """At a round's end: the last weights of the networks that the next round begins anew."""
    last: dict[str, Sequence[nn.Module]] = {
        m.model: m.networks
        for m in models.learners
        if m.restarts and not (m.is_sampled and models.samples_posterior)
    }
    if not models.samples_posterior:
        last[FIRST_KIND] = models.discriminators
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, step, j, network.state_dict())


def _store_final(models: Models, bank: SampleBank) -> None:
    """What evaluation and sampling read: the last weights of all that learned to the end."""
    last: dict[str, Sequence[nn.Module]] = {
        "generator": models.generators,
        "critic": models.critics,
    }
    last |= {m.model: m.networks for m in models.learners if not (m.is_sampled or m.restarts)}
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, models.config.total_steps, j, network.state_dict())


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
