"""Which items to label next: BatchBALD (Kirsch, van Amersfoort & Gal 2019, arXiv:1906.08158).

A batch is chosen greedily for the mutual information between all its labels and the weights. Two
items that would tell the same are not both chosen, as they would be by their own information.

With S stored networks no batch can tell more than log S nats: which of the networks it was. Where
no item adds more than next to nothing to the batch, the rest is drawn, in proportion to each item's
own mutual information (PowerBALD, Kirsch et al. 2021, arXiv:2106.12059): the largest ones alone
would be many videos of the same few classes. So is an item of a recording whose turn it is, and
which has nothing to tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bgan_video.acquisition.coverage import CopiesOf
from bgan_video.metrics.entropy import entropy

MAX_CONFIGURATIONS = 2048
"""Label configurations of the batch so far that are enumerated or, where more, sampled."""
SATURATED = 0.01
"""Nats. Below this an item's gain is lost in the sampling error of the conditional entropy."""
_BLOCK = 32
_TINY = 1e-12


@dataclass(frozen=True)
class Choice:
    """An item that was chosen. In nats.

    Attributes:
        index: Of the item.
        gain: Information its label adds to the labels of the items chosen before it; None where
            that is next to nothing, and it was drawn.
        mutual_information: Between its label and the weights (BALD).
    """

    index: int
    gain: float | None
    mutual_information: float


class Batch:
    """The items chosen so far: what their possible labels would tell of the networks.

    Args:
        probabilities: `[S, V, K]`, float64, of every network for every item.
        generator: For configurations that are sampled, on the CPU.
    """

    def __init__(self, probabilities: Tensor, generator: torch.Generator) -> None:
        self._p = probabilities
        self._generator = generator
        networks = probabilities.shape[0]
        # One configuration of no labels: its probability, and that of each network given it.
        self._mass = torch.ones(1, dtype=torch.float64)  # [M], sums to 1
        self._posterior = torch.full((1, networks), 1 / networks, dtype=torch.float64)  # [M, S]
        self.expected_entropy = entropy(probabilities).mean(0)  # [V]

    def gains(self, items: Tensor) -> Tensor:
        """I(label of an item; network | labels of the batch) for some items, one value each.

        H(y | batch) - E H(y | network), as labels are independent given the network: the difference
        of two values of eq. 8, by the chain rule.

        Args:
            items: Their indices.
        """
        p = torch.einsum("ms,svk->mvk", self._posterior, self._p[:, items])
        return self._mass @ entropy(p) - self.expected_entropy[items]

    def best(self, items: Tensor, bounds: Tensor) -> tuple[int, float]:
        """The item of the largest gain, and that gain.

        No item's gain grows with the batch, so what it was before bounds what it is now: items are
        looked at from the largest bound down, until none can be better (Minoux 1978).

        Args:
            items: Candidates.
            bounds: `[V]`, at least each item's gain; brought up to date for those looked at.
        """
        index, gain = int(items[0]), -1.0
        for block in items[bounds[items].argsort(descending=True)].split(_BLOCK):
            if float(bounds[block[0]]) <= gain:
                break
            bounds[block] = self.gains(block)
            leader = block[bounds[block].argmax()]
            if float(bounds[leader]) > gain:
                index, gain = int(leader), float(bounds[leader])
        return index, gain

    def add(self, index: int) -> None:
        """Put an item into the batch."""
        joint = torch.einsum("ms,sk->mks", self._posterior, self._p[:, index]).flatten(0, 1)
        of_label = joint.sum(1)  # [M K], given the configuration before it
        mass = self._mass.repeat_interleave(self._p.shape[2]) * of_label
        possible = mass > 0
        mass, posterior = mass[possible], joint[possible] / of_label[possible, None]
        if len(mass) > MAX_CONFIGURATIONS:
            drawn = torch.multinomial(
                mass, MAX_CONFIGURATIONS, replacement=True, generator=self._generator
            )
            mass = torch.full((MAX_CONFIGURATIONS,), 1 / MAX_CONFIGURATIONS, dtype=torch.float64)
            posterior = posterior[drawn]
        self._mass, self._posterior = mass, posterior


def suggest(
    probabilities: Tensor,
    recordings: Sequence[str],
    budget: int,
    generator: torch.Generator,
    copies_of: CopiesOf = lambda _: (),
) -> list[Choice]:
    """The items to label next, best first; no recording twice before every recording came once.

    Where items are drawn, it is without replacement: the largest of `log worth + Gumbel noise`, one
    draw of noise an item, is an item drawn in proportion to its worth, the next largest one of the
    rest (Yellott 1977). One network cannot disagree with itself: the worth of its items is their
    entropy.

    Args:
        probabilities: `[S, V, K]` of every network for every item.
        recordings: Of each item: the recording or person it is from.
        budget: How many, >= 1; all items where there are fewer.
        generator: On the CPU.
        copies_of: What is no candidate any more once an item is chosen.
    """
    p = probabilities.double()
    batch = Batch(p, generator)
    total = entropy(p.mean(0))
    own = (total - batch.expected_entropy).clamp_min(0)
    worth = (total if len(p) == 1 else own).clamp_min(_TINY)
    uniform = torch.rand(len(worth), generator=generator, dtype=torch.float64)
    drawn = worth.log() - (-uniform.clamp_min(_TINY).log()).log()
    taken: Counter[str] = Counter()
    left = set(range(len(recordings)))
    chosen: list[Choice] = []
    bounds, saturated = own.clone(), len(p) == 1
    while left and len(chosen) < budget:
        turn = min(taken[recordings[i]] for i in left)
        candidates = torch.tensor(sorted(i for i in left if taken[recordings[i]] == turn))
        index, gain = int(candidates[drawn[candidates].argmax()]), None
        if not saturated:
            leader, most = batch.best(candidates, bounds)
            if most >= SATURATED:
                index, gain = leader, most
                batch.add(index)
            else:  # perhaps only of the recordings whose turn it is
                _, most = batch.best(torch.tensor(sorted(left)), bounds)
                saturated = most < SATURATED
        chosen.append(Choice(index, gain, float(own[index])))
        taken[recordings[index]] += 1
        left -= {index, *copies_of(index)}
    return chosen
