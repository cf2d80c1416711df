"""From the rows of tables to a manifest: files found, classes, splits, parts of videos."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bgan_video.config import Data
from bgan_video.data.folds import NUM_FOLDS, group_folds
from bgan_video.data.found import Finder, videos_under
from bgan_video.data.manifest import UNKNOWN, Item, Manifest, Split
from bgan_video.data.spans import Span, file_of, joined
from bgan_video.data.tables.classes import check_single_labels
from bgan_video.data.tables.entries import SPLITS, Entry, read_entries, split_of_file
from bgan_video.errors import UserError

_SIDES: dict[str, Split] = {"train": "train", "validation": "validation", "test": "test"}


class _Placed(NamedTuple):
    """An entry with its path in the manifest and its group."""

    entry: Entry
    path: str
    group: str


def read(data: Data) -> Manifest:
    """The videos, or parts of videos, that `data.table` names.

    Raises:
        UserError: A table does not read; a row contradicts itself or another; a row names no class
            where one is needed.
    """
    files = [Path(name) for name in table_files(data)]
    for file in files:
        if not file.is_file():
            raise UserError(f"data.table={file}: no such file; see datasets/table.md")
    entries = _entries(files)
    if not entries:
        raise UserError(f"data.table={files[0]} names no video; see datasets/table.md")
    root = _root(data, files[0], entries)
    placed = _placed(entries, root, files[0].parent if data.root is None else root)
    check_single_labels([(p.path, p.entry.label, p.entry.where) for p in placed])
    classes = sorted({e.label for e in entries if _knows_class(e)})
    if len(classes) < 2:
        raise UserError(
            f"data.table={files[0]} names {len(classes)} classes in its column label; at least two "
            f"are needed"
        )
    has_own = any(entry.split in _SIDES for entry in entries)
    items = _by_own_split(placed, classes, data) if has_own else _by_fold(placed, classes, data)
    return Manifest(files[0].stem, str(root), data.fold, tuple(classes), tuple(items))


def files_named(data: Data) -> set[str]:
    """Every file that a row of `data.table` means, relative to the root: left out or not."""
    files = [Path(name) for name in table_files(data)]
    entries = _entries(files)
    root = _root(data, files[0], entries)
    placed = _placed(entries, root, files[0].parent if data.root is None else root)
    return {file_of(p.path) for p in placed}


def _entries(files: Sequence[Path]) -> list[Entry]:
    """The rows of all tables; of several that name no split, the files' names say it.

    Raises:
        UserError: As `read_entries`, or one file's name says a split and another's does not.
    """
    of_files = {file: read_entries(file) for file in files}
    entries = [entry for some in of_files.values() for entry in some]
    split_of = {file: split_of_file(file) for file in files}
    if len(files) == 1 or any(e.split for e in entries) or not any(split_of.values()):
        return entries
    for file, split in split_of.items():
        if not split:
            raise UserError(
                f"data.table={file}: no row has a split, and its name says none, as others do; "
                f"allowed: {', '.join(dict.fromkeys(SPLITS.values()))} in each name, or a column"
            )
    return [e._replace(split=split_of[file]) for file, some in of_files.items() for e in some]


def table_files(data: Data) -> tuple[str, ...]:
    """The files of `data.table`."""
    return (data.table,) if isinstance(data.table, str) else data.table or ()


def _knows_class(entry: Entry) -> bool:
    return bool(entry.label) and entry.split != "unlabelled"


def _root(data: Data, table: Path, entries: Sequence[Entry]) -> Path:
    """The folder that holds all videos: `data.root`, the table's own, or the least that does."""
    if data.root is not None:
        root = Path(data.root)
        if not root.is_dir():
            raise UserError(f"data.root={root} is not a folder; see datasets/table.md")
        return root
    base = table.parent.absolute()
    folders = {str(Path(_joined(base, name)).parent) for e in entries for name, _ in e.files}
    if all(_is_within(folder, str(base)) for folder in folders):
        return table.parent
    return Path(os.path.commonpath(folders))


