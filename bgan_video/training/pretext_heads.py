"""The heads of the pretext task: one beside each discriminator chain, and no part of it.

They are learned with Adam while the chains are, and are neither sampled nor kept with a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.method.objective import PretextTask
from bgan_video.method.pretext import TransformationHead, num_transformations, transform
from bgan_video.method.timetable import adam_lr
from bgan_video.models import Classifier
from bgan_video.training.chains import adam, initialised, set_lr


class PretextHeads:
    """The heads, their optimisers, and what they are asked.

    Args:
        config: The run's settings.
        networks: The discriminators whose features they read, all of one body.
        backend: Its device.
    """

    def __init__(self, config: Config, networks: Sequence[Classifier], backend: Backend) -> None:
        self._config = config

        def head() -> TransformationHead:
            return TransformationHead(networks[0].head.in_features, config.spatial_dims)

        self.heads = [
            initialised(head, backend, config.run.seed, "pretext", j)
            for j in range(len(networks) if config.objective.pretext_weight > 0 else 0)
        ]
        self._lr = config.posterior.burn_in_lr
        self.optimizers = [adam(head, self._lr, backend) for head in self.heads]

    def begin_step(self, step: int, count: int) -> Tensor:
        """Set Adam's step size, that of the chains, and draw a transformation for each weak view.

        Returns:
            `[count]`, on the CPU.
        """
        lr = adam_lr(self._config, self._lr, step, self._config.adam_steps)
        for optimizer in self.optimizers:
            set_lr(optimizer, lr)
        kinds = num_transformations(self._config.spatial_dims)
        # From seed and step alone, so nothing to save.
        random = rng.generator(self._config.run.seed, "pretext", step)
        return torch.randint(kinds, (count,), generator=random)

    def tasks(self, weak: Tensor, which: Tensor) -> list[PretextTask]:
        """A task a head: the weak views `[B, C, (T,) H, W]`, transformed as drawn. All the same."""
        items = transform(weak, which, self._config.spatial_dims)
        return [PretextTask(head, items, which) for head in self.heads]

    def state_dict(self) -> list[dict[str, Any]]:
        """Weights and the state of Adam, head by head."""
        pairs = zip(self.heads, self.optimizers, strict=True)
        return [{"head": h.state_dict(), "optimizer": o.state_dict()} for h, o in pairs]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Continue from a saved state."""
        for head, optimizer, saved in zip(self.heads, self.optimizers, state, strict=True):
            head.load_state_dict(saved["head"])
            optimizer.load_state_dict(saved["optimizer"])
