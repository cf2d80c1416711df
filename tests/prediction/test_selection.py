"""Metropolis-Hastings among generated items, against laws that are known, and who judges them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bgan_video import config
from bgan_video.config import Config
from bgan_video.method import losses
from bgan_video.method.bodies import of_clips
from bgan_video.models import build_critic, build_discriminator
from bgan_video.prediction.selection import Chooser, judges, metropolis_hastings, slope
from tests.prediction.finished import CLASSES, run_of


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(*more: str, seed: int = 0) -> tuple[Config, dict[str, Tensor]]:
    """Settings of a discriminator that looks at pixels, as the first of its bodies, and weights."""
    c = config.load(
        None,
        [
            *("discriminator.bodies=[dcgan@rgb]", "discriminator.input=difference"),
            *("discriminator.fake=coupled", "discriminator.width=4", "run.device=cpu"),
            *("clip.num_frames=4", "clip.size=16", *more),
        ],
    )
    torch.manual_seed(seed)
    return c, build_discriminator(of_clips(c, "dcgan@rgb", 0), len(CLASSES)).state_dict()


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


@pytest.mark.statistical
def test_flat_log_odds_get_the_slope_that_makes_them_right() -> None:
    """Real ones from N(1, 1), made ones from N(0, 1): the log-odds are x - 1/2."""
    real = 1 + torch.randn(4000, generator=random(5), dtype=torch.float64)
    made = torch.randn(1000, generator=random(6), dtype=torch.float64)
    assert slope(real, made) == pytest.approx(1, rel=0.1)
    assert slope((real - 0.5) / 5, (made - 0.5) / 5) == pytest.approx(5 * slope(real, made))
    assert slope(real + 3, made + 3) == pytest.approx(slope(real, made))


def test_a_slope_is_finite_and_never_below_zero() -> None:
    apart = torch.linspace(1, 2, 20)
    assert 0 < slope(apart, -apart) < 100
    assert slope(-apart, apart) == 0
    assert slope(torch.zeros(5), torch.zeros(7)) == 0


def test_each_generator_has_a_slope_of_its_own(tmp_path: Path) -> None:
    """Two sets of made items, one that is held to be as real as the real ones."""
    run = run_of(tmp_path, *network())
    real = torch.randn(64, 3, 4, 16, 16, generator=random(7))
    (judge,) = judges(run).values()
    with torch.no_grad():
        order = judge(real).argsort()
    low, high = real[order[:32]], real[order[32:]]
    choose = Chooser(run, high)
    choose.begin("worse", 0, low)
    worse = choose(real)
    choose.begin("same", 0, high)
    assert choose.slopes["worse"] > choose.slopes["same"] == pytest.approx(0, abs=1e-6)
    assert worse.shape == (2, 3, 4, 16, 16)
    as_they_are = Chooser(run, None)
    as_they_are.begin("worse", 0, low)
    assert as_they_are.slopes == {"worse": 1}


def test_the_first_body_judges_by_what_it_sees(tmp_path: Path) -> None:
    """Its weights fit into the network of `discriminator.name`, which would see differences."""
    c, state = network()
    (judge,) = judges(run_of(tmp_path, c, state)).values()
    body = build_discriminator(of_clips(c, "dcgan@rgb", 0), len(CLASSES)).eval()
    body.load_state_dict(state)
    x = torch.randn(3, 3, 4, 16, 16)
    with torch.no_grad():
        logits = body(x)
        wanted = losses.log_real(logits).double() - losses.log_fake(logits).double()
        torch.testing.assert_close(judge(x), wanted)


def test_discriminators_of_the_last_round_judge_alone(tmp_path: Path) -> None:
    """Generators are stored of that round; those of others played against others."""
    c, first = network("train.rounds=2", "train.steps=400", "rounds.answer=all")
    run, (_, last) = run_of(tmp_path / "all", c, first), network(seed=1)
    run.bank.add("discriminator", 1200, 0, last)
    (judge,) = judges(run).values()
    (alone,) = judges(run_of(tmp_path / "last", network()[0], last)).values()
    x = torch.randn(3, 3, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(judge(x), alone(x))


@pytest.mark.parametrize("kind", ["discriminator", "critic"])
def test_in_pairs_a_generator_is_judged_by_its_partner(kind: str, tmp_path: Path) -> None:
    game = ["critic.name=hybrid", "critic.num=2", "critic.width=4"]
    c, state = network("posterior.independent=true", *game)
    torch.manual_seed(1)
    states = [build_critic(c).state_dict() for _ in range(2)]
    if kind == "discriminator":
        states = [state, network(seed=1)[1]]
    pairs = run_of(tmp_path / "pairs", c, state)
    for chain, of_chain in enumerate(states):
        pairs.bank.add(kind, 1, chain, of_chain)
    real, made, proposals = torch.randn(3, 64, 3, 4, 16, 16, generator=random(8))
    for chain, of_chain in enumerate(states):
        alone = run_of(tmp_path / f"alone {chain}", network(*game)[0], state)
        alone.bank.add(kind, 1, 0, of_chain)
        partner, only = Chooser(pairs, real), Chooser(alone, real)
        partner.begin("z", chain, made)
        only.begin("z", 0, made)
        assert partner.slopes == only.slopes
        assert torch.equal(partner(proposals), only(proposals))