def _joined(base: Path, name: str) -> str:
    """An absolute path, without steps upwards; slashes of Windows are turned where it has them."""
    turned = name if (base / name).is_file() else name.replace("\\", "/")
    return os.path.normpath(base.absolute() / turned)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _placed(entries: Sequence[Entry], root: Path, base: Path) -> list[_Placed]:
    """Every entry with the file it means; one that is not there keeps its likeliest name."""
    finder, stems = Finder(root), _Stems(root)
    whole = str(root.absolute())
    found: list[tuple[Entry, str, Span | None]] = []
    for entry in entries:
        wanted: list[tuple[str, Span | None]] = []
        for name, span in entry.files:
            path = _joined(base, name)
            if not _is_within(path, whole):
                raise UserError(f"{entry.where}: {name} lies outside data.root={root}")
            wanted.append((PurePosixPath(os.path.relpath(path, whole)).as_posix(), span))
        found.append((entry, *_found(wanted, finder, stems)))
    group_of: dict[str, str] = {}
    for entry, file, _ in found:
        if entry.group and group_of.setdefault(file, entry.group) != entry.group:
            raise UserError(
                f"{entry.where}: group {entry.group}, where another part of {file} has "
                f"{group_of[file]}; all parts of a video are of one group"
            )
    groups = {f: str(PurePosixPath(f).with_suffix("")) for _, f, _ in found} | group_of
    return [_Placed(entry, joined(file, span), groups[file]) for entry, file, span in found]


def _found(
    wanted: Sequence[tuple[str, Span | None]], finder: Finder, stems: _Stems
) -> tuple[str, Span | None]:
    for name, span in wanted:
        if (file := finder.find(name) or stems.find(name)) is not None:
            return file, span
    return wanted[0]


class _Stems:
    """The videos of a folder by their names without suffix, looked up where one is asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_stem: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | None:
        """The one video of that name at any depth; None of a name with a folder or a suffix."""
        path = PurePosixPath(name)
        if path.parent.name or path.suffix:
            return None
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for video in videos_under(self._root):
                self._by_stem[PurePosixPath(video).stem].append(video)
        found = self._by_stem.get(name, [])
        return found[0] if len(found) == 1 else None


def _by_own_split(placed: Sequence[_Placed], classes: Sequence[str], data: Data) -> list[Item]:
    """Items of a table that says which videos train, validate and test."""
    if data.fold != 1:
        raise UserError(f"data.fold={data.fold}: the table has one split of its own; allowed: 1")
    label_of = {name: label for label, name in enumerate(classes)}
    items: list[Item] = []
    for entry, path, group in placed:
        if entry.label and not entry.split:
            raise UserError(
                f"{entry.where}: no split, where other rows have one; give every row with a label "
                f"one (train, validation, test, unlabelled), or none"
            )
        if not entry.label and entry.split in ("validation", "test"):
            raise UserError(
                f"{entry.where}: a {entry.split} video needs a label; give it one, or the split "
                f"unlabelled"
            )
        label = label_of[entry.label] if _knows_class(entry) else UNKNOWN
        side = _SIDES.get(entry.split, "train")
        items.append(Item(path, label, group, side, weight=entry.weight))
    if not any(item.split == "train" and item.label != UNKNOWN for item in items):
        raise UserError("data.table: no row with a label has split train; what is to be learnt?")
    return items


def _by_fold(placed: Sequence[_Placed], classes: Sequence[str], data: Data) -> list[Item]:
    """Items of a table without a split: five folds by group, as of a folder of classes."""
    if data.fold > NUM_FOLDS:
        raise UserError(f"data.fold={data.fold} does not exist; allowed: 1..{NUM_FOLDS}")
    label_of = {name: label for label, name in enumerate(classes)}
    known = [(p.group, label_of[p.entry.label]) for p in placed if _knows_class(p.entry)]
    folds = group_folds(known, NUM_FOLDS)
    items: list[Item] = []
    for entry, path, group in placed:
        is_tested = folds.get(group) == data.fold - 1
        if _knows_class(entry):
            side: Split = "test" if is_tested else "train"
            items.append(Item(path, label_of[entry.label], group, side, weight=entry.weight))
        elif not is_tested:  # what was recorded with test videos is not trained on
            items.append(Item(path, UNKNOWN, group, "train", weight=entry.weight))
    return items
