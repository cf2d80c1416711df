"""Step-size schedules of SG-MCMC, and which steps give a posterior sample."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["constant", "exponential", "cyclical"]


@dataclass(frozen=True, kw_only=True)
class StepSize:
    """The step size of every step, a pure function of the step.

    Steps are numbered from 0; step s is the (s + 1)-th update. Burn-in is the steps below
    `burn_in`, at `lr`. After it, with k = 1, 2, ..., K and K = total_steps - burn_in:

    constant      lr
    exponential   lr exp(-decay (k - 1) / K): `decay` e-foldings over the K steps
    cyclical      lr/2 (cos(pi mod(k - 1, C) / C) + 1), C = ceil(K / num_cycles)
                  (Zhang et al. 2020, cSG-MCMC, arXiv:1902.03932, eq. 1)

    Attributes:
        kind: One of constant, exponential, cyclical.
        lr: The largest step size, > 0.
        total_steps: Number of updates, > burn_in.
        burn_in: Updates before sampling, >= 0.
        thinning: Updates between samples, >= 1 (constant, exponential).
        num_cycles: The paper's M, in 1..K (cyclical).
        decay: E-foldings, >= 0 (exponential).
        exploration: The paper's beta, in [0, 1): the first part of a cycle, which is run without
            noise (cyclical). A cycle must be long enough to keep one step with noise.
    """

    kind: Kind
    lr: float
    total_steps: int
    burn_in: int = 0
    thinning: int = 1
    num_cycles: int = 1
    decay: float = 0.0
    exploration: float = 0.8

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, where a setting is out of range."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        checks = {
            "lr": (math.isfinite(self.lr) and self.lr > 0, "finite and > 0"),
            "burn_in": (0 <= self.burn_in < self.total_steps, f"in 0..{self.total_steps - 1}"),
            "thinning": (self.thinning >= 1, ">= 1"),
            "num_cycles": (1 <= self.num_cycles <= self.num_steps, f"in 1..{self.num_steps}"),
            "decay": (math.isfinite(self.decay) and self.decay >= 0, "finite and >= 0"),
            "exploration": (0 <= self.exploration < 1, "in [0, 1)"),
        }
        for name, (is_valid, allowed) in checks.items():
            if not is_valid:
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")
        if self.kind == "cyclical" and self._is_exploring(self.cycle_length - 1):
            raise ValueError(
                f"a cycle of {self.cycle_length} steps has none left to sample"
                f" at exploration {self.exploration}"
            )

    @property
    def num_steps(self) -> int:
        """K, the number of updates after burn-in."""
        return self.total_steps - self.burn_in

    @property
    def cycle_length(self) -> int:
        """C = ceil(K / num_cycles), in updates."""
        return math.ceil(self.num_steps / self.num_cycles)

    @property
    def num_samples(self) -> int:
        """How many steps below `total_steps` give a sample."""
        return self.num_steps // self._interval

    def lr_at(self, step: int) -> float:
        """The step size of a step >= 0."""
        index = step - self.burn_in
        if index < 0 or self.kind == "constant":
            return self.lr
        if self.kind == "exponential":
            return self.lr * math.exp(-self.decay * index / self.num_steps)
        phase = (index % self.cycle_length) / self.cycle_length
        return 0.5 * self.lr * (math.cos(math.pi * phase) + 1)

    def takes_sample(self, step: int) -> bool:
        """Whether the weights after this step are a posterior sample.

        Every `thinning`-th step after burn-in; cyclical: the last step of every whole cycle, where
        the step size is smallest. Where num_cycles does not divide K the last cycle is cut short
        and gives none: its weights would be an optimiser's, not a sampler's.
        """
        index = step - self.burn_in
        return index >= 0 and (index + 1) % self._interval == 0

    def cycle(self, step: int) -> int:
        """The cycle a step >= 0 belongs to, from 0; always 0 where there are none."""
        return max(step - self.burn_in, 0) // self.cycle_length if self.kind == "cyclical" else 0

    def is_exploring(self, step: int) -> bool:
        """Whether this step belongs to the part of a cycle that is run without noise (T = 0)."""
        index = step - self.burn_in
        return self.kind == "cyclical" and index >= 0 and self._is_exploring(index)

    def steps_with_noise(self, step: int) -> int:
        """How many steps after burn-in, one after the other and up to this one, had noise."""
        index = step - self.burn_in
        if index < 0 or self.kind != "cyclical":
            return max(index + 1, 0)
        place = index % self.cycle_length
        return sum(not self._is_exploring(earlier) for earlier in range(place + 1))

    @property
    def _interval(self) -> int:
        return self.cycle_length if self.kind == "cyclical" else self.thinning

    def _is_exploring(self, index: int) -> bool:
        return (index % self.cycle_length) / self.cycle_length < self.exploration
