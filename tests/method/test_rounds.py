"""What a round believes, against definitions written out by hand and known mixtures."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bgan_video.config import Rounds
from bgan_video.errors import UserError
from bgan_video.method import rounds
from bgan_video.method.rounds import Belief, believe, quotas


def no_strangers(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.bool)


def softmax(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).softmax(dim=1)


# Probabilities of a pool; few different values, so that ties are common.
@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    count, classes = draw(st.integers(1, 25)), draw(st.integers(2, 5))
    logits = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    p = softmax(draw(st.lists(logits, min_size=count, max_size=count)))
    strange = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return p, torch.tensor(strange)


# --- whose samples answer, and whether there is a pool -----------------------------------------


@pytest.mark.parametrize(
    ("answer", "last", "answering"),
    [
        ("all", 0, [0]),
        ("all", 3, [0, 1, 2, 3]),
        ("later", 0, [0]),
        ("later", 1, [1]),
        ("later", 2, [2]),
        ("later", 4, [2, 3, 4]),
        ("last", 0, [0]),
        ("last", 4, [4]),
    ],
)
def test_whose_samples_answer(answer: Any, last: int, answering: list[int]) -> None:
    for believes in (True, False):
        found = rounds.answering_rounds(Rounds(answer=answer), last, believes)
        assert list(found) == answering


@pytest.mark.parametrize("last", range(5))
def test_later_rounds_answer_where_anything_is_believed_and_else_all(last: int) -> None:
    later, every = Rounds(answer="later"), Rounds(answer="all")
    believing, starting = (rounds.answering_rounds(Rounds(), last, b) for b in (True, False))
    assert believing == rounds.answering_rounds(later, last)
    assert starting == rounds.answering_rounds(every, last)


@pytest.mark.parametrize("last", range(5))
def test_validation_chooses_among_the_later_all_and_the_first(last: int) -> None:
    later, every, first = rounds.candidates(last)
    assert later == rounds.answering_rounds(Rounds(answer="later"), last)
    assert every == rounds.answering_rounds(Rounds(answer="all"), last)
    assert list(first) == [0]


@pytest.mark.parametrize(
    ("min_pool", "labelled", "pool", "enough"),
    [
        (5, 4, 20, True),
        (5, 4, 19, False),
        (2.5, 4, 10, True),
        (0, 4, 1, True),
        (0, 4, 0, False),  # nothing to believe
        (0.1, 4, 1, True),
    ],
)
def test_a_pool_is_judged_by_its_size_for_each_label(
    min_pool: float, labelled: int, pool: int, enough: bool
) -> None:
    assert rounds.has_pool(Rounds(min_pool=min_pool), labelled, pool) is enough


# --- certainty ---------------------------------------------------------------------------------


def test_certainty_is_the_probability_of_the_class_an_item_is_taken_for() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    said = rounds.certainty(Rounds(), p, torch.tensor([0.4, 0.0]))
    torch.testing.assert_close(said, torch.tensor([0.5, 0.9]))


def test_what_the_networks_disagree_on_is_discounted() -> None:
    """Two networks that contradict each other say (1/2, 1/2) with log 2 nats: worth a quarter."""
    p, information = torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([math.log(2), 0.0])
    said = rounds.certainty(Rounds(certainty="discounted"), p, information)
    torch.testing.assert_close(said, torch.tensor([0.25, 0.5]))


# --- the classes' parts ------------------------------------------------------------------------


def test_parts_are_equal_or_those_given() -> None:
    p, learned = softmax([[1, 0, 0]] * 4), torch.full((3,), 1 / 3)
    equal = rounds.class_prior(Rounds(), p, learned)
    torch.testing.assert_close(equal, torch.full((3,), 1 / 3, dtype=torch.float64))
    given = rounds.class_prior(Rounds(balance="given", class_prior=(1, 0, 3)), p, learned)
    assert given.tolist() == [0.25, 0, 0.75]


def test_a_prior_of_another_number_of_classes_is_refused() -> None:
    settings = Rounds(balance="given", class_prior=(0.5, 0.5))
    rounds.check_prior(settings, 2)
    rounds.check_prior(Rounds(), 3)
    with pytest.raises(UserError, match="2 numbers; allowed: one for each of the 3 classes"):
        rounds.check_prior(settings, 3)


def mixture(prior: list[float], learned: list[float], count: int) -> Tensor:
    """Posteriors of a classifier that learned under `learned`, of items drawn from `prior`.

    Classes are unit Gaussians on a line, and the classifier is the exact one: the oracle needs no
    training.
    """
    random = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(torch.tensor(prior), count, replacement=True, generator=random)
    means = 1.5 * torch.arange(len(prior))
    x = means[drawn] + torch.randn(count, generator=random)
    log = -0.5 * (x[:, None] - means) ** 2 + torch.tensor(learned).log()
    return log.double().softmax(dim=1)


@pytest.mark.parametrize("learned", [[1 / 3, 1 / 3, 1 / 3], [0.6, 0.2, 0.2]])
@pytest.mark.parametrize("prior", [[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.05, 0.15, 0.8]])
def test_the_prior_of_a_known_mixture_is_found(prior: list[float], learned: list[float]) -> None:
    """Counting what items are taken for is 0.09 to 0.17 off where the two priors differ."""
    p = mixture(prior, learned, 8_000)
    found = rounds.estimated_prior(p, torch.tensor(learned, dtype=torch.float64))
    assert found.sum() == pytest.approx(1)
    torch.testing.assert_close(found, torch.tensor(prior).double(), atol=0.03, rtol=0)


def test_the_estimate_is_of_highest_likelihood() -> None:
    """The pool's likelihood is `prod_i sum_k q_k/p_k p(k|x_i)`: no prior near it has a higher."""
    learned = torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64)
    p = mixture([0.3, 0.3, 0.4], learned.tolist(), 2_000)

    def likelihood(q: Tensor) -> float:
        return (p * (q / learned)).sum(dim=1).log().sum().item()

    found = rounds.estimated_prior(p, learned)
    for k, other in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):
        moved = found.clone()
        moved[k] += 0.02
        moved[other] -= 0.02
        assert likelihood(found) > likelihood(moved)


