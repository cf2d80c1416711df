"""What is trained beside the chains: networks on labelled clips, alone or with unlabelled ones.

All see the same batches in the same order, start from weights of the same law, and take as many
steps of the same optimiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.config import SELF_TRAINING, Config, Method
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method import losses
from bgan_video.method.timetable import adam_lr
from bgan_video.models import Classifier, build_discriminator, frozen_statistics
from bgan_video.training.chains import adam, descend, initialised, set_lr
from bgan_video.training.replay import Replay, StepInputs, Terms

State = Mapping[str, Tensor]
"""Weights and statistics of a network."""


@dataclass(frozen=True)
class Learned:
    """What the networks of a round learned from.

    Attributes:
        clips: The first batches `[B, C, (T,) H, W]`, as they learned from them.
        items: Every labelled and believed item's test clip in the middle, batch by batch.
    """

    clips: Callable[[], Iterable[Tensor]]
    items: Callable[[], Iterable[LabelledBatch]]


class Learner(ABC):
    """One model of a run.

    Attributes:
        model: Its name, in `metrics.json` and in the bank.
        answers_alone: Whether evaluations on the way show what its networks say as they stand.
        is_sampled: Whether its networks are stored with every posterior sample, not at the end.
        restarts: Whether its networks are fresh ones in every round, each stored at its end; others
            learn through all rounds as if they were one.
    """

    model: str
    answers_alone: bool
    is_sampled: bool = False
    restarts: bool = False

    @property
    @abstractmethod
    def networks(self) -> Sequence[Classifier]:
        """The networks that answer."""

    def stored(self, learned: Learned) -> Iterator[State]:
        """What is stored of it at its end: its networks, or others that it draws from them."""
        del learned
        return (network.state_dict() for network in self.networks)

    @abstractmethod
    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step; what it logs is still on the device.

        Args:
            index: Step number from 0, of the round where the learner restarts.
            labelled: On the run's device; None where no label is used.
            unlabelled: On the run's device.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


class Network:
    """A classifier with its optimiser.

    Args:
        config: The run's settings.
        num_classes: K.
        backend: Device and precision.
        name: Seeds its initial weights and its dropout, so that it is the same beside any number
            of others.
        steps: How many it will take.
    """

    def __init__(
        self, config: Config, num_classes: int, backend: Backend, name: str, steps: int
    ) -> None:
        self.module = initialised(
            lambda: build_discriminator(config, num_classes),
            backend,
            config.run.seed,
            name,
        ).train()
        self._config = config
        self.backend = backend.with_own_scaler()
        self._lr = config.baseline.lr or config.posterior.burn_in_lr
        self.optimizer = adam(self.module, self._lr, backend)
        self._name = name
        self._steps = steps

    def lr_at(self, index: int) -> float:
        """Step size of a step."""
        return adam_lr(self._config, self._lr, index, self._steps)

    @contextmanager
    def stepping(self, index: int) -> Iterator[None]:
        """Step size of a step, and dropout of its forward passes."""
        set_lr(self.optimizer, self.lr_at(index))
        with own_randomness(self.backend, self._config.run.seed, self._name, index):
            yield
        self.backend.scaler.update()

    def descend(self, loss: Tensor) -> None:
        """Backward, and a step of the optimiser."""
        descend(loss, [self.optimizer], self.backend, self._config.train.max_grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and the scale of its gradients."""
        return {
            "network": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.backend.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.module.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.backend.scaler.load_state_dict(state["scaler"])


class LabelsOnly(Learner):
    """One network on the labelled clips, or an ensemble of them (Lakshminarayanan et al. 2017).

    `self_training` and `self_training_ensemble` are such networks too: the clips they are given are
    labelled and believed ones.

    Args:
        model: `supervised`, `deep_ensemble`, `mc_dropout`, `self_training` or
            `self_training_ensemble`.
        config: The run's or the round's settings, with the dropout of this model.
        num_classes: K.
        backend: Device and precision.
        steps: How many each network will take.
        members: Numbers of its networks; 0 is the same as the network of `supervised`.
        class_weights: `[K]`, as `losses.supervised` has them.
        network: What it learns with.
    """

    def __init__(
        self,
        model: Method,
        config: Config,
        num_classes: int,
        backend: Backend,
        steps: int,
        members: Sequence[int] = (0,),
        class_weights: Tensor | None = None,
        network: type[Network] = Network,
    ) -> None:
        self.model = model
        self._class_weights = class_weights
        self.answers_alone = model == "supervised" or model in SELF_TRAINING
        self.restarts = model == "deep_ensemble" or model in SELF_TRAINING
        names = ["supervised" if index == 0 else f"ensemble {index}" for index in members]
        self._members = [network(config, num_classes, backend, name, steps) for name in names]
        self._replays = [Replay(partial(self._move, m), m.backend) for m in self._members]

    @property
    def networks(self) -> Sequence[Classifier]:
        """All members."""
        return [member.module for member in self._members]

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of every member on the labelled clips."""
        del unlabelled
        assert labelled is not None, "refused by the settings' checks"
        of_members: list[Terms] = []
        for member, replay in zip(self._members, self._replays, strict=True):
            with member.stepping(index):
                of_members.append(replay(None, *labelled))
        names = of_members[0] if of_members else ()
        return {name: torch.stack([terms[name] for terms in of_members]).mean() for name in names}

    def _move(self, member: Network, x: Tensor, y: Tensor) -> Terms:
        """What a step computes and moves. It may be recorded (see `Replay`)."""
        with member.backend.autocast():
            logits = member.module(x)
            loss = losses.supervised(logits, y, self._class_weights)
        member.descend(loss)
        return _logged(self.model, loss, logits, y)

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers of all members."""
        return {"members": [member.state_dict() for member in self._members]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for member, saved in zip(self._members, state["members"], strict=True):
            member.load_state_dict(saved)
        for replay in self._replays:
            replay.forget()


class SemiSupervised(Learner):
    """One network on labelled and unlabelled clips, without any GAN.

    With `w` the unlabelled weight, the loss is `E_sup + w·E_u`, where `E_u` is

    - `pseudo_label`: cross-entropy of the weak view to the class predicted for it, where its
      probability reaches the threshold (Lee 2013; the threshold is that of Sohn et al. 2020);
    - `fixmatch`: that of the strong view (Sohn et al. 2020, eq. 4);
    - `mean_teacher`: squared difference between the class probabilities of the strong view and
      those that an averaged network, the teacher, has of the weak one (Tarvainen & Valpola 2017).

    Averaged weights answer for `fixmatch` and `mean_teacher`, as in both papers. Unlabelled clips
    are normalised among themselves, as the discriminators' are.

    Args:
        model: One of the three.
        config: The run's settings.
        num_classes: K.
        backend: Device and precision.
        steps: How many it will take.
        class_weights: `[K]`, of the labelled term, as `losses.supervised` has them.
    """

    answers_alone = True

    def __init__(
        self,
        model: Method,
        config: Config,
        num_classes: int,
        backend: Backend,
        steps: int,
        class_weights: Tensor | None = None,
    ) -> None:
        self.model = model
        self._class_weights = class_weights
        self._decay = config.baseline.ema_decay
        self._objective = config.objective
        weight = config.baseline.unlabelled_weight
        self._weight = (config.objective.consistency_weight or 1.0) if weight is None else weight
        self._student = Network(config, num_classes, backend, "supervised", steps)
        begins_as = Network(config, num_classes, backend, "supervised", steps)
        self._average = begins_as.module.requires_grad_(False)
        self._inputs = StepInputs(backend)
        self._replay = Replay(self._move, self._student.backend)

    @property
    def networks(self) -> Sequence[Classifier]:
        """The student of `pseudo_label`, else its averaged weights."""
        return [self._student.module if self.model == "pseudo_label" else self._average]

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step of the student, after which the average follows it."""
        assert labelled is not None, "refused by the settings' checks"
        warmth = min(1.0, (index + 1) / (self._objective.consistency_warmup + 1))
        self._weight_now = self._inputs.number("weight", self._weight * warmth)
        self._share = self._inputs.number("share", 1 - min(1 - 1 / (index + 1), self._decay))
        with self._student.stepping(index):
            return self._replay(None, *labelled, *unlabelled)

    def _move(self, x: Tensor, y: Tensor, weak: Tensor, strong: Tensor) -> Terms:
        """What a step computes and moves. It may be recorded (see `Replay`)."""
        with self._student.backend.autocast():
            term = self._unlabelled_term(UnlabelledBatch(weak, strong))
            logits = self._student.module(x)
            loss = losses.supervised(logits, y, self._class_weights) + self._weight_now * term
        self._student.descend(loss)
        self._follow(self._share)
        return {**_logged(self.model, loss, logits, y), f"unlabelled_{self.model}": term.detach()}

    def _unlabelled_term(self, unlabelled: UnlabelledBatch) -> Tensor:
        student = self._student.module
        with frozen_statistics(student), frozen_statistics(self._average):
            if self.model == "mean_teacher":
                with torch.no_grad():
                    target = losses.class_probabilities(self._average(unlabelled.weak))
                return losses.mean_squared(target, student(unlabelled.strong))
            if self.model == "pseudo_label":
                learned = weak = student(unlabelled.weak)
            else:
                with torch.no_grad():
                    weak = student(unlabelled.weak)
                learned = student(unlabelled.strong)
        target = losses.class_probabilities(weak.detach())
        return losses.consistency(target, learned, self._objective.consistency_threshold)

    @torch.no_grad()
    def _follow(self, share: float | Tensor) -> None:
        """`average ← d·average + (1 - d)·student`; d grows to its value, as the weights' age does.

        Without that the first averages would be mostly the initial weights; `min(1 - 1/t, d)`, with
        t from 1, is the plain mean of all weights so far until d is reached. `share` is 1 - d.
        """
        ours, theirs = self._average.state_dict(), self._student.module.state_dict()
        for name, averaged in ours.items():
            if averaged.is_floating_point():
                averaged.lerp_(theirs[name], share)  # pyright: ignore[reportArgumentType]
            else:
                averaged.copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """Student, optimiser and average."""
        return {"student": self._student.state_dict(), "average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._student.load_state_dict(state["student"])
        self._average.load_state_dict(state["average"])
        self._replay.forget()


@contextmanager
def own_randomness(backend: Backend, *seed: object) -> Iterator[None]:
    """Torch's own generators, which dropout draws from, seeded by `seed` and put back after."""
    devices = [backend.device] if backend.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(rng.derive_seed(*seed))
        yield


def _logged(model: str, loss: Tensor, logits: Tensor, targets: Tensor) -> Terms:
    right = logits.detach()[:, 1:].argmax(dim=1) == targets
    return {model: loss.detach(), f"train_top1_{model}": right.float().mean()}
