"""The posterior predictive: probabilities averaged over networks and clips.

`p(y|x) = mean over clips, chains and bank samples of softmax(l[1..K])`: probabilities are averaged,
not logits, because a mixture of predictive distributions is a distribution's mean.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from einops import reduce
from torch import Tensor, nn

from bgan_video import ranks, rng
from bgan_video.backend import Backend
from bgan_video.data.manifest import Item
from bgan_video.method import losses
from bgan_video.metrics.entropy import entropy
from bgan_video.metrics.scores import Scores, scores
from bgan_video.prediction.chunks import ClipChunk, batches
from bgan_video.sampling import SampleBank

_MOST_KEPT = 128 * 2**20
"""Bytes of stored networks that are kept in memory while many files are predicted."""


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
    """The samples of a bank, of some rounds or of all, loaded one at a time into one module."""

    def __init__(
        self,
        bank: SampleBank,
        kind: str,
        module: nn.Module,
        rounds: Collection[int] | None = None,
    ) -> None:
        self._bank, self._kind, self._module = bank, kind, module.eval()
        self._rounds = rounds

    def __len__(self) -> int:
        return len(self._bank.records(self._kind, self._rounds))

    def __iter__(self) -> Iterator[nn.Module]:
        for _, state in self._bank.iterate(self._kind, self._rounds):
            self._module.load_state_dict(state)
            yield self._module

    @property
    def nbytes(self) -> int:
        """Of all of them together, were they loaded at once."""
        return len(self) * sum(tensor.nbytes for tensor in self._module.state_dict().values())


def kept(networks: Networks) -> Networks:
    """The same networks, loaded once for good where they are stored and fit `_MOST_KEPT`."""
    fits = isinstance(networks, Stored) and networks.nbytes <= _MOST_KEPT
    return [copy.deepcopy(network) for network in networks] if fits else networks


class Renormalised:
    """Stored networks whose running statistics are taken anew from some clips.

    The statistics of a sample lag behind its weights, which move with every step. They become the
    mean over the batches (`torch.optim.swa_utils.update_bn`).

    Args:
        networks: Loaded anew each time, as `Stored` does.
        batches: `[B, C, T, H, W]` each.
        backend: Device and precision.
    """

    def __init__(self, networks: Stored, batches: Sequence[Tensor], backend: Backend) -> None:
        self._networks, self._batches, self._backend = networks, batches, backend

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[nn.Module]:
        for network in self._networks:
            with self._backend.autocast():
                torch.optim.swa_utils.update_bn(self._batches, network, device=self._backend.device)
            yield network.eval()


class WithDropout:
    """Networks with their dropout left on, each several times (Gal & Ghahramani 2016).

    Args:
        networks: In evaluation mode.
        passes: How often each one answers.
        backend: Its device's generators are put back afterwards.
        seed: Of the masks; each batch of clips meets the same ones in a pass, whenever it comes.
    """

    def __init__(self, networks: Networks, passes: int, backend: Backend, *seed: object) -> None:
        self._networks, self._passes = networks, passes
        self._devices = [backend.device] if backend.device.type == "cuda" else []
        self._seed = rng.derive_seed(*seed)

    def __len__(self) -> int:
        return len(self._networks) * self._passes

    def __iter__(self) -> Iterator[nn.Module]:
        with torch.random.fork_rng(self._devices):
            for index, network in enumerate(self._networks):
                for module in network.modules():
                    if isinstance(module, nn.modules.dropout._DropoutNd):
                        module.train()
                for number in range(self._passes):
                    seed = rng.derive_seed(self._seed, index, number)
                    torch.manual_seed(seed)
                    seeded = network.register_forward_pre_hook(partial(_seed, seed))
                    yield network
                    seeded.remove()
                network.eval()


def _seed(seed: int, *_: object) -> None:
    torch.manual_seed(seed)


@dataclass(frozen=True)
class Prediction:
    """What a set of networks says of some videos. Entropies are in nats.

    Attributes:
        clip_probabilities: `[V·n, K]`, mean over networks; of several bodies, which see other clips
            of a video, `[V, K]`: what they say together.
        network_probabilities: `[S, V, K]`, each network's mean over clips, in the networks' order.
        p_fake: `[V]`, mean over networks and clips of the probability of index 0 of the K+1
            softmax.
        together: `[V, K]`, what several bodies say together; None of one body, whose answer is the
            mean over networks and clips.
    """

    clip_probabilities: Tensor
    network_probabilities: Tensor
    p_fake: Tensor
    together: Tensor | None = None

    @property
    def video_probabilities(self) -> Tensor:
        """`[V, K]`, mean over networks and clips, or what several bodies say together."""
        return self.network_probabilities.mean(dim=0) if self.together is None else self.together

    @property
    def total_entropy(self) -> Tensor:
        """`H[p]` of the answer, `[V]`."""
        return entropy(self.video_probabilities)

    @property
    def expected_entropy(self) -> Tensor:
        """`mean H[p]`, `[V]`, over networks."""
        return entropy(self.network_probabilities).mean(dim=0)

    @property
    def mutual_information(self) -> Tensor:
        """`H[mean p] - mean H[p]`, `[V]`: between label and weights (BALD, Houlsby et al. 2011).

        Means are over networks, of all bodies. Never negative (Jensen).
        """
        mixture = entropy(self.network_probabilities.mean(dim=0))
        return (mixture - self.expected_entropy).clamp_min(0)

    def part(self, start: int, stop: int) -> Prediction:
        """The same of the videos `start` to `stop - 1`."""
        n = len(self.clip_probabilities) // len(self.p_fake)
        return Prediction(
            self.clip_probabilities[start * n : stop * n],
            self.network_probabilities[:, start:stop],
            self.p_fake[start:stop],
            None if self.together is None else self.together[start:stop],
        )


def predict(
    networks: Networks,
    chunks: Iterable[ClipChunk],
    backend: Backend,
) -> Prediction:
    """The posterior predictive of `networks`, each of which sees each chunk once."""
    return predict_all({"": networks}, chunks, backend)[""]


def predict_shared(
    models: Mapping[str, Networks],
    chunks: Callable[[Sequence[Item]], Iterable[ClipChunk]],
    items: Sequence[Item],
    at_once: int,
    backend: Backend,
) -> dict[str, Prediction]:
    """What models say of items: every rank asks its own of its share, and all get all of it.

    Bit for bit what one process would be told: shares are made of whole batches.

    Args:
        models: The same on all ranks.
        chunks: What networks see of some items.
        items: The same on all ranks, at least one.
        at_once: Items in a batch.
        backend: Device and precision.
    """
    own = items[ranks.share(len(items), at_once)]
    said = predict_all(models, chunks(own), backend) if own else {}
    of_ranks = [found for found in ranks.gathered(said) if found]
    return {name: _concatenate([of[name] for of in of_ranks]) for name in models}


@torch.no_grad()
def predict_all(
    models: Mapping[str, Networks], chunks: Iterable[ClipChunk], backend: Backend
) -> dict[str, Prediction]:
    """The posterior predictive of several models; every chunk is decoded once for all of them."""
    parts: dict[str, list[Prediction]] = {name: [] for name in models}
    for chunk in chunks:
        # Once, not once a network.
        chunk = dataclasses.replace(chunk, clips=chunk.clips.to(backend.device))
        for name, networks in models.items():
            parts[name].append(_predict_chunk(networks, chunk, backend))
        del chunk  # or it would stay in memory while the next one is made
    return {name: _concatenate(found) for name, found in parts.items()}


def _predict_chunk(
    networks: Networks,
    chunk: ClipChunk,
    backend: Backend,
) -> Prediction:
    assert len(networks) > 0, "no network to predict with"
    clip_sum = fake_sum = torch.zeros((), dtype=torch.float64)
    of_networks: list[Tensor] = []
    for network in networks:
        with backend.autocast():
            seen = batches(chunk.clips, chunk.clips_per_video)
            logits = torch.cat([network(x) for x in seen])
        p = losses.class_probabilities(logits).double().cpu()  # [V·n, K]
        fake = losses.log_fake(logits).double().exp().cpu()
        clip_sum = clip_sum + p
        fake_sum = fake_sum + reduce(fake, "(v n) -> v", "mean", n=chunk.clips_per_video)
        of_networks.append(reduce(p, "(v n) k -> v k", "mean", n=chunk.clips_per_video))
    return Prediction(clip_sum / len(networks), torch.stack(of_networks), fake_sum / len(networks))


def _concatenate(parts: Sequence[Prediction]) -> Prediction:
    return Prediction(
        torch.cat([p.clip_probabilities for p in parts]),
        torch.cat([p.network_probabilities for p in parts], dim=1),
        torch.cat([p.p_fake for p in parts]),
    )


def figures(prediction: Prediction, labels: Tensor, level: str) -> dict[str, Scores]:
    """Scores of the items `[V]`, and of a video's clips, each of which carries its label.

    What several bodies say together is of whole videos, and has no scores of clips.

    Args:
        prediction: Of the items.
        labels: `[V]`.
        level: What an item is: `video`, `image` or `point`.
    """
    whole = {level: scores(prediction.video_probabilities, labels)}
    if level != "video" or prediction.together is not None:
        return whole
    per_video = len(prediction.clip_probabilities) // len(labels)
    of_clips = labels.repeat_interleave(per_video)
    return {"clip": scores(prediction.clip_probabilities, of_clips), **whole}
