"""What a data set holds, and what is wrong with it, before a run is made of it."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bgan_video.config import Config, Data
from bgan_video.data import layouts, parallel, splits
from bgan_video.data.cutting import Length, shortness
from bgan_video.data.labels import choice
from bgan_video.data.labels.lists import read_list
from bgan_video.data.manifest import UNKNOWN, Item, Manifest, Split
from bgan_video.data.parallel import Progress, silent
from bgan_video.data.reading import VideoFiles
from bgan_video.data.spans import file_of, frames_of, parted
from bgan_video.data.texts import some
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo
from bgan_video.video.times import Times, usual_gap, varies

NOT_THERE = "no such file"
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "open")
Kind = Literal[
    "imbalance",
    "missing",
    "broken",
    "short",
    "rate",
    "crop",
    "duplicate",
    "group",
    "class",
    "label",
    "list",
    "unlisted",
    "suffix",
]
NO_CLASS = "(no known class)"
ALIKE = 1.05
"""Largest over smallest rate up to which videos are of one rate: 29.97 and 30 frames a second."""
UNLIKE = 3
"""Times the smallest class that the largest one may have before they are of unlike size."""


class Reading(NamedTuple):
    """What one file, or a part of one, gave.

    Attributes:
        num_frames: That decode.
        content: A hash; empty where there is none.
        reason: Why there is none.
        times: When each frame is shown, in seconds; None where it was not read.
        is_to_be_cut: Whether a player would cut its frames, which is not done here.
    """

    num_frames: int = 0
    content: str = ""
    reason: str = ""
    times: Times | None = None
    is_to_be_cut: bool = False


@dataclass(frozen=True)
class Trap:
    """Something a person should know before training: what it is about, and why."""

    kind: Kind
    what: str
    why: str


@dataclass(frozen=True)
class Lengths:
    """Decoded frames of the videos that read."""

    videos: int
    shortest: int
    median: float
    longest: int


@dataclass(frozen=True)
class Part:
    """One split; `lengths` is None where no file of it was read."""

    videos: int
    groups: int
    lengths: Lengths | None


@dataclass(frozen=True)
class ClassCount:
    """Videos of a class by split, and how many labels training sees."""

    name: str
    labelled: int
    videos: dict[Split, int]


@dataclass(frozen=True)
class DataCheck:
    """What `bgan-video data check` says.

    Attributes:
        name: Of the data set.
        root: Its folder.
        fold: The official split, from 1.
        videos: All that a run with these settings is made of, whether their files read or not.
        labelled: Training videos whose label is used.
        beside_labelled: Unlabelled training videos that share a recording with a labelled one.
        left_out: Those that `data.separate_recordings` took out.
        were_read: Whether files were decoded; else traps that only show in frames are missing.
        parts: By split.
        classes: In label order; classes held out and videos of no known class at the end.
        groups: Videos by split, of each group.
        rates: Videos by frames a second, as `rates` names them; none where no file was read.
        traps: Everything found wrong, in the order of `Kind`.
    """

    name: str
    root: str
    fold: int
    videos: int
    labelled: int
    beside_labelled: int
    left_out: int
    were_read: bool
    parts: dict[Split, Part]
    classes: tuple[ClassCount, ...]
    groups: dict[str, dict[Split, int]]
    rates: dict[str, int]
    traps: tuple[Trap, ...]


def inspect(
    config: Config,
    read: bool = True,
    progress: Progress = silent,
) -> DataCheck:
    """Look at lists, files and, where `read`, at every frame.

    Args:
        config: Its `data` says which videos and labels, `clip` what is too short.
        read: Decode every file. Without, files are told apart by their size and ends alone.
        progress: Wraps what the videos give, as it comes.

    Raises:
        UserError: The layout is not one of videos, root or lists are missing or do not read, or the
            settings ask for what the lists do not have.
    """
    if config.spatial_dims != 3:
        raise UserError(
            f"data.layout={config.data.layout} has {config.items}; data check is for videos"
        )
    listed = layouts.read(config.data)
    together, wrong = _label(listed, config)
    chosen = {item.path: item.label for item in together.labelled}
    manifest = choice.use(together, chosen, config.data)
    readings = _readings(manifest, config, read, progress)
    of_lists = _traps_of_lists(listed, manifest, wrong, config.data)
    return DataCheck(
        name=manifest.name,
        root=manifest.root,
        fold=manifest.fold,
        videos=len(manifest.items),
        labelled=len(manifest.labelled),
        beside_labelled=len(choice.beside_labelled(manifest, config.data)),
        left_out=len(together.items) - len(manifest.items),
        were_read=read,
        parts={split: _part(manifest.part(split), readings) for split in SPLITS},
        classes=tuple(_class_counts(manifest)),
        groups=_groups(manifest),
        rates=rates(readings.values()),
        traps=(*find_traps(manifest, readings, config), *of_lists),
    )


def _readings(
    manifest: Manifest, config: Config, read: bool, progress: Progress
) -> dict[str, Reading]:
    """What each item's file, or its part of one, gave, by the item's path."""
    reader = VideoFiles(Path(manifest.root), config.data.decoder, config.load_size)
    files = list(dict.fromkeys(file_of(item.path) for item in manifest.items))
    workers = config.data.num_workers or parallel.num_cpus()
    look = _read(files, reader, workers) if read else (_glance(file, reader) for file in files)
    found = progress(look, f"reading {config.items}", len(files))
    of_files = dict(zip(files, found, strict=True))
    return {i.path: _of_part(i.path, of_files[file_of(i.path)]) for i in manifest.items}


def _traps_of_lists(
    listed: Manifest, manifest: Manifest, wrong: Sequence[str], data: Data
) -> Iterator[Trap]:
    """What is wrong with labels and lists, and which files no list has.

    Args:
        listed: As the layout has it.
        manifest: Split and labelled.
        wrong: Lines of a label list, or why no labels can be chosen.
        data: The settings.
    """
    for line in choice.remarks(manifest, data):
        yield Trap("label", manifest.name, line)
    kind: Kind = "list" if data.label_list else "label"
    for line in wrong:
        yield Trap(kind, str(data.label_list or listed.name), line)
    for path in layouts.unlisted(listed, data):
        yield Trap("unlisted", path, "no list and no class folder has it")
    for suffix, paths in layouts.passed_over_by_suffix(listed, data).items():
        yield Trap("suffix", suffix or "no suffix", f"{len(paths)} files: {some(paths, 3)}")


def find_traps(
    manifest: Manifest, readings: Mapping[str, Reading], config: Config
) -> Iterator[Trap]:
    """What is wrong with a split manifest and the files of it, whose readings are given by path."""
    yield from _imbalance(manifest)
    for path, reading in readings.items():
        if reading.reason:
            kind = "missing" if reading.reason == NOT_THERE else "broken"
            yield Trap(kind, path, reading.reason)
    for path, reading in readings.items():
        length = Length(reading.num_frames, reading.times)
        if reading.num_frames and (why := shortness(length, config.clip)):
            yield Trap("short", path, f"{why} (clip.short_clip={config.clip.short_clip})")
    yield from _unlike_rates(readings, config)
    for path, reading in readings.items():
        if reading.is_to_be_cut:
            yield Trap("crop", path, "its edges are seen here; encode it anew to be rid of them")
    yield from _duplicates(manifest, readings)
    for group, videos in _groups(manifest).items():
        # What is held out for the open set is cut from the test fold.
        sides = {"test" if split == "open" else split for split in videos}
        if len(sides) > 1:
            counts = ", ".join(f"{number} in {split}" for split, number in videos.items())
            yield Trap("group", group, counts)
    has_test = bool(manifest.part("test"))  # a remark says so where there is none
    for count in _class_counts(manifest):
        for split in ("train", "test") if has_test else ("train",):
            if count.name in manifest.classes and split not in count.videos:
                yield Trap("class", count.name, f"no video in {split}")


def _label(listed: Manifest, config: Config) -> tuple[Manifest, list[str]]:
    """Split and labelled as a run would have it, with what does not fit: lines of a list, numbers.

    Where no label can be chosen there is none, so that the counts tell why.
    """
    data = dataclasses.replace(config.data, separate_recordings=False)
    no_labels = dict.fromkeys(("labels_per_class", "label_fraction", "label_list"))
    manifest = splits.split(listed, dataclasses.replace(data, **no_labels, num_labelled=0))
    if data.label_list is None:
        try:
            return choice.label(manifest, data, first=config.compat.first_labels), []
        except UserError as error:
            return manifest, [str(error)]
    listing = read_list(manifest, data)
    return choice.use(manifest, listing.chosen, data), listing.problems


def _read(files: Sequence[str], reader: VideoFiles, workers: int) -> Iterator[Reading]:
    for found in reader.first_readings(files, workers):
        if isinstance(found, BrokenVideo):
            yield Reading(reason=found.reason)
        else:
            times, is_to_be_cut = found.times, found.is_to_be_cut
            yield Reading(found.num_frames, found.content, times=times, is_to_be_cut=is_to_be_cut)


def _of_part(path: str, whole: Reading) -> Reading:
    """The reading of a part of a file, whose reading as a whole is given."""
    _, span = parted(path)
    if span is None or whole.reason:
        return whole
    content = f"{whole.content}{span}" if whole.content else ""
    if whole.times is None:
        return Reading(content=content)
    first, count = frames_of(span, whole.times)
    if count < 1:
        return Reading(reason="no frame of the file lies in this part")
    return whole._replace(
        num_frames=count, content=content, times=whole.times[first : first + count]
    )


def _glance(path: str, reader: VideoFiles) -> Reading:
    content = reader.fingerprint(path)
    return Reading(content=content, reason="" if content else NOT_THERE)


def rates(readings: Iterable[Reading]) -> dict[str, int]:
    """How many videos have each rate, in frames a second to a tenth, or a `variable` one."""
    counts: Counter[str] = Counter()
    for reading in readings:
        if reading.times is not None and len(reading.times) > 1:
            rate = f"{1 / usual_gap(reading.times):.1f}".removesuffix(".0")
            counts["variable" if varies(reading.times) else rate] += 1
    return dict(counts.most_common())


def _unlike_rates(readings: Mapping[str, Reading], config: Config) -> Iterator[Trap]:
    """Said where a stride means another time from video to video."""
    counts = rates(readings.values())
    known = [float(rate) for rate in counts if rate != "variable"]
    are_alike = "variable" not in counts and max(known, default=1) <= ALIKE * min(known, default=1)
    if not are_alike and config.clip.fps is None:
        told = ", ".join(f"{rate} ({number})" for rate, number in counts.items())
        yield Trap(
            "rate",
            told,
            f"frames a second differ, and clip.stride={config.clip.stride} counts frames: the same "
            f"movement has another speed; set clip.fps to cut clips in seconds",
        )


def _imbalance(manifest: Manifest) -> Iterator[Trap]:
    """Said where the largest class has several times the videos of the smallest."""
    known = Counter(i.label for i in manifest.part("train") if 0 <= i.label < manifest.num_classes)
    if len(known) < 2:
        return
    (most, large), *_, (least, small) = known.most_common()
    if large >= UNLIKE * small:
        yield Trap(
            "imbalance",
            f"{manifest.classes[most]} and {manifest.classes[least]}",
            f"{large} and {small} training videos: accuracy hides the small one; look at balanced "
            f"accuracy, and set train.class_weights=balanced or train.labelled_sampling=balanced",
        )


def _duplicates(manifest: Manifest, readings: Mapping[str, Reading]) -> Iterator[Trap]:
    copies: dict[str, list[Item]] = defaultdict(list)
    for item in manifest.items:
        if content := readings[item.path].content:
            copies[content].append(item)
    for first, *others in copies.values():
        for other in others:
            apart = [
                f"{what} {a} and {b}"
                for what, a, b in (
                    ("split", first.split, other.split),
                    ("class", _class_name(manifest, first), _class_name(manifest, other)),
                )
                if a != b
            ]
            yield Trap("duplicate", other.path, "; ".join([f"same as {first.path}", *apart]))


def _part(items: Sequence[Item], readings: Mapping[str, Reading]) -> Part:
    frames = [n for item in items if (n := readings[item.path].num_frames)]
    lengths = None
    if frames:
        lengths = Lengths(len(frames), min(frames), statistics.median(frames), max(frames))
    return Part(len(items), len({item.group for item in items}), lengths)


def _class_counts(manifest: Manifest) -> Iterator[ClassCount]:
    labelled = Counter(item.label for item in manifest.labelled)
    videos: dict[int, Counter[Split]] = defaultdict(Counter)
    for item in manifest.items:
        videos[item.label][item.split] += 1
    for label, name in enumerate((*manifest.classes, *manifest.open_classes)):
        yield ClassCount(name, labelled[label], dict(videos[label]))
    if UNKNOWN in videos:
        yield ClassCount(NO_CLASS, 0, dict(videos[UNKNOWN]))


def _groups(manifest: Manifest) -> dict[str, dict[Split, int]]:
    counts: dict[str, Counter[Split]] = defaultdict(Counter)
    for item in manifest.items:
        counts[item.group][item.split] += 1
    return {group: dict(counts[group]) for group in sorted(counts)}


def _class_name(manifest: Manifest, item: Item) -> str:
    names = (*manifest.classes, *manifest.open_classes)
    return "unknown" if item.label == UNKNOWN else names[item.label]
