"""Infinite training streams: sample number i is a pure function of (seed, stream, i).

Nothing about a stream has to be saved but how many batches were taken: a resumed run, and a run
with another number of workers, get the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction as Rational
from functools import lru_cache
from itertools import count, repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from bgan_video import rng
from bgan_video.backend import on_cuda
from bgan_video.config import Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item
from bgan_video.data.transforms import View, strong_view, weak_view
from bgan_video.errors import UserError
from bgan_video.video import clips
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


Batch = TypeVar("Batch", LabelledBatch, UnlabelledBatch)


class ClipStream:
    """The clips of one stream by sample number.

    Every pass over the items is in a new order; every sample has a new place in time and new views.
    """

    def __init__(self, name: str, items: Sequence[Item], frames: Frames, config: Config) -> None:
        self._name = name
        self._items = items
        self._frames = frames
        self._clip = config.clip
        self._seed = config.run.seed
        # Sample that each loading process is reading, -1 while it reads none.
        self._reading = torch.full((max(1, config.data.num_workers),), -1)
        self._reading.share_memory_()

    def item(self, sample: int) -> Item:
        """The item of a sample: position `sample mod n` in the order of pass `sample div n`."""
        epoch, position = divmod(sample, len(self._items))
        order = _order(self._seed, self._name, epoch, len(self._items))
        return self._items[int(order[position])]

    def random(self, sample: int) -> np.random.Generator:
        """The generator of everything random about a sample."""
        return np.random.default_rng(rng.derive_seed(self._seed, self._name, sample))

    def read(self, sample: int, random: np.random.Generator) -> tuple[Item, NDArray[Any]]:
        """A random clip `[T, H, W, C]` of the sample's item, as it is stored."""
        item = self.item(sample)
        clip = self._clip
        indices = clips.random_clip(
            item.num_frames, clip.num_frames, clip.stride, clip.short_clip, random.random()
        )
        worker = get_worker_info()
        slot = worker.id if worker else 0
        self._reading[slot] = sample
        try:
            return item, self._frames.read(item, indices)
        except BrokenVideo as error:
            raise UserError(f"{item.path} no longer reads: {error.reason}") from None
        finally:
            self._reading[slot] = -1

    def being_read(self) -> list[str]:
        """The videos that loading processes are reading at this moment."""
        samples = [int(sample) for sample in self._reading]
        return sorted({self.item(sample).path for sample in samples if sample >= 0})


class LabelledClips(Dataset[LabelledBatch]):
    """Labelled clips in their weak view, and among them those of believed items.

    Believed items are spread evenly: of the samples 0..i, `floor((i + 1)·share)` are theirs.

    Args:
        stream: Of the items whose label is true.
        view: The weak one.
        believed: Of the items with a pseudo-label; None where there are none.
        share: The part of the samples that are theirs, 0..0.5.
    """

    def __init__(
        self,
        stream: ClipStream,
        view: View,
        believed: ClipStream | None = None,
        share: Rational = Rational(0),
    ) -> None:
        self._stream, self._view = stream, view
        self._believed, self._share = believed, share

    def __getitem__(self, sample: int) -> LabelledBatch:
        stream = self._stream
        if self._believed is not None:
            before, now = math.floor(sample * self._share), math.floor((sample + 1) * self._share)
            is_believed = now > before
            stream = self._believed if is_believed else self._stream
            sample = before if is_believed else sample - before
        random = stream.random(sample)
        item, frames = stream.read(sample, random)
        return LabelledBatch(self._view(frames, random), torch.tensor(item.label))


class UnlabelledClips(Dataset[UnlabelledBatch]):
    """Clips of all training items in a weak and, where asked for, a strong view."""

    def __init__(self, stream: ClipStream, weak: View, strong: View | None) -> None:
        self._stream, self._weak, self._strong = stream, weak, strong

    def __getitem__(self, sample: int) -> UnlabelledBatch:
        random = self._stream.random(sample)
        _, frames = self._stream.read(sample, random)
        weak = self._weak(frames, random)
        strong = self._strong(frames, random) if self._strong else torch.zeros(())
        return UnlabelledBatch(weak, strong)


def labelled_batches(
    items: Sequence[Item],
    frames: Frames,
    config: Config,
    first: int,
    believed: Sequence[Item] = (),
) -> Iterator[LabelledBatch | None]:
    """Batches of labelled clips, from batch number `first` on, without end; None without labels.

    Args:
        items: Those whose label is true.
        frames: Theirs.
        config: Views, sizes and seed.
        first: Number of the first batch.
        believed: Items that bear a pseudo-label. Each counts as much as a labelled one, or less
            where they would be more than `rounds.share` of a batch, or more than half of an odd
            one.
    """
    if not items:
        return repeat(None)
    size = config.train.labelled_batch_size
    stream = ClipStream("labelled", items, frames, config)
    dataset, streams = LabelledClips(stream, weak_view(config)), [stream]
    if believed:
        share = min(
            Rational(config.rounds.share).limit_denominator(_FINEST_SHARE),
            Rational(len(believed), len(items) + len(believed)),
            Rational(size // 2, size),
        )
        others = ClipStream("believed", believed, frames, config)
        dataset = LabelledClips(stream, weak_view(config), others, share)
        streams.append(others)
    return _batches(dataset, streams, size, first, config)


def unlabelled_batches(
    items: Sequence[Item], frames: Frames, config: Config, first: int
) -> Iterator[UnlabelledBatch]:
    """Batches of clips of all training items, from batch number `first` on, without end.

    Where nothing learns from them, the first one again and again: a run shows it and reads no more.
    """
    stream = ClipStream("unlabelled", items, frames, config)
    strong = strong_view(config) if config.needs_strong_views else None
    dataset = UnlabelledClips(stream, weak_view(config), strong)
    batches = _batches(dataset, [stream], config.train.batch_size, first, config)
    return batches if config.needs_unlabelled else repeat(next(batches))


def _batches(
    dataset: Dataset[Batch], streams: Sequence[ClipStream], size: int, first: int, config: Config
) -> Iterator[Batch]:
    """The loader's batches; what fails in a worker is said in one line."""
    batches = _load(dataset, size, first, config)
    while True:
        try:
            batch = next(batches)
        except UserError as error:
            # A worker's error comes with its traceback; what the user is meant to read is its end.
            raise UserError(str(error).strip().rpartition("UserError: ")[2]) from None
        except RuntimeError as error:
            if not str(error).startswith("DataLoader"):
                raise
            reading = {path for stream in streams for path in stream.being_read()}
            at = ", ".join(sorted(reading)) or "no video"
            raise UserError(
                f"{' '.join(str(error).split())} (it was reading {at}; data.num_workers="
                f"{config.data.num_workers}, data.worker_timeout={config.data.worker_timeout:g} "
                f"seconds)"
            ) from None
        yield batch


def _load(dataset: Dataset[Batch], size: int, first: int, config: Config) -> Iterator[Batch]:
    workers = config.data.num_workers
    loader = DataLoader(
        dataset,
        batch_sampler=([b * size + i for i in range(size)] for b in count(first)),
        num_workers=workers,
        timeout=config.data.worker_timeout if workers else 0,
        pin_memory=on_cuda(config.run),
        generator=torch.Generator(),  # its own, so that torch's global one is left alone
    )
    return iter(loader)


@lru_cache(maxsize=4)
def _order(seed: int, name: str, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng(rng.derive_seed(seed, name, "order", epoch)).permutation(length)
