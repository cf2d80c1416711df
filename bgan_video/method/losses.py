"""The terms of the Bayesian GAN with K+1-class discriminators, as pure functions.

Logits are `[B, K+1]`; index 0 is 'fake', index k+1 is class k. Every term is computed in float32
whatever the precision of the logits, because a log-sum-exp over bf16 logits has two digits.
Source: Saatchi & Wilson 2017, section 2.2 and the losses of their published code; the stable forms
are identities, given in each docstring.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bgan_video.models.nd import at_least_float32

FAKE = 0


def log_real(logits: Tensor) -> Tensor:
    """`log(1 - p_0)`, the log-probability that an item is real, per item `[B]`.

    `log(1 - p_0) = lse(l[1..K]) - lse(l[0..K])`. The published codes compute
    `log(1 - softmax(l)_0 + 1e-4)`, whose gradient vanishes where the discriminator is sure.
    """
    logits = at_least_float32(logits)
    return logits[:, 1:].logsumexp(dim=1) - logits.logsumexp(dim=1)


def log_fake(logits: Tensor) -> Tensor:
    """`log p_0 = l[0] - lse(l[0..K])`, the log-probability that an item is fake, per item `[B]`."""
    logits = at_least_float32(logits)
    return logits[:, FAKE] - logits.logsumexp(dim=1)


def real(logits: Tensor, clamp: float = 0.0) -> Tensor:
    """`E_real = mean(-log(1 - p_0))`: the complement cross-entropy of real items.

    Args:
        logits: `[B, K+1]`.
        clamp: c of the published codes' `-log(1 - p_0 + c)`, which ends at `-log c` and whose
            gradient dies on the way there; 0 is the stable form.
    """
    if clamp == 0:
        return -log_real(logits).mean()
    p_fake = at_least_float32(logits).softmax(dim=1)[:, FAKE]
    return -(1 - p_fake + clamp).log().mean()


def fake(logits: Tensor) -> Tensor:
    """`E_fake = mean(-log p_0)`: the cross-entropy of generated items to the class 'fake'."""
    return -log_fake(logits).mean()


def labelled(
    logits: Tensor, targets: Tensor, real_weight: float = 1.0, class_weights: Tensor | None = None
) -> Tensor:
    """`E_sup = mean(-log p(y | real) - w·log(1 - p_0))` of labelled items.

    With w = 1 the cross-entropy over all K+1 logits of Saatchi & Wilson 2017, by the chain rule:
    `p_y = (1 - p_0)·p(y | real)`. Its second part tells real from fake, no class from another.

    Args:
        logits: `[B, K+1]`.
        targets: `[B]`, classes 0..K-1.
        real_weight: w.
        class_weights: As in `supervised`; that items are real weighs the same of all classes.
    """
    return supervised(logits, targets, class_weights) + real_weight * real(logits)


def generator(logits: Tensor, clamp: float = 0.0) -> Tensor:
    """`E_gen = mean(-log(1 - p_0))` of generated items; `clamp` as in `real`."""
    return real(logits, clamp)


def class_probabilities(logits: Tensor) -> Tensor:
    """`softmax(l[1..K])`, the classifier inside the discriminator, `[B, K]`."""
    return at_least_float32(logits)[:, 1:].softmax(dim=1)


def supervised(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy over `l[1..K]`: the network that knows no fakes.

    Args:
        logits: `[B, K+1]` of the same body as a discriminator; index 0 is not used.
        targets: `[B]`, classes 0..K-1.
        class_weights: `[K]`, what an item weighs by its class. The sum is divided by B, not by the
            weights of the batch: else the rarer class of a batch of one would weigh as the others.
    """
    classes = at_least_float32(logits)[:, 1:]
    if class_weights is None:
        return F.cross_entropy(classes, targets)
    entropy = F.cross_entropy(classes, targets, reduction="none")
    return (class_weights[targets] * entropy).mean()


