"""Everything a run trains: the chains of the Bayesian GAN, and what they are compared with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch import nn

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.config import LABELS_ONLY, SELF_TRAINING, Config, Method
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.timetable import draws_in_round, ensemble_in_round
from bgan_video.models import Classifier
from bgan_video.prediction.bodies import FIRST_KIND, Body
from bgan_video.training.drawn import SWAG, LastLayerLaplace
from bgan_video.training.learners import LabelsOnly, Learner, SemiSupervised, own_randomness
from bgan_video.training.replay import StepInputs
from bgan_video.training.trainer import DataSize, Terms, Trainer

_SEMI_SUPERVISED: tuple[Method, ...] = ("pseudo_label", "mean_teacher", "fixmatch")


_DRAWN: dict[Method, type[SWAG | LastLayerLaplace]] = {"swag": SWAG, "laplace": LastLayerLaplace}


class RivalGAN(Learner):
    """A GAN beside the Bayesian one, with a trainer of its own."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.config = trainer.config

    @property
    def networks(self) -> Sequence[Classifier]:
        """Its discriminators."""
        return [chain.network for chain in self.trainer.discriminators]

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; torch's own generators are left to whoever uses them."""
        with own_randomness(self.trainer.backend, "load"):
            self.trainer.load_state_dict(state)


class MaximumLikelihoodGAN(RivalGAN):
    """The same objective with one generator and one discriminator, no prior and no noise.

    Its generator makes as many fakes a step as all generators of the Bayesian GAN together; as many
    as there are real items where the two are compared pair by pair.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.
    """

    model = "ml_gan"
    answers_alone = True

    def __init__(self, config: Config, size: DataSize, backend: Backend) -> None:
        posterior = dataclasses.replace(
            config.posterior,
            bayes=False,
            num_z=1,
            num_discriminators=1,
            num_mcmc=1,
            independent=False,
        )
        baseline = dataclasses.replace(config.baseline, methods=(self.model,))
        pairs = config.compat.feature_matching == "huber"
        fakes = config.train.batch_size if pairs else _fakes_per_step(config)
        steps = config.total_steps
        train = dataclasses.replace(config.train, steps=steps, rounds=0, fake_batch_size=fakes)
        critic = dataclasses.replace(config.critic, num=1)
        single = dataclasses.replace(
            config, posterior=posterior, baseline=baseline, train=train, critic=critic
        )
        self._seed = config.run.seed
        super().__init__(Trainer(single, size, backend.with_own_scaler()))

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of discriminator and generator."""
        with own_randomness(self.trainer.backend, self._seed, self.model, index):
            terms = self.trainer.step(index, labelled, unlabelled)
        loss = {self.model: terms["loss_d"]}
        return loss | {f"{name}_{self.model}": value for name, value in terms.items()}


class ColdGAN(RivalGAN):
    """The same GAN at temperature 0, from the end of burn-in on: what the noise is worth.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.
        warm: The chains, which take each step after this model does.
    """

    model = "cold_gan"
    answers_alone = False
    is_sampled = True
    restarts = True

    def __init__(self, config: Config, size: DataSize, backend: Backend, warm: Trainer) -> None:
        posterior = dataclasses.replace(config.posterior, temperature=0.0)
        cold = dataclasses.replace(config, posterior=posterior)
        self._seed = config.run.seed
        self._burn_in = config.posterior.burn_in
        self._warm = warm
        super().__init__(Trainer(cold, size, backend.with_own_scaler()))

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """Wait for the warm chains through burn-in, then take steps of its own."""
        if index == self._burn_in:
            # Loading copies no tensor, and a sampler may hold some that it learned in burn-in.
            self.trainer.load_state_dict(copy.deepcopy(self._warm.state_dict()))
        if index >= self._burn_in:
            with own_randomness(self.trainer.backend, self._seed, "cold", index):
                self.trainer.step(index, labelled, unlabelled)
        return {}


class BodyChains(RivalGAN):
    """The chains of a further body of the Bayesian GAN; generators play against the first one.

    Args:
        body: Its settings and its name in the bank.
        config: Its settings in this round.
        size: Classes, and the N of its potential.
        backend: Device and precision.
    """

    answers_alone = False
    is_sampled = True
    restarts = True

    def __init__(self, body: Body, config: Config, size: DataSize, backend: Backend) -> None:
        self.model = body.kind
        super().__init__(Trainer(config, size, backend.with_own_scaler()))

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of its chains on what it sees of the labelled and believed items."""
        with own_randomness(self.trainer.backend, self.config.run.seed, self.model, index):
            terms = self.trainer.step(index, labelled, unlabelled)
        return {f"{name}_{self.model}": terms[name] for name in ("loss_d", "train_top1")}


