"""A step that a GPU does without waiting for Python: recorded once, then replayed.

A training step is thousands of kernels, and launching one takes Python longer than most of them
take a GPU. Recorded as a CUDA graph, the same kernels on the same memory are one launch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bgan_video.backend import Backend
from bgan_video.errors import UserError

Terms = dict[str, Tensor]

# Steps of a kind before it is recorded: optimisers make their states, cuDNN chooses its kernels.
_WARM_UP = 2


@dataclass
class _Recorded:
    """A kind of step."""

    steps: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    terms: Terms = field(default_factory=dict)


class Replay:
    """A function of tensors, recorded where the backend records.

    What is recorded must depend on nothing but tensors that stay where they are (weights, states of
    optimisers, `StepInputs`), the given generators and torch's own. Anything else that it depends
    on belongs into the key.

    Args:
        compute: What a step does to networks; returns what it logs.
        backend: Says whether steps are recorded.
        generators: That `compute` draws from, beside torch's own.
        states: What `compute` keeps for the next step, with a name for a person.
    """

    def __init__(
        self,
        compute: Callable[..., Terms],
        backend: Backend,
        generators: Callable[[], Sequence[torch.Generator]] = list,
        states: Callable[[], Iterable[tuple[str, Tensor]]] = list,
    ) -> None:
        self._compute = compute
        self._backend = backend
        self._generators = generators
        self._states = states
        self.forget()

    def forget(self) -> None:
        """Record anew: tensors are no longer where they were."""
        self._key: Hashable = None
        self._kinds: dict[Hashable, _Recorded] = defaultdict(_Recorded)

    def __call__(self, key: Hashable, *inputs: Tensor | None, kind: Hashable = None) -> Terms:
        """What `compute(*inputs)` returns, and does.

        A replayed step's terms are overwritten by the next step.

        Args:
            key: All that the computation depends on and that is no tensor. A new one is recorded
                anew; where it changes with every step, nothing is recorded.
            inputs: On the backend's device, of `StepInputs`: elsewhere they are another key.
            kind: What steps of one key alternate between; each kind is recorded and kept.

        Raises:
            UserError: A step cannot be recorded, or moves its state to new memory.
        """
        if not self._backend.records:
            return self._computed(inputs)
        key = (key, *(None if x is None else (x.data_ptr(), x.shape, x.dtype) for x in inputs))
        if key != self._key:
            self.forget()
            self._key = key
        recorded = self._kinds[kind]
        if recorded.graph is None:
            if recorded.steps < _WARM_UP:
                recorded.steps += 1
                return self._aside(inputs)
            before = self._places()
            recorded.graph, recorded.terms = self._record(inputs)
            for name, _ in sorted(before - self._places()):
                raise UserError(
                    f"run.compile=true records a step with the memory that it reads, and {name} is "
                    f"in new memory after each; change it in place (copy_), or set "
                    f"run.compile=false"
                )
        recorded.graph.replay()
        return recorded.terms

    def _places(self) -> set[tuple[str, int]]:
        return {(name, state.data_ptr()) for name, state in self._states()}

    def _computed(self, inputs: Sequence[Tensor | None]) -> Terms:
        try:
            return self._compute(*inputs)
        except RuntimeError as error:
            operation, found, _ = str(error).partition(" does not have a deterministic impl")
            if not found:
                raise
            raise UserError(
                f"run.deterministic=true: {operation} has no deterministic kernel on this device; "
                f"set run.deterministic=false"
            ) from error

    def _aside(self, inputs: Sequence[Tensor | None]) -> Terms:
        """On a stream of its own, as recording will be: what autograd keeps belongs to a stream."""
        here, stream = torch.cuda.current_stream(), self._stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            terms = self._computed(inputs)
        here.wait_stream(stream)
        return terms

    def _record(self, inputs: Sequence[Tensor | None]) -> tuple[torch.cuda.CUDAGraph, Terms]:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators():
            graph.register_generator_state(generator)
        try:
            # Loading threads may call CUDA while this one records.
            with torch.cuda.graph(graph, stream=self._stream(), capture_error_mode="thread_local"):
                terms = self._compute(*inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"run.compile=true could not record a step ({reason}); set run.compile=false"
            ) from error
        return graph, terms

    def _stream(self) -> torch.cuda.Stream:
        device = self._backend.device
        if device not in _streams:
            _streams[device] = torch.cuda.Stream(device)
        return _streams[device]


_streams: dict[torch.device, torch.cuda.Stream] = {}


class StepInputs:
    """What changes from step to step; where steps are recorded, in the same place at every step.

    Args:
        backend: Says whether steps are recorded.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._places: dict[str, Tensor] = {}

    def number(self, name: str, value: float) -> float | Tensor:
        """A number of this step: itself, or a tensor of no dimension."""
        if not self._backend.records:
            return value
        if name not in self._places:
            self._places[name] = torch.empty((), device=self._backend.device)
        return self._places[name].fill_(value)

    def tensor(self, name: str, value: Tensor) -> Tensor:
        """A tensor of this step, on the device and laid out as is fastest there."""
        place = self._places.get(name)
        if place is None or (place.shape, place.dtype) != (value.shape, value.dtype):
            place = self._backend.place(value)
            if self._backend.records:
                # Not the caller's own, which the next step's would be written over.
                place = self._places[name] = place.clone() if place is value else place
            return place
        return place.copy_(value, non_blocking=True)