def consistency(weak_probabilities: Tensor, strong_logits: Tensor, threshold: float) -> Tensor:
    """Confident predictions on the weak view are the targets of the strong view.

    FixMatch, Sohn et al. 2020, eq. 4, on the class part of the logits: the mean over *all* items of
    `1[max p_w ≥ τ] · H(argmax p_w, softmax(l_s[1..K]))`.

    Args:
        weak_probabilities: `[B, K]`, without gradient.
        strong_logits: `[B, K+1]`.
        threshold: τ in 0..1.
    """
    confidence, pseudo = weak_probabilities.max(dim=1)
    classes = at_least_float32(strong_logits)[:, 1:]
    entropy = F.cross_entropy(classes, pseudo, reduction="none")
    return (entropy * (confidence >= threshold)).mean()


def mean_squared(target_probabilities: Tensor, logits: Tensor) -> Tensor:
    """Squared distance of class probabilities, summed over classes, averaged over items.

    The consistency cost J of Tarvainen & Valpola 2017, section 2; their code averages over classes
    and weighs the term by up to 100.

    Args:
        target_probabilities: `[B, K]`, without gradient.
        logits: `[B, K+1]`.
    """
    return (class_probabilities(logits) - target_probabilities).square().sum(dim=1).mean()


def imbalance(logits: Tensor) -> Tensor:
    """How far the mean prediction of a batch is from uniform: `KL(u || mean softmax(l[1..K]))`.

    The regulariser R_A of Arazo et al. 2020 (Tanaka et al. 2018) against pseudo-labels that all
    become one class. For data whose classes are about equally frequent, in batches not much smaller
    than the number of classes.

    Args:
        logits: `[B, K+1]`.
    """
    log_p = at_least_float32(logits)[:, 1:].log_softmax(dim=1)
    # log of the mean probability: a class nobody predicts has one of 0 in float32.
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    return -(log_mean.mean() + math.log(len(log_mean)))


def transformation(logits: Tensor, targets: Tensor) -> Tensor:
    """`E_pre`: cross-entropy of the transformation between an item and its transform.

    The task of Zhang et al. 2019 (AET), as a classification.

    Args:
        logits: `[B, R]` of the pretext head.
        targets: `[B]`, transformations 0..R-1.
    """
    return F.cross_entropy(at_least_float32(logits), targets)


def feature_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """Squared distance of mean features (Salimans et al. 2016, section 3.1), averaged over F.

    The paper sums over features; the mean keeps the term's scale over widths.

    Args:
        real_features: `[B, F]` of real items, without gradient.
        fake_features: `[B', F]` of generated items.
    """
    return F.mse_loss(
        at_least_float32(fake_features).mean(dim=0), at_least_float32(real_features).mean(dim=0)
    )


def samplewise_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """Huber loss (δ = 1) between the features of a fake and of a real item, pair by pair.

    What the later TensorFlow code adds to every generator's loss, in place of the distance of means
    that Salimans et al. propose: it asks each fake to be like one real item picked by chance.

    Args:
        real_features: `[B, F]` of real items, without gradient.
        fake_features: `[B, F]` of generated items.
    """
    return F.huber_loss(at_least_float32(fake_features), at_least_float32(real_features))


def pairing(better: Tensor, worse: Tensor) -> Tensor:
    """Relativistic pairing loss: `mean softplus(-(better - worse))` over pairs of items.

    Jolicoeur-Martineau 2019 and Huang et al. 2024, eq. 1: a critic is asked which of two items is
    real, so it knows no zero, and a generator that leaves out a part of the data loses every pair
    there. Of independent batches every item is paired with every other, which estimates the same
    mean with less variance than one partner each.

    Args:
        better: `[B, H]`, judgements of the items that should win, by H heads.
        worse: `[B', H]`.

    Returns:
        The sum over heads.
    """
    margins = at_least_float32(better)[:, None] - at_least_float32(worse)[None]  # [B, B', H]
    return F.softplus(-margins).mean(dim=(0, 1)).sum()


def gradient_penalty(judgements: Tensor, items: Tensor) -> Tensor:
    """`½ E‖∇_x Σ_h D_h(x)‖²`: R1 of real items (Mescheder et al. 2018), R2 of generated ones.

    Args:
        judgements: `[B, H]` of a critic without norms: each depends on its own item alone.
        items: `[B, ...]` that the judgements are of, with gradient.
    """
    (gradient,) = torch.autograd.grad(judgements.sum(), items, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


def mask_sparsity(mask: Tensor) -> Tensor:
    """Mean absolute value of a two-stream generator's foreground mask (Vondrick et al. 2016)."""
    return at_least_float32(mask).abs().mean()
