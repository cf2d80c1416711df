"""Which videos to label next, as a table a person fills in and a run reads back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from bgan_video.acquisition import batchbald, coverage
from bgan_video.acquisition.batchbald import Choice
from bgan_video.acquisition.coverage import CopiesOf, Floats
from bgan_video.acquisition.notes import COPY
from bgan_video.config import LABEL_CHOICES, Data
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.recordings import recording
from bgan_video.data.texts import plain, read_table
from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.metrics.entropy import entropy

By = Literal["auto", "typical", "information"]
"""How videos are chosen: `typical` (coverage.py), by `information` (batchbald.py), or `auto`."""

TYPICAL_LABELS = 4
"""Labels a class up to which `auto` is `typical`; docs/labelling.md says what that was seen on."""

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
    "note",
    "bodies",
)


@dataclass(frozen=True)
class Guess:
    """What one of several bodies alone takes a video for, and how probable it finds that."""

    body: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Suggestion:
    """An unlabelled video worth a label. Entropies and information in nats.

    Where nothing was trained yet, all figures are None.

    Attributes:
        rank: From 1.
        path: As in the manifest.
        group: The recording or person it is from.
        predicted: The class that the run answers.
        probability: Of that class.
        mutual_information: Between its label and the weights.
        gain: Information its label adds to those of the ranks before it; None where that is next to
            nothing, and of typical videos.
        total_entropy: Of the answer.
        copies: Paths of the unlabelled near-copies of its recording, which its label answers for.
        bodies: What each of several bodies alone takes it for; empty where one answers.
    """

    rank: int
    path: str
    group: str
    predicted: str | None
    probability: float | None
    mutual_information: float | None
    gain: float | None
    total_entropy: float | None
    copies: tuple[str, ...] = ()
    bodies: tuple[Guess, ...] = ()


class Answers(NamedTuple):
    """What a run says of candidates.

    Attributes:
        together: `[N, K]`, its answer: the networks' mean, or what several bodies say together.
        networks: `[S, N, K]`, each network's own, whose differences are information.
        bodies: `[N, K]` of each of several bodies, by its name; empty where one answers.
    """

    together: Tensor
    networks: Tensor
    bodies: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Space:
    """Where videos lie.

    Attributes:
        items: The labelled ones and the candidates.
        vectors: `[V, L]`, of length 1 (`coverage.unit_vectors`).
        tells_copies: Whether near-copies of a recording are known by them: of a pretrained body.
    """

    items: Sequence[Item]
    vectors: Floats
    tells_copies: bool


def check_by(by: str) -> By:
    """Raises UserError where there is no such way to choose."""
    if by not in get_args(By):
        raise UserError(f"--by={by}; allowed: {', '.join(get_args(By))}")
    return by  # pyright: ignore[reportReturnType] - one of the literals


def is_typical(by: By, num_labelled: int, num_classes: int) -> bool:
    """Whether the most typical videos are asked for: `auto` asks for them while labels are few."""
    return by == "typical" or (by == "auto" and num_labelled < TYPICAL_LABELS * num_classes)


def choose(
    items: Sequence[Item],
    said: Answers,
    manifest: Manifest,
    data: Data,
    budget: int,
    generator: torch.Generator,
    space: Space | None = None,
) -> list[Suggestion]:
    """At most `budget` of `items`, in the order in which `batchbald.suggest` chooses them.

    Args:
        items: Unlabelled videos.
        said: Of these items.
        manifest: Has the names of the classes.
        data: Says which groups are recordings.
        budget: >= 1.
        generator: Of the estimate of joint information, on the CPU.
        space: Of these items, in this order, where it tells near-copies.
    """
    copies_of = _copies_of(space, data)
    cut_from = _recordings(items, data)
    chosen = batchbald.suggest(said.networks, cut_from, budget, generator, copies_of)
    copies = _copies([choice.index for choice in chosen], items, copies_of)
    return _suggestions(chosen, items, said, manifest, copies)


def choose_typical(
    space: Space,
    said: Answers | None,
    manifest: Manifest,
    data: Data,
    budget: int,
    seed: int,
) -> list[Suggestion]:
    """At most `budget` unlabelled videos, in the order in which `coverage.typical` chooses them.

    Args:
        space: Of labelled videos and candidates.
        said: Of the candidates in their order; None where nothing was trained yet.
        manifest: Has the names of the classes.
        data: Says which groups are recordings.
        budget: >= 1.
        seed: Of the clusters.
    """
    cut_from = _recordings(space.items, data)
    known = [i for i, item in enumerate(space.items) if item.labelled]
    candidates = [i for i, item in enumerate(space.items) if not item.labelled]
    place = {index: place for place, index in enumerate(candidates)}
    copies_of = _copies_of(space, data)
    found = coverage.typical(space.vectors, known, cut_from, budget, seed, copies_of)
    chosen = [_judged(place[index], said) for index in found]
    copies = _copies(found, space.items, copies_of)
    items = [space.items[i] for i in candidates]
    return _suggestions(chosen, items, said, manifest, copies)


def _copies_of(space: Space | None, data: Data) -> CopiesOf:
    """The unlabelled near-copies of an item of a space, where it tells them."""
    if space is None or not space.tells_copies:
        return lambda _: ()
    cut_from = _recordings(space.items, data)
    unlabelled = [i for i, item in enumerate(space.items) if not item.labelled]
    return lambda index: coverage.near_copies(space.vectors, index, unlabelled, cut_from)


def _copies(
    chosen: Sequence[int], items: Sequence[Item], copies_of: CopiesOf
) -> dict[str, tuple[str, ...]]:
    """Paths of each chosen item's near-copies; one of several items' is the first one's."""
    answered = set(chosen)
    copies: dict[str, tuple[str, ...]] = {}
    for index in chosen:
        near = [i for i in copies_of(index) if i not in answered]
        answered.update(near)
        copies[items[index].path] = tuple(items[i].path for i in near)
    return copies