def test_an_estimate_takes_off_what_the_labels_taught() -> None:
    """Nothing is known of the items but the labels' own frequencies: those are the pool's, too."""
    learned = torch.tensor([3.0, 1.0])
    p = torch.tensor([[0.75, 0.25]] * 6, dtype=torch.float64)
    found = rounds.class_prior(Rounds(balance="estimated"), p, learned)
    torch.testing.assert_close(found, torch.tensor([0.75, 0.25], dtype=torch.float64))


# --- how many ----------------------------------------------------------------------------------


def test_quotas_grow_to_the_part_that_is_believed() -> None:
    prior = torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = [quotas(Rounds(believed=0.8), number, 4, 100, prior) for number in (1, 2, 3, 4)]
    assert found == [[5, 15], [10, 30], [15, 45], [20, 60]]


def test_a_class_that_the_pool_cannot_hold_has_no_quota() -> None:
    prior = torch.tensor([1.0, 0.0, 1e-9], dtype=torch.float64)
    assert quotas(Rounds(believed=1), 1, 1, 10, prior) == [10, 0, 1]


@given(
    st.floats(0.01, 1),
    st.integers(1, 6),
    st.integers(1, 400),
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
)
def test_quotas_never_fall_and_never_exceed_the_part(
    believed: float, total: int, pool: int, weights: list[int]
) -> None:
    prior = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    settings = Rounds(believed=believed)
    found = [quotas(settings, number, total, pool, prior) for number in range(1, total + 1)]
    for number, of_round in enumerate(found, 1):
        assert all(n >= 1 for n in of_round)
        for n, part in zip(of_round, prior.tolist(), strict=True):
            exact = believed * pool * number / total * part
            assert n == 1 or n <= exact + 1e-6
            assert n > exact - 1
    for before, after in itertools.pairwise(found):
        assert all(a >= b for a, b in zip(after, before, strict=True))


