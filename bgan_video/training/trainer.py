"""The chains of a run and what one step does to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any

import torch
from torch import Tensor, nn

from bgan_video import ranks
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method import losses
from bgan_video.method.objective import Objective, RealOutputs, Shown, Weights
from bgan_video.models import (
    Classifier,
    Generated,
    build_discriminator,
    build_generator,
    draw_latents,
    frozen_statistics,
)
from bgan_video.rng import Generators
from bgan_video.training.chains import Chain, descend, initialised, without_gradients
from bgan_video.training.pretext_heads import PretextHeads
from bgan_video.training.replay import Replay, StepInputs, Terms


@dataclass(frozen=True)
class DataSize:
    """What the networks need to know of the data."""

    num_classes: int
    """K, or 1 without labels: the discriminators then know real and fake only."""
    num_unlabelled: int
    num_labelled: int


class Trainer:
    """J_g·M generator chains and J_d·M discriminator chains.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.
    """

    def __init__(self, config: Config, size: DataSize, backend: Backend) -> None:
        p, seed = config.posterior, config.run.seed
        self.config = config
        self.backend = backend
        self.random = Generators(seed, backend.device)
        torch.manual_seed(seed)  # dropout draws from torch's own generator
        labels_per_class = size.num_labelled / size.num_classes
        self.objective = Objective(config, size.num_unlabelled, labels_per_class)

        def discriminator() -> Classifier:
            return build_discriminator(config, size.num_classes)

        noise = self.random["noise"]
        self.discriminators: list[Chain[Classifier]] = [
            Chain(
                initialised(discriminator, backend, seed, "discriminator", j),
                config,
                "discriminator",
                p.burn_in_lr,
                self.objective.num_data,
                noise,
                backend,
            )
            for j in range(p.num_discriminators * p.num_mcmc)
        ]
        self.generators: list[Chain[nn.Module]] = [
            Chain(
                initialised(lambda: build_generator(config), backend, seed, "generator", j),
                config,
                "generator",
                p.generator_burn_in_lr,
                self.objective.num_data_generator,
                noise,
                backend,
            )
            for j in range(p.num_z * p.num_mcmc if config.objective.adversarial_weight > 0 else 0)
        ]
        networks = [chain.network for chain in self.discriminators]
        self.pretext = PretextHeads(config, networks, backend)
        t = config.train
        num_generators = max(1, len(self.generators))
        self.fakes_per_generator = t.fake_batch_size or max(1, t.batch_size // num_generators)
        if self.generators:
            ranks.mine(self.fakes_per_generator, "train.fake_batch_size")
        self._inputs = StepInputs(backend)
        self._replay = Replay(self._move, backend, lambda: [noise, self.random["latent"]])

    @property
    def chains(self) -> Iterator[Chain[Any]]:
        """All chains, discriminators first."""
        return joined(self.discriminators, self.generators)

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of every discriminator and every generator.

        Args:
            index: Step number from 0.
            labelled: On the run's device; None where no label is used.
            unlabelled: On the run's device.

        Returns:
            The means over chains of everything that is logged, still on the device.
        """
        for chain in self.chains:
            chain.begin_step(index)
        weights = self.objective.weights(index)
        which = None
        if weights.pretext > 0:
            drawn = self.pretext.begin_step(index, len(unlabelled.weak) * ranks.count())
            drawn = drawn[ranks.number() :: ranks.count()]
            which = self._inputs.tensor("which", drawn)
        self._weights = Weights(*(self._inputs.number(k, w) for k, w in weights._asdict().items()))
        x, y = labelled or (None, None)
        moves = tuple(chain.moves for chain in self.chains)
        terms = self._replay(moves, x, y, *unlabelled, which)
        self.backend.scaler.update()
        return terms

    def _move(
        self, x: Tensor | None, y: Tensor | None, weak: Tensor, strong: Tensor, which: Tensor | None
    ) -> Terms:
        """What a step computes and moves. It may be recorded (see `Replay`)."""
        labelled = None if x is None or y is None else LabelledBatch(x, y)
        generated = self._generate()
        terms = self._step_discriminators(labelled, UnlabelledBatch(weak, strong), generated, which)
        if generated:
            terms |= self._step_generators(generated, weak)
        return terms

    def latents(self, count: int) -> Tensor:
        """Latents `[count, Z]`, of which each rank has its slice."""
        drawn = draw_latents(self.config, count, self.random["latent"])
        return drawn[ranks.number() :: ranks.count()]

    def _generate(self) -> list[Generated]:
        """Items of every generator with their graph, which the generator phase uses."""
        with self.backend.autocast():
            return [g.network(self.latents(self.fakes_per_generator)) for g in self.generators]

    def _step_discriminators(
        self,
        labelled: LabelledBatch | None,
        unlabelled: UnlabelledBatch,
        generated: list[Generated],
        which: Tensor | None,
    ) -> Terms:
        real: Iterable[RealOutputs] = (
            self._look(chain.network, labelled, unlabelled) for chain in self.discriminators
        )
        teacher = None
        if self.config.objective.consistency_weight > 0:
            # The chains teach each other: a pseudo-label is the posterior mean's, not one sample's.
            if self.backend.spares_memory:
                weak = [
                    self._glance(chain.network, unlabelled.weak) for chain in self.discriminators
                ]
            else:
                real = list(real)
                weak = [
                    losses.class_probabilities(r.unlabelled.detach())
                    for r in real
                    if r.unlabelled is not None
                ]
            teacher = torch.stack(weak).mean(dim=0)
        tasks = [] if which is None else self.pretext.tasks(unlabelled.weak, which)
        logged: list[Terms] = []
        fakes = self._fakes_faced(generated, unlabelled.weak)
        for j, (chain, outputs) in enumerate(zip(self.discriminators, real, strict=True)):
            task = tasks[j] if tasks else None
            shown = Shown(fakes[j], unlabelled.strong, teacher, task)
            with self.backend.autocast():
                potential = self.objective.discriminator(
                    chain.network, outputs, shown, self._weights
                )
            learning = [chain.optimizer, self.pretext.optimizers[j]] if task else [chain.optimizer]
            self._descend(potential.total, *learning)
            logged.append({"loss_d": potential.total.detach(), **potential.terms})
        return {name: torch.stack([t[name] for t in logged]).mean() for name in logged[0]}

    def _look(
        self, network: Classifier, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> RealOutputs:
        weak = unlabelled.weak if self.config.gans_need_unlabelled else None
        with self.backend.autocast():
            return RealOutputs.of(network, labelled, weak)

    def _glance(self, network: Classifier, weak: Tensor) -> Tensor:
        """Class probabilities, of a pass that keeps nothing: one chain's graph lives at a time."""
        with torch.no_grad(), frozen_statistics(network), self.backend.autocast():
            return losses.class_probabilities(network(weak))

    def _fakes_faced(self, generated: list[Generated], real: Tensor) -> list[Tensor]:
        """The fakes that each discriminator faces: everyone's, or its own partner's."""
        fakes = [g.items.detach() for g in generated]
        if fakes and self.config.posterior.independent:
            return fakes
        together = torch.cat(fakes) if fakes else real[:0]
        return [together] * len(self.discriminators)

    def _step_generators(self, generated: list[Generated], real: Tensor) -> Terms:
        networks = [chain.network for chain in self.generators]
        discriminators = [chain.network for chain in self.discriminators]
        games = [(networks, generated, discriminators)]
        if self.config.posterior.independent:
            pairs = zip(networks, generated, discriminators, strict=True)
            games = [([network], [made], [judge]) for network, made, judge in pairs]
        with without_gradients(discriminators), self.backend.autocast():
            potentials = [self.objective.generators(*game, real) for game in games]
        optimizers = [chain.optimizer for chain in self.generators]
        self._descend(torch.stack([p.total for p in potentials]).sum(), *optimizers)
        logged = [{"loss_g": p.total.detach(), **p.terms} for p in potentials]
        sums = {name: torch.stack([t[name] for t in logged]).sum() for name in logged[0]}
        d_fake_after = sums.pop("d_fake_after") / len(games)
        return {k: v / len(networks) for k, v in sums.items()} | {"d_fake_after": d_fake_after}

    def _descend(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        descend(loss, optimizers, self.backend, self.config.train.max_grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the data position, which is the step number."""
        return {
            "discriminators": [chain.state_dict() for chain in self.discriminators],
            "generators": [chain.state_dict() for chain in self.generators],
            "pretext": self.pretext.state_dict(),
            "random": self.random.state_dict(),
            "scaler": self.backend.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for chain, saved in zip(self.discriminators, state["discriminators"], strict=True):
            chain.load_state_dict(saved)
        for chain, saved in zip(self.generators, state["generators"], strict=True):
            chain.load_state_dict(saved)
        self._replay.forget()
        self.pretext.load_state_dict(state["pretext"])
        self.backend.scaler.load_state_dict(state["scaler"])
        self.random.load_state_dict(state["random"])
