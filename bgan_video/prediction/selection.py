"""Choosing among generated items by what judges looks: Metropolis-Hastings (Turner et al. 2019).

With a judge D whose log-odds of 'real' are `c(x) = log p(x)/q(x) + const`, independence chains of
items drawn from the generator's q, which move from x to x' with probability

    min(1, exp(c(x') - c(x)))

(Turner et al. 2019, eq. 6) have p as their stationary law. A critic under the pairing loss has
log-odds up to a constant, which falls out: at its optimum `D(x) - D(y)` is the log-odds that x is
real and y made. K+1-class discriminators have them as `log (1 - p_0) / p_0`. What answers is the
posterior's mean of the log-odds, over chains and, of a critic, over what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bgan_video import rng
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.models import Critic, build_critic
from bgan_video.prediction.trained import TrainedRun

PROPOSALS = 32
"""Items that are drawn for each one that is kept. Of a good generator a chain moves at every second
or third of them."""

Judge = Callable[[Tensor], Tensor]
"""From items `[B, C, (T,) H, W]` to log-odds of being real `[B]`, up to a constant."""


def metropolis_hastings(log_odds: Tensor, random: torch.Generator) -> Tensor:
    """Where independence chains end: for each chain the index of its last accepted proposal.

    Args:
        log_odds: `[chains, proposals]`; the first proposal is where a chain begins.
        random: On the CPU.
    """
    chains, proposals = log_odds.shape
    at = torch.zeros(chains, dtype=torch.long)
    now = log_odds[:, 0].clone()
    draws = torch.rand(chains, proposals, generator=random, dtype=log_odds.dtype).log()
    for k in range(1, proposals):
        moves = draws[:, k] <= log_odds[:, k] - now
        at[moves] = k
        now = torch.where(moves, log_odds[:, k], now)
    return at


@torch.no_grad()
def judges(run: TrainedRun) -> list[Judge]:
    """What a run's networks say of looks: its critics, else its stored discriminators.

    Raises:
        UserError: Nothing in the run learned to tell generated items from real ones.
    """
    if run.bank.records("critic"):
        with torch.random.fork_rng(devices=[]):
            critics = [build_critic(run.config) for _ in run.bank.records("critic")]
        for critic, (_, state) in zip(critics, run.bank.iterate("critic"), strict=True):
            critic.load_state_dict(state)
        return [_of_critic(c.to(run.backend.device).eval()) for c in critics]
    if not run.know_fakes & {"bayesian"}:
        raise UserError(
            f"{run.folder} has nothing that tells generated items from real ones; --select needs "
            f"critic.name=hybrid or objective.adversarial_weight above 0 in training"
        )
    return [_of_discriminators(run)]


def _of_critic(critic: Critic) -> Judge:
    def judge(x: Tensor) -> Tensor:
        frames = torch.arange(x.shape[2], device=x.device) if x.ndim == 5 else None
        return critic(x, frames).double().mean(dim=1)

    return judge


def _of_discriminators(run: TrainedRun) -> Judge:
    first = run.bodies(run.frames(()))[0]  # which generators played against

    def judge(x: Tensor) -> Tensor:
        said: list[Tensor] = []
        for network in run.of_body(first):
            logits = network(x)
            said.append(losses.log_real(logits).double() - losses.log_fake(logits).double())
        return torch.stack(said).mean(dim=0)

    return judge


class Chooser:
    """Keeps one item in `PROPOSALS`: where chains among them end.

    Args:
        run: Whose judges choose.

    Raises:
        UserError: Nothing in the run learned to tell generated items from real ones.
    """

    def __init__(self, run: TrainedRun) -> None:
        self._judges = judges(run)
        self._device = run.backend.device
        self._random = rng.generator(run.config.run.seed, "select")

    @torch.no_grad()
    def __call__(self, items: Tensor) -> Tensor:
        """Of `[n · PROPOSALS, C, (T,) H, W]` of one generator, n."""
        x = items.to(self._device)
        log_odds = torch.stack([judge(x) for judge in self._judges]).mean(dim=0).cpu()
        ends = metropolis_hastings(log_odds.unflatten(0, (-1, PROPOSALS)), self._random)
        return items[torch.arange(len(ends)) * PROPOSALS + ends]
