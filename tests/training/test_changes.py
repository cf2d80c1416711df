"""Step sizes of a run that goes on: which are halved, and which may be lowered."""

from __future__ import annotations

import pytest

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.training import changes


def test_all_step_sizes_are_halved_swags_path_among_them() -> None:
    """The path's is a part of the first one unless it is set, and then has to follow it."""
    before = config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.1"])
    now = changes.smaller(before)
    assert (now.baseline.lr, now.baseline.swag_lr) == (0.2, 0.05)
    changes.check_lowered(before, now)
    assert changes.smaller(config.load(None, ["baseline.lr=0.4"])).baseline.swag_lr is None


def test_swags_path_may_be_lowered_and_not_raised() -> None:
    unset = config.load(None, ["baseline.lr=0.4"])  # a fifth of it: 0.08
    changes.check_lowered(unset, config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.07"]))
    raised = config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.09"])
    with pytest.raises(UserError, match=r"baseline\.swag_lr=0\.09 .* up to the run's own 0\.08"):
        changes.check_lowered(unset, raised)
