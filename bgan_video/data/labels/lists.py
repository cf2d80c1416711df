"""The labelled videos that a file names: a table of a person's, or a published list."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from bgan_video.config import Data
from bgan_video.data import tables
from bgan_video.data.found import Finder
from bgan_video.data.manifest import UNKNOWN, VIDEO_SUFFIXES, Item, Manifest, Split
from bgan_video.data.spans import Span, file_of, holds, joined, parted, span_of
from bgan_video.data.texts import meant, plain, read_table, read_text
from bgan_video.errors import UserError

TRAINING_FOLD = ("train", "validation")

# Of a published list's line, behind the path: a frame count and a label, either, or neither.
_NUMBER_AT_END = re.compile(r"[\s*]+-?\d+$")


class Listed(NamedTuple):
    """What a label list says of one part of a manifest.

    Attributes:
        chosen: Path and class of its videos.
        problems: The wrong lines, each with its place.
        broken: Paths that are listed and were left out because they do not read.
        tested: Paths in folders of a person's own that are listed and tested on, or left out
            because their group is.
        held_out: Paths that are listed under a class that is held out.
    """

    chosen: dict[str, int]
    problems: list[str]
    broken: list[str]
    tested: list[str]
    held_out: list[str]


class _Row(NamedTuple):
    """A line of a list: what may be meant as a path, likeliest first, and the class it names.

    `span` is the part of the video that is meant; None of all of it.
    """

    number: int
    paths: Sequence[str]
    name: str | None
    span: Span | None = None


def read_list(manifest: Manifest, data: Data, part: Split = "train") -> Listed:
    """The videos of one part that `data.label_list` names.

    Videos of groups that were carved out for validation stay there, unlabelled. In folders of a
    person's own, who cannot know which ones are tested, those are passed over as well; where there
    is an official split, a list that names them is one of another fold.

    Raises:
        UserError: No such file, or its header is not that of a table of labels.
    """
    assert data.label_list is not None
    file = Path(data.label_list)
    if not file.is_file():
        raise UserError(f"data.label_list={file}: no such file")
    names = _Names(manifest, data)
    rows = _csv_rows(file) if file.suffix.lower() == ".csv" else _list_rows(file)
    listed = Listed({}, [], [], [], [])
    left_out = {"broken": listed.broken, "tested": listed.tested}
    held = {plain(name).casefold() for name in manifest.open_classes}
    for row in rows:
        where = f"{file}:{row.number}"
        if (_folder(row.paths[0]) if row.name is None else plain(row.name).casefold()) in held:
            listed.held_out.append(row.paths[0])
            continue
        try:
            item = names.find(where, row.paths, row.span)
            if isinstance(item, str):
                left_out[item].append(row.paths[0])
                continue
            known = _class(where, row.name, item, manifest)
        except UserError as error:
            listed.problems.append(str(error))
            continue
        if listed.chosen.get(item.path, known) != known:
            listed.problems.append(f"{where}: {item.path} has another label further up")
        elif item.split not in TRAINING_FOLD:
            listed.tested.append(item.path)
        elif item.split == part:
            listed.chosen[item.path] = known
    return listed


def _list_rows(file: Path) -> Iterator[_Row]:
    """The lines of a published list: `path[.avi] [frames] [label]` or `path.avi*label`.

    The class comes from the path, because the published lists disagree on whether labels start at 0
    or 1. A path may have blanks, and end in a number.
    """
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            paths = [line.strip()]
            for _ in range(2):
                paths.append(_NUMBER_AT_END.sub("", paths[-1]))
            variants = [variant for path in paths for variant in meant(path)]
            yield _Row(number, list(dict.fromkeys(variants)), None)


def _csv_rows(file: Path) -> Iterator[_Row]:
    """The rows of a table that have a label."""
    table = read_table(file)
    if not {"path", "label"} <= set(table.columns):
        found = ", ".join(table.columns) or "nothing"
        raise UserError(f"{file}:1: a CSV of labels has columns path,label; found: {found}")
    for number, cells in table.rows:
        path, name = cells.get("path", ""), cells.get("label", "")
        if path and name:
            path, span = parted(path)
            span = span_of(f"{file}:{number}", cells) or span
            yield _Row(number, list(meant(path)), name, span)


class _Names:
    """Finds an item by its path, or by as much of it as tells it from all others.

    What was left out as broken is found as well: else its name would fit another video.
    """

    def __init__(self, manifest: Manifest, data: Data) -> None:
        self._manifest, self._data = manifest, data
        self._finder = Finder(Path(manifest.root))
        self._is_own = data.layout in ("video_folder", "table")
        self._items = {item.path: item for item in manifest.items}
        self._by_name: dict[str, set[str]] = defaultdict(set)
        everything = [*self._items, *manifest.broken]
        for path in everything:
            for name in (plain(path), _with_class(path), _stem(path)):
                self._by_name[name].add(path)
        self._parts: dict[str, list[tuple[Span, str]]] = defaultdict(list)
        for path in self._items:
            file, span = parted(path)
            self._parts[plain(file)] += [] if span is None else [(span, path)]
        folders = {PurePosixPath(path).parent.name for path in everything}
        self._folders = {plain(name).casefold() for name in (*folders, *manifest.classes)}

    def find(
        self, where: str, paths: Sequence[str], span: Span | None = None
    ) -> Item | Literal["broken", "tested"]:
        """The item that the first of these that fits anything means, or why it was left out.

        A part of a video that is no item yet is one of its own.

        Raises:
            UserError: It is no video of the data set, or several, or tested on in this fold.
        """
        parts = [path for path in (joined(p, span) for p in paths) if path in self._items]
        fits = {parts[0]} if parts else self._fitting(paths) or self._around(paths, span)
        span = None if parts else span
        if len(fits) == 1:
            (path,) = fits
            if path not in self._items:
                return "broken"
            if self._items[path].split in TRAINING_FOLD or self._is_own:
                part = path if span is None else joined(file_of(path), span)
                return self._items.get(part, dataclasses.replace(self._items[path], path=part))
            what = "is a test video"
        elif not fits and self._is_left_out(paths[0]):
            return "tested"  # of no known class, and of a group that is tested
        else:
            what = "means several videos" if fits else self._not_here()
        raise UserError(f"{where}: {paths[0]!r} {what} (fold {self._manifest.fold})")

    def _fitting(self, paths: Sequence[str]) -> set[str]:
        """Paths of the data set; those of a file's name alone where no folder contradicts."""
        names = [name for path in paths for name in (plain(path), _with_class(path))]
        names += [_stem(path) for path in paths if _folder(path) not in self._folders]
        return next((fit for name in names if (fit := self._by_name.get(name))), set[str]())

    def _around(self, paths: Sequence[str], span: Span | None) -> set[str]:
        """The parts of a video, as a table names them, that hold a part of theirs."""
        known = (part for path in paths for part in self._parts.get(plain(path), ()))
        return {path for whole, path in known if span is not None and holds(whole, span)}

    def _is_left_out(self, path: str) -> bool:
        """Whether a person's own video is in no part of the split: recorded with tested ones."""
        file = self._finder.find(path) if self._is_own else None
        if file is None or plain(file) in self._parts:
            return False
        return self._data.layout != "table" or file in self._in_table

    @cached_property
    def _in_table(self) -> set[str]:
        """Read once, and only where a row is not found."""
        return tables.files_named(self._data)

    def _not_here(self) -> str:
        if self._data.layout == "hmdb51" and not self._data.train_on_unused:
            return "is not in this data set without data.train_on_unused=true"
        if self._data.layout == "table":
            return "is no video, and no part of one, that data.table names"
        return "is not in this data set"


