"""Bayesian inference by stochastic-gradient MCMC; knows parameters and gradients only."""

from bgan_video.inference.adaptive_sghmc import AdaptiveSGHMC
from bgan_video.inference.bank import Record, SampleBank
from bgan_video.inference.diagnostics import effective_sample_size, split_r_hat
from bgan_video.inference.priors import (
    Gaussian,
    HierarchicalGaussian,
    Laplace,
    Prior,
    StudentT,
    named_prior,
    named_prior_parameters,
)
from bgan_video.inference.schedules import StepSize
from bgan_video.inference.sghmc import SGHMC, Integrator, kinetic_temperature
from bgan_video.inference.sgld import SGLD

__all__ = [
    "SGHMC",
    "SGLD",
    "AdaptiveSGHMC",
    "Gaussian",
    "HierarchicalGaussian",
    "Integrator",
    "Laplace",
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
