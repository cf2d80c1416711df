"""The memory of a training step, without taking it: a step of tensors that have no numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.prediction.bodies import FIRST_KIND, Body
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._alive:
            self._alive.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._alive.discard(place)
        self.now -= size


_STEPS = 2
"""That are pretended: at the second, optimisers have their states."""

# cuBLAS's, for the thread of the forward passes and that of the backward ones.
_CUBLAS_MIB = 2 * 32


def peak_mib(
    config: Config, size: DataSize, backend: Backend, bodies: Sequence[Body] = ()
) -> float:
    """The most memory that weights, optimisers and what a step keeps need at once.

    Without what cuDNN takes for its work, what CUDA itself takes, and the program.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.
        bodies: Of the Bayesian GAN; none where it has one, the settings' own.
    """
    t = config.train
    bodies = [replace(body, config=_burning_in(body.config)) for body in bodies]
    # Sizes are the same on a CPU, which is always there.
    pretended = replace(
        backend,
        device=torch.device("cpu"),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        records=False,
    )
    with FakeTensorMode(), _LiveBytes() as live:
        models = build(_burning_in(config), size, pretended, bodies=bodies)
        labelled = _labelled(config) if size.num_labelled and config.sees_clips else None
        seen = {_reads(body): _labelled(body.config) for body in bodies if size.num_labelled}
        weak = torch.zeros(t.batch_size, *_shape(config))
        strong = torch.zeros_like(weak) if config.needs_strong_views else torch.zeros(t.batch_size)
        for step in range(_STEPS):
            models.step(step, labelled, UnlabelledBatch(weak, strong), seen)
    return live.peak / 2**20 + (_CUBLAS_MIB if backend.device.type == "cuda" else 0)


def _burning_in(config: Config) -> Config:
    """The same networks without weights to read, in burn-in in all steps that are pretended.

    What its end copies and learns from numbers asks for more than tensors without any have.
    """
    more = max(0, _STEPS - config.posterior.burn_in)
    return replace(
        config.without_weights(),
        posterior=replace(config.posterior, burn_in=config.posterior.burn_in + more),
        train=replace(config.train, steps=config.train.steps + more),
    )


def _reads(body: Body) -> str:
    """Whose batches a body learns from, as a step has them."""
    return "bayesian_gan" if body.kind == FIRST_KIND else body.kind


def _labelled(config: Config) -> LabelledBatch:
    count = config.train.labelled_batch_size
    return LabelledBatch(torch.zeros(count, *_shape(config)), torch.zeros(count, dtype=torch.long))


def _shape(config: Config) -> tuple[int, ...]:
    """Of an item that networks see."""
    c = config.clip
    if config.spatial_dims == 3:
        return (config.channels, c.num_frames, c.size, c.size)
    return (config.channels, c.size, c.size)[: 1 + config.spatial_dims]