# --- who is believed ---------------------------------------------------------------------------


def test_the_most_certain_of_each_class_are_believed_in_the_pools_order() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55]])
    found = believe(p, p.max(dim=1).values, [2, 1], no_strangers(5))
    assert [(b.index, b.label) for b in found] == [(0, 0), (2, 1), (3, 0)]
    assert [b.certainty for b in found] == pytest.approx([0.9, 0.8, 0.7])


def test_ties_go_to_the_earlier_item_and_the_first_class() -> None:
    p = torch.tensor([[0.5, 0.5]] * 4)
    assert believe(p, p[:, 0], [2, 2], no_strangers(4)) == [Belief(0, 0, 0.5), Belief(1, 0, 0.5)]


def test_items_are_ranked_by_certainty_not_by_probability() -> None:
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    assert [b.index for b in believe(p, torch.tensor([0.3, 0.8]), [1, 1], no_strangers(2))] == [1]


@given(pools(), st.data())
def test_no_item_left_out_is_more_certain_than_one_believed(
    pool: tuple[Tensor, Tensor], data: st.DataObject
) -> None:
    p, strange = pool
    count, classes = p.shape
    numbers = data.draw(st.lists(st.integers(0, 8), min_size=classes, max_size=classes))
    certain = p.max(dim=1).values
    found = believe(p, certain, numbers, strange)
    indices = [b.index for b in found]
    assert indices == sorted(set(indices))
    assert not any(strange[i] for i in indices)
    assert all(b.label == p[b.index].argmax() for b in found)
    assert all(b.certainty == certain[b.index] for b in found)
    believed = Counter(b.label for b in found)
    for label, number in enumerate(numbers):
        candidates = [i for i in range(count) if p[i].argmax() == label and not strange[i]]
        assert believed[label] == min(number, len(candidates))
        # The definition, sorted: by falling certainty, then by place.
        best = sorted(candidates, key=lambda i: (-certain[i].item(), i))[:number]
        assert sorted(best) == [b.index for b in found if b.label == label]


@given(pools(), st.integers(1, 6))
def test_equal_quotas_believe_no_class_more_than_another_by_more_than_there_are(
    pool: tuple[Tensor, Tensor], number: int
) -> None:
    """A class has fewer than another one only where it has no further candidate."""
    p, _ = pool
    count, classes = p.shape
    found = Counter(b.label for b in believe(p, p.amax(1), [number] * classes, no_strangers(count)))
    candidates = Counter(p.argmax(dim=1).tolist())
    assert all(found[k] == min(number, candidates[k]) for k in range(classes))


# --- strangers ---------------------------------------------------------------------------------


@given(
    st.floats(0, 1),
    st.lists(st.floats(0, 3), min_size=0, max_size=30),
)
def test_strangers_are_the_part_with_the_highest_entropy(
    part: float, entropies: list[float]
) -> None:
    entropy = torch.tensor(entropies, dtype=torch.float64)
    strange = rounds.strangers(Rounds(strangers=part), entropy)
    assert strange.shape == entropy.shape
    assert int(strange.sum()) == math.floor(part * len(entropies) + 1e-9)
    if strange.any() and not strange.all():
        assert entropy[strange].min() >= entropy[~strange].max()


def test_a_part_that_binary_holds_a_little_too_small_is_that_part() -> None:
    assert int(rounds.strangers(Rounds(strangers=0.29), torch.arange(100.0)).sum()) == 29


def test_without_the_setting_nobody_is_a_stranger() -> None:
    assert not rounds.strangers(Rounds(), torch.arange(5.0)).any()
