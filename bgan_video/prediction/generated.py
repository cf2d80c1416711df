"""What a run's stored generators make, and how far it is from real items."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from bgan_video import rng
from bgan_video.config import Config
from bgan_video.data.manifest import Split
from bgan_video.data.parallel import Progress, silent
from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.metrics.looks import (
    Looks,
    against,
    mean_change,
    nearest_distance,
    top_frequency,
    with_classes,
)
from bgan_video.metrics.quality import Quality, quality
from bgan_video.models import build_generator, draw_latents, nd
from bgan_video.prediction import extractors
from bgan_video.prediction.chunks import test_chunks
from bgan_video.prediction.extractors import Extractor, Judged
from bgan_video.prediction.selection import BATCH, CALIBRATION, PROPOSALS, Chooser
from bgan_video.prediction.trained import TrainedRun
from bgan_video.sampling import Record

MAX_COUNT = 2000
"""Clips or images of a set: the Fréchet distance takes a matrix root of each."""
SHOWN = 12
"""Real items that stand beside generated ones, at most."""


@torch.no_grad()
def generate(
    run: TrainedRun, count: int, choose: Chooser | None = None, progress: Progress = silent
) -> Iterator[tuple[str, Tensor]]:
    """Items of every generator chain, always from the same latents.

    Args:
        run: Whose generators.
        count: Items of each.
        choose: Choose them among more by the run's judges of looks (`chooser`).
        progress: Wraps the batches of each generator.

    Yields:
        The chain's name `z<group>_m<member>` and its items `[count, C, (T,) H, W]` on the CPU.

    Raises:
        UserError: The run has no generator.
    """
    config, device = run.config, run.backend.device
    _chains(run)
    with torch.random.fork_rng(devices=[]):
        module = build_generator(config).to(device).eval()

    def made(count: int, *stream: str | int) -> Iterator[Tensor]:
        z = draw_latents(config, count, rng.generator(config.run.seed, *stream)).split(BATCH)
        for part in progress(z, f"{count} items of a generator, batches", len(z)):
            with run.backend.autocast():
                yield module(part.to(device)).items.float().cpu()

    for record, state in run.bank.iterate("generator"):
        module.load_state_dict(state)
        group, member = divmod(record.chain, config.posterior.num_mcmc)
        name = f"z{group:02d}_m{member:02d}"
        if choose is None:
            yield name, torch.cat(list(made(count, "generate", record.chain)))
            continue
        held = torch.cat(list(made(CALIBRATION, "calibrate", record.chain)))
        choose.begin(name, record.chain, held)
        proposals = made(count * PROPOSALS, "generate", record.chain)
        yield name, torch.cat([choose(items) for items in proposals])


def chooser(run: TrainedRun) -> Chooser:
    """What chooses among a run's generated items, held to its validation items where it has some.

    Raises:
        UserError: Nothing in the run learned to tell generated items from real ones.
    """
    if not run.manifest.part("validation"):
        return Chooser(run, None)
    real = torch.cat(list(_real(run, run.config, "validation", CALIBRATION)))
    if run.config.generator.size is not None:
        real = nd.resized(real, run.config.generator.size)
    return Chooser(run, real)


def measure(
    run: TrainedRun,
    extractor: Extractor | TrainedRun | None = None,
    select: bool = False,
    progress: Progress = silent,
) -> tuple[Quality, Looks]:
    """Generated items against test items, in the features of an extractor.

    All generators give equally many. Test videos give the clips that evaluation looks at, training
    videos as many, so that a set of few videos is not a set of few clips. Both results are stored
    in the run's `quality.json`.

    Args:
        run: Whose generators and test items.
        extractor: What makes the features (`extractors.named`), or the run whose supervised network
            does; by default the run itself.
        select: Choose the generated ones among more (`chooser`).
        progress: Wraps what is made and what is looked at.

    Raises:
        UserError: No generator, too few items, or as `extractors.of_run`.
    """
    chains = _chains(run)
    if not isinstance(extractor, Extractor):
        extractor = extractors.of_run(run, extractor or run)
    real = torch.cat(list(_real(run, run.config, "test")))
    each = math.ceil(len(real) / len(chains))
    choose = chooser(run) if select else None
    made = dict(generate(run, each, choose, progress))
    items, of_same_size = torch.cat(list(made.values())), real
    if run.config.generator.size is not None:
        of_same_size = nd.resized(real, run.config.generator.size)
        made = {name: nd.resized(x, run.config.clip.size) for name, x in made.items()}

    def judged(batches: Iterable[Tensor], of: str, count: int) -> Judged:
        return extractor.judged(progress(batches, f"features of {of}, batches", count))

    parts = {name: x.split(BATCH) for name, x in made.items()}
    of_made = {name: judged(x, "generated items", len(x)) for name, x in parts.items()}
    of_real, _ = judged(batches := real.split(BATCH), "test items", len(batches))
    training, _ = judged(_real(run, run.config, "train"), "training items", len(batches))
    fake = torch.cat([features for features, _ in of_made.values()])
    random = rng.generator(run.config.run.seed, "quality")
    distances = quality(of_real, training, fake, extractor.name, random)
    looks = Looks(
        change=against(mean_change, items, of_same_size) if real.ndim == 5 else None,
        top_frequency=against(top_frequency, items, of_same_size) if real.ndim > 2 else None,
        nearest_training=against(lambda x: nearest_distance(x, training), fake, of_real),
    )
    if told := {name: p for name, (_, p) in of_made.items() if p is not None}:
        looks = with_classes(looks, told)
    found = dataclasses.asdict(distances) | {
        "selected": select,
        "log_odds_times": choose.slopes if choose else None,
        "looks": dataclasses.asdict(looks),
    }
    write_atomically(run.folder / "quality.json", json.dumps(found, indent=2) + "\n")
    return distances, looks


def side_by_side(run: TrainedRun, select: bool = False) -> tuple[Tensor, Tensor]:
    """Real and generated items to be looked at together: as many of each, of all generators.

    Args:
        run: Whose generators and test items.
        select: Choose the generated ones among more (`chooser`).

    Returns:
        One clip of each of some test videos and generated clips, `[N, C, (T,) H, W]` both.

    Raises:
        UserError: As in `generate` and `chooser`, or there are no test items.
    """
    chains = _chains(run)
    one_each = dataclasses.replace(
        run.config, clip=dataclasses.replace(run.config.clip, test_clips=1)
    )
    real = torch.cat(list(_real(run, one_each, "test", SHOWN)))
    each = math.ceil(len(real) / len(chains))
    made = torch.cat([items for _, items in generate(run, each, chooser(run) if select else None)])
    made = made[torch.linspace(0, len(made) - 1, len(real)).long()]  # of each generator some
    return nd.resized(real, made.shape[-1]), made


def _chains(run: TrainedRun) -> list[Record]:
    """The generators a run has, at least one."""
    chains = run.bank.records("generator")
    if not chains:
        run.check_knows_items()
        raise UserError(
            f"{run.folder} trained no generator (objective.adversarial_weight=0 without a "
            f"critic, or no bayesian_gan among baseline.methods)"
        )
    return chains


def _real(run: TrainedRun, config: Config, part: Split, most: int = MAX_COUNT) -> Iterator[Tensor]:
    """The clips, or the image, of items of a part, `most` in all or a few more.

    Raises:
        UserError: The part has none.
    """
    if not run.manifest.part(part):
        raise UserError(
            f"{run.folder}: fold {run.manifest.fold} has no {part} {config.items}, which generated "
            f"ones are held against"
        )
    config = dataclasses.replace(config, clip=dataclasses.replace(config.clip, test_crops=1))
    count = math.ceil(most / config.clip.test_clips)
    items = rng.shuffled(run.manifest.part(part), config.run.seed, "quality")[:count]
    for chunk in test_chunks(items, run.frames(items), config):
        yield from chunk.clips.split(BATCH)
