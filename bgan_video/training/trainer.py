"""The chains of a run and what one step does to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any

import torch
from torch import Tensor, nn

from bgan_video import ranks, rng
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method import losses
from bgan_video.method.game import Game
from bgan_video.method.objective import Objective, RealOutputs, Shown, Weights
from bgan_video.method.potentials import Potential
from bgan_video.method.temperature import noise_of, num_learning, tempered
from bgan_video.models import (
    Classifier,
    Generated,
    build_critic,
    build_discriminator,
    build_generator,
    draw_latents,
    frozen_statistics,
    nd,
)
from bgan_video.rng import Generators
from bgan_video.training import compat
from bgan_video.training.chains import (
    ADAM_BETAS,
    CRITIC_BETAS,
    Chain,
    N,
    descend,
    initialised,
    without_gradients,
)
from bgan_video.training.pretext_heads import PretextHeads
from bgan_video.training.replay import Replay, StepInputs, Terms


@dataclass(frozen=True)
class DataSize:
    """What the networks need to know of the data."""

    num_classes: int
    """K, or 1 without labels: the discriminators then know real and fake only."""
    num_unlabelled: int
    num_labelled: int
    class_weights: tuple[float, ...] | None = None
    """Of the labelled term, by class; None where all weigh the same."""

    def weights_on(self, device: torch.device) -> Tensor | None:
        """`class_weights` as a tensor."""
        return None if self.class_weights is None else torch.tensor(self.class_weights).to(device)


class Trainer:
    """J_g·M generator chains, J_d·M discriminator chains and, where there are any, critic chains.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.

    Attributes:
        config: The same with the number of the temperature.
        noise: What the chains are sampled at, `compat.noise_scale` included, on the weights of a
            discriminator or, where there is none, of a generator.
    """

    def __init__(self, config: Config, size: DataSize, backend: Backend) -> None:
        p, seed = config.posterior, config.run.seed
        self.config = config
        self.backend = backend
        self.random = Generators(seed, backend.device)
        torch.manual_seed(seed)  # dropout draws from torch's own generator
        labels_per_class = size.num_labelled / size.num_classes
        self.objective = Objective(
            config, size.num_unlabelled, labels_per_class, size.weights_on(backend.device)
        )
        self.game = Game(config, size.num_unlabelled)

        def discriminator() -> Classifier:
            return build_discriminator(config, size.num_classes)

        num_data, num_data_generator = self.objective.num_data, self.objective.num_data_generator
        betas = CRITIC_BETAS if config.has_critics else ADAM_BETAS
        discriminators = self._networks(
            "discriminator",
            discriminator,
            p.num_discriminators if config.has_discriminators else 0,
        )
        critics = self._networks(
            "critic",
            lambda: build_critic(config),
            config.critic.num if config.has_critics else 0,
        )
        generators = self._networks(
            "generator", lambda: build_generator(config), p.num_z if config.has_generators else 0
        )
        if discriminators:
            self.noise = noise_of(config, num_learning(discriminators[0]), num_data)
        else:
            self.noise = noise_of(config, num_learning(generators[0]), num_data_generator)
        self.config = tempered(config, self.noise)
        self.discriminators = self._chains(
            "discriminator", discriminators, (p.burn_in_lr, num_data, ADAM_BETAS)
        )
        self.critics = self._chains("critic", critics, (config.critic.burn_in_lr, num_data, betas))
        self.generators = self._chains(
            "generator", generators, (p.generator_burn_in_lr, num_data_generator, betas)
        )
        first = (self.discriminators or self.generators)[0]
        self.noise = dataclasses.replace(self.noise, temperature=first.temperature)
        self.pretext = PretextHeads(config, discriminators, backend)
        t = config.train
        num_generators = max(1, len(self.generators))
        self.fakes_per_generator = t.fake_batch_size or max(1, t.batch_size // num_generators)
        if self.generators:
            ranks.mine(self.fakes_per_generator, "train.fake_batch_size")
        self._inputs = StepInputs(backend)
        drawn_from = (self.random["noise"], self.random["latent"])
        self._replay = Replay(self._move, backend, lambda: drawn_from, self._states)

    def _networks(self, role: compat.Role, build: Callable[[], N], count: int) -> list[N]:
        """`count` for each of `posterior.num_mcmc`, whose role and number say where they begin."""
        return [
            initialised(build, self.backend, self.config.run.seed, role, j)
            for j in range(count * self.config.posterior.num_mcmc)
        ]

    def _chains(
        self,
        role: compat.Role,
        networks: Sequence[N],
        moved: tuple[float, int, tuple[float, float]],
    ) -> list[Chain[N]]:
        """A chain of each network, by Adam's step size, N and betas."""
        lr, num_data, betas = moved
        noise = self.random["noise"]
        return [
            Chain(network, self.config, role, lr, num_data, noise, self.backend, betas)
            for network in networks
        ]

    @property
    def chains(self) -> Iterator[Chain[Any]]:
        """All chains, discriminators first."""
        return joined(self.discriminators, self.critics, self.generators)

    def _states(self) -> Iterator[tuple[str, Tensor]]:
        """What optimisers and samplers keep from step to step, by its name."""
        for optimizer in (chain.optimizer for chain in self.chains):
            for state in optimizer.state.values():
                named = ((f"{k} of {type(optimizer).__name__}", x) for k, x in state.items())
                yield from ((name, x) for name, x in named if isinstance(x, Tensor))

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
        frames = None
        if self.critics and self.config.spatial_dims == 3:
            frames = self._inputs.tensor("frames", self._frames_looked_at(index))
        self._penalised = bool(self.critics) and self.game.penalises(index)
        x, y = labelled or (None, None)
        moves = tuple(chain.moves for chain in self.chains)
        terms = self._replay(moves, x, y, *unlabelled, which, frames, kind=self._penalised)
        self.backend.scaler.update()
        return terms

    def _move(
        self,
        x: Tensor | None,
        y: Tensor | None,
        weak: Tensor,
        strong: Tensor,
        which: Tensor | None,
        frames: Tensor | None,
    ) -> Terms:
        """What a step computes and moves. It may be recorded (see `Replay`)."""
        labelled = None if x is None or y is None else LabelledBatch(x, y)
        generated = self._generate()
        terms: Terms = {}
        if self.discriminators:
            batch = UnlabelledBatch(weak, strong)
            terms |= self._step_discriminators(labelled, batch, generated, which)
        seen = weak
        if self.critics:
            seen = nd.resized(weak, self.config.of_game.clip.size)
            terms |= self._step_critics(generated, seen, frames)
        if generated:
            terms |= self._step_generators(generated, seen, frames)
        return terms

    def _frames_looked_at(self, index: int) -> Tensor:
        """`[2]`: the frames that critics look at one by one in a step."""
        drawn = rng.generator(self.config.run.seed, "frames", index)
        return torch.randint(self.config.clip.num_frames, (2,), generator=drawn)

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
        fakes = self._fakes_faced(generated, unlabelled.weak, len(self.discriminators))
        if self.critics:
            fakes = [nd.resized(items, self.config.clip.size) for items in fakes]
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
        return _means(logged)

    def _look(
        self, network: Classifier, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> RealOutputs:
        weak = unlabelled.weak if self.config.discriminators_need_unlabelled else None
        with self.backend.autocast():
            return RealOutputs.of(network, labelled, weak)

    def _glance(self, network: Classifier, weak: Tensor) -> Tensor:
        """Class probabilities, of a pass that keeps nothing: one chain's graph lives at a time."""
        with torch.no_grad(), frozen_statistics(network), self.backend.autocast():
            return losses.class_probabilities(network(weak))

    def _fakes_faced(self, generated: list[Generated], real: Tensor, count: int) -> list[Tensor]:
        """The fakes that each of `count` judges faces: everyone's, or its own partner's."""
        fakes = [g.items.detach() for g in generated]
        if fakes and self.config.posterior.independent:
            return fakes
        together = torch.cat(fakes) if fakes else real[:0]
        return [together] * count

    def _step_critics(
        self, generated: list[Generated], real: Tensor, frames: Tensor | None
    ) -> Terms:
        logged: list[Terms] = []
        faced = self._fakes_faced(generated, real, len(self.critics))
        for chain, fakes in zip(self.critics, faced, strict=True):
            with self.backend.autocast():
                potential = self.game.critic(chain.network, real, fakes, frames, self._penalised)
            self._descend(potential.total, chain.optimizer)
            logged.append({"loss_c": potential.total.detach(), **potential.terms})
        return _means(logged)

    def _step_generators(
        self, generated: list[Generated], real: Tensor, frames: Tensor | None
    ) -> Terms:
        networks = [chain.network for chain in self.generators]
        judges = [chain.network for chain in self.critics or self.discriminators]
        games = [(networks, generated, judges)]
        if self.config.posterior.independent:
            pairs = zip(networks, generated, judges, strict=True)
            games = [([network], [made], [judge]) for network, made, judge in pairs]
        with without_gradients(judges), self.backend.autocast():
            potentials = [self._faced_by(*game, real, frames) for game in games]
        optimizers = [chain.optimizer for chain in self.generators]
        self._descend(torch.stack([p.total for p in potentials]).sum(), *optimizers)
        logged = [{"loss_g": p.total.detach(), **p.terms} for p in potentials]
        sums = {name: torch.stack([t[name] for t in logged]).sum() for name in logged[0]}
        told = {k: sums.pop(k) / len(games) for k in ("d_fake_after",) if k in sums}
        return {k: v / len(networks) for k, v in sums.items()} | told

    def _faced_by(
        self,
        networks: Sequence[nn.Module],
        generated: Sequence[Generated],
        judges: Sequence[Any],
        real: Tensor,
        frames: Tensor | None,
    ) -> Potential:
        if self.critics:
            return self.game.generators(networks, generated, judges, real, frames)
        return self.objective.generators(networks, generated, judges, real)

    def _descend(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        descend(loss, optimizers, self.backend, self.config.train.max_grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the data position, which is the step number."""
        return {
            "discriminators": [chain.state_dict() for chain in self.discriminators],
            "critics": [chain.state_dict() for chain in self.critics],
            "generators": [chain.state_dict() for chain in self.generators],
            "pretext": self.pretext.state_dict(),
            "random": self.random.state_dict(),
            "scaler": self.backend.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        of_roles = {
            "discriminators": self.discriminators,
            "critics": self.critics,
            "generators": self.generators,
        }
        for role, chains in of_roles.items():
            for chain, saved in zip(chains, state.get(role, []), strict=True):
                chain.load_state_dict(saved)
        self._replay.forget()
        self.pretext.load_state_dict(state["pretext"])
        self.backend.scaler.load_state_dict(state["scaler"])
        self.random.load_state_dict(state["random"])


def _means(of_chains: Sequence[Terms]) -> Terms:
    """What is logged of each chain, over the chains."""
    return {name: torch.stack([t[name] for t in of_chains]).mean() for name in of_chains[0]}
