"""Convergence of parallel chains: split R-hat and the effective sample size, in float64."""

# torch.fft has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import math

import torch
from torch import Tensor


def split_r_hat(draws: Tensor) -> float:
    """Potential scale reduction of split chains (Gelman et al. 2013, BDA3, section 11.4).

    The version without ranks of Vehtari et al. 2021 (arXiv:1903.08008).

    Args:
        draws: One scalar quantity, [chains, draws], at least 4 draws; an odd last one is left out.

    Returns:
        Near 1 where the chains agree; above 1.01 they have not mixed. NaN where all are constant.

    Raises:
        ValueError: `draws` has another shape or is not finite.
    """
    within, total = _variances(_split(draws))
    return math.sqrt(total / within) if within > 0 else math.nan


def effective_sample_size(draws: Tensor) -> float:
    """Number of independent draws whose mean has the same error as the mean of these.

    chains * draws / tau with tau = -1 + 2 sum_t P_t, where P_t = rho(2t) + rho(2t + 1) are the
    paired autocorrelations over all split chains (Vehtari et al. 2021), cut at the
    first that is not positive and made monotone (Geyer 1992, the initial monotone sequence). As in
    Stan, tau is at least 1 / log10(chains * draws), which bounds the gain of antithetic chains.

    Args:
        draws: One scalar quantity, [chains, draws], at least 4 draws; an odd last one is left out.

    Returns:
        The effective number of draws, > 0. NaN where all chains are constant.

    Raises:
        ValueError: `draws` has another shape or is not finite.
    """
    halves = _split(draws)
    within, total = _variances(halves)
    if within == 0:
        return math.nan
    num_draws = halves.shape[1]
    autocovariance = _autocovariance(halves).mean(0) * num_draws / (num_draws - 1)
    rho = 1 - (within - autocovariance) / total
    rho[0] = 1
    pairs = rho[: num_draws // 2 * 2].view(-1, 2).sum(1)
    num_positive = int((pairs > 0).cumprod(0).sum())
    monotone = pairs[:num_positive].cummin(0).values
    tau = max(-1 + 2 * float(monotone.sum()), 1 / math.log10(halves.numel()))
    return halves.numel() / tau


def _split(draws: Tensor) -> Tensor:
    """[chains, draws] -> [2 chains, draws // 2] in float64."""
    if draws.ndim != 2 or draws.shape[0] < 1 or draws.shape[1] < 4:
        raise ValueError(f"draws must be [chains, draws >= 4], got {list(draws.shape)}")
    if not bool(draws.isfinite().all()):
        raise ValueError("draws must be finite")
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, half : 2 * half]]).double()


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
