"""Choosing among generated items by what judges looks: Metropolis-Hastings (Turner et al. 2019).

With a judge D whose log-odds of 'real' are `c(x) = log p(x)/q(x) + const`, independence chains of
items drawn from the generator's q, which move from x to x' with probability

    min(1, exp(c(x') - c(x)))

(Turner et al. 2019, eq. 6) have p as their stationary law. A critic under the pairing loss has
log-odds up to a constant, which falls out: at its optimum `D(x) - D(y)` is the log-odds that x is
real and y made. K+1-class discriminators have them as `log (1 - p_0) / p_0`. What answers is the
posterior's mean of the log-odds, over chains and, of a critic, over what it looks at.

Networks that play a game are held near its draw, so their log-odds are flatter than the odds. They
are multiplied by a slope, that of a logistic regression between held-out real items and items of
the generator (Turner et al. 2019 calibrate so), with the targets of Platt 1999, by which the slope
stays finite where all are told apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from bgan_video import rng
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.models import Critic, build_critic
from bgan_video.prediction.trained import TrainedRun

PROPOSALS = 32
"""Items that are drawn for each one that is kept. Of a good generator a chain moves at every second
or third of them."""
BATCH = 64
CALIBRATION = 512
"""Items of each side that a slope is fitted to, at most."""

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


def slope(of_real: Tensor, of_made: Tensor) -> float:
    """What log-odds are to be multiplied by so that they are right on these items.

    Both sides weigh the same, however many items each has. Targets are (n + 1) / (n + 2) and
    1 / (n + 2) instead of 1 and 0 (Platt 1999, with the n of each side).

    Args:
        of_real: `[R]`, log-odds of real items, R >= 1.
        of_made: `[M]`, of generated ones, M >= 1.

    Returns:
        0 or more; 0 where generated items look at least as real.
    """
    sides = [of_real.double().numpy(), of_made.double().numpy()]
    x = np.concatenate(sides)
    center, scale = x.mean(), x.std() or 1.0
    x = (x - center) / scale
    real, made = (len(side) for side in sides)
    target = np.repeat([(real + 1) / (real + 2), 1 / (made + 2)], [real, made])
    weight = np.repeat([0.5 / real, 0.5 / made], [real, made])

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = line[0] * x + line[1]
        value = weight @ (np.logaddexp(0, logit) - target * logit)
        off = weight * (expit(logit) - target)
        return float(value), np.array([off @ x, off.sum()])

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return max(0.0, float(found.x[0]) / scale)


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
        held_out: `[R, C, (T,) H, W]`, real items that nothing was trained on. Without any, log-odds
            are taken as they are.

    Attributes:
        slopes: What the log-odds were multiplied by, for each generator that was begun with.

    Raises:
        UserError: Nothing in the run learned to tell generated items from real ones.
    """

    def __init__(self, run: TrainedRun, held_out: Tensor | None) -> None:
        self._judges = judges(run)
        self._device = run.backend.device
        self._random = rng.generator(run.config.run.seed, "select")
        self._of_real = None if held_out is None else self._log_odds(held_out)
        self.slopes: dict[str, float] = {}

    def begin(self, name: str, items: Tensor) -> None:
        """Choose from now on among items of another generator.

        Args:
            name: Of the generator.
            items: `[M, C, (T,) H, W]`, of its own, for the slope.
        """
        self._slope = 1.0
        if self._of_real is not None:
            self._slope = slope(self._of_real, self._log_odds(items))
        self.slopes[name] = self._slope

    def __call__(self, items: Tensor) -> Tensor:
        """Of `[n · PROPOSALS, C, (T,) H, W]` of the generator begun with, n."""
        log_odds = self._slope * self._log_odds(items)
        ends = metropolis_hastings(log_odds.unflatten(0, (-1, PROPOSALS)), self._random)
        return items[torch.arange(len(ends)) * PROPOSALS + ends]

    @torch.no_grad()
    def _log_odds(self, items: Tensor) -> Tensor:
        """The posterior's mean `[B]`, on the CPU in float64."""
        said: list[Tensor] = []
        for batch in items.split(BATCH):
            x = batch.to(self._device)
            said.append(torch.stack([judge(x) for judge in self._judges]).mean(dim=0).cpu())
        return torch.cat(said)