def check_free(file: Path, manifest: Manifest | None = None) -> None:
    """Raises UserError where the file is there, and someone has filled in answers.

    Args:
        file: Perhaps a table of suggestions.
        manifest: Where it is known already, whose labels are no answers; those of other rows are.
    """
    if _is_filled_in(file, manifest):
        raise UserError(f"{file} has answers filled in; move it, or choose another file with --out")


def write_csv(file: Path, chosen: Sequence[Suggestion], manifest: Manifest) -> None:
    """The suggestions with an empty label each, and below them the labels the run had.

    One file thus holds all labels of the next run.

    Raises:
        UserError: As `check_free` and `write_rows`.
    """
    check_free(file, manifest)
    write_rows(file, [*suggested_rows(chosen), *labelled_rows(manifest)])


def write_rows(file: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a table of suggestions, whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    # With the mark by which a spreadsheet knows UTF-8: else it saves other letters than it read.
    try:
        write_atomically(file, text.getvalue().encode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a table of suggestions; a column that is missing is empty.

    Raises:
        UserError: It does not read, or is no such table.
    """
    table = read_table(file)
    if not {"path", "label", "rank"} <= {*table.columns}:
        raise UserError(f"{file} is no table of suggestions: it has no columns path, label, rank")
    return [{name: row.cells.get(name) or "" for name in COLUMNS} for row in table.rows]


def suggested_rows(chosen: Sequence[Suggestion], first: int = 1) -> list[dict[str, str]]:
    """A row for each suggestion, and one below it for each near-copy; ranks begin at `first`."""
    rows: list[dict[str, str]] = []
    for rank, s in enumerate(chosen, first):
        numbers = {
            "probability": s.probability,
            "mutual_information": s.mutual_information,
            "gain": s.gain,
            "total_entropy": s.total_entropy,
        }
        shown = {name: f"{value:.6f}" for name, value in numbers.items() if value is not None}
        words = {"path": s.path, "rank": str(rank), "predicted": s.predicted or ""}
        alone = "; ".join(f"{g.body}: {g.predicted} {g.probability:.2f}" for g in s.bodies)
        rows.append(words | shown | {"group": s.group, "bodies": alone})
        rows += [{"path": p, "group": s.group, "note": f"{COPY}{rank}"} for p in s.copies]
    return rows


def settings_of(file: Path, data: Data) -> list[str]:
    """The `key=value` by which a run takes its labels from a table, not as `data` says.

    What began with a table already began with a recipe, nearly all of which name labels a class.
    """
    others = [
        key for key in LABEL_CHOICES if key != "label_list" and getattr(data, key) is not None
    ]
    off = [f"data.{key}=null" for key in others or ["labels_per_class"]]
    return [*off, f"data.label_list={file}"]


def labelled_rows(manifest: Manifest) -> list[dict[str, str]]:
    """A row for each label that a run had."""
    return [
        {"path": item.path, "label": manifest.classes[item.label], "group": item.group}
        for item in manifest.labelled
    ]


def _recordings(items: Sequence[Item], data: Data) -> list[str]:
    return [recording(item.label, item.group, data) for item in items]


def _judged(index: int, said: Answers | None) -> Choice:
    """What the networks make of a candidate that was chosen without them."""
    if said is None:
        return Choice(index, None, 0.0)
    p = said.networks[:, index].double()
    information = (entropy(p.mean(dim=0)) - entropy(p).mean()).clamp_min(0)
    return Choice(index, None, float(information))


def _suggestions(
    chosen: Sequence[Choice],
    items: Sequence[Item],
    said: Answers | None,
    manifest: Manifest,
    copies: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Suggestion]:
    near = copies or {}
    found: list[Suggestion] = []
    for rank, choice in enumerate(chosen, 1):
        item = items[choice.index]
        where = (rank, item.path, item.group)
        others = near.get(item.path, ())
        if said is None:
            found.append(Suggestion(*where, None, None, None, None, None, others))
            continue
        answer = said.together[choice.index]
        told = (choice.mutual_information, choice.gain, float(entropy(answer)))
        bodies = (
            Guess(name, *_best(p[choice.index], manifest.classes))
            for name, p in said.bodies.items()
        )
        guess = _best(answer, manifest.classes)
        found.append(Suggestion(*where, *guess, *told, others, tuple(bodies)))
    return found


def _best(p: Tensor, classes: Sequence[str]) -> tuple[str, float]:
    """The most probable class and its probability, of `[K]`."""
    value, index = p.max(dim=0)
    return classes[int(index)], float(value)


def _is_filled_in(file: Path, manifest: Manifest | None) -> bool:
    """Whether a table of suggestions holds work that must not be lost: labels, or notes alone.

    Labels of rows that were not asked for are a person's too, unless the manifest has the same.
    """
    if not file.is_file():
        return False
    had = {_labelling(row) for row in labelled_rows(manifest)} if manifest else None

    def is_answer(row: Mapping[str, str]) -> bool:
        if row["rank"]:
            return bool(row["label"] or row["note"])
        return bool(row["label"]) and had is not None and _labelling(row) not in had

    return any(map(is_answer, read_rows(file)))


def _labelling(row: Mapping[str, str]) -> tuple[str, str]:
    """A video and its label, as a table has them."""
    return plain(row["path"]), plain(row["label"])
