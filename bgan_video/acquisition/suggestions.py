"""Which videos to label next, as a table a person fills in and a run reads back."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bgan_video.acquisition import batchbald
from bgan_video.config import Data
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.recordings import recording
from bgan_video.data.texts import read_table
from bgan_video.errors import UserError
from bgan_video.files import write_atomically

COLUMNS: tuple[str, ...] = (
    "path",
    "label",
    "rank",
    "predicted",
    "probability",
    "mutual_information",
    "gain",
    "total_entropy",
    "group",
)


@dataclass(frozen=True)
class Suggestion:
    """An unlabelled video worth a label. Entropies and information in nats.

    Attributes:
        rank: From 1.
        path: As in the manifest.
        group: The recording or person it is from.
        predicted: The class the posterior mean prefers.
        probability: Of that class.
        mutual_information: Between its label and the weights.
        gain: Information its label adds to those of the ranks before it; None past the point where
            the stored networks can tell no more.
        total_entropy: Of the posterior-mean probabilities.
    """

    rank: int
    path: str
    group: str
    predicted: str
    probability: float
    mutual_information: float
    gain: float | None
    total_entropy: float


def choose(
    items: Sequence[Item],
    network_probabilities: Tensor,
    manifest: Manifest,
    data: Data,
    budget: int,
    generator: torch.Generator,
) -> list[Suggestion]:
    """At most `budget` of `items`, in the order in which `batchbald.suggest` chooses them.

    Args:
        items: Unlabelled videos.
        network_probabilities: Of these items, by the posterior's networks, `[S, N, K]`.
        manifest: Has the names of the classes.
        data: Says which groups are recordings.
        budget: >= 1.
        generator: Of the estimate of joint information, on the CPU.
    """
    cut_from = [recording(item.label, item.group, data) for item in items]
    chosen = batchbald.suggest(network_probabilities, cut_from, budget, generator)
    best = network_probabilities.mean(dim=0).max(dim=1)
    return [
        Suggestion(
            rank,
            items[choice.index].path,
            items[choice.index].group,
            manifest.classes[int(best.indices[choice.index])],
            float(best.values[choice.index]),
            choice.mutual_information,
            choice.gain,
            choice.entropy,
        )
        for rank, choice in enumerate(chosen, 1)
    ]


def write_csv(file: Path, chosen: Sequence[Suggestion], manifest: Manifest) -> None:
    """The suggestions with an empty label each, and below them the labels the run had.

    One file thus holds all labels of the next run.

    Raises:
        UserError: The file is there, and someone has filled in labels.
    """
    if _is_filled_in(file):
        raise UserError(f"{file} has labels filled in; move it, or choose another file with --out")
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for s in chosen:
        numbers = {
            "probability": s.probability,
            "mutual_information": s.mutual_information,
            "gain": s.gain,
            "total_entropy": s.total_entropy,
        }
        shown = {name: f"{value:.6f}" for name, value in numbers.items() if value is not None}
        words = {"path": s.path, "rank": s.rank, "predicted": s.predicted, "group": s.group}
        table.writerow(words | shown)
    for item in manifest.labelled:
        row = {"path": item.path, "label": manifest.classes[item.label], "group": item.group}
        table.writerow(row)
    # With the mark by which a spreadsheet knows UTF-8: else it saves other letters than it read.
    write_atomically(file, text.getvalue().encode("utf-8-sig"))


def _is_filled_in(file: Path) -> bool:
    """Whether a table of suggestions holds work that must not be lost."""
    if not file.is_file():
        return False
    return any(row.cells.get("rank") and row.cells.get("label") for row in read_table(file).rows)
