"""From a folder on disk to a manifest without labels or validation: one function a layout."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from bgan_video.config import ITEMS, Data, spatial_dims_of
from bgan_video.data import images, motion_shapes, tables
from bgan_video.data.folds import NUM_FOLDS, group_folds
from bgan_video.data.found import files_under, is_video, passed_over, videos_in, videos_under
from bgan_video.data.manifest import UNKNOWN, VIDEO_SUFFIXES, Item, Manifest, Split
from bgan_video.data.spans import file_of
from bgan_video.data.texts import meant, plain, read_rows, read_text, some
from bgan_video.errors import UserError

UNLABELLED = "unlabelled"
"""The folder beside those of the classes whose videos are of no known class (`video_folder`)."""

_UCF_GROUP = re.compile(r"_(g\d+)_c\d+$")


def read(data: Data) -> Manifest:
    """The videos of a data set, with the split of `data.fold`.

    Raises:
        UserError: Root or lists are missing or do not read; says what was looked for and found.
    """
    return LAYOUTS[data.layout](data)


def unlisted(manifest: Manifest, data: Data) -> list[str]:
    """Videos under the root that no list, and no class folder, has; paths relative to it.

    Args:
        manifest: What `read` gave, whole.
        data: What it was read with.
    """
    if data.layout == "hmdb51":  # its lists also name videos that neither train nor test
        manifest = read(dataclasses.replace(data, train_on_unused=True))
    listed = {file_of(item.path) for item in manifest.items}
    if data.layout == "video_folder":  # those recorded with test videos are left out on purpose
        listed.update(_of_no_class(Path(manifest.root), _class_folders(Path(manifest.root))))
    if data.layout == "table":  # beside those it names: its root may be all of a disk
        folders = sorted({PurePosixPath(path).parent for path in listed})
        there = [v for folder in folders for v in videos_in(Path(manifest.root), str(folder))]
    else:
        there = videos_under(Path(manifest.root))
    return [path for path in there if path not in listed]


def passed_over_by_suffix(manifest: Manifest, data: Data) -> dict[str, list[str]]:
    """Files in the folders of `video_folder`'s classes that are taken for no video, by suffix."""
    if data.layout != "video_folder":
        return {}
    others: dict[str, list[str]] = {}
    for name in _class_folders(Path(manifest.root)):
        for suffix, paths in passed_over(Path(manifest.root), name).items():
            others.setdefault(suffix, []).extend(paths)
    return others


def _motion_shapes(data: Data) -> Manifest:
    root = Path(data.root) if data.root else motion_shapes.default_root()
    motion_shapes.render(root)
    return _ucf_style("motion_shapes", root, _lists_folder(data, root), data.fold)


def _ucf101(data: Data) -> Manifest:
    root = _root(data)
    return _ucf_style("ucf101", root, _lists_folder(data, root), data.fold)


def _hmdb51(data: Data) -> Manifest:
    root = _root(data)
    lists = Path(data.lists) if data.lists else root / "testTrainMulti_7030_splits"
    ending = f"_test_split{data.fold}.txt"
    # By class name, as everyone numbers them; by file name 'kick_ball' would stand before 'kick'.
    classes = sorted(f.name.removesuffix(ending) for f in lists.glob(f"*{ending}"))
    if not classes:
        raise UserError(
            f"data.lists: no '*_test_split{data.fold}.txt' in {lists}; "
            f"see datasets/hmdb51.md for the layout"
        )
    splits: dict[str, Split] = {"1": "train", "2": "test"}
    if data.train_on_unused:
        splits["0"] = "train"
    index = _index(root, "hmdb51")
    items: list[Item] = []
    for label, name in enumerate(classes):
        file = lists / f"{name}{ending}"
        for number, line in _lines(file):
            stem, _, tag = line.rpartition(" ")
            if tag not in ("0", "1", "2"):
                raise UserError(f"{file}:{number}: {line!r} is not '<file>.avi 0|1|2'")
            if tag in splits:
                path = _find(index, f"{name}/{stem.strip()}")
                # The last time: a film's own name may hold the class ('How_to_pour_beer_pour_u_…').
                group = f"{name}/{stem.rpartition(f'_{name}_')[0] or stem}"
                items.append(Item(path, label, group, splits[tag]))
    return Manifest("hmdb51", str(root), data.fold, tuple(classes), tuple(items))


