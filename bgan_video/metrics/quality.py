"""How far generated items are from real ones, in the feature space of a named classifier.

Two distances between sets of features. Neither says anything without the extractor's name, and
neither is comparable between extractors. On real video a distance has no natural zero either: the
floor beside it is what real training items are apart from real test items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bgan_video.errors import UserError

SUBSETS, SUBSET_SIZE = 50, 1000
_MIN_COUNT = 4


@dataclass(frozen=True)
class Quality:
    """Generated and real training items, each against real test items.

    Distances are in the extractor's units: comparable where extractor and count are the same.

    Attributes:
        extractor: The name of the network that made the features.
        frechet: Squared Fréchet distance, test to generated.
        frechet_floor: The same, test to training items.
        kernel: Squared kernel distance (unbiased MMD²), test to generated; may be below 0.
        kernel_std: Its standard deviation over random subsets of at most half the items. At least
            about its standard error.
        kernel_floor: The same as `kernel`, test to training items.
        count: Items on each side of every distance.
    """

    extractor: str
    frechet: float
    frechet_floor: float
    kernel: float
    kernel_std: float
    kernel_floor: float
    count: int


def quality(
    test: Tensor, training: Tensor, fake: Tensor, extractor: str, generator: torch.Generator
) -> Quality:
    """Both distances with their floors.

    The estimated Fréchet distance falls with the number of items (its bias is about 1 / count, and
    for few items larger than the distance itself), so all sets are of one size. If generated items
    were distributed as training items are, distance and floor would be too.

    Args:
        test: `[N, F]`, float64, of real items that the generators never saw.
        training: `[N', F]`, float64, of real items that they learned from.
        fake: `[M, F]`, float64, all of the same extractor.
        extractor: Its name, for the record.
        generator: Of the choice of items and of subsets, on the CPU.

    Raises:
        UserError: Too few items.
    """
    count = min(len(test), len(training), len(fake))
    if count < _MIN_COUNT:
        raise UserError(
            f"quality needs at least {_MIN_COUNT} test, training and generated items each, "
            f"got {len(test)}, {len(training)} and {len(fake)}"
        )
    test, training, fake = (_choose(x, count, generator) for x in (test, training, fake))
    size = min(SUBSET_SIZE, count // 2)
    kernel, kernel_std = kernel_distance(test, fake, generator, subset_size=size)
    kernel_floor, _ = kernel_distance(test, training, generator, subset_size=size)
    return Quality(
        extractor=extractor,
        frechet=frechet_distance(test, fake),
        frechet_floor=frechet_distance(test, training),
        kernel=kernel,
        kernel_std=kernel_std,
        kernel_floor=kernel_floor,
        count=count,
    )


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    `|μ_a - μ_b|² + tr(S_a + S_b - 2 (S_a S_b)^½)` with unbiased covariances S (Heusel et al. 2017,
    eq. 6; Dowson & Landau 1982), which is their squared 2-Wasserstein distance, in squared units
    of the features.

    With `S = RᵀR`, the trace of the root is the sum of the singular values of `R_a R_bᵀ`, whose
    squares are the eigenvalues of `S_a S_b`. R comes from the features by QR, so no covariance is
    formed, no root of a rounding error is taken, and fewer items than features do no harm.

    Args:
        a: `[N, F]`, float64, N ≥ 2.
        b: `[M, F]`, float64, M ≥ 2.
    """
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return (shift + spread.clamp_min(0)).item()


def kernel_distance(
    a: Tensor,
    b: Tensor,
    generator: torch.Generator,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the cubic kernel `(x·y / F + 1)³`.

    The unbiased estimate (Bińkowski et al. 2018, section 4; Gretton et al. 2012, eq. 3), averaged
    over random subsets drawn without replacement. It is around 0, and as often negative, for sets
    of one distribution.

    Args:
        a: `[N, F]`, float64, N ≥ 2.
        b: `[M, F]`, float64, M ≥ 2.
        generator: Of the subsets, on the CPU.
        subsets: How many.
        subset_size: Rows of each set in a subset; all there are in the smaller set, where fewer.

    Returns:
        Mean and standard deviation over subsets. Subsets overlap, so the mean's error is not the
        deviation over the root of their number; with half of the rows or fewer in each the
        deviation itself is an upper estimate of it, with all rows it is 0 and says nothing.
    """
    size = min(subset_size, len(a), len(b))
    values = torch.tensor(
        [
            _squared_mmd(_choose(a, size, generator), _choose(b, size, generator))
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    return values.mean().item(), values.std().item()


def _choose(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def _covariance_root(x: Tensor) -> Tensor:
    """R, `[min(N, F), F]`, with `RᵀR` the unbiased covariance of the rows of `[N, F]`."""
    centred = x - x.mean(dim=0)
    return torch.linalg.qr(centred, mode="r").R / (len(x) - 1) ** 0.5


def _squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from `[n, F]` and as many rows `[n, F]`."""
    n = len(x)
    within = sum(k.sum() - k.trace() for k in (_kernel(x, x), _kernel(y, y))) / (n * (n - 1))
    return (within - 2 * _kernel(x, y).mean()).item()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
