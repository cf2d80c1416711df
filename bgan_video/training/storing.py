"""Which networks of a run are stored in its bank, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from bgan_video import ranks
from bgan_video.config import Method
from bgan_video.method.timetable import step_sizes
from bgan_video.prediction.bodies import FIRST_KIND
from bgan_video.sampling import SampleBank, StepSize
from bgan_video.training.learners import Learned, State
from bgan_video.training.lineup import BodyChains, ColdGAN, Models

# Whose stored networks are the ones that were trained: SWAG's and Laplace's are drawn around them.
_GOING_ON: tuple[Method, ...] = ("self_training", "self_training_ensemble")


@dataclass(frozen=True)
class Sampled:
    """Networks that are stored as the schedule of their chains has it."""

    kind: str
    temperature: float
    networks: Sequence[nn.Module]
    schedule: StepSize

    def is_due(self, in_round: int) -> bool:
        """Whether a sample is taken after a step, counted from 0 in its round."""
        return self.schedule.takes_sample(in_round)

    def store(self, step: int, in_round: int, bank: SampleBank) -> None:
        """One posterior sample of every chain after update `step`."""
        given = {"temperature": self.temperature, "cycle": self.schedule.cycle(in_round)}
        for j, network in enumerate(self.networks):
            bank.add(self.kind, step, j, network.state_dict(), **given)


def sampled(models: Models) -> list[Sampled]:
    """The chains, and what is stored as they are: other bodies' chains, the cold GAN's."""
    if models.chains is None or not models.samples_posterior:
        return []
    moving = [(FIRST_KIND, models.chains, models.discriminators)]
    for learner in models.learners:
        if isinstance(learner, BodyChains | ColdGAN):
            moving.append((learner.model, learner.trainer, learner.networks))
    return [Sampled(k, of.noise.temperature, n, step_sizes(of.config)) for k, of, n in moving]


def store_restarting(
    step: int, models: Models, bank: SampleBank, learned: Callable[[str], Learned]
) -> None:
    """At a round's end: what is stored of the networks that the next round begins anew.

    Args:
        step: The round's last.
        models: Its networks.
        bank: Where they are stored.
        learned: What those of a method learned from.
    """
    last: dict[str, Iterable[State]] = {
        m.model: m.stored(learned(m.model))
        for m in models.learners
        if m.restarts and not (m.is_sampled and models.samples_posterior)
    }
    if not models.samples_posterior:
        last[FIRST_KIND] = (network.state_dict() for network in models.discriminators)
    for kind, states in last.items():
        for j, state in enumerate(states):  # by all ranks: they draw from what all of them see
            if ranks.is_first():
                bank.add(kind, step, j, state)


def go_on(models: Models, bank: SampleBank) -> None:
    """Begin a round where the one before ended: at the last stored sample of each chain.

    Networks that teach go on. Those of a deep ensemble are others in each round, and generators
    and critics of a game begin anew.

    Args:
        models: Fresh, of a round behind the first.
        bank: With what the round before has stored.
    """
    ranks.meet(bank.folder)
    teaching = {FIRST_KIND: models.discriminators}
    for learner in models.learners:
        if isinstance(learner, BodyChains) or learner.model in _GOING_ON:
            teaching[learner.model] = learner.networks
    for kind, networks in teaching.items():
        stored = bank.records(kind, {models.round - 1})
        for record in stored:
            if record.step == stored[-1].step and record.chain < len(networks):
                networks[record.chain].load_state_dict(bank.load(record))


def store_final(models: Models, bank: SampleBank) -> None:
    """What evaluation and sampling read: the last weights of all that learned to the end."""
    last: dict[str, Sequence[nn.Module]] = {
        "generator": models.generators,
        "critic": models.critics,
    }
    last |= {m.model: m.networks for m in models.learners if not (m.is_sampled or m.restarts)}
    for kind, networks in last.items():
        for j, network in enumerate(networks):
            bank.add(kind, models.config.total_steps, j, network.state_dict())