def _video_folder(data: Data) -> Manifest:
    root = _root(data)
    folders = _class_folders(root)
    classes = [name for name in folders if name != UNLABELLED]
    for name in classes:
        if name.casefold() in ("unlabeled", UNLABELLED):
            raise UserError(
                f"data.root={root}: the folder {name!r} would be a class; videos of no known class "
                f"lie in {UNLABELLED!r}: rename it"
            )
    videos = {name: videos_under(root, name) for name in classes}
    unknown = _of_no_class(root, folders)
    if not any(videos.values()) and not unknown:
        raise UserError(
            f"data.root={root} holds no videos; looked for <class>/* with a "
            f"suffix of {' '.join(VIDEO_SUFFIXES)}, found {_found(root)}; see "
            f"datasets/video_folder.md"
        )
    empty = next((name for name in classes if not videos[name]), None)
    if empty is not None:
        others = [suffix or "(none)" for suffix in sorted(passed_over(root, empty))]
        passed = f" (passed over: files with the suffix {some(others, 5)})" if others else ""
        raise UserError(
            f"data.root={root}: no video in class folder {empty!r}{passed}; remove the folder, or "
            f"give it a name that begins with a dot"
        )
    classes = sorted({*classes, *data.classes})
    paths = [(p, label) for label, name in enumerate(classes) for p in videos.get(name, [])]
    groups = _folder_groups(data.groups, [*(path for path, _ in paths), *unknown])
    if data.fold > NUM_FOLDS:
        raise UserError(f"data.fold={data.fold} does not exist; allowed: 1..{NUM_FOLDS}")
    folds = group_folds([(groups[p], label) for p, label in paths], NUM_FOLDS)
    items = [
        Item(p, label, groups[p], "test" if folds[groups[p]] == data.fold - 1 else "train")
        for p, label in paths
    ]
    # A group is on one side of a split: what was recorded with test videos is not trained on.
    items += [
        Item(p, UNKNOWN, groups[p], "train")
        for p in unknown
        if folds.get(groups[p]) != data.fold - 1
    ]
    return Manifest(root.resolve().name, str(root), data.fold, tuple(classes), tuple(items))


def _class_folders(root: Path) -> list[str]:
    """Names of the folders in a root, that of videos of no known class among them."""
    return sorted(
        p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))
    )


def _of_no_class(root: Path, folders: list[str]) -> list[str]:
    """Videos of no known class: those of `unlabelled`, or all of a root that has no folder."""
    if UNLABELLED in folders:
        return videos_under(root, UNLABELLED)
    return [] if folders else videos_under(root)


def _images(data: Data) -> Manifest:
    """Every image is a group of its own."""
    source = images.open_source(data.layout, data.root, data.download)
    items = tuple(Item(e.path, e.label, e.path, e.split) for e in source.entries)
    return Manifest(data.layout, data.root or "", 1, tuple(source.classes), items)


LAYOUTS: dict[str, Callable[[Data], Manifest]] = {
    "motion_shapes": _motion_shapes,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "video_folder": _video_folder,
    "table": tables.read,
    **dict.fromkeys(("mnist", "cifar10", "svhn", "celeba", "image_folder", "synthetic"), _images),
}


def _ucf_style(name: str, root: Path, lists: Path, fold: int) -> Manifest:
    classes = _class_index(lists / "classInd.txt")
    labels = {c.casefold(): label for label, c in enumerate(classes)}
    index = _index(root, name)
    items: list[Item] = []
    for split in ("train", "test"):
        file = lists / f"{split}list{fold:02d}.txt"
        if not file.is_file():
            there = sorted(p.name for p in lists.glob(f"{split}list*.txt"))
            raise UserError(f"data.fold={fold}: no {file.name} in {lists}; found: {there}")
        for number, line in _lines(file):
            items.append(_ucf_item(line, labels, index, split, f"{file}:{number}"))
    counts = Counter(item.path for item in items)
    repeated = [path for path, times in counts.items() if times > 1]
    if repeated:
        first = repeated[0]
        raise UserError(f"{lists}: {first} is listed {counts[first]} times in fold {fold}")
    return Manifest(name, str(root), fold, tuple(classes), tuple(items))


def _ucf_item(
    line: str, labels: dict[str, int], index: dict[str, str], split: Split, where: str
) -> Item:
    """One line of a UCF101 list: `Class/v_Class_gNN_cNN.avi`, with a 1-based label or without."""
    path, _, number = line.partition(" ")
    folder, slash, file = path.partition("/")
    group = _UCF_GROUP.search(Path(file).stem)
    if not slash or group is None:
        raise UserError(f"{where}: {line!r} is not '<Class>/v_<Class>_gNN_cNN.avi [label]'")
    label = labels.get(folder.casefold())
    if label is None:
        raise UserError(f"{where}: class {folder!r} is not in classInd.txt")
    if number.strip() and number.strip() != str(label + 1):
        raise UserError(
            f"{where}: label {number.strip()} contradicts classInd.txt, "
            f"where {folder} is {label + 1}"
        )
    return Item(_find(index, path), label, group[1], split)


