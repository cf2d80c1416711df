"""Streams: sample i is a pure function of (seed, stream, i), whoever loads it."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import streams
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item
from bgan_video.data.streams import ClipStream, labelled_batches, unlabelled_batches
from bgan_video.data.transforms import View
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo

LENGTH = 40


class Pictures:
    """Stands for `Frames`: every video has its own brightness, every frame its number."""

    def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
        frames = np.empty((len(indices), 9, 9, 3), np.uint8)
        frames[..., 0] = item.label * 20
        frames[..., 1] = int(item.group)
        frames[..., 2] = np.asarray(indices)[:, None, None] * 6
        return frames


class Broken:
    def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
        raise BrokenVideo(item.path, "it was cut short")  # type: ignore[arg-type]


def videos(count: int = 7) -> list[Item]:
    return [Item(f"{i}.avi", i % 3, str(i), "train", num_frames=LENGTH) for i in range(count)]


@cache
def settings(*overrides: str) -> Config:
    small = ["clip.size=8", "clip.num_frames=4", "train.batch_size=3"]
    return config.load(None, [*small, "train.labelled_batch_size=2", *overrides])


PICTURES = cast(Frames, Pictures())


def stream(name: str = "unlabelled", count: int = 7, seed: int = 0) -> ClipStream:
    return ClipStream(name, videos(count), PICTURES, settings(f"run.seed={seed}"))


def unlabelled(number: int, first: int = 0, *overrides: str) -> list[Any]:
    batches = unlabelled_batches(videos(), PICTURES, settings(*overrides), first)
    return list(itertools.islice(batches, number))


def labelled(number: int, first: int = 0, *overrides: str) -> list[Any]:
    batches = labelled_batches(videos(), PICTURES, settings(*overrides), first)
    return list(itertools.islice(batches, number))


def mixed(
    number: int, first: int = 0, num_labelled: int = 3, num_believed: int = 4, *overrides: str
) -> list[Any]:
    """Batches of labelled items and believed ones; a believed item's label is 9 more than true."""
    true, others = videos(num_labelled), videos(num_labelled + num_believed)[num_labelled:]
    believed = [dataclasses.replace(item, label=item.label + 9) for item in others]
    of = settings("augment.color=0", *overrides)
    return list(itertools.islice(labelled_batches(true, PICTURES, of, first, believed), number))


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
@pytest.mark.parametrize(("num_labelled", "num_believed"), [(5, 0), (4, 3), (5, 25)])
def test_classes_are_as_often_as_the_batches_show_them(
    num_labelled: int, num_believed: int, sampling: str
) -> None:
    of = settings("augment.color=0", f"train.labelled_sampling={sampling}")
    true, others = videos(num_labelled), videos(num_labelled + num_believed)[num_labelled:]
    believed = [dataclasses.replace(item, label=item.label + 3) for item in others]
    batches = labelled_batches(true, PICTURES, of, 0, believed)
    number = 2100  # whole passes over labels and believed ones alike, or nearly
    shown = torch.cat([batch.y for batch in itertools.islice(batches, number) if batch])
    found = streams.class_frequencies(true, believed, of, 6)
    assert sum(found) == pytest.approx(1)
    often = torch.bincount(shown, minlength=6) / len(shown)
    assert often.tolist() == pytest.approx(found, abs=0.01)


def assert_same(left: list[Any], right: list[Any]) -> None:
    for a, b in zip(left, right, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.integers(1, 20), st.integers(0, 5), st.integers(0, 99))
def test_every_pass_shows_every_item_once(count: int, epoch: int, seed: int) -> None:
    samples = range(epoch * count, (epoch + 1) * count)
    seen = Counter(stream(count=count, seed=seed).item(s).path for s in samples)
    assert seen == {item.path: 1 for item in videos(count)}


def test_every_pass_has_its_own_order() -> None:
    of = stream(count=12)
    orders = [tuple(of.item(12 * e + i).path for i in range(12)) for e in range(5)]
    assert len(set(orders)) == 5


def test_the_order_depends_on_seed_and_name() -> None:
    def order(of: ClipStream) -> tuple[str, ...]:
        return tuple(of.item(i).path for i in range(12))

    same = [stream(count=12) for _ in range(2)]
    assert order(same[0]) == order(same[1])
    others = [stream("labelled", 12), stream(count=12, seed=1)]
    assert len({order(of) for of in [same[0], *others]}) == 3


