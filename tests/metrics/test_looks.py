"""What is told of generated items beside distances, on items whose figures are known."""

from __future__ import annotations

import pytest
import torch

from bgan_video.metrics.looks import (
    Looks,
    against,
    covered,
    mean_change,
    named_parts,
    nearest_distance,
    top_frequency,
    with_classes,
)


def test_change_is_between_neighbouring_frames() -> None:
    clips = torch.zeros(2, 3, 4, 8, 8)
    assert mean_change(clips) == 0
    clips[:, :, 2:] = 1.5  # one of three steps changes
    assert mean_change(clips) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 4, 8, 8)], ids=["images", "clips"])
def test_the_top_frequency_is_that_of_checkerboards(shape: tuple[int, ...]) -> None:
    rows = torch.tensor([1.0, -1.0]).repeat(4)
    board = (rows[:, None] * rows).expand(shape)
    stripes = rows[:, None].expand(shape)
    slope = torch.linspace(-1, 1, 8)[:, None].expand(shape)
    # All of the energy, 64, in one of the 12 places of the highest frequencies.
    assert top_frequency(board) == pytest.approx(64 / 12)
    assert top_frequency(stripes) == pytest.approx(64 / 12)
    assert top_frequency(slope) < 0.05 * top_frequency(board)
    assert top_frequency(torch.ones(shape)) == pytest.approx(0, abs=1e-12)


def test_copies_are_near() -> None:
    training = torch.randn(20, 4, dtype=torch.float64)
    assert nearest_distance(training[:5], training) == pytest.approx(0, abs=1e-6)
    assert nearest_distance(training[:5] + 100, training) > 100


def test_nothing_stands_against_real_items_that_have_nothing() -> None:
    """Test clips that stand still, and test items that are copies of training ones."""
    still, moving = torch.zeros(2, 3, 4, 8, 8), torch.randn(2, 3, 4, 8, 8)
    assert against(mean_change, moving, moving) == 1
    assert against(mean_change, moving, still) is None
    training = 100 * torch.randn(40, 64)
    copies = training[:30]
    assert against(lambda x: nearest_distance(x, training), training + 1, copies) is None


def test_classes_are_covered_that_are_named_often_enough() -> None:
    probabilities = torch.eye(4, dtype=torch.float64)[[0] * 15 + [1] * 4 + [2]]
    parts = named_parts(probabilities)
    assert parts == [0.75, 0.2, 0.05, 0.0]
    assert covered(parts) == 2  # a quarter of a quarter is 0.0625


def test_what_items_are_taken_for_by_generator_and_by_all() -> None:
    plain = Looks(change=1.0, top_frequency=1.0, nearest_training=1.0)
    assert plain.certainty is plain.covered_by_all is None
    sure = torch.tensor([[0.8, 0.2], [0.6, 0.4]], dtype=torch.float64)
    found = with_classes(plain, {"z00_m00": sure, "z01_m00": sure.flip(1)[:1]})
    assert found.certainty == pytest.approx((0.8 + 0.6 + 0.8) / 3)
    assert found.named == {"z00_m00": [1.0, 0.0], "z01_m00": [0.0, 1.0]}
    assert found.covered == {"z00_m00": 1, "z01_m00": 1}
    assert (found.covered_by_all, found.num_classes, found.change) == (2, 2, 1.0)
