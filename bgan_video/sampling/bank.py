"""The bank of posterior samples: a folder with one safetensors file per sample."""

# safetensors is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from bgan_video.files import write_atomically

FILE_NAME = re.compile(r"(?P<kind>[a-z_]+)_(?P<step>\d{8,})_(?P<chain>\d{2,})\.safetensors")


@dataclass(frozen=True)
class Record:
    """One stored sample.

    Attributes:
        kind: The caller's word for the network.
        step: The update after which it was taken, >= 0.
        chain: The chain it belongs to, >= 0.
        path: Its file.
    """

    kind: str
    step: int
    chain: int
    path: Path

    def metadata(self) -> dict[str, str]:
        """The header of the file: kind, step, chain and what was given to `SampleBank.add`."""
        with safe_open(self.path, framework="pt") as file:
            return dict(file.metadata())


class SampleBank:
    """Posterior samples on disk, the latest `max_samples` steps of every kind.

    The folder is the only state: opening it again finds what is there. A file is written under
    another name and renamed, so that a sample is whole or absent; other files are ignored.

    Where chains start afresh every so many steps, the samples of each start are kept apart.
    `records` shows the latest `max_samples` distinct steps of a kind and start. Older ones leave
    the view at once but stay on disk until `prune`, since a run resumed from an earlier checkpoint
    has to see them again: `truncate_after(checkpoint)` then gives back exactly the view of that
    moment.
    """

    def __init__(
        self, folder: Path | str, max_samples: int, restart_every: int | None = None
    ) -> None:
        """Opens a folder, creating it where it does not exist.

        Args:
            folder: Where the samples are.
            max_samples: Distinct steps kept in view per kind and start, >= 1.
            restart_every: Steps after which chains start afresh; None where they never do.

        Raises:
            ValueError: `max_samples` is below 1.
        """
        if max_samples < 1:
            raise ValueError(f"max_samples must be >= 1, got {max_samples}")
        self.folder = Path(folder)
        self.max_samples = max_samples
        self.restart_every = restart_every
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        kind: str,
        step: int,
        chain: int,
        state: Mapping[str, Tensor],
        **provenance: str | int | float,
    ) -> Record:
        """Stores one sample, replacing one of the same kind, step and chain.

        Args:
            kind: Lower-case letters and underscores, for example discriminator.
            step: The update after which it was taken, >= 0.
            chain: The chain it belongs to, >= 0.
            state: Parameters *and* buffers (`module.state_dict()`); tied tensors are stored twice.
            **provenance: What else to say in the file's header.

        Returns:
            The record of the stored sample.

        Raises:
            ValueError: The kind, step or chain cannot be a file name, or a number is not finite.
            OSError: It cannot be written.
        """
        name = f"{kind}_{step:08d}_{chain:02d}.safetensors"
        if FILE_NAME.fullmatch(name) is None:
            raise ValueError(f"cannot store kind {kind!r}, step {step}, chain {chain}")
        path = self.folder / name
        tensors = {
            key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for key, value in state.items()
        }
        for key, value in tensors.items():
            if not value.isfinite().all():
                raise ValueError(f"{key} of {kind} {chain} is not finite after step {step}")
        header = {"kind": kind, "step": step, "chain": chain, **provenance}
        write_atomically(path, save(tensors, {key: str(value) for key, value in header.items()}))
        return Record(kind, step, chain, path)

    def records(self, kind: str, starts: Collection[int] | None = None) -> list[Record]:
        """The samples in view, sorted by step and chain.

        Args:
            kind: The kind given to `add`.
            starts: Only of chains that started then: 0 is the first start; None for all.

        Returns:
            All chains of the latest `max_samples` distinct steps of each start.
        """
        stored = [record for record in self._stored() if record.kind == kind]
        in_view = self._latest({record.step for record in stored})
        return [
            record
            for record in stored
            if record.step in in_view and (starts is None or self.start(record.step) in starts)
        ]

    def start(self, step: int) -> int:
        """Which start of the chains the update `step` belongs to, from 0."""
        return 0 if self.restart_every is None else max(0, step - 1) // self.restart_every

    def load(self, record: Record) -> dict[str, Tensor]:
        """The tensors of a sample, on the CPU."""
        return load_file(record.path)

    def iterate(
        self, kind: str, starts: Collection[int] | None = None
    ) -> Iterator[tuple[Record, dict[str, Tensor]]]:
        """Loads the samples in view one at a time: memory holds one. Arguments as in `records`."""
        for record in self.records(kind, starts):
            yield record, self.load(record)

    def truncate_after(self, step: int) -> None:
        """Deletes every sample taken after `step`: what a run resumed from there will redo."""
        for record in self._stored():
            if record.step > step:
                record.path.unlink()

    def prune(self, step: int) -> None:
        """Deletes the samples that no run resumed from `step` or later can see.

        Args:
            step: The oldest checkpoint a run may still be resumed from.
        """
        stored = [record for record in self._stored() if record.step <= step]
        for kind in {record.kind for record in stored}:
            in_view = self._latest({record.step for record in stored if record.kind == kind})
            for record in stored:
                if record.kind == kind and record.step not in in_view:
                    record.path.unlink()

    def _latest(self, steps: set[int]) -> set[int]:
        """The latest `max_samples` steps of each start."""
        of_start: dict[int, list[int]] = defaultdict(list)
        for step in sorted(steps):
            of_start[self.start(step)].append(step)
        return {step for found in of_start.values() for step in found[-self.max_samples :]}

    def _stored(self) -> list[Record]:
        matches = ((FILE_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        records = [
            Record(match["kind"], int(match["step"]), int(match["chain"]), path)
            for match, path in matches
            if match is not None
        ]
        return sorted(records, key=lambda record: (record.kind, record.step, record.chain))