def test_an_item_comes_at_a_new_place_in_time_in_every_pass() -> None:
    of = stream(count=1)
    starts = [int(of.read(i, of.random(i))[1][0, 0, 0, 2]) // 6 for i in range(60)]
    assert len(set(starts)) > 20


def test_a_batch_is_its_samples_whatever_came_before() -> None:
    of = settings()
    data = streams.UnlabelledClips(
        ClipStream("unlabelled", videos(), PICTURES, of), _weak(of), None
    )
    for b, batch in enumerate(unlabelled(4)):
        alone = torch.stack([data[3 * b + i][0] for i in range(3)])
        assert torch.equal(batch.weak, alone)


@pytest.mark.filterwarnings("ignore:.*pin_memory")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_is_given_the_same_views(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of loading processes, put together and finished where the GPU would be."""
    overrides = (f"data.num_workers={workers}", "objective.consistency_weight=1")
    expected = unlabelled(3, 0, *overrides), labelled(3, 0, *overrides)
    monkeypatch.setattr(streams, "on_cuda", lambda run: True)
    monkeypatch.setattr(streams, "_GPU", torch.device("cpu"))
    windows: list[Any] = []
    finish = View.finish
    monkeypatch.setattr(View, "finish", lambda v, w: windows.append(w) or finish(v, w))
    assert_same(unlabelled(3, 0, *overrides), expected[0])
    assert_same(labelled(3, 0, *overrides), expected[1])
    assert len(windows) == 3 * 3  # weak, strong and labelled
    assert all(window.pixels.dtype == torch.uint8 for window in windows)


def _weak(of: Config) -> Any:
    return streams.weak_view(of)


@pytest.mark.parametrize("batches", [unlabelled, labelled])
@pytest.mark.parametrize("first", [1, 5])
def test_starting_late_is_the_same_as_skipping(batches: Any, first: int) -> None:
    assert_same(batches(3, first), batches(3 + first)[first:])


@pytest.mark.parametrize("batches", [unlabelled, labelled])
def test_the_seed_changes_every_batch(batches: Any) -> None:
    one, other = batches(2, 0, "run.seed=1"), batches(2, 0, "run.seed=2")
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    strong = "objective.consistency_weight=1"
    many = unlabelled(6, 2, f"data.num_workers={workers}", strong)
    assert_same(many, unlabelled(6, 2, strong))


def test_a_labelled_clip_carries_its_own_label() -> None:
    overrides = ["augment.color=0"]
    for batch in labelled(6, 0, *overrides):
        assert batch.x.shape == (2, 3, 4, 8, 8)
        red = ((batch.x[:, 0, 0, 0, 0] + 1) * 127.5).round().long()
        assert torch.equal(red // 20, batch.y)
        assert batch.y.dtype == torch.int64


# --- labelled and believed ones ---------------------------------------------------------------


def believed_of(batch: Any) -> int:
    return int((batch.y >= 9).sum())


def green(batch: Any) -> list[int]:
    """The numbers of a batch's videos."""
    return ((batch.x[:, 1, 0, 0, 0] + 1) * 127.5).round().long().tolist()


@given(
    st.integers(2, 9),
    st.integers(1, 6),
    st.integers(1, 20),
    st.sampled_from(["0", "0.1", "0.3", "0.333", "0.5"]),
    st.integers(0, 10**6),
)
def test_true_labels_are_at_least_half_of_every_batch(
    size: int, num_labelled: int, num_believed: int, share: str, first: int
) -> None:
    sizes = [f"train.labelled_batch_size={size}", f"rounds.share={share}"]
    for batch in mixed(3, first, num_labelled, num_believed, *sizes):
        assert len(batch.y) == size
        assert 2 * believed_of(batch) <= size


@pytest.mark.parametrize("size", [4, 5])
def test_many_believed_items_are_half_of_a_batch_rounded_down(size: int) -> None:
    batches = mixed(12, 0, 2, 9, f"train.labelled_batch_size={size}")
    assert [believed_of(batch) for batch in batches] == [2] * 12


@pytest.mark.parametrize(
    ("num_labelled", "num_believed"), [(6, 1), (6, 6), (3, 5), (1, 9), (5, 3)], ids=str
)
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_no_believed_item_weighs_more_than_a_labelled_one(
    num_labelled: int, num_believed: int, share: float
) -> None:
    sizes = ["train.labelled_batch_size=8", f"rounds.share={share}"]
    batches = mixed(90, 0, num_labelled, num_believed, *sizes)
    times = Counter(number for batch in batches for number in green(batch))
    of_true, of_believed = (
        [times[n] for n in range(num_labelled)],
        [times[num_labelled + n] for n in range(num_believed)],
    )
    assert max(of_believed) <= min(of_true) + 1  # the last pass need not be whole
    fair = num_believed / (num_labelled + num_believed)
    assert sum(of_believed) == pytest.approx(720 * min(share, fair), abs=1)


def test_a_believed_clip_carries_what_is_believed_of_it() -> None:
    for batch in mixed(6):
        for number, label in zip(green(batch), batch.y.tolist(), strict=True):
            assert label == (number % 3 + 9 if number >= 3 else number % 3)


def test_samples_are_the_same_whoever_is_believed_beside_them() -> None:
    """The labelled samples of a mixed stream are those of the stream without, one after another."""
    of = mixed(8, 0, 3, 2, "train.labelled_batch_size=4")
    kept = torch.cat([batch.x[batch.y < 9] for batch in of])
    true = labelled_batches(videos(3), PICTURES, settings("augment.color=0"), 0)
    alone = torch.cat([batch.x for batch in itertools.islice(true, 16)])
    assert len(kept) > 8
    assert torch.equal(kept, alone[: len(kept)])


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("first", [1, 7])
def test_mixed_batches_start_late_as_if_skipped(first: int, size: int) -> None:
    sizes = f"train.labelled_batch_size={size}"
    assert_same(mixed(3, first, 3, 4, sizes), mixed(3 + first, 0, 3, 4, sizes)[first:])


def test_workers_change_nothing_about_mixed_batches() -> None:
    assert_same(mixed(6, 1, 3, 4, "data.num_workers=2"), mixed(6, 1))


def test_without_believed_items_the_share_changes_nothing() -> None:
    assert_same(mixed(3, 0, 3, 0), mixed(3, 0, 3, 0, "rounds.share=0.1"))


# --- two views --------------------------------------------------------------------------------


def test_both_views_are_of_the_same_clip() -> None:
    calm = ["augment.color=0", "augment.strong_color=0", "augment.strong_erase=0"]
    for batch in unlabelled(5, 0, "objective.consistency_weight=1", *calm):
        torch.testing.assert_close(batch.weak[..., 0, 0], batch.strong[..., 0, 0])
        assert batch.strong.shape == batch.weak.shape


def test_the_two_views_are_drawn_apart() -> None:
    colourful = ["augment.strong_color=0.2", "augment.strong_erase=0"]
    (batch,) = unlabelled(1, 0, "objective.consistency_weight=1", *colourful)
    assert not torch.isclose(batch.weak, batch.strong).all()


def test_the_weak_view_is_the_same_with_and_without_a_strong_one() -> None:
    without, with_strong = unlabelled(2), unlabelled(2, 0, "objective.consistency_weight=1")
    for a, b in zip(without, with_strong, strict=True):
        assert torch.equal(a.weak, b.weak)
        assert a.strong.numel() <= 3  # no clip where nobody asks for one


def test_streams_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    unlabelled(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_a_clip_is_strided_within_its_video() -> None:
    of = stream()
    for i in range(30):
        item, frames = of.read(i, of.random(i))
        numbers = frames[:, 0, 0, 2].astype(int) // 6
        assert frames[0, 0, 0, 1] == int(item.group)
        assert (np.diff(numbers) == 2).all()
        assert 0 <= numbers.min() <= numbers.max() < LENGTH


def test_a_video_that_breaks_later_is_named() -> None:
    of = ClipStream("labelled", videos(1), cast(Frames, Broken()), settings())
    with pytest.raises(UserError, match=r"0\.avi no longer reads: it was cut short"):
        of.read(0, of.random(0))


@pytest.mark.parametrize("of", [labelled_batches, unlabelled_batches])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_fails_in_a_worker_is_said_in_one_line(of: Any, workers: int) -> None:
    chosen = settings(f"data.num_workers={workers}")
    with pytest.raises(UserError) as caught:
        next(of(videos(1), cast(Frames, Broken()), chosen, 0))
    assert str(caught.value) == "0.avi no longer reads: it was cut short"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_parent_sees_what_a_loading_process_reads() -> None:
    fork = multiprocessing.get_context("fork")
    reading, go_on = fork.Event(), fork.Event()

    class Waiting:
        def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
            reading.set()
            go_on.wait()
            return Pictures().read(item, indices)

    of = ClipStream("unlabelled", videos(), cast(Frames, Waiting()), settings())
    process = fork.Process(target=of.read, args=(2, of.random(2)))
    process.start()
    reading.wait()
    assert of.being_read() == [of.item(2).path]
    go_on.set()
    process.join()
    assert of.being_read() == []
