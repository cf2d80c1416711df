"""Standardisation of feature vectors, with the statistics of training videos alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from bgan_video.files import write_atomically


@dataclass(frozen=True)
class Scale:
    """`(x - mean) / spread`.

    Attributes:
        mean: `[L]`.
        spread: `[L]`, positive, the same for all numbers of a summary.
    """

    mean: Tensor
    spread: Tensor

    @staticmethod
    def of(vectors: Iterable[Tensor], summaries: int) -> Scale:
        """The statistics of vectors of training videos, labelled or not.

        Numbers are centred one by one, and a summary's are divided by their common spread, the
        root of their mean variance. Dividing each by its own would weigh what hardly varies as much
        as what does: it costs a probe 1 to 5 points on hand signs.

        Means and variances of parts are merged (Chan et al. 1979), so one part is in memory.

        Args:
            vectors: Parts, each `[..., L]`.
            summaries: How many summaries of equal length lie one behind the other in a vector.
        """
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for part in vectors:
            flat = part.reshape(-1, part.shape[-1]).double()
            more, change = len(flat), flat.mean(dim=0) - mean
            between = change.square() * count * more / (count + more)
            squares = squares + flat.var(dim=0, correction=0) * more + between
            mean = mean + change * more / (count + more)
            count += more
        variance = (squares / count).unflatten(0, (summaries, -1))
        # Where all are alike, as where there is one, there is nothing to divide by.
        common = variance.mean(dim=1, keepdim=True).sqrt()
        spread = common.where(common > 0, 1.0).expand_as(variance).flatten()
        return Scale(mean.float(), spread.float())

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors `[..., L]`, centred and scaled."""
        return (vectors - self.mean) / self.spread

    def write(self, path: Path, weights: str) -> None:
        """Keep the statistics with the run that uses them (safetensors).

        Args:
            path: The file.
            weights: Digest of the weights whose features they are of.
        """
        tensors = {"mean": self.mean, "spread": self.spread}
        write_atomically(path, save(tensors, {"weights": weights}))

    @staticmethod
    def read(path: Path) -> Scale:
        """What `write` wrote."""
        return Scale(**load_file(path))

    @staticmethod
    def weights_of(path: Path) -> str | None:
        """The digest that `write` was given; None in files from before there was one."""
        opened: Any = safe_open(path, "pt")
        with opened as file:
            return (file.metadata() or {}).get("weights")
