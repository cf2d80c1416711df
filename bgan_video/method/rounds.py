"""What a round of self-training believes, as pure functions of what its teacher says.

Class-balanced self-training in rounds: before each round the teacher judges the whole unlabelled
pool, the most certain items of each class take its class as a pseudo-label, few at first and more
each round, and the networks start from fresh weights, so that early mistakes are forgotten
(Cascante-Bonilla et al. 2021, *Curriculum Labeling*). Numbers a class are set, not probabilities: a
threshold believes easy classes only (Zou et al. 2018, *CBST*).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bgan_video.config import Rounds
from bgan_video.errors import UserError

_EM_STEPS = 100
# Of a class that the prior of several bodies makes very rare: no division by 0.
_RAREST = 1e-6


@dataclass(frozen=True)
class Belief:
    """One believed item of the pool.

    Attributes:
        index: Its place in the pool.
        label: The class it is taken for, 0..K-1.
        certainty: What it was ranked by, in 0..1.
    """

    index: int
    label: int
    certainty: float


def answering_rounds(settings: Rounds, last: int, believes: bool = True) -> range:
    """The rounds whose samples answer, where no validation video chooses (`candidates`).

    Args:
        settings: Which.
        last: The last round there is.
        believes: Whether rounds believe anything (`has_pool`).
    """
    later = min(2, last)
    auto = later if believes else 0
    first = {"auto": auto, "all": 0, "later": later, "last": last}[settings.answer]
    return range(first, last + 1)


def candidates(last: int) -> list[range]:
    """What validation videos choose among: the later rounds, all, the first alone.

    The first round learned from true labels alone: what answers is worse than that by no more than
    the validation videos can tell.

    Args:
        last: The last round there is.
    """
    return [range(min(2, last), last + 1), range(last + 1), range(1)]


def has_pool(settings: Rounds, num_labelled: int, num_pool: int) -> bool:
    """Whether enough unlabelled items stand against the labels for pseudo-labels to be believed."""
    return num_pool >= max(1.0, settings.min_pool * num_labelled)


def certainty(settings: Rounds, probabilities: Tensor, mutual_information: Tensor) -> Tensor:
    """What items are ranked by, `[V]` in 0..1: the probability of the class they are taken for.

    `discounted` multiplies it by exp(-I): with I nats of mutual information between label and
    weights, an answer is worth as much less as the networks disagree.

    Args:
        settings: Says which.
        probabilities: `[V, K]`, the teacher's.
        mutual_information: `[V]`, in nats.
    """
    best = probabilities.max(dim=1).values
    return best if settings.certainty == "probability" else best * (-mutual_information).exp()


def check_prior(settings: Rounds, num_classes: int) -> None:
    """Raises UserError where a prior is given for another number of classes."""
    if settings.class_prior is not None and len(settings.class_prior) != num_classes:
        raise UserError(
            f"rounds.class_prior has {len(settings.class_prior)} numbers; allowed: one for each of "
            f"the {num_classes} classes"
        )


def class_prior(settings: Rounds, probabilities: Tensor, learned: Tensor) -> Tensor:
    """The classes' parts of what is believed, `[K]`, which sum to 1.

    Args:
        settings: Equal, estimated or given (for as many classes: `check_prior`).
        probabilities: `[V, K]`, the teacher's, of the pool.
        learned: `[K]`, the prior that the teacher's answers carry.
    """
    num_classes = probabilities.shape[1]
    if settings.class_prior is not None:
        given = torch.tensor(settings.class_prior, dtype=torch.float64)
        return given / given.sum()
    if settings.balance == "equal":
        return torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    learned = (learned.double() / learned.sum()).clamp_min(_RAREST)
    return estimated_prior(probabilities, learned / learned.sum())


def estimated_prior(probabilities: Tensor, learned: Tensor) -> Tensor:
    """The class prior of a pool by EM, `[K]` (Saerens, Latinne & Decaestecker 2002, eq. 2.9).

    A classifier that learned under the prior p says p(k|x); under another prior q it would say
    `q_k/p_k · p(k|x)`, normalised. The q whose posteriors have the mean q maximises the pool's
    likelihood.

    Args:
        probabilities: `[V, K]`.
        learned: `[K]`, p.
    """
    prior = learned
    for _ in range(_EM_STEPS):
        posterior = probabilities.double() * (prior / learned)
        prior = (posterior / posterior.sum(dim=1, keepdim=True)).mean(dim=0)
    return prior


def quotas(settings: Rounds, number: int, rounds: int, num_pool: int, prior: Tensor) -> list[int]:
    """How many items of each class round `number` of `rounds` believes at most.

    `believed · V · (number / rounds) · prior_k`, rounded down, and at least one of each class that
    the pool may hold.

    Args:
        settings: How much of the pool is believed in the end.
        number: 1..rounds.
        rounds: R.
        num_pool: V.
        prior: `[K]`.
    """
    share = settings.believed * num_pool * number / rounds
    return [max(1, _floor(share * part)) if part > 0 else 0 for part in prior.tolist()]


def believe(
    probabilities: Tensor, certain: Tensor, numbers: list[int], strangers: Tensor
) -> list[Belief]:
    """The most certain items of each class, in the pool's order.

    Every item is a candidate for its most probable class alone. Ties go to the earlier item.

    Args:
        probabilities: `[V, K]`, the teacher's.
        certain: `[V]`, what items are ranked by.
        numbers: At most so many of each class.
        strangers: `[V]` bool: items that are not believed at all.
    """
    taken_for = probabilities.argmax(dim=1)
    beliefs: list[Belief] = []
    for label, number in enumerate(numbers):
        candidates = torch.nonzero((taken_for == label) & ~strangers).flatten()
        order = certain[candidates].argsort(descending=True, stable=True)
        for index in candidates[order[:number]].tolist():
            beliefs.append(Belief(index, label, certain[index].item()))
    return sorted(beliefs, key=lambda belief: belief.index)


def strangers(settings: Rounds, total_entropy: Tensor) -> Tensor:
    """The items least like the known classes, `[V]` bool: the part with the highest entropy.

    Args:
        settings: How many.
        total_entropy: `[V]`, in nats, of the teacher's probabilities.
    """
    number = _floor(settings.strangers * len(total_entropy))
    least = total_entropy.argsort(descending=True, stable=True)[:number]
    is_stranger = torch.zeros(len(total_entropy), dtype=torch.bool)
    is_stranger[least] = True
    return is_stranger


def _floor(value: float) -> int:
    """Rounded down; what is a little below a whole number in binary alone is that number."""
    return int(value + 1e-9)
