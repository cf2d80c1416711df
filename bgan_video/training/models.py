"""Everything a run trains: the chains of the Bayesian GAN, and what they are compared with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bgan_video.backend import Backend
from bgan_video.config import LABELS_ONLY, Config, Method
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.schedule import rival_size
from bgan_video.models import Classifier
from bgan_video.training.learners import LabelsOnly, Learner, SemiSupervised, own_randomness
from bgan_video.training.trainer import DataSize, Terms, Trainer

_SEMI_SUPERVISED: tuple[Method, ...] = ("pseudo_label", "mean_teacher", "fixmatch")


class RivalGAN(Learner):
    """A GAN beside the Bayesian one, with a trainer of its own."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def networks(self) -> Sequence[Classifier]:
        """Its discriminators."""
        return [chain.network for chain in self._trainer.discriminators]

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return self._trainer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._trainer.load_state_dict(state)


class MaximumLikelihoodGAN(RivalGAN):
    """The same objective with one generator and one discriminator, no prior and no noise.

    Its generator makes as many fakes a step as all generators of the Bayesian GAN together; as many
    as there are real items where the two are compared pair by pair.

    Args:
        config: The run's settings.
        size: Classes and N.
        backend: Device and precision.
    """

    model: Method = "ml_gan"
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
        train = dataclasses.replace(config.train, fake_batch_size=fakes)
        single = dataclasses.replace(config, posterior=posterior, baseline=baseline, train=train)
        self._seed = config.run.seed
        super().__init__(Trainer(single, size, backend.with_own_scaler()))

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of discriminator and generator."""
        with own_randomness(self._trainer.backend, self._seed, self.model, index):
            terms = self._trainer.step(index, labelled, unlabelled)
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
            self._trainer.load_state_dict(copy.deepcopy(self._warm.state_dict()))
        if index >= self._burn_in:
            with own_randomness(self._trainer.backend, self._seed, "cold", index):
                self._trainer.step(index, labelled, unlabelled)
        return {}


@dataclass(frozen=True)
class Models:
    """The models of a run.

    Attributes:
        config: The run's settings.
        backend: Device and precision.
        chains: Of the Bayesian GAN; None where it is not trained.
        learners: Everything else.
    """

    config: Config
    backend: Backend
    chains: Trainer | None
    learners: Sequence[Learner]

    @property
    def discriminators(self) -> Sequence[Classifier]:
        """Of the Bayesian GAN."""
        return [chain.network for chain in self.chains.discriminators] if self.chains else []

    @property
    def generators(self) -> Sequence[nn.Module]:
        """Of the Bayesian GAN."""
        return [chain.network for chain in self.chains.generators] if self.chains else []

    @property
    def samples_posterior(self) -> bool:
        """Whether there are chains that sample after burn-in."""
        return self.chains is not None and self.config.samples_posterior

    @property
    def classify_alone(self) -> bool:
        """Whether a model is there to evaluate on the way."""
        found = self.chains is not None or any(m.answers_alone for m in self.learners)
        return found and not self.config.is_unsupervised

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of every model; the terms to log, still on the device.

        Args:
            index: Step number from 0.
            labelled: On the CPU; None where no label is used.
            unlabelled: On the CPU.
        """
        place = self.backend.place
        if labelled is not None:
            labelled = LabelledBatch(*map(place, labelled))
        unlabelled = UnlabelledBatch(*map(place, unlabelled))
        terms: Terms = {}
        for learner in self.learners:
            terms |= learner.step(index, labelled, unlabelled)
        if self.chains is not None:
            terms = self.chains.step(index, labelled, unlabelled) | terms
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Everything but the data position, which is the step number."""
        state = {learner.model: learner.state_dict() for learner in self.learners}
        if self.chains is not None:
            state["chains"] = self.chains.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for learner in self.learners:
            learner.load_state_dict(state[learner.model])
        if self.chains is not None:
            self.chains.load_state_dict(state["chains"])


def _fakes_per_step(config: Config) -> int:
    """Fakes that a discriminator of the Bayesian GAN faces in a step."""
    p, t = config.posterior, config.train
    generators = p.num_z * p.num_mcmc
    return generators * (t.fake_batch_size or max(1, t.batch_size // generators))


def build(config: Config, size: DataSize, backend: Backend) -> Models:
    """The networks of a new run."""
    methods, k = config.baseline.methods, size.num_classes
    learners: list[Learner] = []
    for method in (*LABELS_ONLY, *_SEMI_SUPERVISED):
        if method not in methods:
            continue
        own = config.for_networks_of(method)
        if method in LABELS_ONLY:
            networks = rival_size(config) if method == "deep_ensemble" else 1
            learners.append(LabelsOnly(method, own, k, backend, networks))
        else:
            learners.append(SemiSupervised(method, own, k, backend))
    if "ml_gan" in methods:
        learners.append(MaximumLikelihoodGAN(config, size, backend))
    chains = Trainer(config, size, backend) if "bayesian_gan" in methods else None
    if chains is not None and "cold_gan" in methods:
        learners.append(ColdGAN(config, size, backend, chains))
    return Models(config, backend, chains, learners)
