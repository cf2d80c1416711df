"""Folds, classes held out, validation: seeded, by group, balanced over classes."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict

from bgan_video.config import Data
from bgan_video.data.labels import choice
from bgan_video.data.manifest import UNKNOWN, Item, Manifest
from bgan_video.errors import UserError
from bgan_video.rng import shuffled


def split(manifest: Manifest, data: Data, *, first_labels: bool = False) -> Manifest:
    """Hold classes out, carve validation out of the training groups, choose whose labels are used.

    Args:
        manifest: Items of the official split.
        data: Settings.
        first_labels: As `choice.label` has it.

    Raises:
        UserError: An unknown class is held out, more labels are asked for than there are, or a
            label list names a video that is not in the training fold.
    """
    whole, manifest = manifest, _hold_out(manifest, data)
    if not manifest.classes:
        raise UserError(
            f"{manifest.root} has no class: no folder in it is one, and data.classes names none; "
            f"bgan-video label asks for the first labels, and says how to train with them"
        )
    if manifest.num_classes < 2:
        raise UserError(
            f"{manifest.root} has one class only, {manifest.classes[0]!r}; "
            f"is data.root one level too high?"
        )
    return choice.label(_carved(manifest, whole, data), data, first=first_labels)


def pool(manifest: Manifest, data: Data) -> Manifest:
    """The same split without a label, also of data that have no class yet.

    Raises:
        UserError: An unknown class is held out.
    """
    return _carved(_hold_out(manifest, data), manifest, data)


def _hold_out(manifest: Manifest, data: Data) -> Manifest:
    """Take classes out of training; their test videos become the open set."""
    if data.held_out is None:
        return manifest
    held = [name.strip() for name in data.held_out.split(",") if name.strip()]
    for name in held:
        if name not in manifest.classes:
            raise UserError(
                f"data.held_out: no class {name!r}; known: {', '.join(manifest.classes)}"
            )
    kept = [name for name in manifest.classes if name not in held]
    if len(kept) < 2:
        raise UserError(
            f"data.held_out={data.held_out} leaves {len(kept)} of {manifest.num_classes} classes; "
            f"at least two have to stay"
        )
    number = {name: label for label, name in enumerate([*kept, *held])}

    def renumbered(item: Item) -> Item | None:
        if item.label == UNKNOWN:
            return item
        name = manifest.classes[item.label]
        if name in held and item.split != "test":
            return None
        split = "open" if name in held else item.split
        return dataclasses.replace(item, label=number[name], split=split)

    items = tuple(new for item in manifest.items if (new := renumbered(item)) is not None)
    return dataclasses.replace(manifest, classes=tuple(kept), open_classes=tuple(held), items=items)


def _with_strangers(carved: Manifest, whole: Manifest) -> Manifest:
    """Put the training videos of classes held out back, as videos of no known class."""
    held = {whole.classes.index(name) for name in carved.open_classes}
    judged = {item.group for item in carved.part("validation")}
    strangers = (
        dataclasses.replace(item, label=UNKNOWN)
        for item in whole.part("train")
        if item.label in held and item.group not in judged
    )
    return carved.replace((*carved.items, *strangers))


def _carved(manifest: Manifest, whole: Manifest, data: Data) -> Manifest:
    carved = _carve_validation(manifest, data)
    return _with_strangers(carved, whole) if data.held_out_in_pool else carved


def _carve_validation(manifest: Manifest, data: Data) -> Manifest:
    """Whole groups, in a seeded order, as long as no class gives more than its part.

    Nothing where the data bring a validation split of their own.
    """
    if manifest.part("validation"):
        return manifest
    training = manifest.part("train")
    per_class = Counter(item.label for item in training)
    # A video of no known class cannot be evaluated: its group stays in training.
    per_class[UNKNOWN] = 0
    room = {k: math.ceil(data.validation_fraction * n) for k, n in per_class.items()}
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for item in training:
        members[item.group][item.label] += 1
    chosen: set[str] = set()
    for group in shuffled(sorted(members), "validation", data.label_seed):
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
