"""Rivals of the posterior on frozen features: fitted, stored, and asked as networks are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from bgan_video.config import Method, Rounds
from bgan_video.data.manifest import Item, Manifest
from bgan_video.features import rivals
from bgan_video.models import nd
from bgan_video.prediction.bodies import Body
from bgan_video.prediction.predict import Stored
from bgan_video.sampling import SampleBank


def fit(
    method: Method, body: Body, manifest: Manifest, settings: Rounds, believed: Sequence[Item] = ()
) -> nn.Module:
    """The network of a method, its one setting by the likelihood of the validation videos.

    Args:
        method: One of `ON_FEATURES`.
        body: What it sees.
        manifest: With labelled and validation videos.
        settings: How much pseudo-labels may count.
        believed: Videos with pseudo-labels. All together they count at most as `rounds.share` says,
            and none more than a labelled one.
    """
    labelled, validation = manifest.labelled, manifest.part("validation")
    known = _of(body, validation)
    if method == "knn":
        found = rivals.knn(_of(body, labelled), known, body.num_classes)
        return rivals.NeighbourVotes.of(found)
    weights = torch.ones(len(labelled) + len(believed), dtype=torch.float64)
    if believed:
        odds = settings.share / (1 - settings.share)
        weights[len(labelled) :] = min(1.0, odds * len(labelled) / len(believed))
    training = _of(body, [*labelled, *believed], weights)
    return rivals.linear_probe(training, known, body.num_classes).network


def stored(
    bank: SampleBank,
    method: str,
    num_classes: int,
    rounds: Collection[int] | None,
    device: torch.device,
) -> Stored:
    """The networks of a method in a bank, whose sizes its first one tells.

    Args:
        bank: Where they are.
        method: One of `ON_FEATURES`.
        num_classes: K.
        rounds: Whose networks answer; None for all.
        device: Where they answer.
    """
    state = bank.load(bank.records(method)[0])
    network: nn.Module
    if method == "knn":
        num_labelled, length = state["directions"].shape
        network = rivals.NeighbourVotes(num_labelled, length, num_classes)
    else:
        outputs, length = state["weight"].shape
        network = nd.Head(length, outputs)
    return Stored(bank, method, network.to(device), rounds)


def _of(body: Body, items: Sequence[Item], weights: Tensor | None = None) -> rivals.Labelled:
    clips = range(body.config.features.clips)
    vectors = torch.stack([torch.from_numpy(body.frames.read(item, clips)) for item in items])
    labels = torch.tensor([item.label for item in items])
    return rivals.Labelled(vectors, labels, weights)
