"""Training videos of classes that were held out, left in the pool."""

from __future__ import annotations

import pytest

from bgan_video import config
from bgan_video.config import Data
from bgan_video.data.manifest import UNKNOWN
from bgan_video.data.splits import split
from bgan_video.errors import UserError
from tests.data.test_splits import CLASSES, WHOLE

HELD = "walk"


def strangers_of(data: Data) -> tuple[list[str], set[str]]:
    """Paths of the unknown training videos, and the groups of validation."""
    found = split(WHOLE, data)
    unknown = [item.path for item in found.part("train") if item.label == UNKNOWN]
    return unknown, {item.group for item in found.part("validation")}


def test_held_out_classes_leave_the_pool_unless_they_are_to_stay() -> None:
    unknown, _ = strangers_of(Data(held_out=HELD, labels_per_class=1))
    assert unknown == []


def test_strangers_are_the_training_videos_of_held_out_classes() -> None:
    unknown, judged = strangers_of(Data(held_out=HELD, held_out_in_pool=True, labels_per_class=1))
    expected = [
        item.path
        for item in WHOLE.items
        if CLASSES[item.label] == HELD and item.split == "train" and item.group not in judged
    ]
    assert judged, "strangers must not cost the validation videos"
    assert unknown == expected


def test_strangers_change_neither_labels_nor_the_other_splits() -> None:
    without = split(WHOLE, Data(held_out=HELD, labels_per_class=2))
    among = split(WHOLE, Data(held_out=HELD, held_out_in_pool=True, labels_per_class=2))
    assert among.labelled == without.labelled
    for part in ("validation", "test", "open"):
        assert among.part(part) == without.part(part)  # type: ignore[arg-type]


def test_strangers_need_a_class_that_is_held_out() -> None:
    with pytest.raises(UserError, match=r"data\.held_out"):
        config.load(None, ["data.held_out_in_pool=true"])
