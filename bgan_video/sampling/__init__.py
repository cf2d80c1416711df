"""Bayesian inference by stochastic-gradient MCMC; knows parameters and gradients only."""

from bgan_video.sampling.adaptive_sghmc import AdaptiveSGHMC
from bgan_video.sampling.bank import Record, SampleBank
from bgan_video.sampling.budget import Noise
from bgan_video.sampling.diagnostics import (
    bulk_effective_size,
    effective_sample_size,
    monte_carlo_error,
    r_hat,
    tail_effective_size,
)
from bgan_video.sampling.last_layer import LastLayer
from bgan_video.sampling.mclmc import MCLMC
from bgan_video.sampling.prior_groups import PriorGroups
from bgan_video.sampling.priors import (
    Gaussian,
    HierarchicalGaussian,
    Laplace,
    Prior,
    StudentT,
    named_prior,
    named_prior_parameters,
)
from bgan_video.sampling.schedules import StepSize
from bgan_video.sampling.sghmc import SGHMC, Integrator, kinetic_temperature
from bgan_video.sampling.sgld import SGLD
from bgan_video.sampling.swag import PathGaussian
from bgan_video.sampling.virial import Virial

__all__ = [
    "MCLMC",
    "SGHMC",
    "SGLD",
    "AdaptiveSGHMC",
    "Gaussian",
    "HierarchicalGaussian",
    "Integrator",
    "Laplace",
    "LastLayer",
    "Noise",
    "PathGaussian",
    "Prior",
    "PriorGroups",
    "Record",
    "SampleBank",
    "StepSize",
    "StudentT",
    "Virial",
    "bulk_effective_size",
    "effective_sample_size",
    "kinetic_temperature",
    "monte_carlo_error",
    "named_prior",
    "named_prior_parameters",
    "r_hat",
    "tail_effective_size",
]