def _class(where: str, name: str | None, item: Item, manifest: Manifest) -> int:
    """The class a table names for an item, or the item's own."""
    if name is None:
        if item.label == UNKNOWN:
            raise UserError(
                f"{where}: {item.path} is of no known class; name it in a CSV path,label"
            )
        return item.label
    by_name = {plain(known): label for label, known in enumerate(manifest.classes)}
    label = next((by_name[n] for n in map(plain, meant(name)) if n in by_name), None)
    if label is None:
        near = difflib.get_close_matches(name, manifest.classes, n=1)
        known = f"did you mean {near[0]}?" if near else f"known: {', '.join(manifest.classes[:9])}"
        raise UserError(f"{where}: no class {name!r}; {known}")
    if item.label not in (UNKNOWN, label):
        own = manifest.classes[item.label]
        raise UserError(f"{where}: {item.path} is labelled {name}, but its folder says {own}")
    return label


def _folder(path: str) -> str:
    return plain(PurePosixPath(path).parent.name).casefold()


def _stem(path: str) -> str:
    name = plain(path.rsplit("/", 1)[-1]).casefold()
    fitting = (suffix for suffix in VIDEO_SUFFIXES if name.endswith(suffix))
    return name.removesuffix(next(fitting, ""))


def _with_class(path: str) -> str:
    """`class/stem` of a path: file names alone may repeat from class to class."""
    return "/".join([*plain(path).casefold().split("/")[-2:-1], _stem(path)])
