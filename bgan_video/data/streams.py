"""Infinite training streams: sample number i is a pure function of (seed, stream, i).

Nothing about a stream has to be saved but how many batches were taken: a resumed run, and a run
with another number of workers, get the same samples. Who reads them is `data/loading.py`.

For a GPU, loading processes make windows of bytes, and the GPU their colours: what takes a CPU most
of the time of a view is little to it, and a quarter of the bytes goes there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction as Rational
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from bgan_video import ranks, rng
from bgan_video.backend import on_cuda
from bgan_video.config import Config
from bgan_video.data import cutting
from bgan_video.data.cutting import ItemFrames
from bgan_video.data.loading import Stream, load
from bgan_video.data.manifest import Item
from bgan_video.data.transforms import View, Window, strong_view, weak_view
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo

# `rounds.share` as a ratio, so that no sample number is large enough for a rounding error.
_FINEST_SHARE = 1000


class LabelledBatch(NamedTuple):
    """`x [B, C, (T,) H, W]` in [-1, 1] and `y [B]` in 0..K-1."""

    x: Tensor
    y: Tensor


class UnlabelledBatch(NamedTuple):
    """Two views `[B, C, (T,) H, W]` of the same items; `strong` is zeros `[B]` where not used."""

    weak: Tensor
    strong: Tensor


_GPU = torch.device("cuda")

# A view, or the window that a GPU makes it of.
See = Callable[[NDArray[Any], np.random.Generator], Tensor | Window]


class ClipStream:
    """The clips of one stream by sample number.

    Every pass over the items is in a new order; every sample has a new place in time and new views.

    Args:
        name: Seeds it.
        items: At least one.
        frames: Theirs.
        config: Clips and seed.
        weights: How often each item is seen; None where all are as often. A pass of n samples has
            each item `n·w/Σw` times, rounded up or down by chance.
    """

    def __init__(
        self,
        name: str,
        items: Sequence[Item],
        frames: ItemFrames,
        config: Config,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        self._name = name
        self._items = items
        self._frames = frames
        self._clip = config.clip
        self._weights = weights
        self._seed = config.run.seed
        self._orders: dict[int, NDArray[np.int64]] = {}
        # Sample that each loading process is reading, -1 while it reads none.
        self._reading = torch.full((max(1, config.data.num_workers),), -1)
        self._reading.share_memory_()

    def item(self, sample: int) -> Item:
        """The item of a sample: position `sample mod n` in the order of pass `sample div n`."""
        epoch, position = divmod(sample, len(self._items))
        return self._items[int(self._order(epoch)[position])]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The items of a pass, by number; two passes are kept, as samples are read ahead."""
        if epoch not in self._orders:
            found = _order(self._seed, self._name, epoch, len(self._items), self._weights)
            self._orders = {**dict([*self._orders.items()][-1:]), epoch: found}
        return self._orders[epoch]

    def random(self, sample: int) -> np.random.Generator:
        """The generator of everything random about a sample."""
        return np.random.default_rng(rng.derive_seed(self._seed, self._name, sample))

    def read(self, sample: int, random: np.random.Generator) -> tuple[Item, NDArray[Any]]:
        """A random clip `[T, H, W, C]` of the sample's item, as it is stored."""
        item = self.item(sample)
        clip = self._clip
        drawn = random.random()
        worker = get_worker_info()
        slot = worker.id if worker else 0
        self._reading[slot] = sample
        try:
            length = cutting.length_of(item, self._frames, clip)
            indices = cutting.random_clip(length, clip, drawn)
            return item, self._frames.read(item, indices)
        except BrokenVideo as error:
            raise UserError(f"{item.path} no longer reads: {error.reason}") from None
        finally:
            self._reading[slot] = -1

    def being_read(self) -> list[str]:
        """The videos that loading processes are reading at this moment."""
        samples = [int(sample) for sample in self._reading]
        return sorted({self.item(sample).path for sample in samples if sample >= 0})


