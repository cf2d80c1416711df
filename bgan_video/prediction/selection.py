"""Choosing among generated items by what judges looks: Metropolis-Hastings (Turner et al. 2019).

With a judge D whose log-odds of 'real' are `c(x) = log p(x)/q(x) + const`, independence chains of
items drawn from the generator's q, which move from x to x' with probability

    min(1, exp(c(x') - c(x)))

(Turner et al. 2019, eq. 6) have p as their stationary law. A critic under the pairing loss has
log-odds up to a constant, which falls out: at its optimum `D(x) - D(y)` is the log-odds that x is
real and y made. K+1-class discriminators have them as `log (1 - p_0) / p_0`. Judges of a generator
are those that it played against: of the last round, as the stored generators are, and with
`posterior.independent` its partner alone. What answers is their mean of the log-odds, over chains,
samples and, of a critic, over what it looks at.

Networks that play a game are held near its draw, so their log-odds are flatter than the odds. They
are multiplied by a slope, that of a logistic regression between held-out real items and items of
the generator (Turner et al. 2019 calibrate so), with the targets of Platt 1999, by which the slope
stays finite where all are told apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn

from bgan_video import rng
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.models import build_critic
from bgan_video.prediction.trained import TrainedRun
from bgan_video.sampling import Record, SampleBank

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


def judges(run: TrainedRun) -> dict[int, Judge]:
    """What a run's chains say of looks, by number: its critics, else its discriminators.

    Raises:
        UserError: Nothing in the run learned to tell generated items from real ones.
    """
    if run.bank.records("critic"):
        return {record.chain: _of_critic(run, record) for record in run.bank.records("critic")}
    if not run.know_fakes & {"bayesian"}:
        raise UserError(
            f"{run.folder} has nothing that tells generated items from real ones; --select needs "
            f"critic.name=hybrid or objective.adversarial_weight above 0 in training"
        )
    first = run.bodies(run.frames(()))[0]  # which generators played against
    module = first.network().to(run.backend.device).eval()
    samples: dict[int, list[Record]] = defaultdict(list)
    for record in run.bank.records(first.kind, {run.config.train.rounds}):
        samples[record.chain].append(record)
    return {chain: partial(_of_chain, run.bank, module, of) for chain, of in samples.items()}


def _of_critic(run: TrainedRun, record: Record) -> Judge:
    with torch.random.fork_rng(devices=[]):
        critic = build_critic(run.config)
    critic.load_state_dict(run.bank.load(record))
    critic.to(run.backend.device).eval()

    def judge(x: Tensor) -> Tensor:
        frames = torch.arange(x.shape[2], device=x.device) if x.ndim == 5 else None
        return critic(x, frames).double().mean(dim=1)

    return judge


def _of_chain(bank: SampleBank, module: nn.Module, samples: list[Record], x: Tensor) -> Tensor:
    """What a discriminator chain says: the mean over its samples."""
    said: list[Tensor] = []
    for record in samples:
        module.load_state_dict(bank.load(record))
        logits = module(x)
        said.append(losses.log_real(logits).double() - losses.log_fake(logits).double())
    return torch.stack(said).mean(dim=0)


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
        self._in_pairs = run.config.posterior.independent
        self._device = run.backend.device
        self._random = rng.generator(run.config.run.seed, "select")
        self._of_real: dict[int, Tensor] = {}
        if held_out is not None:
            self._of_real = {chain: self._said(chain, held_out) for chain in self._judges}
        self.slopes: dict[str, float] = {}

    def begin(self, name: str, chain: int, items: Tensor) -> None:
        """Choose from now on among items of another generator.

        Args:
            name: Of the generator.
            chain: Its number, which its partner has as well.
            items: `[M, C, (T,) H, W]`, of its own, for the slope.
        """
        self._asked = [chain] if self._in_pairs else [*self._judges]
        self._slope = 1.0
        if self._of_real:
            of_real = torch.stack([self._of_real[chain] for chain in self._asked]).mean(dim=0)
            self._slope = slope(of_real, self._log_odds(items))
        self.slopes[name] = self._slope

    def __call__(self, items: Tensor) -> Tensor:
        """Of `[n · PROPOSALS, C, (T,) H, W]` of the generator begun with, n."""
        log_odds = self._slope * self._log_odds(items)
        ends = metropolis_hastings(log_odds.unflatten(0, (-1, PROPOSALS)), self._random)
        return items[torch.arange(len(ends)) * PROPOSALS + ends]

    def _log_odds(self, items: Tensor) -> Tensor:
        """The mean `[B]` over the judges that are asked, on the CPU in float64."""
        return torch.stack([self._said(chain, items) for chain in self._asked]).mean(dim=0)

    @torch.no_grad()
    def _said(self, chain: int, items: Tensor) -> Tensor:
        """What one of the judges says."""
        judge = self._judges[chain]
        return torch.cat([judge(batch.to(self._device)).cpu() for batch in items.split(BATCH)])
