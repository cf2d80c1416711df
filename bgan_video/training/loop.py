"""Training, top to bottom."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from bgan_video import precision
from bgan_video.config import Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Manifest
from bgan_video.data.streams import labelled_batches, unlabelled_batches
from bgan_video.errors import UserError
from bgan_video.evaluation.clips import test_chunks
from bgan_video.evaluation.predict import Current, Networks, Stored, figures, predict_all
from bgan_video.evaluation.trained import FINISHED, empty_discriminator
from bgan_video.files import append_line, truncate_after, write_atomically
from bgan_video.inference import SampleBank
from bgan_video.training import checkpoints, console, run_folder, samples
from bgan_video.training.chains import step_sizes
from bgan_video.training.clock import Clock
from bgan_video.training.plan import network_sizes
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
    backend = precision.resolve(config.run)
    network_sizes(config, num_classes=2)  # a mistake shows before the videos are read
    manifest, broken, frames = run_folder.prepare_data(config)
    unlabelled_items, labelled_items = manifest.part("train"), manifest.labelled
    trainer = Trainer(config, DataSize(manifest.num_classes, len(unlabelled_items)), backend)
    if resume is None:
        folder = run_folder.create(config, backend, manifest, broken)
    else:
        folder = resume
        run_folder.check_unchanged(folder, manifest, backend)
    bank = SampleBank(folder / "posterior", config.posterior.max_samples)
    first = _restore(folder, trainer, bank) if resume else 0

    t = config.train
    labelled = labelled_batches(labelled_items, frames, config, first)
    unlabelled = unlabelled_batches(unlabelled_items, frames, config, first)
    schedule = step_sizes(config) if config.posterior.bayes else None
    batches_per_epoch = math.ceil(len(unlabelled_items) / t.batch_size)
    epochs = math.ceil(t.steps / batches_per_epoch)
    bar = console.Console(first, t.steps)
    console.say(_describe(config, manifest, trainer))
    clock = Clock()

    for step in range(first + 1, t.steps + 1):  # the number of steps done after this one
        epoch = (step - 1) // batches_per_epoch
        with clock.waiting():
            batch_lb, batch_ulb = next(labelled), next(unlabelled)
        if step == 1:
            samples.write_real(folder / "samples", batch_ulb.weak)

        terms = trainer.step(step - 1, batch_lb, batch_ulb)
        clock.count(len(batch_lb.y) + len(batch_ulb.weak))

        if schedule is not None and schedule.takes_sample(step - 1):
            for j, chain in enumerate(trainer.discriminators):
                state = chain.network.state_dict()
                temperature = config.posterior.temperature
                bank.add("discriminator", step, j, state, temperature=temperature)
        if step % t.log_every == 0 or step == t.steps:
            record = _record(step, epoch, terms, trainer, clock)
            _check_finite(record)
            append_line(folder / "log.jsonl", record)
            console.say(console.console_line(record, epochs, batches_per_epoch))
        if step % t.sample_every == 0 or step == t.steps:
            samples.write_fake(folder / "samples", trainer, epoch)
        if step % t.evaluate_every == 0 and manifest.part("validation"):
            evaluation = _validate(step, trainer, bank, manifest, frames)
            append_line(folder / "evaluations.jsonl", evaluation)
            console.say(console.evaluation_line(evaluation))
        if step % t.checkpoint_every == 0 or step == t.steps:
            checkpoints.save(folder / "checkpoints", step, trainer.state_dict())
            bank.prune(checkpoints.oldest_step(folder / "checkpoints"))
        bar.advance()

    bar.close()
    _store_final(trainer, bank)
    write_atomically(folder / FINISHED, json.dumps({"step": t.steps}) + "\n")
    return folder


def _restore(folder: Path, trainer: Trainer, bank: SampleBank) -> int:
    """Go back to the last checkpoint; what was written after it will be written again."""
    state = checkpoints.load_latest(folder / "checkpoints", trainer.backend.device)
    step = 0
    if state is not None:
        step = state.pop("step")
        trainer.load_state_dict(state)
    bank.truncate_after(step)
    for name in ("log.jsonl", "evaluations.jsonl"):
        truncate_after(folder / name, step)
    console.say(f"resuming {folder} after step {step} of {trainer.config.train.steps}")
    return step


def _record(step: int, epoch: int, terms: Terms, trainer: Trainer, clock: Clock) -> dict[str, Any]:
    """A line of log.jsonl; the kinetic temperature is the mean over tensors and chains."""
    chain = trainer.discriminators[0]
    record: dict[str, Any] = {
        "step": step,
        "epoch": epoch,
        "phase": "sampling" if chain.is_sampling else "burn_in",
        "lr": chain.optimizer.param_groups[0]["lr"],
        **{name: value.item() for name, value in terms.items()},
    }
    temperatures = [t for c in trainer.discriminators for t in c.temperatures()]
    if temperatures:
        record["temperature"] = chain.optimizer.param_groups[0]["temperature"]
        record["kinetic_temperature"] = sum(temperatures) / len(temperatures)
    return record | clock.lap()


def _check_finite(record: dict[str, Any]) -> None:
    bad = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
    if bad:
        raise UserError(
            f"{bad[0]} is not finite at step {record['step']}; try a lower posterior.lr, "
            f"posterior.burn_in_lr or posterior.temperature"
        )


def _validate(
    step: int, trainer: Trainer, bank: SampleBank, manifest: Manifest, frames: Frames
) -> dict[str, Any]:
    """The posterior so far and the supervised network on the validation groups."""
    started = time.perf_counter()
    config, backend = trainer.config, trainer.backend
    items = manifest.part("validation")
    labels = torch.tensor([item.label for item in items])
    networks: dict[str, Networks] = {
        "bayesian": Current([chain.network for chain in trainer.discriminators])
    }
    if bank.records("discriminator"):
        module = empty_discriminator(config, manifest).to(backend.device)
        networks["bayesian"] = Stored(bank, "discriminator", module)
    if trainer.supervised is not None:
        networks["supervised"] = Current([trainer.supervised])
    predictions = predict_all(networks, test_chunks(items, frames, config), backend)
    models = {name: figures(prediction, labels) for name, prediction in predictions.items()}
    steps = {record.step for record in bank.records("discriminator")}
    return {
        "step": step,
        "split": "validation",
        "seconds": time.perf_counter() - started,
        "samples": len(steps),
        "models": models,
    }


def _store_final(trainer: Trainer, bank: SampleBank) -> None:
    """What evaluation and sampling read: the last weights beside the posterior samples."""
    step = trainer.config.train.steps
    if not trainer.config.posterior.bayes:
        for j, chain in enumerate(trainer.discriminators):
            bank.add("discriminator", step, j, chain.network.state_dict())
    for j, chain in enumerate(trainer.generators):
        bank.add("generator", step, j, chain.network.state_dict())
    if trainer.supervised is not None:
        bank.add("supervised", step, 0, trainer.supervised.state_dict())


def _describe(config: Config, manifest: Manifest, trainer: Trainer) -> str:
    return (
        f"{manifest.name}, fold {manifest.fold}: {len(manifest.labelled)} labelled of "
        f"{len(manifest.part('train'))} training videos, "
        f"{len(manifest.part('validation'))} for validation, "
        f"{len(manifest.part('test'))} for test, {manifest.num_classes} classes\n"
        f"{len(trainer.generators)} generators, {len(trainer.discriminators)} discriminators, "
        f"{trainer.backend.precision} on {trainer.backend.hardware}; run folder {config.run_dir}"
    )
