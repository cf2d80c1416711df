"""What a run says before it believes a teacher that hardly beats guessing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bgan_video.training.console import chance_note


def record(**tops: tuple[float, int]) -> dict[str, Any]:
    found = {n: {"video": {"top1": top1, "count": count}} for n, (top1, count) in tops.items()}
    return {"split": "validation", "of_round": found}


def note(num_classes: int = 8, **tops: tuple[float, int]) -> str:
    return chance_note(record(**tops), "video", num_classes, Path("runs/mine"))


@pytest.mark.parametrize(("num_classes", "count"), [(8, 40), (2, 100), (101, 1000), (8, 5)])
def test_two_standard_errors_above_chance_are_enough(num_classes: int, count: int) -> None:
    chance = 1 / num_classes
    limit = chance + 2 * math.sqrt(chance * (1 - chance) / count)
    assert note(num_classes, bayesian=(limit - 1e-9, count))
    assert not note(num_classes, bayesian=(limit + 1e-9, count))


def test_the_note_names_who_is_near_chance_and_what_to_do() -> None:
    text = note(bayesian=(0.15, 40), self_training=(0.6, 40))
    assert "bayesian 15.0 % on 40 videos" in text
    assert "self_training" not in text
    assert "guessing has 12.5 %" in text
    assert "bgan-video suggest runs/mine" in text
    assert "\n" not in text


def test_nobody_who_believes_is_nobody_to_warn_of() -> None:
    assert note() == ""
