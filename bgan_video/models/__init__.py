"""Generators, discriminators and backbones, one definition for images and clips."""

from bgan_video.models.bodies import look_at_body
from bgan_video.models.critics import Critic
from bgan_video.models.discriminators import Classifier
from bgan_video.models.generators import Generated
from bgan_video.models.nd import frozen_statistics
from bgan_video.models.registry import (
    build_critic,
    build_discriminator,
    build_generator,
    draw_latents,
    sized_discriminator,
)
from bgan_video.models.weights import Fit

__all__ = [
    "Classifier",
    "Critic",
    "Fit",
    "Generated",
    "build_critic",
    "build_discriminator",
    "build_generator",
    "draw_latents",
    "frozen_statistics",
    "look_at_body",
    "sized_discriminator",
]