@dataclass(frozen=True)
class Models:
    """The models of a run, in one of its rounds.

    Attributes:
        config: The run's settings.
        backend: Device and precision.
        round: From 0.
        chains: Of the Bayesian GAN; None where it is not trained.
        learners: Everything else.
    """

    config: Config
    backend: Backend
    round: int
    chains: Trainer | None
    learners: Sequence[Learner]

    @property
    def discriminators(self) -> Sequence[Classifier]:
        """Of the Bayesian GAN."""
        return [chain.network for chain in self.chains.discriminators] if self.chains else []

    def of_body(self, body: Body) -> Sequence[Classifier]:
        """Of the chains of one body of the Bayesian GAN."""
        others = (m.networks for m in self.learners if m.model == body.kind)
        return self.discriminators if body.kind == FIRST_KIND else next(others)

    @property
    def generators(self) -> Sequence[nn.Module]:
        """Of the Bayesian GAN."""
        return [chain.network for chain in self.chains.generators] if self.chains else []

    @property
    def critics(self) -> Sequence[nn.Module]:
        """Of the Bayesian GAN; none where its discriminators judge looks as well."""
        return [chain.network for chain in self.chains.critics] if self.chains else []

    @property
    def networks(self) -> Iterator[nn.Module]:
        """All, of every player and learner; with averages that answer in a network's place."""
        trainers = [m.trainer for m in self.learners if isinstance(m, RivalGAN)]
        for trainer in [self.chains, *trainers] if self.chains else trainers:
            yield from (chain.network for chain in trainer.chains)
            yield from trainer.pretext.heads
        for learner in self.learners:
            yield from () if isinstance(learner, RivalGAN) else learner.networks

    @property
    def samples_posterior(self) -> bool:
        """Whether there are chains that sample after burn-in."""
        return self.chains is not None and self.config.samples_posterior

    @property
    def classify_alone(self) -> bool:
        """Whether a model is there to evaluate on the way."""
        found = self.chains is not None or any(m.answers_alone for m in self.learners)
        return found and not self.config.is_unsupervised

    @property
    def first_step(self) -> int:
        """Steps that were done before this round."""
        return self.round * self.config.train.steps

    @cached_property
    def _inputs(self) -> StepInputs:
        return StepInputs(self.backend)

    def _place(self, name: str, batch: LabelledBatch | None) -> LabelledBatch | None:
        if batch is None:
            return None
        x, y = batch
        return LabelledBatch(
            self._inputs.tensor(f"{name} x", x), self._inputs.tensor(f"{name} y", y)
        )

    def step(
        self,
        index: int,
        labelled: LabelledBatch | None,
        unlabelled: UnlabelledBatch,
        believed: Mapping[str, LabelledBatch | None] = MappingProxyType({}),
    ) -> Terms:
        """One step of every model; the terms to log, still on the device.

        Args:
            index: Step number of the run from 0.
            labelled: True labels, on the CPU; None where no label is used.
            unlabelled: On the CPU.
            believed: What a method learns from in place of `labelled`, in a round in which it
                believes pseudo-labels. On the CPU.
        """
        place = self._inputs.tensor
        unlabelled = UnlabelledBatch(*(place(k, x) for k, x in unlabelled._asdict().items()))
        given = {method: self._place(method, batch) for method, batch in believed.items()}
        own = self._place("labelled", labelled)
        of_chains = given.get("bayesian_gan", own)
        in_round = index - self.first_step
        terms: Terms = {}
        for learner in self.learners:
            batch = of_chains if isinstance(learner, ColdGAN) else given.get(learner.model, own)
            terms |= learner.step(in_round if learner.restarts else index, batch, unlabelled)
        if self.chains is not None:
            terms = self.chains.step(in_round, of_chains, unlabelled) | terms
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Everything but the data position, which is the step number."""
        state = {learner.model: learner.state_dict() for learner in self.learners}
        if self.chains is not None:
            state["chains"] = self.chains.state_dict()
        return {"round": self.round, **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; of an earlier round, what does not restart."""
        is_of_round = state["round"] == self.round
        for learner in self.learners:
            if is_of_round or not learner.restarts:
                learner.load_state_dict(state[learner.model])
        if self.chains is not None and is_of_round:
            self.chains.load_state_dict(state["chains"])


