"""BatchBALD against enumeration, and what a batch is for."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bgan_video.acquisition import batchbald
from bgan_video.acquisition.batchbald import Batch, suggest


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, networks: int = 5, items: int = 6, classes: int = 3) -> Tensor:
    logits = 2 * torch.randn(networks, items, classes, generator=random(seed), dtype=torch.float64)
    return logits.softmax(2)


def joint_information(p: Tensor, items: list[int]) -> float:
    """I(labels; network) by enumeration of all label configurations."""
    networks, _, classes = p.shape
    joint = expected = 0.0
    for labels in product(range(classes), repeat=len(items)):
        each = torch.ones(networks, dtype=torch.float64)
        for item, label in zip(items, labels, strict=True):
            each = each * p[:, item, label]
        mean = each.mean()
        joint -= float(mean * mean.log())
        expected -= float((each * each.log()).mean())
    return joint - expected


@given(st.integers(0, 10**6))
def test_information_is_that_of_all_label_configurations(seed: int) -> None:
    p = draw(seed)
    batch = Batch(p, random())
    told = 0.0
    for chosen in ([], [2], [2, 4]):
        if chosen:
            batch.add(chosen[-1])
            told = joint_information(p, chosen)
        gains = batch.gains(torch.arange(6))
        for item in range(p.shape[1]):
            # A label told twice is told by two labellers: independent given the network.
            expected = joint_information(p, [*chosen, item]) - told
            assert gains[item].item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.statistical
def test_sampled_configurations_estimate_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard error of a mean entropy over 512 configurations is about 0.01 nats."""
    p = draw(7, networks=6, items=9)
    exact, sampled = Batch(p, random()), Batch(p, random())
    for item in range(7):  # 3^7 = 2187 configurations
        exact.add(item)
    monkeypatch.setattr(batchbald, "MAX_CONFIGURATIONS", 512)
    for item in range(7):
        sampled.add(item)
    every = torch.arange(9)
    torch.testing.assert_close(sampled.gains(every), exact.gains(every), rtol=0, atol=0.06)


def test_the_first_item_is_the_one_of_most_mutual_information() -> None:
    p = draw(1)
    total = torch.special.entr(p.mean(0)).sum(1)
    own = total - torch.special.entr(p).sum(2).mean(0)
    first = suggest(p, [str(i) for i in range(6)], 1, random())[0]
    assert first.index == int(own.argmax())
    assert first.gain == pytest.approx(first.mutual_information)


def two_questions() -> Tensor:
    """Items 0 and 1 ask the same of four networks, item 2 something else, a little less sharply."""
    same = [[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.01, 0.99]]
    other = [[0.95, 0.05], [0.05, 0.95], [0.95, 0.05], [0.05, 0.95]]
    return torch.tensor([same, same, other], dtype=torch.float64).transpose(0, 1)


def test_a_batch_does_not_ask_the_same_twice() -> None:
    chosen = suggest(two_questions(), ["a", "b", "c"], 2, random())
    assert [c.index for c in chosen] == [0, 2]
    own = {
        c.index: c.mutual_information for c in suggest(two_questions(), list("abc"), 3, random())
    }
    assert own[1] > own[2], "by its own information the repeated question would have come second"


def test_every_group_comes_once_before_any_comes_twice() -> None:
    p = draw(3, networks=8, items=12)
    groups = [f"g{i % 4}" for i in range(12)]
    chosen = [groups[c.index] for c in suggest(p, groups, 12, random())]
    for turn in range(3):
        assert set(chosen[4 * turn : 4 * turn + 4]) == {"g0", "g1", "g2", "g3"}


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_no_item_comes_twice_and_the_budget_is_kept(seed: int, budget: int) -> None:
    chosen = [c.index for c in suggest(draw(seed), list("aabbcc"), budget, random())]
    assert len(chosen) == len(set(chosen)) == min(budget, 6)


@given(st.integers(0, 10**6))
def test_a_gain_is_never_more_than_an_items_own_information(seed: int) -> None:
    for choice in suggest(draw(seed, networks=12), list("abcdef"), 6, random()):
        assert choice.gain is None or choice.gain <= choice.mutual_information + 1e-9


