"""What the posterior is compared with: networks on the labels alone, and the same GAN without heat.

The labelled clips are the same for all, and so are steps, augmentation and body.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bgan_video import losses, rng
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.models import Classifier, build_discriminator
from bgan_video.precision import Backend
from bgan_video.training.chains import ADAM_BETAS, descend, initialised
from bgan_video.training.trainer import DataSize, Terms, Trainer


@dataclass(frozen=True)
class Member:
    """A network trained on the labels alone, with its optimiser."""

    model: str
    name: str
    """Seeds its initial weights and its dropout."""
    network: Classifier
    optimizer: torch.optim.Optimizer


class Baselines:
    """The supervised network, the rest of its deep ensemble, and the network for MC-dropout.

    Args:
        config: The run's settings.
        num_classes: K.
        backend: Device and precision.
    """

    def __init__(self, config: Config, num_classes: int, backend: Backend) -> None:
        self._config = config
        self._num_classes = num_classes
        self._backend = backend.with_own_scaler()
        b = config.baseline
        self._members: list[Member] = []
        if b.supervised:
            self._add("supervised", "supervised", config.discriminator.dropout)
        for index in range(1, b.ensemble):
            self._add("ensemble", f"ensemble {index}", config.discriminator.dropout)
        if b.mc_dropout > 0:
            self._add("mc_dropout", "mc_dropout", b.mc_dropout)

    def networks(self, model: str) -> list[Classifier]:
        """The networks of `supervised`, `ensemble` or `mc_dropout`; none where it is not trained.

        The supervised network is the first of the ensemble.
        """
        if model == "ensemble" and self._config.baseline.ensemble == 0:
            return []
        models = ("supervised", "ensemble") if model == "ensemble" else (model,)
        return [member.network for member in self._members if member.model in models]

    def step(self, index: int, labelled: LabelledBatch | None) -> Terms:
        """One step of every network; none without labels.

        Args:
            index: Step number from 0.
            labelled: On the CPU.

        Returns:
            Loss and training accuracy of the supervised network, still on the device.
        """
        terms: Terms = {}
        if labelled is None:
            return terms
        x, y = (t.to(self._backend.device, non_blocking=True) for t in labelled)
        for member in self._members:
            # Dropout of its own, so that a network is the same beside any number of others.
            with own_randomness(self._backend, self._config.run.seed, member.name, index):
                with self._backend.autocast():
                    logits = member.network(x)
                    loss = losses.supervised(logits, y)
                optimizers = [member.optimizer]
                descend(loss, optimizers, self._backend, self._config.train.max_grad_norm)
            if member.model == "supervised":
                right = logits.detach()[:, 1:].argmax(dim=1) == y
                terms["supervised"] = loss.detach()
                terms["train_top1_supervised"] = right.float().mean()
        if self._members:
            self._backend.scaler.update()
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers."""
        return {
            "members": [
                {"network": m.network.state_dict(), "optimizer": m.optimizer.state_dict()}
                for m in self._members
            ],
            "scaler": self._backend.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for member, saved in zip(self._members, state["members"], strict=True):
            member.network.load_state_dict(saved["network"])
            member.optimizer.load_state_dict(saved["optimizer"])
        self._backend.scaler.load_state_dict(state["scaler"])

    def _add(self, model: str, name: str, dropout: float) -> None:
        config = self._config.with_dropout(dropout)
        network = initialised(
            lambda: build_discriminator(config, self._num_classes),
            self._backend.device,
            self._config.run.seed,
            name,
        ).train()
        lr = self._config.baseline.lr or self._config.posterior.burn_in_lr
        optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=ADAM_BETAS)
        self._members.append(Member(model, name, network, optimizer))


class ColdTwin:
    """The same GAN at temperature 0, from the end of burn-in on: what the noise is worth.

    Args:
        config: The run's settings; `baseline.cold` says whether there is a twin.
        size: Classes and N.
        backend: Device and precision.
    """

    def __init__(self, config: Config, size: DataSize, backend: Backend) -> None:
        self._seed = config.run.seed
        self._burn_in = config.posterior.burn_in
        self._trainer: Trainer | None = None
        if config.baseline.cold:
            posterior = dataclasses.replace(config.posterior, temperature=0.0)
            cold = dataclasses.replace(config, posterior=posterior)
            self._trainer = Trainer(cold, size, backend.with_own_scaler())

    @property
    def networks(self) -> list[nn.Module]:
        """Its discriminators; none where there is no twin."""
        return [c.network for c in self._trainer.discriminators] if self._trainer else []

    def step(
        self,
        index: int,
        warm: Trainer,
        labelled: LabelledBatch | None,
        unlabelled: UnlabelledBatch,
    ) -> None:
        """Follow the warm chains through burn-in by waiting, then take a step of its own.

        Args:
            index: Step number from 0.
            warm: The chains, before they take this step.
            labelled: On the CPU; None where no label is used.
            unlabelled: On the CPU.
        """
        if self._trainer is None or index < self._burn_in:
            return
        if index == self._burn_in:
            self._trainer.load_state_dict(warm.state_dict())
        with own_randomness(self._trainer.backend, self._seed, "cold", index):
            self._trainer.step(index, labelled, unlabelled)

    def state_dict(self) -> dict[str, Any]:
        """Everything, or nothing where there is no twin."""
        return self._trainer.state_dict() if self._trainer else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        if self._trainer:
            self._trainer.load_state_dict(state)


@dataclass(frozen=True)
class Models:
    """Everything a run trains."""

    chains: Trainer
    baselines: Baselines
    cold: ColdTwin

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of every network; the terms to log, still on the device.

        Args:
            index: Step number from 0.
            labelled: On the CPU; None where no label is used.
            unlabelled: On the CPU.
        """
        self.cold.step(index, self.chains, labelled, unlabelled)
        terms = self.chains.step(index, labelled, unlabelled)
        return terms | self.baselines.step(index, labelled)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the data position, which is the step number."""
        return {
            "chains": self.chains.state_dict(),
            "baselines": self.baselines.state_dict(),
            "cold": self.cold.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.cold.load_state_dict(state["cold"])
        self.baselines.load_state_dict(state["baselines"])
        self.chains.load_state_dict(state["chains"])


def build(config: Config, size: DataSize, backend: Backend) -> Models:
    """The networks of a new run."""
    return Models(
        Trainer(config, size, backend),
        Baselines(config, size.num_classes, backend),
        ColdTwin(config, size, backend),
    )


@contextmanager
def own_randomness(backend: Backend, *seed: object) -> Iterator[None]:
    """Torch's own generators, which dropout draws from, seeded by `seed` and put back after."""
    devices = [backend.device] if backend.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(rng.derive_seed(*seed))
        yield
