"""Training, top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Manifest
from bgan_video.data.streams import labelled_batches, unlabelled_batches
from bgan_video.errors import UserError
from bgan_video.files import append_line, truncate_after, write_atomically
from bgan_video.method.schedule import step_sizes
from bgan_video.prediction import diagnosis
from bgan_video.prediction.chunks import test_chunks
from bgan_video.prediction.predict import Current, Networks, Stored, figures, predict_all
from bgan_video.prediction.trained import FINISHED, empty_discriminator
from bgan_video.sampling import SampleBank
from bgan_video.training import checkpoints, console, run_folder, samples
from bgan_video.training.chains import Chain
from bgan_video.training.clock import Clock
from bgan_video.training.models import Models, build
from bgan_video.training.plan import network_sizes
from bgan_video.training.scalars import Scalars
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
    manifest, broken, frames = run_folder.prepare_data(config)
    unlabelled_items, labelled_items = manifest.part("train"), manifest.labelled
    num_classes = config.num_classes(manifest.num_classes)
    size = DataSize(num_classes, len(unlabelled_items), len(labelled_items))
    models = build(config, size, backend)
    if resume is None:
        folder = run_folder.create(config, backend, manifest, broken)
    else:
        folder = resume
        run_folder.check_unchanged(folder, manifest, backend)
    bank = SampleBank(folder / "posterior", config.posterior.max_samples)
    first = _restore(folder, models, bank) if resume else 0

    t = config.train
    labelled = labelled_batches(labelled_items, frames, config, first)
    unlabelled = unlabelled_batches(unlabelled_items, frames, config, first)
    schedule = step_sizes(config) if models.samples_posterior else None
    batches_per_epoch = math.ceil(len(unlabelled_items) / t.batch_size)
    epochs = math.ceil(t.steps / batches_per_epoch)
    probe = manifest.part(t.evaluate_on)
    bar = console.Console(first, t.steps)
    scalars = Scalars(folder)
    console.say(_describe(config, manifest, models))
    clock = Clock()

    for step in range(first + 1, t.steps + 1):  # the number of steps done after this one
        epoch = (step - 1) // batches_per_epoch
        with clock.waiting():
            batch_lb, batch_ulb = next(labelled), next(unlabelled)
        if step == 1:
            samples.write_real(folder / "samples", batch_ulb.weak, config)

        terms = models.step(step - 1, batch_lb, batch_ulb)
        learned = len(batch_ulb.weak) if config.needs_unlabelled else 0
        clock.count(learned + (len(batch_lb.y) if batch_lb else 0))

        if schedule is not None and schedule.takes_sample(step - 1):
            _store_samples(step, models, bank, schedule.cycle(step - 1))
        if step % t.log_every == 0 or step == t.steps:
            record = _record(step, epoch, terms, models.chains, clock)
            _check_finite(record)
            append_line(folder / "log.jsonl", record)
            scalars.logged(record)
            console.say(console.console_line(record, epochs, batches_per_epoch))
        if step % t.sample_every == 0 or step == t.steps:
            samples.write_fake(folder / "samples", config, backend, models.generators, epoch)
        if step % t.evaluate_every == 0 and probe and models.classify_alone:
            evaluation = _evaluate(step, models, bank, manifest, frames, folder)
            append_line(folder / "evaluations.jsonl", evaluation)
            scalars.evaluated(evaluation, config.item_level)
            console.say(console.evaluation_line(evaluation, config.item_level))
        if step % t.checkpoint_every == 0 or step == t.steps:
            checkpoints.save(folder / "checkpoints", step, models.state_dict())
            bank.prune(checkpoints.oldest_step(folder / "checkpoints"))
        bar.advance()

    bar.close()
    scalars.close()
    _store_final(models, bank)
    if not (folder / FINISHED).is_file():
        done = {"step": t.steps, "peak_memory_mib": backend.peak_memory_mib}
        write_atomically(folder / FINISHED, json.dumps(done) + "\n")
    return folder


def _restore(folder: Path, models: Models, bank: SampleBank) -> int:
    """Go back to the last checkpoint; what was written after it will be written again."""
    state = checkpoints.load_latest(folder / "checkpoints")
    step = 0
    if state is not None:
        step = state.pop("step")
        models.load_state_dict(state)
    bank.truncate_after(step)
    for name in ("log.jsonl", "evaluations.jsonl"):
        truncate_after(folder / name, step)
    console.say(f"resuming {folder} after step {step} of {models.config.train.steps}")
    return step


def _record(
    step: int, epoch: int, terms: Terms, chains: Trainer | None, clock: Clock
) -> dict[str, Any]:
    """A line of log.jsonl."""
    record: dict[str, Any] = {
        "step": step,
        "epoch": epoch,
        **({} if chains is None else _phase(chains)),
        **{name: value.item() for name, value in terms.items()},
    }
    return record | clock.lap()


def _phase(chains: Trainer) -> dict[str, Any]:
    """What the sampler does; kinetic temperatures are means over chains."""
    chain = chains.discriminators[0]
    group = chain.optimizer.param_groups[0]
    record: dict[str, Any] = {
        "phase": "sampling" if chain.is_sampling else "burn_in",
        "lr": group["lr"],
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


def _evaluate(
    step: int,
    models: Models,
    bank: SampleBank,
    manifest: Manifest,
    frames: Frames,
    folder: Path,
) -> dict[str, Any]:
    """The posterior so far and the supervised network on the probe items."""
    started = time.perf_counter()
    config, backend = models.config, models.backend
    split, level = config.train.evaluate_on, config.item_level
    items = manifest.part(split)
    labels = torch.tensor([item.label for item in items])
    networks: dict[str, Networks] = {}
    steps = {record.step for record in bank.records("discriminator")}
    if steps:
        module = empty_discriminator(config, manifest).to(backend.device)
        networks["bayesian"] = Stored(bank, "discriminator", module)
    elif models.chains is not None:
        networks["bayesian"] = Current(models.discriminators)
    for learner in models.learners:
        if learner.answers_alone:
            networks[learner.model] = Current(learner.networks)
    predictions = predict_all(networks, test_chunks(items, frames, config), backend)
    record: dict[str, Any] = {
        "step": step,
        "split": split,
        "samples": len(steps),
        "models": {name: figures(p, labels, level) for name, p in predictions.items()},
    }
    if steps:
        record["diagnostics"] = diagnosis.diagnose(folder, config, predictions["bayesian"], labels)
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


def _store_final(models: Models, bank: SampleBank) -> None:
    """What evaluation and sampling read: the last weights beside the posterior samples."""
    last: dict[str, Sequence[nn.Module]] = {"generator": models.generators}
    last |= {m.model: m.networks for m in models.learners if not m.is_sampled}
    if not models.samples_posterior:
        last["discriminator"] = models.discriminators
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, models.config.train.steps, j, network.state_dict())


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
