"""Typical videos: where they lie, in what order, and what counts as a near-copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.acquisition import coverage, suggestions
from bgan_video.acquisition.suggestions import Answers, Space
from bgan_video.config import Data
from bgan_video.data.manifest import Item, Manifest


def blobs(sizes: list[int], seed: int = 0, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around orthogonal directions, the first of each at its centre; their blob."""
    random = np.random.default_rng(seed)
    rows, blob = [], []
    for k, size in enumerate(sizes):
        around = spread * random.standard_normal((size, 16))
        around[0] = 0
        rows.append(np.eye(16)[k] + around)
        blob += [k] * size
    vectors = np.concatenate(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array(blob)


def apart(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_every_blob_gives_one_of_its_middle_before_any_gives_two() -> None:
    vectors, blob = blobs([20, 10, 15, 12])
    chosen = coverage.typical(vectors, [], apart(57), 4, seed=0)
    assert sorted(blob[chosen]) == [0, 1, 2, 3]
    assert blob[chosen[0]] == 0, "the largest first"
    distance = np.linalg.norm(vectors - vectors[[0, 20, 30, 45]][blob], axis=1)
    for item in chosen:
        assert distance[item] <= np.median(distance[blob == blob[item]])


def test_what_is_labelled_is_covered() -> None:
    vectors, blob = blobs([20, 10, 15, 12])
    chosen = coverage.typical(vectors, [1, 21], apart(57), 2, seed=0)
    assert sorted(blob[chosen]) == [2, 3]


def test_outliers_come_after_the_clusters() -> None:
    vectors, blob = blobs([2, 10, 15, 12])
    assert 0 not in blob[coverage.typical(vectors, [], apart(39), 3, seed=0)]


def test_a_recording_comes_once_before_any_twice() -> None:
    vectors, _ = blobs([20, 10, 15, 12])
    recordings = ["a"] * 50 + ["b"] * 7
    chosen = coverage.typical(vectors, [], recordings, 4, seed=0)
    assert [recordings[i] for i in chosen[:2]] in (["a", "b"], ["b", "a"])
    assert {recordings[i] for i in chosen[2:]} == {"a", "b"}


@given(st.integers(1, 12), st.integers(0, 10), st.integers(1, 20), st.integers(0, 3))
def test_any_number_can_be_asked_for(size: int, labelled: int, budget: int, seed: int) -> None:
    vectors, _ = blobs([size, size], seed)
    known = list(range(min(labelled, 2 * size)))
    chosen = coverage.typical(vectors, known, apart(2 * size), budget, seed)
    assert len(chosen) == len(set(chosen)) == min(budget, 2 * size - len(known))
    assert not set(chosen) & set(known)


def test_items_that_coincide_do_no_harm() -> None:
    vectors = coverage.unit_vectors(np.ones((6, 3)))
    assert sorted(coverage.typical(vectors, [], apart(6), 6, seed=0)) == list(range(6))


def test_near_copies_are_of_the_same_recording_alone() -> None:
    vectors = np.array([[1.0, 0], [0.99, 0.14], [1.0, 0], [0, 1.0]])
    recordings = ["a", "a", "b", "a"]
    assert coverage.near_copies(vectors, 0, [1, 2, 3], recordings) == [1]


def space_of(sizes: list[int], labelled: set[int], tells_copies: bool = True) -> Space:
    vectors, blob = blobs(sizes, spread=0.02)
    items = [
        Item(f"{k}/{i}.avi", int(k), f"g{k}", "train", i in labelled) for i, k in enumerate(blob)
    ]
    return Space(items, vectors, tells_copies)


MANIFEST = Manifest("test", "root", 1, ("bend", "walk", "wave"), ())


def test_one_label_answers_for_near_copies_which_are_not_asked_for_again() -> None:
    space = space_of([6, 6], set())
    data = Data(layout="video_folder")
    found = suggestions.choose_typical(space, None, MANIFEST, data, 2, 0)
    assert [len(s.copies) for s in found] == [5, 5]
    everything = [path for s in found for path in (s.path, *s.copies)]
    assert len(everything) == len(set(everything)) == 12
    assert {s.path.split("/")[0] for s in found} == {"0", "1"}
    untold = suggestions.choose_typical(space_of([6, 6], set(), False), None, MANIFEST, data, 2, 0)
    assert all(s.copies == () for s in untold)


def test_near_copies_are_told_of_informative_videos_too() -> None:
    space = space_of([6, 6], set())
    p = torch.rand(4, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = p / p.sum(dim=2, keepdim=True)
    given = (space.items, Answers(p.mean(0), p), MANIFEST, Data(layout="video_folder"), 2)
    told = suggestions.choose(*given, torch.Generator().manual_seed(0), space)
    everything = [path for s in told for path in (s.path, *s.copies)]
    assert len(everything) == len(set(everything))
    assert all({c.split("/")[0] for c in s.copies} == {s.path.split("/")[0]} for s in told)
    untold = suggestions.choose(*given, torch.Generator().manual_seed(0))
    assert [s.path for s in untold] == [s.path for s in told]
    assert all(s.copies == () for s in untold)


@pytest.mark.parametrize("by", ["typical", "information"])
def test_no_near_copy_is_asked_for_itself_however_many_are_wanted(by: str) -> None:
    """Two recordings of six near-copies each leave two to ask for, of the twelve wanted."""
    space, data = space_of([6, 6], set()), Data(layout="video_folder")
    if by == "typical":
        found = suggestions.choose_typical(space, None, MANIFEST, data, 12, 0)
    else:
        p = torch.rand(4, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        p = p / p.sum(dim=2, keepdim=True)
        given = (space.items, Answers(p.mean(0), p), MANIFEST, data, 12)
        found = suggestions.choose(*given, torch.Generator().manual_seed(0), space)
    assert [s.rank for s in found] == [1, 2]
    assert [len(s.copies) for s in found] == [5, 5]


def test_figures_are_those_of_the_candidates() -> None:
    space = space_of([4, 4], {0, 5})
    p = torch.zeros(2, 6, 3, dtype=torch.float64)
    for n in range(6):
        p[:, n] = torch.tensor([0.1, 0.1 + 0.1 * n, 0.8 - 0.1 * n])
    said = Answers(p.mean(0), p)
    for s in suggestions.choose_typical(space, said, MANIFEST, Data(layout="video_folder"), 6, 0):
        unlabelled = [i.path for i in space.items if not i.labelled]
        n = unlabelled.index(s.path)
        assert s.probability == pytest.approx(max(0.1 + 0.1 * n, 0.8 - 0.1 * n))
        assert s.mutual_information == pytest.approx(0)
        assert s.total_entropy is not None
        assert s.total_entropy > 0


@pytest.mark.parametrize(
    ("by", "labels", "typical"),
    [("auto", 0, True), ("auto", 11, True), ("auto", 12, False), ("typical", 99, True)],
)
def test_the_switch(by: suggestions.By, labels: int, typical: bool) -> None:
    assert suggestions.is_typical(by, labels, 3) is typical
    assert not suggestions.is_typical("information", labels, 3)