def _class_index(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(
            f"no {file}: the split lists were looked for in {file.parent} ({_found(file.parent)}); "
            f"set data.lists, or see datasets/ucf101.md for the layout"
        )
    classes: list[str] = []
    for number, line in _lines(file):
        label, _, name = line.partition(" ")
        if label != str(len(classes) + 1) or not name.strip():
            raise UserError(f"{file}:{number}: {line!r} is not '{len(classes) + 1} <Class>'")
        classes.append(name.strip())
    return classes


def _lines(file: Path) -> Iterable[tuple[int, str]]:
    """Numbered lines that are not empty; CRLF and LF alike."""
    lines = enumerate(read_text(file).splitlines(), 1)
    return ((n, line.strip()) for n, line in lines if line.strip())


def _lists_folder(data: Data, root: Path) -> Path:
    return Path(data.lists) if data.lists else root / "ucfTrainTestlist"


def _root(data: Data) -> Path:
    card = f"see datasets/{data.layout}.md for the layout"
    if data.root is None:
        kind = ITEMS[spatial_dims_of(data.layout)]
        raise UserError(f"data.root is not set: where are the {kind} of {data.layout}? {card}")
    root = Path(data.root)
    if not root.is_dir():
        raise UserError(f"data.root={root} is not a folder; {card}")
    return root


def _index(root: Path, name: str) -> dict[str, str]:
    """Every video under the root, by `<class>/<file>` regardless of case.

    UCF101's own lists and folders disagree (`HandstandPushups/v_HandStandPushups_…`), and copies
    put the class folders one level deeper.
    """
    by_name = {
        f"{p.parent.name}/{p.name}".casefold(): p.relative_to(root).as_posix()
        for p in files_under(root)
        if is_video(p.name)
    }
    if not by_name:
        raise UserError(
            f"data.root={root} holds no videos; looked for <Class>/*.avi at any depth, "
            f"found {_found(root)}; see datasets/{name}.md for the layout"
        )
    return by_name


def _find(index: dict[str, str], path: str) -> str:
    """The file a list means; a path that is not there stays as it is, and is reported as broken."""
    return index.get(path.casefold(), path)


def _folder_groups(groups: str | None, paths: list[str]) -> dict[str, str]:
    """Group of each path: by default every file is its own, named by its path without suffix."""
    if groups is None:
        return {p: p.rpartition(".")[0] for p in paths}
    if groups.endswith(".csv"):
        file = Path(groups)
        if not file.is_file():
            raise UserError(f"data.groups={groups}: no such file")
        named = _named_groups(file)
        listed = {p: named[plain(p)] for p in paths if plain(p) in named}
        absent = [p for p in paths if p not in listed]
        if absent:
            raise UserError(
                f"data.groups={groups} has no line '{absent[0]},<group>', nor of {len(absent) - 1} "
                f"other videos; every video needs one"
            )
        return listed
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise UserError(f"data.groups={groups!r} is not a pattern: {error}") from None
    matches = {p: pattern.search(p) for p in paths}
    for path, match in matches.items():
        if match is None or not match.groups() or match[1] is None:
            raise UserError(f"data.groups={groups!r} finds no group (in parentheses) in {path!r}")
    return {path: match[1] for path, match in matches.items() if match}


def _named_groups(file: Path) -> dict[str, str]:
    """The group of each video that a CSV names: two columns, or those called path and group."""
    rows = read_rows(file)
    header = [name.casefold() for name in rows[0][1]] if rows else []
    columns = (0, 1)
    if {"path", "group"} <= set(header):
        columns, rows = (header.index("path"), header.index("group")), rows[1:]
    named: dict[str, str] = {}
    for number, cells in rows:
        where = f"data.groups={file}:{number}"
        if columns == (0, 1) and any(cells[2:]):
            raise UserError(
                f"{where}: {len(cells)} columns; allowed: a video and its group, or a header that "
                f"names path and group"
            )
        path, group = (cells[i] if i < len(cells) else "" for i in columns)
        if not path or not group:
            raise UserError(f"{where}: no {'group' if path else 'video'}; every row has both")
        for name in map(plain, meant(path)):
            if named.setdefault(name, group) != group:
                raise UserError(f"{where}: {path} is of {group}, and of {named[name]} further up")
    return named


def _found(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = sorted(p.name for p in folder.iterdir())
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{len(names)} entries: {listed}" if names else "an empty folder"