def _fakes_per_step(config: Config) -> int:
    """Fakes that a discriminator of the Bayesian GAN faces in a step."""
    p, t = config.posterior, config.train
    generators = p.num_z * p.num_mcmc
    of_each = t.fake_batch_size or max(1, t.batch_size // generators)
    return of_each if p.independent else generators * of_each


def build(
    config: Config,
    size: DataSize,
    backend: Backend,
    number: int = 0,
    lasting: Sequence[Learner] = (),
    bodies: Sequence[Body] = (),
    believing: Mapping[str, DataSize] = MappingProxyType({}),
) -> Models:
    """The networks of a round: fresh ones, but for those that learn through all rounds.

    Args:
        config: The run's settings.
        size: Classes, N, and the labels.
        backend: Device and precision.
        number: Of the round, from 0.
        lasting: The learners of the round before; where there was none, all are fresh.
        bodies: Of the Bayesian GAN; none where it has one, the settings' own.
        believing: The same with the pseudo-labels of a method that believes some in this round.
    """
    methods = config.baseline.methods
    kept = {learner.model: learner for learner in lasting if not learner.restarts}
    fresh = _Fresh(config, size, backend, number, believing)
    learners = [
        kept[method] if method in kept else fresh.learner(method)
        for method in (*LABELS_ONLY, *SELF_TRAINING, *_SEMI_SUPERVISED, "ml_gan")
        if method in methods
    ]
    of_round, of_chains = settings_of_round(config, number), believing.get("bayesian_gan", size)
    for body in bodies[1:]:
        own = settings_of_round(body.config, number)
        learners.append(BodyChains(body, own, size_for(body, of_chains), backend))
    chains = None
    if "bayesian_gan" in methods:
        own = settings_of_round(bodies[0].config, number) if bodies else of_round
        of_first = size_for(bodies[0], of_chains) if bodies else of_chains
        chains = Trainer(own, of_first, backend.with_own_scaler())
    if chains is not None and "cold_gan" in methods:
        learners.append(ColdGAN(of_round, of_chains, backend, chains))
    return Models(config, backend, number, chains, learners)


@dataclass(frozen=True)
class _Fresh:
    """Learners that begin in a round; attributes as the arguments of `build`."""

    config: Config
    size: DataSize
    backend: Backend
    number: int
    believing: Mapping[str, DataSize]

    def learner(self, method: Method) -> Learner:
        """That of a method which is no chain of the Bayesian GAN."""
        config, size, backend = self.config, self.size, self.backend
        if method == "ml_gan":
            return MaximumLikelihoodGAN(config, size, backend)
        if method in SELF_TRAINING:
            return self._self_training(method)
        own, k, lasts = config.for_networks_of(method), size.num_classes, config.total_steps
        weights = size.weights_on(backend.device)
        if method == "deep_ensemble":
            members = ensemble_in_round(config, self.number)
            return LabelsOnly(method, own, k, backend, config.train.steps, members, weights)
        if method in LABELS_ONLY:
            return LabelsOnly(method, own, k, backend, lasts, class_weights=weights)
        return SemiSupervised(method, own, k, backend, lasts, weights)

    def _self_training(self, method: Method) -> Learner:
        """One that learns in this round alone, from labelled and believed items."""
        config, backend, number = self.config, self.backend, self.number
        weights = self.believing.get(method, self.size).weights_on(backend.device)
        own, k = settings_of_round(config, number), self.size.num_classes
        given = (own, k, backend, config.train.steps)
        if method in _DRAWN:
            return _DRAWN[method](*given, draws_in_round(config, number), weights)
        is_ensemble = method == "self_training_ensemble"
        members = range(len(ensemble_in_round(config, number)) if is_ensemble else 1)
        return LabelsOnly(method, *given, members, weights)


def size_for(body: Body, size: DataSize) -> DataSize:
    """N of a features body's potential is that of its likelihood: the items that bear a label."""
    if not body.sees_features:
        return size
    return dataclasses.replace(size, num_unlabelled=size.num_labelled)


def settings_of_round(config: Config, number: int) -> Config:
    """The settings of the networks that begin in a round: each round has a seed of its own."""
    if number == 0:
        return config
    seed = rng.derive_seed(config.run.seed, "round", number)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
