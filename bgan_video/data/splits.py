"""Validation, folds and label subsets: seeded, by group, balanced over classes, nested."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bgan_video import rng
from bgan_video.config import Data
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError

T = TypeVar("T")


def split(manifest: Manifest, data: Data) -> Manifest:
    """Carve validation out of the training groups, then choose whose labels are used.

    Raises:
        UserError: More labels are asked for than there are, or a label list names a video that is
            not in the training fold.
    """
    if manifest.num_classes < 2:
        raise UserError(
            f"{manifest.root} has one class only, {manifest.classes[0]!r}; "
            f"is data.root one level too high?"
        )
    return _label(_carve_validation(manifest, data), data)


def group_folds(groups_and_labels: Sequence[tuple[str, int]], num_folds: int) -> dict[str, int]:
    """A fold 0..num_folds-1 for every group, such that each class is spread over the folds.

    The same on every machine and for every seed: it stands in for an official split.
    """
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for group, label in groups_and_labels:
        members[group][label] += 1
    held = [Counter[int]() for _ in range(num_folds)]
    folds: dict[str, int] = {}
    for group in _shuffled(sorted(members), "folds"):
        # The fold with fewest videos of this group's classes; the first one among equals.
        load = [sum(h[label] for label in members[group]) for h in held]
        folds[group] = load.index(min(load))
        held[folds[group]].update(members[group])
    return folds


def _carve_validation(manifest: Manifest, data: Data) -> Manifest:
    """Whole groups, in a seeded order, as long as no class gives more than its part."""
    training = manifest.part("train")
    per_class = Counter(item.label for item in training)
    room = {k: math.ceil(data.validation_fraction * n) for k, n in per_class.items()}
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for item in training:
        members[item.group][item.label] += 1
    chosen: set[str] = set()
    for group in _shuffled(sorted(members), "validation", data.label_seed):
        taken = members[group]
        leaves_some = all(per_class[k] > n for k, n in taken.items())
        if leaves_some and all(room[k] >= n for k, n in taken.items()):
            chosen.add(group)
            for k, n in taken.items():
                room[k] -= n
                per_class[k] -= n
    return manifest.replace(
        tuple(
            dataclasses.replace(item, split="validation")
            if item.split == "train" and item.group in chosen
            else item
            for item in manifest.items
        )
    )


def _label(manifest: Manifest, data: Data) -> Manifest:
    if data.label_list is not None:
        chosen = _listed(manifest, Path(data.label_list))
    else:
        chosen = _balanced(manifest, data)
    return manifest.replace(
        tuple(dataclasses.replace(item, labelled=item.path in chosen) for item in manifest.items)
    )


def _balanced(manifest: Manifest, data: Data) -> set[str]:
    order = [label_order(manifest.part("train"), k, data.label_seed) for k in _classes(manifest)]
    if data.labels_per_class is not None:
        for name, items in zip(manifest.classes, order, strict=True):
            if len(items) < data.labels_per_class:
                raise UserError(
                    f"data.labels_per_class={data.labels_per_class}: class {name} has only "
                    f"{len(items)} training videos"
                )
        return {item.path for items in order for item in items[: data.labels_per_class]}
    # Rank by rank through the classes, so that any number is as balanced as it can be and nested.
    ranks = max(map(len, order))
    turns = [items[rank] for rank in range(ranks) for items in order if rank < len(items)]
    if data.num_labelled is None:
        return {item.path for item in turns}
    if not manifest.num_classes <= data.num_labelled <= len(turns):
        raise UserError(
            f"data.num_labelled={data.num_labelled}; allowed: one a class "
            f"({manifest.num_classes}) to all training videos ({len(turns)})"
        )
    return {item.path for item in turns[: data.num_labelled]}


def label_order(training: Sequence[Item], label: int, seed: int) -> list[Item]:
    """The videos of a class in the order in which they are labelled: a prefix is a subset.

    Groups take turns, because two clips of one recording tell a network little more than one.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in training:
        if item.label == label:
            groups[item.group].append(item)
    names = _shuffled(sorted(groups), "labels", seed, label)
    queues = [_shuffled(sorted(groups[g], key=_path), "labels", seed, label, g) for g in names]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def _listed(manifest: Manifest, file: Path) -> set[str]:
    """The training videos a published list names.

    Lines are `path[.avi] [frames] [label]` or `path.avi*label`; the class comes from the path,
    because the published lists disagree on whether labels start at 0 or 1. Listed videos of groups
    that were carved out for validation stay there.
    """
    if not file.is_file():
        raise UserError(f"data.label_list={file}: no such file")
    by_name: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items:
        for name in {_with_class(item.path), _stem(item.path)}:
            by_name[name].append(item)
    chosen: set[str] = set()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        path = line.replace("*", " ").split()[0]
        found = by_name[_with_class(path)] or by_name[_stem(path)]
        if len(found) != 1 or found[0].split == "test":
            what = "means several videos" if len(found) > 1 else "is a test video"
            what = what if found else "is not in this data set"
            raise UserError(f"{file}:{number}: {line.strip()!r} {what} (fold {manifest.fold})")
        if found[0].split == "train":
            chosen.add(found[0].path)
    if not chosen:
        raise UserError(f"data.label_list={file} names no training video")
    return chosen


def _stem(path: str) -> str:
    name = path.rsplit("/", 1)[-1].casefold()
    return name.removesuffix(".avi").removesuffix(".mp4")


def _with_class(path: str) -> str:
    """`class/stem` of a path: file names alone may repeat from class to class."""
    return "/".join([*path.casefold().split("/")[-2:-1], _stem(path)])


def _classes(manifest: Manifest) -> range:
    return range(manifest.num_classes)


def _path(item: Item) -> str:
    return item.path


def _shuffled(items: list[T], *seed: object) -> list[T]:
    order = np.random.default_rng(rng.derive_seed(*seed)).permutation(len(items))
    return [items[i] for i in order]
