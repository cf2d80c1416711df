"""The losses of every recipe are those that are written down."""

from __future__ import annotations

import json

import pytest

from tests.golden import trajectories

WRITTEN = json.loads(trajectories.FILE.read_text())


def test_every_recipe_is_written_down() -> None:
    assert sorted(WRITTEN) == sorted(trajectories.names())


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_losses_of_twenty_steps(name: str) -> None:
    found = trajectories.losses(name)
    assert found.keys() == WRITTEN[name].keys()
    for key, values in found.items():
        assert len(values) == trajectories.STEPS
        assert values == pytest.approx(WRITTEN[name][key], rel=trajectories.RELATIVE), (
            f"{key} of {name}: python -m tests.golden.trajectories writes anew what is meant"
        )
