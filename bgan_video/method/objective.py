"""Losses + priors → the mean-loss potentials that the chains sample. The only place with N.

A discriminator chain samples `exp(-N·L_D / T)` with

    L_D = w_adv·(E_real + E_fake) + w_sup·E_sup + w_con·E_con + w_pre·E_pre + w_bal·E_bal
          - log p(θ_d) / N

(w_con grows at first, and w_pre falls to 0 while Adam runs: what is sampled knows no pretext task;
within E_sup w_adv weighs that labelled items are real, so that at a small w_adv they do not outvote
the fakes)

and a generator chain `exp(-N_g·L_G / T)` with

    L_G = E_gen + w_fm·E_fm + w_mask·E_mask - log p(θ_g) / N_g.

N is the number of unlabelled items. With w_adv = 1 and all weights but w_sup 0 these are the two
conditionals of Saatchi & Wilson 2017, eq. 1 and 2, divided by N. `labelled_weight = 1` weighs the
labels as the published codes do; the likelihood itself would be num_labelled / num_unlabelled,
which with a hundred labels is nearly nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from bgan_video import config
from bgan_video.data.streams import LabelledBatch
from bgan_video.method import losses
from bgan_video.method.potentials import Potential, PriorTerm, mask_term
from bgan_video.method.pretext import TransformationHead
from bgan_video.models import Classifier, Generated, frozen_statistics


@dataclass(frozen=True)
class RealOutputs:
    """What one chain makes of real items.

    Attributes:
        unlabelled: `[B_ulb, K+1]`, of the weak views; None where no term looks at them.
        features: `[B_ulb, F]`, of the weak views; None with `unlabelled`.
        labelled: `[B_lb, K+1]`; None where no label is used.
        targets: `[B_lb]`, classes 0..K-1; None with `labelled`.
    """

    unlabelled: Tensor | None
    features: Tensor | None
    labelled: Tensor | None = None
    targets: Tensor | None = None

    @staticmethod
    def of(network: Classifier, labelled: LabelledBatch | None, weak: Tensor | None) -> RealOutputs:
        """Labelled and unlabelled items through one network, each normalised among themselves.

        Where no term looks at unlabelled items (`weak` is None), they cost no pass.

        Running statistics are those of the labelled batches, under which the class logits are
        learned, as the supervised network's are; without labels, those of the unlabelled ones.
        """
        if weak is None:
            assert labelled is not None, "nothing to learn from"
            return RealOutputs(None, None, network(labelled.x), labelled.y)
        if labelled is None:
            features = network.features(weak)
            return RealOutputs(network.judge(features, weak), features)
        with frozen_statistics(network):
            features = network.features(weak)
            unlabelled = network.judge(features, weak)
        return RealOutputs(unlabelled, features, network(labelled.x), labelled.y)


class PretextTask(NamedTuple):
    """What a chain is asked: which transformation lies between unlabelled items and their own.

    Attributes:
        head: The chain's, which answers.
        items: The weak views transformed, `[B_ulb, C, (T,) H, W]`.
        which: By which transformation each, `[B_ulb]`.
    """

    head: TransformationHead
    items: Tensor
    which: Tensor


class Weights(NamedTuple):
    """What the terms weigh that weigh another thing at every step."""

    consistency: float | Tensor
    pretext: float | Tensor


@dataclass(frozen=True)
class Shown:
    """What a chain is shown in a step beside the real items.

    Attributes:
        fakes: The items of all generators, detached.
        strong: Strong views of the unlabelled items.
        teacher: `[B_ulb, K]`, class probabilities that the strong views should agree with; None
            where the term is off.
        pretext: None where the term is off.
    """

    fakes: Tensor
    strong: Tensor
    teacher: Tensor | None = None
    pretext: PretextTask | None = None


class Objective:
    """The potentials of a run.

    Args:
        settings: Weights of the terms, prior and N_g, and what the published codes do otherwise.
        num_data: N, the number of unlabelled training items.
        labels_per_class: Labelled items over classes.
        class_weights: `[K]`, of the labelled term, on the run's device; None where all weigh 1.
    """

    def __init__(
        self,
        settings: config.Config,
        num_data: int,
        labels_per_class: float,
        class_weights: Tensor | None = None,
    ) -> None:
        posterior = settings.posterior
        self.settings = settings.objective
        self.compat = settings.compat
        self.num_data = num_data
        self._labels_per_class = labels_per_class
        self._class_weights = class_weights
        self._adam_steps = settings.adam_steps
        self.num_data_generator = posterior.num_data_generator or num_data
        self._prior = PriorTerm(posterior)

    def discriminator(
        self, network: Classifier, real: RealOutputs, shown: Shown, weights: Weights
    ) -> Potential:
        """L_D of one chain.

        Labelled items, unlabelled items, fakes and transformed items are normalised apart.

        Args:
            network: The chain's K+1-class discriminator, in training mode.
            real: Its logits of the labelled and the unlabelled items.
            shown: Everything else.
            weights: Of this step.
        """
        s = self.settings
        terms: dict[str, Tensor] = {}
        report: dict[str, Tensor] = {}
        if real.unlabelled is not None:
            report["d_real"] = losses.log_real(real.unlabelled.detach()).exp().mean()
        if real.labelled is not None and real.targets is not None:
            terms["labelled"] = s.labelled_weight * losses.labelled(
                real.labelled, real.targets, s.adversarial_weight, self._class_weights
            )
            right = real.labelled[:, 1:].argmax(dim=1) == real.targets
            report["train_top1"] = right.float().mean()
        if s.adversarial_weight > 0 and real.unlabelled is not None:
            with frozen_statistics(network):
                fake_logits = network(shown.fakes)
            clamp = self.compat.complement_clamp
            terms["real"] = s.adversarial_weight * losses.real(real.unlabelled, clamp)
            terms["fake"] = s.adversarial_weight * losses.fake(fake_logits)
            report["d_fake_before"] = losses.log_real(fake_logits.detach()).exp().mean()
        if shown.teacher is not None:
            with frozen_statistics(network):
                strong_logits = network(shown.strong)
            terms["consistency"] = weights.consistency * losses.consistency(
                shown.teacher, strong_logits, s.consistency_threshold
            )
            believed = shown.teacher.max(dim=1).values >= s.consistency_threshold
            report["confident"] = believed.float().mean()
        if shown.pretext is not None and real.features is not None:
            head, items, which = shown.pretext
            with frozen_statistics(network):
                logits = head(real.features, network.features(items))
            terms["pretext"] = weights.pretext * losses.transformation(logits, which)
            report["pretext_top1"] = (logits.detach().argmax(dim=1) == which).float().mean()
        if s.balance_weight > 0 and real.unlabelled is not None:
            terms["balance"] = s.balance_weight * losses.imbalance(real.unlabelled)
        terms |= self._prior.of("prior_d", self.num_data, network)
        return Potential.of(terms, report)

    def generators(
        self,
        generators: Sequence[nn.Module],
        generated: Sequence[Generated],
        discriminators: Sequence[Classifier],
        real: Tensor,
    ) -> Potential:
        """The sum of L_G over all generator chains: every one faces every discriminator.

        The chains share no weights, so the gradient of the sum is each chain's own.

        Args:
            generators: The chains.
            generated: What each made from its latents, with its graph.
            discriminators: All chains, with weights that ask for no gradient.
            real: Real items `[B, C, (T,) H, W]`, for feature matching.
        """
        s = self.settings
        num_chains = len(generators)
        fakes = torch.cat([g.items for g in generated])
        adversarial, matching, seen_real = [], [], []
        for network in discriminators:
            with frozen_statistics(network):
                features = network.features(fakes)
                logits = network.judge(features, fakes)
                if s.feature_matching_weight > 0:
                    with torch.no_grad():
                        real_features = network.features(real)
                    matching.append(self._match(real_features, features, num_chains))
            # All chains have as many fakes, so the mean over fakes is the mean of chains' means.
            loss = losses.generator(logits, self.compat.complement_clamp)
            adversarial.append(loss * num_chains)
            seen_real.append(losses.log_real(logits.detach()).exp().mean())
        terms = {"generator": torch.stack(adversarial).mean()}
        if matching:
            terms["feature_matching"] = s.feature_matching_weight * torch.stack(matching).mean()
        terms |= mask_term(s.mask_weight, generated)
        terms |= self._prior.of("prior_g", self.num_data_generator, *generators)
        return Potential.of(terms, {"d_fake_after": torch.stack(seen_real).mean()})

    def weights(self, step: int) -> Weights:
        """Of a step from 0: the consistency term's grows at first, the pretext term's falls."""
        s = self.settings
        warmth = min(1.0, (step + 1) / (s.consistency_warmup + 1))
        return Weights(s.consistency_weight * warmth, self._pretext_weight(step))

    def _pretext_weight(self, step: int) -> float:
        """What the pretext term weighs at a step: less and less while Adam runs, then nothing.

        The labels' term is the mean over n labelled items of each class. At first the task counts
        as much as `objective.pretext_weight` further ones, so its weight is that over n: where
        labels abound it is nearly nothing (docs/experiments.md, section 13).
        """
        if step >= self._adam_steps:
            return 0.0
        whole = self.settings.pretext_weight / max(1.0, self._labels_per_class)
        return whole * (1 - step / self._adam_steps)

    def _match(self, real_features: Tensor, fake_features: Tensor, num_chains: int) -> Tensor:
        is_huber = self.compat.feature_matching == "huber"
        distance = losses.samplewise_matching if is_huber else losses.feature_matching
        chains = rearrange(fake_features, "(j b) f -> j b f", j=num_chains)
        return torch.stack([distance(real_features, f) for f in chains]).sum()