class LabelledClips(Dataset[tuple[Tensor | Window, Tensor]]):
    """Labelled clips as they are seen, and among them those of believed items.

    Believed items are spread evenly: of the samples 0..i, `floor((i + 1)·share)` are theirs.

    Args:
        stream: Of the items whose label is true.
        see: The weak view.
        believed: Of the items with a pseudo-label; None where there are none.
        share: The part of the samples that are theirs, 0..0.5.
    """

    def __init__(
        self,
        stream: ClipStream,
        see: See,
        believed: ClipStream | None = None,
        share: Rational = Rational(0),
    ) -> None:
        self._stream, self._see = stream, see
        self._believed, self._share = believed, share

    def __getitem__(self, sample: int) -> tuple[Tensor | Window, Tensor]:
        stream = self._stream
        if self._believed is not None:
            before, now = math.floor(sample * self._share), math.floor((sample + 1) * self._share)
            is_believed = now > before
            stream = self._believed if is_believed else self._stream
            sample = before if is_believed else sample - before
        random = stream.random(sample)
        item, frames = stream.read(sample, random)
        return self._see(frames, random), torch.tensor(item.label)


class UnlabelledClips(Dataset[tuple[Tensor | Window, Tensor | Window]]):
    """Clips of all training items in a weak and, where asked for, a strong view."""

    def __init__(self, stream: ClipStream, weak: See, strong: See | None) -> None:
        self._stream, self._weak, self._strong = stream, weak, strong

    def __getitem__(self, sample: int) -> tuple[Tensor | Window, Tensor | Window]:
        random = self._stream.random(sample)
        _, frames = self._stream.read(sample, random)
        weak = self._weak(frames, random)
        strong = self._strong(frames, random) if self._strong else torch.zeros(())
        return weak, strong


def labelled_stream(
    items: Sequence[Item],
    frames: ItemFrames,
    config: Config,
    believed: Sequence[Item] = (),
    whole: bool = False,
) -> Stream[LabelledBatch] | None:
    """Batches of labelled clips; None without labels.

    Args:
        items: Those whose label is true.
        frames: Theirs.
        config: Views, sizes and seed.
        believed: Items that bear a pseudo-label. Each counts as much as a labelled one, or less
            where they would be more than `rounds.share` of a batch, or more than half of an odd
            one.
        whole: Whether every rank gets all of each batch, in place of its share.
    """
    if not items:
        return None
    size = config.train.labelled_batch_size
    weights = label_weights(items, config)
    clips, view = [ClipStream("labelled", items, frames, config, weights)], weak_view(config)
    samples = LabelledClips(clips[0], _seeing(view, config))
    if believed:
        share = believed_share(len(items), len(believed), config)
        clips.append(ClipStream("believed", believed, frames, config))
        samples = LabelledClips(clips[0], _seeing(view, config), clips[1], share)
    own = range(size) if whole else ranks.mine(size, "a batch")
    finish, being_read = partial(_labelled, view), partial(_being_read, clips)
    return Stream(samples, size, own, finish, being_read, 1, config)


def unlabelled_stream(
    items: Sequence[Item], frames: ItemFrames, config: Config
) -> Stream[UnlabelledBatch]:
    """Batches of clips of all training items.

    Where nothing learns from them, the first one again and again: a run shows it and reads no more.
    """
    clips = ClipStream("unlabelled", items, frames, config)
    weak, strong = weak_view(config), strong_view(config)
    see_strong = _seeing(strong, config) if config.needs_strong_views else None
    samples = UnlabelledClips(clips, _seeing(weak, config), see_strong)
    size, views = config.train.batch_size, 2 if config.needs_strong_views else 1
    own, repeats = ranks.mine(size, "a batch"), not config.needs_unlabelled
    finish, being_read = partial(_unlabelled, weak, strong), partial(_being_read, [clips])
    return Stream(samples, size, own, finish, being_read, views, config, repeats)


