"""What `bgan-video data check` prints for a person."""

from __future__ import annotations

from collections.abc import Iterator

from bgan_video.data.check import NO_CLASS, SPLITS, DataCheck, Kind, Part
from bgan_video.data.manifest import Split

SHOWN = 5
"""Traps of a kind that are written out; the rest is counted."""

_TITLES: dict[Kind, str] = {
    "imbalance": "classes of unlike size",
    "missing": "listed, but not there",
    "broken": "broken",
    "short": "shorter than a clip",
    "rate": "frame rates",
    "crop": "cropping that the container asks a player for, which is not done",
    "duplicate": "copies of another video",
    "group": "groups on several sides of the split",
    "class": "classes that lack videos",
    "label": "labels",
    "list": "lines of the label list that do not fit",
    "unlisted": "in the folder, but not in the data set",
    "suffix": "passed over, as their suffix is none of a video",
}


def text(check: DataCheck) -> str:
    """Tables of counts and lengths, then the traps by kind, the first of each written out."""
    lines = [
        *_head(check),
        "",
        *_parts(check),
        *_rates(check),
        "",
        *_classes(check),
        "",
        *_traps(check),
    ]
    return "\n".join(lines)


def _head(check: DataCheck) -> Iterator[str]:
    sizes = [sum(videos.values()) for videos in check.groups.values()]
    yield (
        f"{check.name}, fold {check.fold} ({check.root}): {check.videos:,} videos of "
        f"{sum(c.name != NO_CLASS for c in check.classes)} classes in {len(sizes):,} groups of "
        f"{min(sizes)} to {max(sizes)}"
    )
    if max(sizes) == 1:
        yield (
            "note: every video is a group of its own; if some are cut from one recording, or show "
            "one person, say so with data.groups, or they may be on both sides of the split"
        )
    train = check.parts["train"].videos
    yield f"labels: {check.labelled:,} of {train:,} training videos"
    if check.beside_labelled:
        yield (
            f"        {check.beside_labelled:,} of the others share a recording with a labelled "
            f"one (data.separate_recordings=true leaves them out)"
        )
    if check.left_out:
        yield f"        {check.left_out:,} that share a recording with a labelled one are left out"


def _parts(check: DataCheck) -> Iterator[str]:
    yield f"{'':12}{'videos':>8}{'groups':>8}{'shortest':>10}{'median':>8}{'longest':>9}  (frames)"
    for split, part in check.parts.items():
        if part.videos:
            yield f"{split:12}{part.videos:>8,}{part.groups:>8,}{_lengths(part)}"


def _rates(check: DataCheck) -> Iterator[str]:
    if check.rates:
        told = ", ".join(f"{rate} ({number:,})" for rate, number in check.rates.items())
        yield f"frames a second: {told}"


def _lengths(part: Part) -> str:
    if part.lengths is None:
        return f"{'-':>10}{'-':>8}{'-':>9}"
    lengths = part.lengths
    return f"{lengths.shortest:>10}{lengths.median:>8g}{lengths.longest:>9}"


def _classes(check: DataCheck) -> Iterator[str]:
    width = max(len(count.name) for count in check.classes) + 2
    splits: list[Split] = [split for split in SPLITS if check.parts[split].videos]
    yield f"{'class':{width}}{'labelled':>9}" + "".join(f"{split:>12}" for split in splits)
    for count in check.classes:
        numbers = "".join(f"{count.videos.get(split, 0):>12,}" for split in splits)
        yield f"{count.name:{width}}{count.labelled:>9,}{numbers}"


def _traps(check: DataCheck) -> Iterator[str]:
    for kind, title in _TITLES.items():
        traps = [trap for trap in check.traps if trap.kind == kind]
        if not traps:
            continue
        yield f"{title}: {len(traps):,}"
        yield from (f"  {trap.what}: {trap.why}" for trap in traps[:SHOWN])
        if len(traps) > SHOWN:
            yield f"  … and {len(traps) - SHOWN:,} more (--json has all)"
    if not check.traps:
        yield "nothing is wrong"
    if not check.were_read:
        yield "files were not decoded: which are broken, short or copies in another format is open"
