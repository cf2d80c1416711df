"""Whose labels a run uses: a balanced, nested subset, or those a file names."""

from __future__ import annotations

import csv
import dataclasses
import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bgan_video.config import Data
from bgan_video.data.manifest import UNKNOWN, Item, Manifest
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
        UserError: More labels are asked for than there are, or a label list does not fit the data.
    """
    if data.label_list is not None:
        chosen = _listed(manifest, Path(data.label_list))
    elif data.num_labelled == 0:
        chosen = {}
    elif first:
        training = manifest.part("train")[: data.num_labelled]
        chosen = {item.path: item.label for item in training}
    else:
        chosen = _balanced(manifest, data)
    return manifest.replace(
        tuple(
            dataclasses.replace(
                item, label=chosen.get(item.path, item.label), labelled=item.path in chosen
            )
            for item in manifest.items
        )
    )


def _balanced(manifest: Manifest, data: Data) -> dict[str, int]:
    """Path and class of a subset: `labels_per_class`, `num_labelled`, or all."""
    order = [label_order(manifest.part("train"), k, data.label_seed) for k in _classes(manifest)]
    if data.labels_per_class is not None:
        for name, items in zip(manifest.classes, order, strict=True):
            if len(items) < data.labels_per_class:
                raise UserError(
                    f"data.labels_per_class={data.labels_per_class}: class {name} has only "
                    f"{len(items)} training videos"
                )
        return {item.path: item.label for items in order for item in items[: data.labels_per_class]}
    # Rank by rank through the classes, so that any number is as balanced as it can be and nested.
    ranks = max(map(len, order))
    turns = [items[rank] for rank in range(ranks) for items in order if rank < len(items)]
    if data.num_labelled is None:
        return {item.path: item.label for item in turns}
    if not manifest.num_classes <= data.num_labelled <= len(turns):
        raise UserError(
            f"data.num_labelled={data.num_labelled}; allowed: one a class "
            f"({manifest.num_classes}) to all training videos ({len(turns)})"
        )
    return {item.path: item.label for item in turns[: data.num_labelled]}


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


def _listed(manifest: Manifest, file: Path) -> dict[str, int]:
    """Path and class of the training videos a file names.

    Videos of groups that were carved out for validation stay there, unlabelled.
    """
    if not file.is_file():
        raise UserError(f"data.label_list={file}: no such file")
    find = _finder(manifest)
    rows = _csv_rows(file) if file.suffix.lower() == ".csv" else _list_rows(file)
    chosen: dict[str, int] = {}
    for number, path, name in rows:
        where = f"{file}:{number}"
        item = find(where, path)
        known = item.label if name is None else _class(where, name, item, manifest)
        if known == UNKNOWN:
            raise UserError(f"{where}: {path} is of no known class; name it in a CSV path,label")
        if chosen.get(item.path, known) != known:
            raise UserError(f"{where}: {path} has another label further up")
        if item.split == "train":
            chosen[item.path] = known
    if not chosen:
        raise UserError(f"data.label_list={file} labels no training video")
    return chosen


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


def _finder(manifest: Manifest) -> Callable[[str, str], Item]:
    """A function that finds an item by its path, or by as much of it as tells it from others."""
    by_path = {item.path: item for item in manifest.items}
    by_name: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items:
        for name in {_with_class(item.path), _stem(item.path)}:
            by_name[name].append(item)

    def find(where: str, path: str) -> Item:
        found = [by_path[path]] if path in by_path else []
        found = found or by_name[_with_class(path)] or by_name[_stem(path)]
        if len(found) == 1 and found[0].split in ("train", "validation"):
            return found[0]
        what = "is not in this data set"
        if found:
            what = "means several videos" if len(found) > 1 else "is a test video"
        raise UserError(f"{where}: {path!r} {what} (fold {manifest.fold})")

    return find


def _class(where: str, name: str, item: Item, manifest: Manifest) -> int:
    """The class a table names for an item."""
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