def labelled_batches(
    items: Sequence[Item],
    frames: ItemFrames,
    config: Config,
    first: int,
    believed: Sequence[Item] = (),
    whole: bool = False,
) -> Iterator[LabelledBatch | None]:
    """The batches of `labelled_stream` alone, from number `first` on, without end."""
    stream = labelled_stream(items, frames, config, believed, whole)
    return (batches["labelled"] for batches in load({"labelled": stream}, first, config))


def unlabelled_batches(
    items: Sequence[Item], frames: ItemFrames, config: Config, first: int
) -> Iterator[UnlabelledBatch]:
    """The batches of `unlabelled_stream` alone, from number `first` on, without end."""
    stream = unlabelled_stream(items, frames, config)
    return (batches["unlabelled"] for batches in load({"unlabelled": stream}, first, config))


def _being_read(streams: Sequence[ClipStream]) -> list[str]:
    return [path for stream in streams for path in stream.being_read()]


def _seeing(view: View, config: Config) -> See:
    """A vector is its own view, and has no colours."""
    return view.window if on_cuda(config.run) and config.spatial_dims else view


def _labelled(view: View, collated: Sequence[Any]) -> LabelledBatch:
    x, y = collated
    return LabelledBatch(_finished(x, view), y)


def _unlabelled(weak: View, strong: View, collated: Sequence[Any]) -> UnlabelledBatch:
    of_weak, of_strong = collated
    return UnlabelledBatch(_finished(of_weak, weak), _finished(of_strong, strong))


def _finished(batch: Tensor | Window, view: View) -> Tensor:
    """The views of a batch, of windows on the GPU."""
    if isinstance(batch, Tensor):
        return batch
    return view.finish(Window(*(part.to(_GPU, non_blocking=True) for part in batch)))


def believed_share(num_labelled: int, num_believed: int, config: Config) -> Rational:
    """The part of a labelled batch that bears pseudo-labels.

    No believed item counts more than a labelled one, all of them together no more than
    `rounds.share` and no more than half of an odd batch.
    """
    size = config.train.labelled_batch_size
    return min(
        Rational(config.rounds.share).limit_denominator(_FINEST_SHARE),
        Rational(num_believed, num_labelled + num_believed),
        Rational(size // 2, size),
    )


def class_frequencies(
    items: Sequence[Item], believed: Sequence[Item], config: Config, num_classes: int
) -> tuple[float, ...]:
    """How often each class is in a labelled batch `[K]`: what a network learns as their prior.

    Args:
        items: Those whose label is true, at least one.
        believed: Those that bear a pseudo-label.
        config: How both are drawn.
        num_classes: K.
    """
    weights = label_weights(items, config) or (1.0,) * len(items)
    share = float(believed_share(len(items), len(believed), config))
    found = np.zeros(num_classes)
    np.add.at(found, [item.label for item in items], (1 - share) / sum(weights) * np.array(weights))
    if believed:
        np.add.at(found, [item.label for item in believed], share / len(believed))
    return tuple(found.tolist())


def label_weights(items: Sequence[Item], config: Config) -> tuple[float, ...] | None:
    """How often each labelled item is seen, against the others; None where all are as often."""
    weights = [item.weight for item in items]
    if config.train.labelled_sampling == "balanced":
        of_class: dict[int, float] = defaultdict(float)
        for item in items:
            of_class[item.label] += item.weight
        weights = [item.weight / (of_class[item.label] or 1.0) for item in items]
    return None if len(set(weights)) == 1 else tuple(weights)


def _order(
    seed: int, name: str, epoch: int, length: int, weights: tuple[float, ...] | None
) -> NDArray[np.int64]:
    """The items of a pass, by number; weighed ones by systematic sampling, then shuffled."""
    random = np.random.default_rng(rng.derive_seed(seed, name, "order", epoch))
    if weights is None:
        return random.permutation(length)
    ends: NDArray[np.float64] = np.cumsum(weights)
    places: NDArray[np.float64] = (np.arange(length) + random.random()) * (ends[-1] / length)
    chosen: NDArray[np.int64] = np.digitize(places, ends)  # pyright: ignore - numpy's stub
    return random.permutation(np.minimum(chosen, length - 1))
