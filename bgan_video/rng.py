"""Named random generators, each with a state to save.

Every use of randomness in a run has its own generator, seeded from the run's seed and its name, so
that drawing more latents never changes the noise of the sampler, and a resumed run continues each
sequence where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part and on their order, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded by `derive_seed(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


def shuffled(items: Sequence[T], *seed: object) -> list[T]:
    """The items in an order that depends on the seed alone."""
    order = np.random.default_rng(derive_seed(*seed)).permutation(len(items))
    return [items[i] for i in order]


class Generators:
    """The generators of one run, made on first use by name.

    Args:
        seed: The run's seed.
        device: Where the generators live; sampler noise must be drawn where the weights are.
    """

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self._seed = seed
        self._device = device
        self._on_cuda = torch.device(device).type == "cuda"
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            self._generators[name] = generator(self._seed, name, device=self._device)
        return self._generators[name]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of every generator drawn from so far, and of torch's own (used by dropout)."""
        states = {name: g.get_state() for name, g in self._generators.items()}
        states["torch"] = torch.get_rng_state()
        if self._on_cuda:
            states["torch.cuda"] = torch.cuda.get_rng_state()
        return states

    def load_state_dict(self, states: dict[str, torch.Tensor]) -> None:
        """Continue every sequence from a saved state."""
        for name, saved in states.items():
            state = saved.cpu()  # where generators want it
            if name == "torch":
                torch.set_rng_state(state)
            elif name == "torch.cuda":
                if self._on_cuda:
                    torch.cuda.set_rng_state(state)
            else:
                self[name].set_state(state)
