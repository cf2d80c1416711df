"""Rivals of the posterior on frozen features: fitted, stored, and asked as networks are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from bgan_video.config import Config, Method
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import label_weights
from bgan_video.features import rivals
from bgan_video.method.class_weights import class_weights
from bgan_video.models import nd
from bgan_video.prediction.bodies import Body
from bgan_video.prediction.predict import Stored
from bgan_video.sampling import SampleBank


def fit(
    method: Method, body: Body, manifest: Manifest, config: Config, believed: Sequence[Item] = ()
) -> nn.Module:
    """The network of a method, its one setting by the likelihood of the validation videos.

    Args:
        method: One of `ON_FEATURES`.
        body: What it sees.
        manifest: With labelled and validation videos.
        config: The run's settings: what classes and pseudo-labels weigh.
        believed: Videos with pseudo-labels.
    """
    labelled, validation = manifest.labelled, manifest.part("validation")
    known = _of(body, validation)
    if method == "knn":
        found = rivals.knn(_of(body, labelled), known, body.num_classes)
        return rivals.NeighbourVotes.of(found)
    training = _of(body, [*labelled, *believed], counts(labelled, believed, config))
    return rivals.linear_probe(training, known, body.num_classes).network


def counts(labelled: Sequence[Item], believed: Sequence[Item], config: Config) -> Tensor:
    """What videos count in a probe's loss `[V]`: as steps do in the mean that draw them.

    Pseudo-labels count at most as `rounds.share` says all together, and none more than a label.

    Args:
        labelled: Videos with labels, at least one.
        believed: Videos with pseudo-labels.
        config: The run's settings: `train.labelled_sampling`, `train.class_weights` and the weights
            of a table are meant for the probe too.
    """
    given = label_weights(labelled, config) or [1.0] * len(labelled)
    share = config.rounds.share
    most = share / (1 - share) * len(labelled) / max(1, len(believed))
    of_labels = torch.tensor(given, dtype=torch.float64)
    of_believed = torch.full((len(believed),), min(1.0, most), dtype=torch.float64)
    found = torch.cat([of_labels / of_labels.mean(), of_believed])
    labels = torch.tensor([item.label for item in (*labelled, *believed)])
    frequencies = (torch.bincount(labels, weights=found) / found.sum()).tolist()
    of_classes = class_weights(config.train.class_weights, frequencies, len(labels))
    return found if of_classes is None else found * torch.tensor(of_classes).double()[labels]


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
