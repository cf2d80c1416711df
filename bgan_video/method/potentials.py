"""What a chain differentiates: losses and its prior, summed, with what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bgan_video.config import Posterior
from bgan_video.method import losses
from bgan_video.models import Classifier, Generated
from bgan_video.sampling import Prior, PriorGroups, named_prior, named_prior_parameters


@dataclass(frozen=True)
class Potential:
    """A scalar to differentiate, and what it is made of (detached, by name)."""

    total: Tensor
    terms: dict[str, Tensor]

    @staticmethod
    def of(terms: dict[str, Tensor], report: dict[str, Tensor]) -> Potential:
        """The sum of the terms; what is reported beside them is no part of it."""
        total = torch.stack(list(terms.values())).sum()
        return Potential(total, {name: x.detach() for name, x in {**terms, **report}.items()})


def mask_term(weight: float, generated: Sequence[Generated]) -> dict[str, Tensor]:
    """What the masks of two-stream generators weigh together; empty where there are none."""
    masks = [losses.mask_sparsity(made.mask) for made in generated if made.mask is not None]
    return {"mask": weight * torch.stack(masks).sum()} if masks and weight > 0 else {}


class PriorTerm:
    """`-log p(θ) / N` of a chain; nothing where nothing is Bayesian.

    Args:
        settings: Says which prior.
    """

    def __init__(self, settings: Posterior) -> None:
        self._prior: Prior | None = None
        if settings.bayes:
            self._prior = named_prior(settings.prior, settings.prior_std, settings.prior_df)
        self._exempt = settings.prior_exempt
        own = settings.prior_std
        self._groups = PriorGroups(
            bias=(settings.prior_std_bias or own) / own,
            norm=(settings.prior_std_norm or own) / own,
            head=(settings.prior_std_head or own) / own,
            by_fan_in=settings.prior_fan_in,
        )

    def of(self, name: str, num_data: int, *networks: nn.Module) -> dict[str, Tensor]:
        """The sum over networks, by the name of the term; empty where there is no prior.

        Args:
            name: Of the term.
            num_data: N.
            networks: The chains, at least one.
        """
        if self._prior is None:
            return {}
        return {
            name: torch.stack([self._energy(n, self._prior) for n in networks]).sum() / num_data
        }

    def _energy(self, network: nn.Module, prior: Prior) -> Tensor:
        weights = named_prior_parameters(network, exempt_bias_and_norm=self._exempt)
        is_classifier = isinstance(network, Classifier)
        means = network.prior_means if is_classifier else {}
        factors = self._groups.factors(network, network.head if is_classifier else None)
        # A prior that is centred elsewhere is the same one of the distance from there, and one of
        # another scale the same one of the weights in units of it.
        centred = [weight - means[weight] if weight in means else weight for weight in weights]
        scaled = [
            distance / factors[weight] if weight in factors else distance
            for weight, distance in zip(weights, centred, strict=True)
        ]
        return prior.negative_log_density(scaled)
