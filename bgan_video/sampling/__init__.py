"""Bayesian inference by stochastic-gradient MCMC; knows parameters and gradients only."""

from bgan_video.sampling.adaptive_sghmc import AdaptiveSGHMC
from bgan_video.sampling.bank import Record, SampleBank
from bgan_video.sampling.budget import Noise
from bgan_video.sampling.diagnostics import effective_sample_size, split_r_hat
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

__all__ = [
    "SGHMC",
    "SGLD",
    "AdaptiveSGHMC",
    "Gaussian",
    "HierarchicalGaussian",
    "Integrator",
    "Laplace",
    "Noise",
    "Prior",
    "Record",
    "SampleBank",
    "StepSize",
    "StudentT",
    "effective_sample_size",
    "kinetic_temperature",
    "named_prior",
    "named_prior_parameters",
    "split_r_hat",
]
