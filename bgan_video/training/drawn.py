"""One network a round whose answer is that of many, drawn around it when the round ends."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.config import Config, Method
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.timetable import path_lr, path_steps
from bgan_video.models import Classifier
from bgan_video.sampling import LastLayer, PathGaussian
from bgan_video.sampling.last_layer import check_installed
from bgan_video.training.learners import LabelsOnly, Learned, Network, State
from bgan_video.training.replay import Terms


class OnPath(Network):
    """A network whose last steps, all of one size, SWAG takes its Gaussian from."""

    def lr_at(self, index: int) -> float:
        """Step size of a step."""
        return path_lr(self._config, self._lr, index, self._steps)


class Drawn(LabelsOnly):
    """`self_training` that stores networks drawn from a Gaussian around its one network.

    Args:
        config: The round's settings.
        num_classes: K.
        backend: Device and precision.
        steps: Of the round.
        draws: How many networks are stored.
        class_weights: `[K]`, as `losses.supervised` has them.
    """

    method: ClassVar[Method]
    network: ClassVar[type[Network]] = Network
    """What it learns with."""

    def __init__(
        self,
        config: Config,
        num_classes: int,
        backend: Backend,
        steps: int,
        draws: int,
        class_weights: Tensor | None = None,
    ) -> None:
        given = (config, num_classes, backend, steps)
        super().__init__(self.method, *given, class_weights=class_weights, network=self.network)
        self._backend = backend
        self._draws = draws
        self._seed = (config.run.seed, self.method, "draws")

    def _copy(self) -> Classifier:
        """The network, to be changed."""
        return copy.deepcopy(self.networks[0]).eval()

    def _random(self) -> torch.Generator:
        return rng.generator(*self._seed)


class SWAG(Drawn):
    """Networks drawn around the mean of the last quarter's iterates (Maddox et al. 2019).

    Normalisation statistics are taken anew for each, from clips as it learned from them.
    Arguments as of `Drawn`.
    """

    method = "swag"
    network = OnPath

    def __init__(
        self,
        config: Config,
        num_classes: int,
        backend: Backend,
        steps: int,
        draws: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(config, num_classes, backend, steps, draws, class_weights)
        self._places = {step: place for place, step in enumerate(path_steps(steps))}
        weights = parameters_to_vector(_learning(self.networks[0])).detach()
        self._path = weights.new_zeros(len(self._places), len(weights))

    def step(
        self, index: int, labelled: LabelledBatch | None, unlabelled: UnlabelledBatch
    ) -> Terms:
        """One step, after which its weights may be an iterate of the path."""
        terms = super().step(index, labelled, unlabelled)
        if index in self._places:
            weights = parameters_to_vector(_learning(self.networks[0])).detach()
            self._path[self._places[index]] = weights
        return terms

    def stored(self, learned: Learned) -> Iterator[State]:
        """The drawn networks."""
        gaussian, random, network = PathGaussian(self._path), self._random(), self._copy()
        clips = list(learned.clips())
        for _ in range(self._draws):
            vector_to_parameters(gaussian.draw(random), _learning(network))
            with self._backend.autocast():
                torch.optim.swa_utils.update_bn(clips, network, device=self._backend.device)
            yield network.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and the path so far."""
        return {**super().state_dict(), "path": self._path}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        self._path.copy_(state["path"])


class LastLayerLaplace(Drawn):
    """Networks whose heads' class rows are drawn from a Laplace approximation.

    Its likelihood is that of every item it learned from, each as its test clip in the middle.
    Arguments as of `Drawn`.
    """

    method = "laplace"

    @torch.no_grad()
    def stored(self, learned: Learned) -> Iterator[State]:
        """The drawn networks."""
        network, random = self._copy(), self._random()
        head, bias = network.head, network.head.bias
        features, labels = self._features(network, learned.items())
        weight = head.weight[1:].double().cpu()  # row 0 is the fake logit's
        if bias is not None:
            features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
            weight = torch.cat([weight, bias[1:, None].double().cpu()], dim=1)
        with torch.enable_grad():
            gaussian = LastLayer(features, labels, weight)
        for _ in range(self._draws):
            drawn = gaussian.draw(random)
            head.weight[1:] = drawn[:, : head.in_features]
            if bias is not None:
                bias[1:] = drawn[:, -1]
            yield network.state_dict()

    def _features(
        self, network: Classifier, batches: Iterable[LabelledBatch]
    ) -> tuple[Tensor, Tensor]:
        """`[N, F]` in float64 and labels `[N]`, on the CPU."""
        features: list[Tensor] = []
        labels: list[Tensor] = []
        for x, y in batches:
            with self._backend.autocast():
                features.append(network.features(x.to(self._backend.device)).double().cpu())
            labels.append(y)
        return torch.cat(features), torch.cat(labels)


def check(config: Config) -> None:
    """Raises UserError where the library of a method is not installed."""
    if "laplace" in config.baseline.methods:
        check_installed()


def _learning(network: nn.Module) -> list[nn.Parameter]:
    """The weights of a network that learn."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
