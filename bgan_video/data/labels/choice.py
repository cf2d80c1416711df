"""Whose labels a run uses: a balanced, nested subset, or those a file names."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from bgan_video.config import ITEMS, Data, spatial_dims_of
from bgan_video.data.labels.lists import TRAINING_FOLD, read_list
from bgan_video.data.manifest import UNKNOWN, Item, Manifest
from bgan_video.data.recordings import recording
from bgan_video.data.spans import file_of
from bgan_video.data.texts import plain, some
from bgan_video.errors import UserError
from bgan_video.rng import shuffled


def label(manifest: Manifest, data: Data, *, first: bool = False) -> Manifest:
    """Choose the training videos whose label is used.

    Args:
        manifest: Split already.
        data: Says how many, or which.
        first: Label the first `num_labelled` training items whatever their class, as the published
            notebook does.

    Raises:
        UserError: More labels are asked for than there are, a label list does not fit the data, or
            `separate_recordings` leaves no unlabelled video.
    """
    if data.label_list is not None:
        chosen, problems, *_ = read_list(manifest, data)
        if problems:
            others = len(problems) - 1
            lines = "line" if others == 1 else "lines"
            more = f" (and {others} more such {lines})" if others else ""
            raise UserError(f"{problems[0]}{more}")
        if not chosen:
            raise UserError(f"data.label_list={data.label_list} labels no training video")
    elif data.num_labelled == 0:
        chosen = {}
    elif first:
        training = manifest.part("train")[: data.num_labelled]
        if len(training) < (data.num_labelled or 0):
            raise UserError(
                f"data.num_labelled={data.num_labelled}; allowed: 0 to all training items "
                f"({len(training)})"
            )
        chosen = {item.path: item.label for item in training}
    else:
        chosen = _balanced(manifest, data)
    used = use(manifest, chosen, data)
    if chosen and not used.labelled:
        raise UserError("all labels have weight 0 in data.table; give some a weight above 0")
    return used


def use(manifest: Manifest, chosen: Mapping[str, int], data: Data) -> Manifest:
    """The manifest with the chosen videos, or parts of videos, labelled (class by path).

    A label of weight 0 is not used: nothing would ever be learned from it.

    Raises:
        UserError: `data.separate_recordings` leaves no unlabelled video.
    """
    items = [
        dataclasses.replace(
            item,
            label=chosen.get(item.path, item.label),
            labelled=item.path in chosen and item.weight > 0,
        )
        for item in manifest.items
    ]
    by_path = {item.path: item for item in items}
    # Labelled parts of videos are items of their own, which are yet to be surveyed.
    items += [
        dataclasses.replace(
            by_path[file_of(path)], path=path, label=label, labelled=True, num_frames=0
        )
        for path, label in chosen.items()
        if path not in by_path and by_path[file_of(path)].weight > 0
    ]
    manifest = manifest.replace(tuple(items))
    if not data.separate_recordings:
        return manifest
    shared = {item.path for item in beside_labelled(manifest, data)}
    kept = manifest.replace(tuple(item for item in manifest.items if item.path not in shared))
    if shared and len(kept.part("train")) == len(kept.labelled):
        raise UserError(
            "data.separate_recordings=true leaves no unlabelled video: every recording of the "
            "training fold has a labelled one; ask for fewer labels, or set it to false"
        )
    return kept


def beside_labelled(manifest: Manifest, data: Data) -> list[Item]:
    """The unlabelled training videos that share a recording with a labelled one."""

    def of(item: Item) -> str:
        return recording(item.label, item.group, data)

    labelled = {of(item) for item in manifest.labelled}
    training = manifest.part("train")
    return [item for item in training if not item.labelled and of(item) in labelled]


def remarks(manifest: Manifest, data: Data) -> list[str]:
    """What a person should know of the labels a run uses, one line each."""
    lines = list(_twins(manifest))
    counts = Counter(item.label for item in manifest.labelled)
    bare = [name for label, name in enumerate(manifest.classes) if not counts[label]]
    if counts and bare:
        known = f"{len(bare)} of {manifest.num_classes} classes have no label"
        lines.append(f"{known}, and cannot be learnt: {', '.join(bare)}")
    lines += _unjudged(manifest, data)
    if data.label_list is not None:
        chosen, _, broken, tested, held_out = read_list(manifest, data, "validation")
        if chosen:
            lines.append(
                f"{len(chosen)} {_kind(data)} of data.label_list are in validation groups, and "
                f"their labels not trained on; data.validation_fraction=0 trains on all of the list"
            )
        if tested:
            lines.append(
                f"{len(tested)} {_kind(data)} of data.label_list are tested on in fold "
                f"{manifest.fold}, or share a group with such, and their labels not trained on"
            )
        if held_out:
            lines.append(
                f"{len(held_out)} {_kind(data)} of data.label_list are of classes held out "
                f"({', '.join(manifest.open_classes)}), and their labels not trained on"
            )
        if broken:
            lines.append(
                f"{len(broken)} {_kind(data)} of data.label_list do not read, and are left out: "
                f"{some(broken, 3)}"
            )
    return lines


def _unjudged(manifest: Manifest, data: Data) -> Iterator[str]:
    """Parts that the run is judged on and that are empty, a line each."""
    validates = bool(manifest.part("validation"))
    if not validates and data.validation_fraction:
        yield (
            f"there are no validation {_kind(data)}, so nothing is chosen on them: no group fits "
            f"into data.validation_fraction={data.validation_fraction:g} of its classes and leaves "
            f"some of them; raise it, or label more"
        )
    if not manifest.part("test"):
        by = "validation" if validates else "nothing"
        yield f"there are no test {_kind(data)}: the run is judged on {by}"


def _twins(manifest: Manifest) -> Iterator[str]:
    """Classes whose names differ in case or in how accents are written alone, a line each."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in manifest.classes:
        alike[plain(name).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield (
                f"classes {', '.join(map(repr, names))} differ in case or accents alone, and are "
                f"{len(names)} classes; if they are one, give them one name"
            )


def _balanced(manifest: Manifest, data: Data) -> dict[str, int]:
    """Path and class: `labels_per_class`, `label_fraction`, `num_labelled`, or all."""
    order = [label_order(manifest.part("train"), k, data.label_seed) for k in _classes(manifest)]
    if data.labels_per_class is not None:
        have = dict(zip(manifest.classes, map(len, order), strict=True))
        short = [f"{name} ({n})" for name, n in have.items() if n < data.labels_per_class]
        if short:
            _refuse_bare(manifest, data)
            raise UserError(
                f"data.labels_per_class={data.labels_per_class}: too few training {_kind(data)} of "
                f"{some(short, 5)}; allowed: up to "
                f"{min(have.values())}, or null to use all labels"
            )
        return {item.path: item.label for items in order for item in items[: data.labels_per_class]}
    # Rank by rank through the classes, so that any number is as balanced as it can be and nested.
    ranks = max(map(len, order))
    turns = [items[rank] for rank in range(ranks) for items in order if rank < len(items)]
    if data.label_fraction is not None:
        fold = [i for i in manifest.items if i.split in TRAINING_FOLD and i.label != UNKNOWN]
        # Rounded down, as the published subsets are; 0.29 · 100 is a little below 29.
        number = int(data.label_fraction * len(fold) + 1e-6)
        return {i.path: i.label for i in turns[: max(number, manifest.num_classes)]}
    if data.num_labelled is None:
        return {item.path: item.label for item in turns}
    if not manifest.num_classes <= data.num_labelled <= len(turns):
        raise UserError(
            f"data.num_labelled={data.num_labelled}; allowed: one a class "
            f"({manifest.num_classes}) to all training {_kind(data)} ({len(turns)})"
        )
    return {item.path: item.label for item in turns[: data.num_labelled]}


def _refuse_bare(manifest: Manifest, data: Data) -> None:
    """Raises UserError where a class has no training item at all: says where its items are."""
    trained = {item.label for item in manifest.part("train")}
    for label, name in enumerate(manifest.classes):
        if label in trained:
            continue
        own = [item for item in manifest.items if item.label == label]
        kind = _kind(data) if len(own) != 1 else _kind(data).removesuffix("s")
        held = some([f"{item.path} in {item.split}" for item in own], 3) or "none that reads"
        raise UserError(
            f"class {name!r} has {len(own)} {kind} ({held}) and so nothing to learn from in fold "
            f"{manifest.fold}; add {_kind(data)} of it, choose another data.fold, or give a split "
            f"of your own with data.layout=table"
        )


def _kind(data: Data) -> str:
    return ITEMS[spatial_dims_of(data.layout)]


def label_order(training: Sequence[Item], label: int, seed: int) -> list[Item]:
    """The videos of a class in the order in which they are labelled: a prefix is a subset.

    Groups take turns, because two clips of one recording tell a network little more than one.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in training:
        if item.label == label and item.weight:
            groups[item.group].append(item)
    names = shuffled(sorted(groups), "labels", seed, label)
    queues = [shuffled(sorted(groups[g], key=_path), "labels", seed, label, g) for g in names]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def _classes(manifest: Manifest) -> range:
    return range(manifest.num_classes)


def _path(item: Item) -> str:
    return item.path
