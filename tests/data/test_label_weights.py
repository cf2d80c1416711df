"""Weights of labels: how often the labelled stream shows each item."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import config
from bgan_video.config import Data
from bgan_video.data.frames import Frames
from bgan_video.data.labels import choice
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import ClipStream, label_weights
from bgan_video.errors import UserError

NATURAL = config.load(None, ["clip.size=8"])
BALANCED = config.load(None, ["clip.size=8", "train.labelled_sampling=balanced"])


def items(*of: tuple[int, float]) -> list[Item]:
    return [
        Item(f"{i}", label, f"{i}", "train", weight=weight) for i, (label, weight) in enumerate(of)
    ]


def seen(of: list[Item], settings: config.Config, passes: int) -> Counter[str]:
    weights = label_weights(of, settings)
    stream = ClipStream("labelled", of, cast(Frames, None), settings, weights)
    return Counter(stream.item(sample).path for sample in range(passes * len(of)))


def test_equal_weights_change_nothing() -> None:
    of = items((0, 2.0), (1, 2.0), (0, 2.0))
    assert label_weights(of, NATURAL) is None
    assert seen(of, NATURAL, 3) == {"0": 3, "1": 3, "2": 3}


def test_balanced_sampling_shows_all_classes_as_often() -> None:
    of = items(*[(0, 1.0)] * 15, (1, 1.0), (2, 1.0), (2, 1.0))
    shown = seen(of, BALANCED, 400)
    by_class = Counter[int]()
    for item in of:
        by_class[item.label] += shown[item.path]
    total = sum(by_class.values())
    assert [by_class[k] / total for k in range(3)] == pytest.approx([1 / 3] * 3, abs=0.01)
    assert all(shown[str(i)] > 0 for i in range(15))


def test_weights_count_within_a_class_of_balanced_ones() -> None:
    shown = seen(items((0, 1.0), (0, 3.0), (1, 5.0)), BALANCED, 800)
    assert shown["1"] / shown["0"] == pytest.approx(3, rel=0.05)
    assert shown["2"] / (shown["0"] + shown["1"]) == pytest.approx(1, rel=0.05)


@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=12), st.integers(0, 5))
def test_a_pass_has_each_item_as_often_as_it_weighs_up_to_one(
    weights: list[float], epoch: int
) -> None:
    of, n = items(*((0, w) for w in weights)), len(weights)
    stream = ClipStream("labelled", of, cast(Frames, None), NATURAL, tuple(weights))
    shown = Counter(stream.item(epoch * n + i).path for i in range(n))
    for i, weight in enumerate(weights):
        assert abs(shown[str(i)] - n * weight / sum(weights)) < 1 + 1e-6


def test_a_label_of_weight_zero_is_no_label() -> None:
    rows = [(label, weight) for label in (0, 1) for weight in (0.0, 0.0, 1.0, 2.0)]
    manifest = Manifest("made", ".", 1, ("a", "b"), tuple(items(*rows)))

    def labelled(**data: int) -> list[tuple[int, float]]:
        found = choice.label(manifest, Data(**data)).labelled
        return [(item.label, item.weight) for item in found]

    every = [(0, 1.0), (0, 2.0), (1, 1.0), (1, 2.0)]
    assert labelled() == labelled(labels_per_class=2) == labelled(num_labelled=4) == every
    with pytest.raises(UserError, match="allowed: up to 2"):
        labelled(labels_per_class=3)
    listed = choice.use(manifest, {"0": 0, "2": 0}, Data())
    assert [item.path for item in listed.labelled] == ["2"]
    nothing = manifest.replace(tuple(items((0, 0.0), (1, 0.0))))
    with pytest.raises(UserError, match="weight 0"):
        choice.label(nothing, Data(num_labelled=2), first=True)