@given(st.integers(0, 10**6))
def test_looking_at_few_items_finds_the_best_of_all(seed: int) -> None:
    p = draw(seed, networks=6, items=100)
    batch, every = Batch(p, random()), torch.arange(100)
    bounds = batch.gains(every)
    for _ in range(3):
        index, gain = batch.best(every, bounds)
        exact = batch.gains(every)
        assert gain == pytest.approx(exact.max().item())
        assert index == int(exact.argmax())
        assert bool((bounds >= exact - 1e-9).all())
        batch.add(index)


def test_a_label_that_cannot_be_is_survived() -> None:
    p = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.2, 0.8]]], dtype=torch.float64)
    batch = Batch(p, random())
    batch.add(0)
    assert bool(batch.gains(torch.arange(2)).isfinite().all())


def test_the_rest_is_drawn_once_the_networks_are_told_apart() -> None:
    p = draw(5, networks=2, items=8)
    chosen = suggest(p, [str(i) for i in range(8)], 8, random())
    gains = [c.gain for c in chosen]
    assert sum(g for g in gains if g is not None) <= torch.tensor(2.0).log().item() + 1e-9
    rest = gains[gains.index(None) :]
    assert len(rest) > 1
    assert all(gain is None for gain in rest)


@pytest.mark.statistical
def test_items_are_drawn_in_proportion_to_their_worth() -> None:
    """Of one network, by entropy: 4,000 draws of the first two of four items.

    False-alarm rate below 1e-4: chi-square with 11 degrees of freedom has 39 or more at 5e-5.
    """
    p = torch.tensor([[[0.5, 0.5], [0.8, 0.2], [0.95, 0.05], [0.99, 0.01]]], dtype=torch.float64)
    worth = torch.special.entr(p[0]).sum(1)
    part = worth / worth.sum()
    counts: Counter[tuple[int, ...]] = Counter()
    generator = random(11)
    for _ in range(4000):
        counts[tuple(c.index for c in suggest(p, list("abcd"), 2, generator))] += 1
    statistic = 0.0
    for first, second in permutations(range(4), 2):
        expected = 4000 * float(part[first] * part[second] / (1 - part[first]))
        statistic += (counts[first, second] - expected) ** 2 / expected
    assert statistic < 39


def test_what_tells_nothing_comes_last() -> None:
    sure, unsure = [[1.0, 0.0]] * 2, [[0.9, 0.1], [0.2, 0.8]]
    p = torch.tensor([sure, unsure, sure, unsure, unsure], dtype=torch.float64).transpose(0, 1)
    for seed in range(20):
        chosen = [c.index for c in suggest(p, list("abcde"), 5, random(seed))]
        assert set(chosen[3:]) == {0, 2}


def test_the_same_generator_gives_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchbald, "MAX_CONFIGURATIONS", 8)
    p = draw(9, networks=10, items=20)
    groups = [str(i) for i in range(20)]
    assert suggest(p, groups, 6, random(1)) == suggest(p, groups, 6, random(1))


def test_one_network_knows_nothing_of_its_own_uncertainty() -> None:
    chosen = suggest(draw(2, networks=1), list("abcdef"), 3, random())
    assert [c.gain for c in chosen] == [None] * 3
    assert all(c.mutual_information == pytest.approx(0, abs=1e-12) for c in chosen)


def test_a_recording_with_nothing_to_tell_does_not_end_what_others_tell() -> None:
    """Two items of one recording tell four networks apart; the one of another tells nothing."""
    halves = torch.tensor([[0.99, 0.01], [0.01, 0.99]], dtype=torch.float64)
    first, second = halves[[0, 0, 1, 1]], halves[[0, 1, 0, 1]]
    boring = torch.full((4, 2), 0.5, dtype=torch.float64)
    p = torch.stack([first, second, boring], dim=1)
    chosen = suggest(p, ["a", "a", "b"], 3, random())
    assert [choice.index for choice in chosen][1] == 2
    assert [choice.gain is None for choice in chosen] == [False, True, False]
