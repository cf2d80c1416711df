"""SWAG: a Gaussian around the path that an optimiser's weights took at its end."""

import math

import torch
from torch import Tensor


class PathGaussian:
    """The Gaussian of SWAG (Maddox et al. 2019, arXiv:1902.02476, eq. 1).

    With the mean m of K iterates and their deviations D from it, a draw is

        m + sqrt(diag(D D^T)/K) z1 / sqrt(2) + D z2 / sqrt(2 (K - 1))

    with z1 and z2 standard normal: half of the covariance is the iterates' variance of each weight,
    half their covariance of low rank. The paper takes deviations from the running mean, since it
    keeps no more than the last K iterates of many; here the K iterates are all there are, and their
    mean is known.

    Args:
        path: The iterates, `[K, d]` with K >= 2.

    Raises:
        ValueError: There are fewer.
    """

    def __init__(self, path: Tensor) -> None:
        if len(path) < 2:
            raise ValueError(f"a path has 2 iterates or more, got {len(path)}")
        self.mean = path.mean(dim=0)
        self._deviations = path - self.mean
        self._std = self._deviations.square().mean(dim=0).sqrt()

    def draw(self, generator: torch.Generator) -> Tensor:
        """Weights `[d]`, by a generator of the CPU wherever the path is."""
        of_each, of_path = (
            torch.randn(count, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
            for count in reversed(self._deviations.shape)
        )
        diagonal = self._std * of_each / math.sqrt(2)
        low_rank = of_path @ self._deviations / math.sqrt(2 * (len(self._deviations) - 1))
        return self.mean + diagonal + low_rank
