"""Generators, discriminators and backbones, one definition for images and clips."""

from bgan_video.models.bodies import look_at_body
from bgan_video.models.discriminators import Classifier
from bgan_video.models.generators import Generated
from bgan_video.models.nd import frozen_statistics
from bgan_video.models.registry import build_discriminator, build_generator, draw_latents

__all__ = [
    "Classifier",
    "Generated",
    "build_discriminator",
    "build_generator",
    "draw_latents",
    "frozen_statistics",
    "look_at_body",
]
