"""What a run is made of: every video, its class, group, split and label use."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "validation", "test", "open"]

VIDEO_SUFFIXES = (
    *(".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".3gp", ".3g2", ".asf"),
    *(".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2t", ".m2ts", ".m2v"),
    *(".mjpeg", ".mjpg", ".mpe", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".ts", ".vob", ".wmv"),
)
"""What a file in a folder is taken for a video by; one that is named may have any suffix."""

UNKNOWN = -1
"""Label of a training video whose class nobody has said."""


@dataclass(frozen=True)
class Item:
    """One video.

    Attributes:
        path: Relative to the manifest's root, with forward slashes; of a part of a video with its
            seconds behind it (`data/spans.py`).
        label: Class, 0..K-1, `UNKNOWN`, or K + j for the j-th class that was held out. *Used* in
            training only where `labelled`.
        group: The recording or person it was cut from; a group is on one side of every split.
        split: `train`, `validation`, `test`, or `open`: a test video of a class held out.
        labelled: Whether training may see the label.
        num_frames: Decoded frames (not what the header claims); 0 before the file was read.
        fingerprint: Hash of the file's size, first and last 64 KiB; empty before it was read.
        first_frame: Number of its first frame in its file, where it is a part of one.
        weight: How often training sees its label, against one of weight 1; at least 0.
    """

    path: str
    label: int
    group: str
    split: Split
    labelled: bool = False
    num_frames: int = 0
    fingerprint: str = ""
    first_frame: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Manifest:
    """The items of a run, in a fixed order.

    `open_classes` are held out of training; labels K, K + 1, … are theirs. `broken` are the paths
    of listed videos that were left out because they do not read; a run's file does not have them.
    """

    name: str
    root: str
    fold: int
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    open_classes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    def part(self, split: Split) -> tuple[Item, ...]:
        """The items of one split. `train` is the unlabelled set: labels are a part of it."""
        return tuple(item for item in self.items if item.split == split)

    def judged_on(self, wanted: Literal["test", "validation"]) -> Literal["test", "validation"]:
        """What a run is judged on that wants this: validation where there is nothing else."""
        has_other = not self.part(wanted) and self.part("validation")
        return "validation" if has_other else wanted

    @property
    def labelled(self) -> tuple[Item, ...]:
        """The training items whose label is used."""
        return tuple(item for item in self.items if item.labelled)

    def replace(self, items: tuple[Item, ...]) -> Manifest:
        """The same data with other items."""
        return dataclasses.replace(self, items=items)

    def to_json(self) -> str:
        """One item a line, so that two manifests can be compared with `diff`."""
        head = {
            "schema": 1,
            "name": self.name,
            "root": self.root,
            "fold": self.fold,
            "classes": list(self.classes),
            "open_classes": list(self.open_classes),
        }
        lines = ",\n".join(json.dumps(dataclasses.asdict(item)) for item in self.items)
        return f'{json.dumps(head)[:-1]}, "items": [\n{lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> Manifest:
        """What `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        return Manifest(
            name=data["name"],
            root=data["root"],
            fold=data["fold"],
            classes=tuple(data["classes"]),
            items=tuple(Item(**item) for item in data["items"]),
            open_classes=tuple(data.get("open_classes", ())),
        )
