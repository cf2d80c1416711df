"""The pretext task: the group of transformations, its head, and that it can be learned."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bgan_video.method.pretext import TransformationHead, num_transformations, transform

CLIPS = torch.arange(2 * 3 * 4 * 5 * 5).reshape(2, 3, 4, 5, 5).float()
IMAGES = CLIPS[:, :, 0]


@pytest.mark.parametrize(("items", "dims", "count"), [(CLIPS, 3, 8), (IMAGES, 2, 4)])
def test_every_transformation_is_another_one_and_the_first_is_none(
    items: Tensor, dims: int, count: int
) -> None:
    assert num_transformations(dims) == count
    found = [transform(items[:1], torch.tensor([k]), dims) for k in range(count)]
    assert torch.equal(found[0], items[:1])
    for one, other in itertools.combinations(found, 2):
        assert not torch.equal(one, other)
    for view in found:
        assert torch.equal(view.flatten().sort().values, items[:1].flatten().sort().values)


@settings(deadline=None)
@given(st.integers(0, 7), st.integers(0, 7))
def test_they_are_the_group_of_quarter_turns_and_times_directions(a: int, b: int) -> None:
    product = (a + b) % 4 + 4 * ((a // 4 + b // 4) % 2)
    first, second, both = torch.tensor([[a], [b], [product]])
    twice = transform(transform(CLIPS[:1], first, 3), second, 3)
    assert torch.equal(twice, transform(CLIPS[:1], both, 3))


def test_each_item_has_its_own() -> None:
    clips = CLIPS[:1].expand(3, -1, -1, -1, -1)
    whole = transform(clips, torch.tensor([0, 4, 1]), 3)
    assert torch.equal(whole[0], CLIPS[0])
    assert torch.equal(whole[1], CLIPS[0].flip(1))  # frames in reverse
    # Counterclockwise: the top row comes from the right column, rightmost first to the left.
    assert torch.equal(whole[2][..., 0, :], CLIPS[0][..., :, -1])


def test_the_head_learns_what_no_sum_of_both_views_says() -> None:
    """Directions 0..3 of two views: their difference is the turn, and neither alone tells it."""
    torch.manual_seed(0)
    head = TransformationHead(4, spatial_dims=2)
    directions = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    before, after = (nn.functional.one_hot(d, 4).float() for d in directions.T)
    turn = (directions[:, 1] - directions[:, 0]) % 4
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(before, after), turn).backward()
        optimizer.step()
    assert torch.equal(head(before, after).argmax(1), turn)
