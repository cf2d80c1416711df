"""Convergence of parallel chains by Vehtari et al. 2021 (arXiv:1903.08008), in float64.

All take one scalar quantity, [chains, draws] with at least 4 draws, of which the middle one of an
odd number is left out where chains are split; are NaN where all draws are one value; and raise
ValueError for another shape or for numbers that are not finite. Tests hold them against ArviZ.
"""

# torch.fft has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import math

import torch
from torch import Tensor

_TAILS = 0.05, 0.95


def r_hat(draws: Tensor) -> float:
    """Rank-normalised split R-hat: the larger of that of the draws and of the folded draws.

    The first sees chains in different places, the second, of distances from the median, chains of
    different spread. Ranks make both right where the quantity has no variance.

    Args:
        draws: [chains, draws].

    Returns:
        Near 1 where the chains agree; the paper asks for less than 1.01.
    """
    halves = _split(draws)
    folded = (halves - halves.quantile(0.5)).abs()
    return max(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded)))


def effective_sample_size(draws: Tensor) -> float:
    """Number of independent draws whose mean has the same error as the mean of these.

    chains * draws / tau with tau = -1 + 2 sum_t P_t, where P_t = rho(2t) + rho(2t + 1) are the
    paired autocorrelations over all split chains, cut at the first that is not positive and made
    monotone (Geyer 1992, the initial monotone sequence); of the pair after the last, its first
    member counts once where it is positive. As in Stan, tau is at least 1 / log10(chains * draws),
    which bounds the gain of antithetic chains.

    Args:
        draws: [chains, draws].
    """
    return _effective_sample_size(_split(draws))


def bulk_effective_size(draws: Tensor) -> float:
    """Effective sample size of the rank-normalised draws: for what is in the middle.

    Args:
        draws: [chains, draws].
    """
    return _effective_sample_size(_normal_scores(_split(draws)))


def tail_effective_size(draws: Tensor) -> float:
    """The lesser effective sample size of being below the 5 % and below the 95 % quantile.

    Args:
        draws: [chains, draws].
    """
    _split(draws)  # looks at the numbers
    below = [(draws <= draws.double().quantile(part)).double() for part in _TAILS]
    return min(_effective_sample_size(_split(of)) for of in below)


def monte_carlo_error(draws: Tensor) -> float:
    """Standard error of the mean of the draws: their deviation over the root of their worth.

    Args:
        draws: [chains, draws].
    """
    return float(draws.double().std()) / math.sqrt(effective_sample_size(draws))


def _r_hat(halves: Tensor) -> float:
    within, total = _variances(halves)
    return math.sqrt(total / within) if within > 0 else math.nan


def _effective_sample_size(halves: Tensor) -> float:
    within, total = _variances(halves)
    if within == 0:
        return math.nan
    num_draws = halves.shape[1]
    rho = 1 - (within - _autocovariance(halves).mean(0)) / total
    rho[0] = 1
    last = max(0, math.ceil((num_draws - 4) / 2))  # the longest lags are too noisy to be used
    even, pairs = rho[0 : 2 * last + 1 : 2], rho[: 2 * last + 2].view(-1, 2).sum(1)
    end = min(int((pairs > 0).cumprod(0).sum()), last)
    monotone = pairs[:end].cummin(0).values
    # A pair that is cut may still begin with a positive correlation.
    remainder = float(even[end]) if float(pairs[end]) >= 0 else max(0.0, float(even[end]))
    tau = max(-1 + 2 * float(monotone.sum()) + remainder, 1 / math.log10(halves.numel()))
    return halves.numel() / tau


def _split(draws: Tensor) -> Tensor:
    """[chains, draws] -> [2 chains, draws // 2] in float64."""
    if draws.ndim != 2 or draws.shape[0] < 1 or draws.shape[1] < 4:
        raise ValueError(f"draws must be [chains, draws >= 4], got {list(draws.shape)}")
    if not bool(draws.isfinite().all()):
        raise ValueError("draws must be finite")
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]]).double()


def _normal_scores(halves: Tensor) -> Tensor:
    """Each number's normal quantile of its rank among all, ties sharing one (Blom 1958)."""
    _, which, counts = halves.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts - 1) / 2
    return torch.special.ndtri((ranks[which].double() - 0.375) / (halves.numel() + 0.25))


def _variances(halves: Tensor) -> tuple[float, float]:
    """The mean variance within chains and the pooled estimate of the variance."""
    num_draws = halves.shape[1]
    within = float(halves.var(1).mean())
    return within, (num_draws - 1) / num_draws * within + float(halves.mean(1).var())


def _autocovariance(halves: Tensor) -> Tensor:
    """[chains, draws] -> [chains, lags], each divided by the number of draws, through the FFT."""
    num_draws = halves.shape[1]
    centred = halves - halves.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * num_draws).abs().square()
    return torch.fft.irfft(spectrum, n=2 * num_draws)[:, :num_draws] / num_draws
