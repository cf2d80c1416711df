"""Which items to label next: BatchBALD (Kirsch, van Amersfoort & Gal 2019, arXiv:1906.08158).

A batch is chosen greedily for the mutual information between all its labels and the weights. Two
items that would tell the same are not both chosen, as they would be by their own information.

With S stored networks no batch can tell more than log S nats: which of the networks it was. Where
the next item adds next to nothing to the batch, the rest is ranked by its own mutual information.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_CONFIGURATIONS = 4096
"""Label configurations of the batch so far that are enumerated or, where more, sampled."""
SATURATED = 0.01
"""Nats. Below this an item's gain is lost in the sampling error of the joint entropy."""
_CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True)
class Choice:
    """An item that was chosen. In nats.

    Attributes:
        index: Of the item.
        gain: Information its label adds to the labels of the items chosen before it; None where
            the networks were told apart already and its own information decided.
        mutual_information: Between its label and the weights (BALD).
        entropy: Of its posterior-mean probabilities.
    """

    index: int
    gain: float | None
    mutual_information: float
    entropy: float


class Batch:
    """The items chosen so far, and the joint distribution of their labels.

    Args:
        probabilities: `[S, V, K]`, float64, of every network for every item.
        generator: For configurations that are sampled, on the CPU.
    """

    def __init__(self, probabilities: Tensor, generator: torch.Generator) -> None:
        self._p = probabilities
        self._generator = generator
        # Configurations of labels so far: probability under each network, and 1 / (how often a
        # sampled one stands for itself), which is 1 where all are enumerated.
        self._joint = torch.ones(1, probabilities.shape[0], dtype=torch.float64)  # [M, S]
        self._weight = torch.ones(1, dtype=torch.float64)
        self._expected = 0.0
        self.expected_entropy = torch.special.entr(probabilities).sum(2).mean(0)  # [V]

    def information(self) -> Tensor:
        """I(labels of the batch and of one item more; weights) for every item, `[V]` (eq. 8).

        H(batch, y) - sum of expected entropies: labels are independent given the weights.
        """
        networks, items, classes = self._p.shape
        entropies = torch.empty(items, dtype=torch.float64)
        step = max(1, _CHUNK_ELEMENTS // (len(self._joint) * classes))
        for start in range(0, items, step):
            part = self._p[:, start : start + step]
            # p(configuration, y) = mean over networks of the product (eq. 11 and 12)
            p = torch.einsum("ms,svk->mvk", self._joint, part) / networks
            surprise = torch.special.entr(p).sum(2)
            entropies[start : start + step] = self._weight @ surprise
        return entropies - self._expected - self.expected_entropy

    def add(self, index: int) -> None:
        """Put an item into the batch."""
        p = self._p[:, index]  # [S, K]
        joint = torch.einsum("ms,sk->mks", self._joint, p).flatten(0, 1)  # [M K, S]
        weight = self._weight.repeat_interleave(p.shape[1])
        self._expected += float(self.expected_entropy[index])
        if len(joint) > MAX_CONFIGURATIONS:
            # Drawn from their distribution, each stands for 1 / (M p): an importance weight.
            mass = weight * joint.mean(1)
            drawn = torch.multinomial(
                mass, MAX_CONFIGURATIONS, replacement=True, generator=self._generator
            )
            weight = weight[drawn] * mass.sum() / (mass[drawn] * MAX_CONFIGURATIONS)
            joint = joint[drawn]
        self._joint, self._weight = joint, weight


def suggest(
    probabilities: Tensor, groups: Sequence[str], budget: int, generator: torch.Generator
) -> list[Choice]:
    """The items to label next, best first; no group comes twice before every group came once.

    Args:
        probabilities: `[S, V, K]` of every network for every item.
        groups: Of each item: the recording or person it is from.
        budget: How many, >= 1; all items where there are fewer.
        generator: On the CPU.
    """
    p = probabilities.double()
    batch = Batch(p, generator)
    total = torch.special.entr(p.mean(0)).sum(1)
    own = (total - batch.expected_entropy).clamp_min(0)
    taken: Counter[str] = Counter()
    left = set(range(len(groups)))
    chosen: list[Choice] = []
    told, saturated = 0.0, False
    while left and len(chosen) < budget:
        turn = min(taken[groups[i]] for i in left)
        candidates = torch.tensor(sorted(i for i in left if taken[groups[i]] == turn))
        gain = None
        score = own[candidates]
        if not saturated:
            gains = batch.information()[candidates] - told
            best = int(gains.argmax())
            saturated = bool(gains[best] < SATURATED)
            if not saturated:
                score, gain = gains, float(gains[best])
                told += gain
        index = int(candidates[score.argmax()])
        if gain is not None:
            batch.add(index)
        chosen.append(Choice(index, gain, float(own[index]), float(total[index])))
        taken[groups[index]] += 1
        left.remove(index)
    return chosen
