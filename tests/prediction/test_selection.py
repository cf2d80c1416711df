"""Metropolis-Hastings among generated items, against laws that are known, and who judges them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bgan_video import config
from bgan_video.method import losses
from bgan_video.method.bodies import of_clips
from bgan_video.models import build_discriminator
from bgan_video.prediction.selection import judges, metropolis_hastings
from tests.prediction.finished import CLASSES, run_of


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.statistical
def test_chains_end_where_the_target_is() -> None:
    """Proposals from N(0, 1), target N(1, 0.5²): log-odds are the difference of log densities."""
    x = torch.randn(4000, 64, generator=random(1), dtype=torch.float64)
    log_odds = -0.5 * ((x - 1) / 0.5).square() + 0.5 * x.square()
    kept = x.gather(1, metropolis_hastings(log_odds, random(2))[:, None])
    # Four standard errors: of a mean of 4,000, and of their deviation.
    assert kept.mean().item() == pytest.approx(1, abs=4 * 0.5 / 4000**0.5)
    assert kept.std().item() == pytest.approx(0.5, abs=4 * 0.5 / 8000**0.5)


def test_log_odds_are_known_up_to_a_constant() -> None:
    log_odds = torch.randn(50, 16, generator=random(3), dtype=torch.float64)
    ends = metropolis_hastings(log_odds, random(4))
    assert torch.equal(metropolis_hastings(log_odds + 7, random(4)), ends)


def test_what_is_certainly_made_is_left_and_never_returned_to() -> None:
    log_odds = torch.full((30, 8), -100.0)
    log_odds[:, 3] = 100.0
    assert metropolis_hastings(log_odds, random()).eq(3).all()


def test_where_nothing_can_be_told_every_proposal_is_taken() -> None:
    assert metropolis_hastings(torch.zeros(30, 8), random()).eq(7).all()


def test_the_first_body_judges_by_what_it_sees(tmp_path: Path) -> None:
    """Its weights fit into the network of `discriminator.name`, which would see differences."""
    c = config.load(
        None,
        [
            *("discriminator.bodies=[dcgan@rgb]", "discriminator.input=difference"),
            *("discriminator.fake=coupled", "discriminator.width=4", "run.device=cpu"),
            *("clip.num_frames=4", "clip.size=16"),
        ],
    )
    torch.manual_seed(0)
    network = build_discriminator(of_clips(c, "dcgan@rgb", 0), len(CLASSES)).eval()
    (judge,) = judges(run_of(tmp_path, c, network.state_dict()))
    x = torch.randn(3, 3, 4, 16, 16)
    with torch.no_grad():
        logits = network(x)
        wanted = losses.log_real(logits).double() - losses.log_fake(logits).double()
        torch.testing.assert_close(judge(x), wanted)
