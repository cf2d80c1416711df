"""The noise of the two published codes, as the temperature it amounts to and as the loss it was.

Both add a linear term `c Σ θ ξ` to a mean loss, ξ ~ N(0, 1), where the posterior at temperature T
asks for `c = √(2αT / (lr N))` (α friction, lr step size, N items): SGD with momentum 1 - α then
moves as SGHMC does. What they take for c is a temperature far below 1:

    notebook, generators       √(2α / lr) / N       T = 1 / N
    notebook, discriminators   √(2α lr) / N         T = lr² / N
    TensorFlow, all            √(2·0.01·2e-4) / N   T = 2e-4 lr (0.01 / α) / N

The TensorFlow code's noise is that of a friction of 0.01, whatever the friction of its optimiser.
"""

from __future__ import annotations

import math
from typing import Literal

from bgan_video.config import Config

Role = Literal["discriminator", "critic", "generator"]

_TENSORFLOW_ETA = 2e-4
_TENSORFLOW_ALPHA = 0.01


def temperature(config: Config, role: Role, lr: float, num_data: int) -> float:
    """The temperature of a chain: the posterior's, times what `compat.noise_scale` makes of 1.

    Args:
        config: Its `posterior` and `compat` sections.
        role: Of the chain.
        lr: Step size of whatever moves it with noise.
        num_data: N of its mean-loss potential.
    """
    scale = config.compat.noise_scale
    factor = 1.0
    if scale == "tensorflow":
        relative_friction = _TENSORFLOW_ALPHA / config.posterior.friction
        factor = _TENSORFLOW_ETA * lr * relative_friction / num_data
    elif scale == "notebook":
        factor = (1.0 if role == "generator" else lr**2) / num_data
    return config.temperature * factor


def noise_coefficient(friction: float, temperature: float, lr: float, num_data: int) -> float:
    """The factor c of `c Σ θ ξ`: the standard deviation of what that adds to a gradient."""
    return math.sqrt(2 * friction * temperature / (lr * num_data))
