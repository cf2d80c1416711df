"""The game of generators against critics of their own, as the potentials that both sample.

A critic chain samples `exp(-N·L_C / T)` with

    L_C = E_pair(real, fakes) + γ·(R1 + R2) - log p(θ_c) / N

and a generator chain `exp(-N_g·L_G / T)` with

    L_G = mean over critics of E_pair(fakes, real) + w_mask·E_mask - log p(θ_g) / N_g

(Huang et al. 2024, eq. 1 to 3, with the priors of Saatchi & Wilson 2017). Given the other side's
weights, each is a conditional of its own, as eq. 1 and 2 of Saatchi & Wilson are; the penalties are
a part of the critics' negative log-density, so that what is sampled prefers critics that are flat
where items are. K+1-class discriminators do not take part: what judges looks and what judges
classes want different networks. Theirs is method/objective.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bgan_video.config import Config
from bgan_video.method import losses
from bgan_video.method.potentials import Potential, PriorTerm, mask_term
from bgan_video.models import Critic, Generated


class Game:
    """The potentials of critics, and of generators that face them.

    Args:
        settings: Weights, prior and N_g.
        num_data: N, the number of unlabelled training items.
    """

    def __init__(self, settings: Config, num_data: int) -> None:
        self._settings = settings.critic
        self._mask_weight = settings.objective.mask_weight
        self._prior = PriorTerm(settings.posterior)
        self._num_data = num_data
        self._num_data_generator = settings.posterior.num_data_generator or num_data

    def penalises(self, step: int) -> bool:
        """Whether a step, from 0, computes R1 and R2."""
        s = self._settings
        return s.penalty > 0 and step % s.penalty_every == 0

    def critic(
        self, network: Critic, real: Tensor, fakes: Tensor, frames: Tensor | None, penalised: bool
    ) -> Potential:
        """L_C of one chain.

        Args:
            network: The chain's.
            real: `[B, C, (T,) H, W]`.
            fakes: `[B', C, (T,) H, W]` of all generators, detached.
            frames: `[F]`, those that are looked at one by one; None for images.
            penalised: Whether R1 and R2 are computed, outside of autocast: a gradient of a gradient
                has no digits left in half precision.
        """
        terms: dict[str, Tensor] = {}
        if penalised:
            weight = self._settings.penalty * self._settings.penalty_every
            real, fakes = real.detach().requires_grad_(), fakes.detach().requires_grad_()
            with torch.autocast(real.device.type, enabled=False):
                of_real, of_fakes = network(real, frames), network(fakes, frames)
                r1 = losses.gradient_penalty(of_real, real)
                terms["penalty"] = weight * (r1 + losses.gradient_penalty(of_fakes, fakes))
        else:
            of_real, of_fakes = network(real, frames), network(fakes, frames)
        terms["critic"] = losses.pairing(of_real, of_fakes)
        report = {"critic_margin": (of_real.detach().mean(0) - of_fakes.detach().mean(0)).sum()}
        terms |= self._prior.of("prior_c", self._num_data, network)
        return Potential.of(terms, report)

    def generators(
        self,
        generators: Sequence[nn.Module],
        generated: Sequence[Generated],
        critics: Sequence[Critic],
        real: Tensor,
        frames: Tensor | None,
    ) -> Potential:
        """The sum of L_G over all generator chains, whose gradient is each chain's own.

        Args:
            generators: The chains.
            generated: What each made, with its graph.
            critics: All chains, with weights that ask for no gradient.
            real: `[B, C, (T,) H, W]`.
            frames: As in `critic`.
        """
        fakes = torch.cat([made.items for made in generated])
        lost: list[Tensor] = []
        for network in critics:
            with torch.no_grad():
                of_real = network(real, frames)
            parts = network(fakes, frames).chunk(len(generated))
            lost.append(torch.stack([losses.pairing(part, of_real) for part in parts]).sum())
        terms = {"generator": torch.stack(lost).mean()}
        terms |= mask_term(self._mask_weight, generated)
        terms |= self._prior.of("prior_g", self._num_data_generator, *generators)
        return Potential.of(terms, {})
