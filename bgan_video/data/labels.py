"""Whose labels a run uses: a balanced, nested subset, or those a file names."""

from __future__ import annotations

import csv
import dataclasses
import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bgan_video.config import ITEMS, Data, spatial_dims_of
from bgan_video.data.manifest import UNKNOWN, Item, Manifest, Split
from bgan_video.errors import UserError
from bgan_video.rng import shuffled

_TRAINING_FOLD = ("train", "validation")
_NUMBERED_BY_CLASS = ("ucf101", "motion_shapes")
"""Layouts whose groups g01, g02, … are other recordings in every class."""


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
        chosen, problems = read_list(manifest, data)
        if problems:
            others = len(problems) - 1
            more = f" (and {others} more such line{'s' * (others > 1)})" if others else ""
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
    return use(manifest, chosen, data)


def use(manifest: Manifest, chosen: Mapping[str, int], data: Data) -> Manifest:
    """The manifest with the chosen videos labelled (class by path).

    Raises:
        UserError: `data.separate_recordings` leaves no unlabelled video.
    """
    manifest = manifest.replace(
        tuple(
            dataclasses.replace(
                item, label=chosen.get(item.path, item.label), labelled=item.path in chosen
            )
            for item in manifest.items
        )
    )
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
    by_class = data.layout in _NUMBERED_BY_CLASS

    def recording(item: Item) -> tuple[int, str]:
        return (item.label if by_class else 0, item.group)

    labelled = {recording(item) for item in manifest.labelled}
    training = manifest.part("train")
    return [item for item in training if not item.labelled and recording(item) in labelled]


def remarks(manifest: Manifest, data: Data) -> list[str]:
    """What a person should know of the labels a run uses, one line each."""
    lines: list[str] = []
    counts = Counter(item.label for item in manifest.labelled)
    bare = [name for label, name in enumerate(manifest.classes) if not counts[label]]
    if counts and bare:
        known = f"{len(bare)} of {manifest.num_classes} classes have no label"
        lines.append(f"{known}, and cannot be learnt: {', '.join(bare)}")
    if data.label_list is not None:
        listed, _ = read_list(manifest, data, "validation")
        if listed:
            lines.append(
                f"{len(listed)} {_kind(data)} of data.label_list are in validation groups, and "
                f"their labels not trained on; data.validation_fraction=0 trains on all of the list"
            )
    return lines


def _balanced(manifest: Manifest, data: Data) -> dict[str, int]:
    """Path and class: `labels_per_class`, `label_fraction`, `num_labelled`, or all."""
    order = [label_order(manifest.part("train"), k, data.label_seed) for k in _classes(manifest)]
    if data.labels_per_class is not None:
        for name, items in zip(manifest.classes, order, strict=True):
            if len(items) < data.labels_per_class:
                raise UserError(
                    f"data.labels_per_class={data.labels_per_class}: class {name} has only "
                    f"{len(items)} training {_kind(data)}"
                )
        return {item.path: item.label for items in order for item in items[: data.labels_per_class]}
    # Rank by rank through the classes, so that any number is as balanced as it can be and nested.
    ranks = max(map(len, order))
    turns = [items[rank] for rank in range(ranks) for items in order if rank < len(items)]
    if data.label_fraction is not None:
        fold = [i for i in manifest.items if i.split in _TRAINING_FOLD and i.label != UNKNOWN]
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


def _kind(data: Data) -> str:
    return ITEMS[spatial_dims_of(data.layout)]


def label_order(training: Sequence[Item], label: int, seed: int) -> list[Item]:
    """The videos of a class in the order in which they are labelled: a prefix is a subset.

    Groups take turns, because two clips of one recording tell a network little more than one.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in training:
        if item.label == label:
            groups[item.group].append(item)
    names = shuffled(sorted(groups), "labels", seed, label)
    queues = [shuffled(sorted(groups[g], key=_path), "labels", seed, label, g) for g in names]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def read_list(
    manifest: Manifest, data: Data, part: Split = "train"
) -> tuple[dict[str, int], list[str]]:
    """Path and class of the videos of one part that `data.label_list` names, and its wrong lines.

    Videos of groups that were carved out for validation stay there, unlabelled.

    Raises:
        UserError: No such file, or its header is not that of a table of labels.
    """
    assert data.label_list is not None
    file = Path(data.label_list)
    if not file.is_file():
        raise UserError(f"data.label_list={file}: no such file")
    find = _finder(manifest, data)
    rows = _csv_rows(file) if file.suffix.lower() == ".csv" else _list_rows(file)
    chosen: dict[str, int] = {}
    problems: list[str] = []
    for number, path, name in rows:
        where = f"{file}:{number}"
        try:
            item = find(where, path)
            known = _class(where, name, item, manifest)
        except UserError as error:
            problems.append(str(error))
            continue
        if chosen.get(item.path, known) != known:
            problems.append(f"{where}: {path} has another label further up")
        elif item.split == part:
            chosen[item.path] = known
    return chosen, problems


def _list_rows(file: Path) -> Iterator[tuple[int, str, None]]:
    """Number and path of the lines of a published list.

    Lines are `path[.avi] [frames] [label]` or `path.avi*label`; the class comes from the path,
    because the published lists disagree on whether labels start at 0 or 1.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield number, line.replace("*", " ").split()[0], None


def _csv_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """Number, path and class name of the rows of a table that have a label."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        table = csv.DictReader(text)
        if not {"path", "label"} <= set(table.fieldnames or ()):
            found = ", ".join(table.fieldnames or ()) or "nothing"
            raise UserError(f"{file}:1: a CSV of labels has columns path,label; found: {found}")
        for row in table:
            path, name = (row["path"] or "").strip(), (row["label"] or "").strip()
            if path and name:
                yield table.line_num, path, name


def _finder(manifest: Manifest, data: Data) -> Callable[[str, str], Item]:
    """A function that finds an item by its path, or by as much of it as tells it from others."""
    by_path = {item.path: item for item in manifest.items}
    by_name: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items:
        for name in {_with_class(item.path), _stem(item.path)}:
            by_name[name].append(item)

    def find(where: str, path: str) -> Item:
        found = [by_path[path]] if path in by_path else []
        found = found or by_name[_with_class(path)] or by_name[_stem(path)]
        if len(found) == 1 and found[0].split in _TRAINING_FOLD:
            return found[0]
        what = "is not in this data set"
        if found:
            what = "means several videos" if len(found) > 1 else "is a test video"
        elif data.layout == "hmdb51" and not data.train_on_unused:
            what += " without data.train_on_unused=true"
        raise UserError(f"{where}: {path!r} {what} (fold {manifest.fold})")

    return find


def _class(where: str, name: str | None, item: Item, manifest: Manifest) -> int:
    """The class a table names for an item, or the item's own."""
    if name is None:
        if item.label == UNKNOWN:
            raise UserError(
                f"{where}: {item.path} is of no known class; name it in a CSV path,label"
            )
        return item.label
    if name not in manifest.classes:
        near = difflib.get_close_matches(name, manifest.classes, n=1)
        known = f"did you mean {near[0]}?" if near else f"known: {', '.join(manifest.classes[:9])}"
        raise UserError(f"{where}: no class {name!r}; {known}")
    label = manifest.classes.index(name)
    if item.label not in (UNKNOWN, label):
        own = manifest.classes[item.label]
        raise UserError(f"{where}: {item.path} is labelled {name}, but its folder says {own}")
    return label


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
