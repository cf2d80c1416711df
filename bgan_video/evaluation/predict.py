"""The posterior predictive: probabilities averaged over networks and clips.

`p(y|x) = mean over clips, chains and bank samples of softmax(l[1..K])`: probabilities are averaged,
not logits, because a mixture of predictive distributions is a distribution's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from bgan_video import losses
from bgan_video.evaluation.clips import ClipChunk
from bgan_video.evaluation.metrics import Metrics, metrics
from bgan_video.inference import SampleBank
from bgan_video.precision import Backend

_BATCH = 64


class Networks(Protocol):
    """Networks of one architecture, given one at a time in evaluation mode."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[nn.Module]: ...


class Current:
    """The networks as they stand in training; their mode is put back afterwards."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = networks

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[nn.Module]:
        for network in self._networks:
            was_training = network.training
            try:
                yield network.eval()
            finally:
                network.train(was_training)


class Stored:
    """The samples of a bank, loaded one at a time into one module."""

    def __init__(self, bank: SampleBank, kind: str, module: nn.Module) -> None:
        self._bank, self._kind, self._module = bank, kind, module.eval()

    def __len__(self) -> int:
        return len(self._bank.records(self._kind))

    def __iter__(self) -> Iterator[nn.Module]:
        for _, state in self._bank.iterate(self._kind):
            self._module.load_state_dict(state)
            yield self._module


@dataclass(frozen=True)
class Prediction:
    """What a set of networks says of some videos. Entropies are in nats.

    Attributes:
        clip_probabilities: `[V·n, K]`, mean over networks.
        video_probabilities: `[V, K]`, mean over networks and clips.
        p_fake: `[V]`, mean probability of index 0 of the K+1 softmax.
        expected_entropy: `[V]`, mean over networks of the entropy of a network's video
            probabilities; `total_entropy - expected_entropy` is the mutual information between
            label and weights (BALD, Houlsby et al. 2011).
    """

    clip_probabilities: Tensor
    video_probabilities: Tensor
    p_fake: Tensor
    expected_entropy: Tensor

    @property
    def total_entropy(self) -> Tensor:
        """`H[mean p]`, `[V]`."""
        return entropy(self.video_probabilities)

    @property
    def mutual_information(self) -> Tensor:
        """`H[mean p] - mean H[p]`, `[V]`, never negative (Jensen)."""
        return (self.total_entropy - self.expected_entropy).clamp_min(0)


def entropy(probabilities: Tensor) -> Tensor:
    """`-Σ p log p` over the last axis, with 0·log 0 = 0."""
    return torch.special.entr(probabilities).sum(dim=-1)


def predict(
    networks: Networks,
    chunks: Iterable[ClipChunk],
    backend: Backend,
) -> Prediction:
    """The posterior predictive of `networks`, each of which sees each chunk once."""
    return predict_all({"": networks}, chunks, backend)[""]


@torch.no_grad()
def predict_all(
    models: Mapping[str, Networks], chunks: Iterable[ClipChunk], backend: Backend
) -> dict[str, Prediction]:
    """The posterior predictive of several models; every chunk is decoded once for all of them."""
    parts: dict[str, list[Prediction]] = {name: [] for name in models}
    for chunk in chunks:
        for name, networks in models.items():
            parts[name].append(_predict_chunk(networks, chunk, backend))
    return {name: _concatenate(found) for name, found in parts.items()}


def _predict_chunk(
    networks: Networks,
    chunk: ClipChunk,
    backend: Backend,
) -> Prediction:
    assert len(networks) > 0, "no network to predict with"
    clip_sum = fake_sum = entropy_sum = torch.zeros((), dtype=torch.float64)
    for network in networks:
        with backend.autocast():
            batches = chunk.clips.split(_BATCH)
            logits = torch.cat([network(x.to(backend.device)) for x in batches])
        p = losses.class_probabilities(logits).double().cpu()  # [V·n, K]
        per_video = rearrange(p, "(v n) k -> v n k", n=chunk.clips_per_video)
        fake = losses.log_fake(logits).double().exp().cpu()
        clip_sum = clip_sum + p
        fake_sum = fake_sum + reduce(fake, "(v n) -> v", "mean", n=chunk.clips_per_video)
        entropy_sum = entropy_sum + entropy(per_video.mean(dim=1))
    clip_mean = clip_sum / len(networks)
    return Prediction(
        clip_mean,
        reduce(clip_mean, "(v n) k -> v k", "mean", n=chunk.clips_per_video),
        fake_sum / len(networks),
        entropy_sum / len(networks),
    )


def _concatenate(parts: Sequence[Prediction]) -> Prediction:
    return Prediction(
        torch.cat([p.clip_probabilities for p in parts]),
        torch.cat([p.video_probabilities for p in parts]),
        torch.cat([p.p_fake for p in parts]),
        torch.cat([p.expected_entropy for p in parts]),
    )


def figures(prediction: Prediction, labels: Tensor) -> dict[str, Metrics]:
    """Metrics at clip and at video level; every clip carries its video's label `[V]`."""
    per_video = len(prediction.clip_probabilities) // len(labels)
    return {
        "clip": metrics(prediction.clip_probabilities, labels.repeat_interleave(per_video)),
        "video": metrics(prediction.video_probabilities, labels),
    }
