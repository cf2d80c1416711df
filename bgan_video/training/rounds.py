"""From round to round: the pool is judged, and what is believed becomes training data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bgan_video import ranks
from bgan_video.config import BELIEVERS, Config
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import class_frequencies
from bgan_video.files import write_atomically
from bgan_video.method import rounds
from bgan_video.method.class_weights import class_weights
from bgan_video.prediction import on_features
from bgan_video.prediction.predict import Prediction
from bgan_video.training import console

FOLDER = "pseudo_labels"

Believed = Mapping[str, Sequence[Item]]
"""Items with the pseudo-label that a method gives them."""


@dataclass(frozen=True)
class Pool:
    """The unlabelled training items, in the manifest's order."""

    manifest: Manifest
    config: Config

    @property
    def items(self) -> list[Item]:
        """What a round may believe."""
        return [item for item in self.manifest.part("train") if not item.labelled]

    def learned(self, method: str, believed: Sequence[Item]) -> Tensor:
        """The prior of classes `[K]` that a method's networks learn, in parts of 1.

        Class by class how often it is drawn, times what a clip of it weighs in the loss. A class
        without a label counts as one: what a teacher says of it is noise, not evidence.

        Args:
            method: A believer.
            believed: Items with the pseudo-labels that it learns from.
        """
        labelled, config = self.manifest.labelled, self.config
        num_classes, total = self.manifest.num_classes, len(labelled) + len(believed)
        if method == "self_training_probe":
            labels = torch.tensor([item.label for item in (*labelled, *believed)])
            weights = on_features.counts(labelled, believed, config)
            found = torch.bincount(labels, weights, minlength=num_classes)
        else:
            drawn = class_frequencies(labelled, believed, config, num_classes)
            weights = class_weights(config.train.class_weights, drawn, total)
            found = torch.tensor(drawn).double() * torch.tensor(weights or (1.0,)).double()
        return (found / found.sum()).clamp_min(1 / total)

    @property
    def is_large_enough(self) -> bool:
        """Whether pseudo-labels are believed at all."""
        labelled, in_pool = len(self.manifest.labelled), len(self.items)
        return rounds.has_pool(self.config.rounds, labelled, in_pool)


def believers(config: Config) -> list[str]:
    """The methods of a run that learn from pseudo-labels."""
    return [method for method in config.baseline.methods if method in BELIEVERS]


def path(folder: Path, number: int) -> Path:
    """Where the pseudo-labels that a round learns from are written."""
    return folder / FOLDER / f"round_{number:02d}.jsonl"


def judge(
    number: int,
    teach: Callable[[Sequence[Item]], Mapping[str, Prediction]],
    pool: Pool,
    folder: Path,
    voices: float = 1.0,
) -> None:
    """Write what round `number` believes, with the networks of the round before as teachers.

    All ranks ask the teachers; the first one writes, and what it wrote is what all believe.

    Args:
        number: From 1.
        teach: What the teacher of each method that believes says of items.
        pool: What is judged.
        folder: The run's.
        voices: Of the Bayesian GAN's bodies: to which power its answers carry the prior that each
            has learned. With the product of bodies that is their number.
    """
    lines: list[dict[str, Any]] = []
    items = pool.items
    if items and pool.is_large_enough:
        before = believed(folder, number - 1, pool)
        for method, prediction in teach(items).items():
            said, taught = _Said.of(prediction), before.get(method, ())
            learned = pool.learned(method, taught) ** (voices if method == "bayesian_gan" else 1.0)
            was = {item.path: item.label for item in taught}
            for belief in _believe(number, said, pool, learned):
                item = items[belief.index]
                label = was.get(item.path)
                line = _line(method, item, belief, said, pool.manifest)
                lines.append(line | {"changed": None if label is None else label != belief.label})
    if ranks.is_first():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        path(folder, number).parent.mkdir(exist_ok=True)
        write_atomically(path(folder, number), text)
    ranks.meet(folder / FOLDER)


def read(folder: Path, number: int) -> list[dict[str, Any]]:
    """The lines of a round; none of round 0."""
    file = path(folder, number)
    lines = file.read_text(encoding="utf-8").splitlines() if number > 0 else []
    return [json.loads(line) for line in lines]


def believed(folder: Path, number: int, pool: Pool) -> Believed:
    """What a round learns from beside the labels; no method is in it where nothing is believed."""
    by_path = {item.path: item for item in pool.items}
    by_method: dict[str, list[Item]] = {}
    for line in read(folder, number):
        item = dataclasses.replace(by_path[line["path"]], label=line["label"], labelled=True)
        by_method.setdefault(line["model"], []).append(item)
    return by_method


def forget_after(folder: Path, number: int) -> None:
    """Remove what rounds after `number` believe: a run resumed in it will judge anew."""
    for file in (folder / FOLDER).glob("round_*.jsonl"):
        if int(file.stem.removeprefix("round_")) > number:
            file.unlink()


def say(folder: Path, number: int, pool: Pool) -> None:
    """What a round believes, on the console."""
    total = len(pool.items)
    if not pool.is_large_enough:
        console.say(
            f"round {number}: nothing is believed, since {total} unlabelled {pool.config.items} "
            f"stand against {len(pool.manifest.labelled)} labelled ones "
            f"(rounds.min_pool={pool.config.rounds.min_pool:g}); labels alone are learned from"
        )
        return
    lines = read(folder, number)
    for method in believers(pool.config):
        of_method = [line for line in lines if line["model"] == method]
        certain = [line["probability"] for line in of_method]
        changed = sum(bool(line["changed"]) for line in of_method)
        span = f", certain to {min(certain):.2f} and more" if certain else ""
        console.say(
            f"round {number}: {method} believes {len(of_method)} of {total} unlabelled "
            f"{pool.config.items}{span}; {changed} changed their class"
        )


class _Said(NamedTuple):
    """What a teacher says of the pool.

    Attributes:
        probabilities: `[V, K]`.
        total_entropy: `[V]`, nats.
        mutual_information: `[V]`, nats.
    """

    probabilities: Tensor
    total_entropy: Tensor
    mutual_information: Tensor

    @staticmethod
    def of(p: Prediction) -> _Said:
        return _Said(p.video_probabilities, p.total_entropy, p.mutual_information)


def _believe(number: int, said: _Said, pool: Pool, learned: Tensor) -> list[rounds.Belief]:
    settings, p = pool.config.rounds, said.probabilities
    strange = rounds.strangers(settings, said.total_entropy)
    prior = rounds.class_prior(settings, p[~strange], learned)
    known = int((~strange).sum())
    numbers = rounds.quotas(settings, number, pool.config.train.rounds, known, prior)
    certain = rounds.certainty(settings, p, said.mutual_information)
    return rounds.believe(p, certain, numbers, strange)


def _line(
    method: str, item: Item, belief: rounds.Belief, said: _Said, manifest: Manifest
) -> dict[str, Any]:
    return {
        "model": method,
        "path": item.path,
        "label": belief.label,
        "class": manifest.classes[belief.label],
        "probability": said.probabilities[belief.index, belief.label].item(),
        "certainty": belief.certainty,
        "total_entropy": said.total_entropy[belief.index].item(),
        "mutual_information": said.mutual_information[belief.index].item(),
    }
