"""Sections of the settings, of what is learned: what is allowed, defaults and their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bgan_video.config.kinds import Count, CountOrZero, Fraction, Method, NonNegative, Positive
from bgan_video.parsing import Range


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the terms; in the original the first two are 1 and all others 0."""

    labelled_weight: NonNegative = 1.0
    """1 is what the published codes do; num_labelled / num_unlabelled is the literal posterior."""
    adversarial_weight: NonNegative = 1.0
    """Weight of all that tells real from fake: the real and the fake term of a discriminator, and
    within the labelled term that labelled items are real."""
    consistency_weight: NonNegative = 0.0
    """FixMatch between the weak and the strong view of unlabelled clips (Sohn et al. 2020)."""
    consistency_threshold: Fraction = 0.9
    consistency_warmup: CountOrZero = 0
    """Steps over which the consistency weight grows from 0 to its value."""
    balance_weight: NonNegative = 0.0
    """Keeps the mean prediction of unlabelled clips near uniform; only for balanced data."""
    pretext_weight: NonNegative = 0.0
    """Telling which quarter turn, and of clips which direction of time, lies between an unlabelled
    item and its transform: AET's task (Zhang et al. 2019) as a classification. At first it counts
    as much as this many labelled items of each class; linearly less and less while Adam runs, then
    nothing, so that what is sampled is free of the task."""
    feature_matching_weight: NonNegative = 0.0
    mask_weight: NonNegative = 0.1
    """L1 of the two-stream generator's foreground mask (Vondrick et al. 2016)."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What is sampled, and how."""

    bayes: bool = True
    """False turns prior, noise and bank off: the maximum-likelihood GAN of the original."""
    num_z: Count = 2
    num_discriminators: Count = 2
    num_mcmc: Count = 1
    independent: bool = False
    """Generator j and discriminator j see each other only: with `bayes=false` the original's
    ensemble of maximum-likelihood GANs."""
    prior: Literal["gaussian", "laplace", "student_t", "hierarchical"] = "gaussian"
    """`hierarchical`: a Gaussian whose scale, one for each tensor, has a prior of its own."""
    prior_std: Positive = 1.0
    """Scale of the prior."""
    prior_mean: Literal["zero", "pretrained"] = "zero"
    """Where the prior of a discriminator's body is centred: `pretrained` is at the weights that
    `discriminator.weights` (or a body of one's own) brings. All else is centred at zero."""
    prior_df: Positive = 3.0
    """Degrees of freedom of `student_t` and `hierarchical`."""
    prior_exempt: bool = False
    """Leave biases and norm scales without a prior."""
    prior_fan_in: bool = False
    """Divide a weight's prior scale by the root of the inputs that one output sums, so that what
    passes through a layer keeps its size whatever the layer's width (Neal 1996)."""
    prior_std_bias: Positive | None = None
    """Scale of biases' prior; by default `prior_std`."""
    prior_std_norm: Positive | None = None
    """Scale of the prior of norms' scales and shifts; by default `prior_std`."""
    prior_std_head: Positive | None = None
    """Scale of the prior of the weights of a discriminator's head; by default `prior_std`, which
    then is the body's."""
    sampler: Literal["sghmc", "sgld", "adaptive_sghmc", "mclmc"] = "sghmc"
    """`adaptive_sghmc` learns a step size for each weight in burn-in and then holds it; its `lr` is
    in units of the gradient's size. `mclmc` is microcanonical Langevin, whose momenta have a fixed
    length; its `lr` is the largest step size, tuned in the first tenth of the sampling phase."""
    integrator: Literal["symplectic", "euler", "baoa"] = "symplectic"
    lr: Positive = 1e-3
    friction: Annotated[float, Range(0, 1, exclusive=True)] = 0.1
    gradient_noise: Annotated[float, Range(0, 1)] = 0.0
    """The part of the friction that minibatch noise already supplies (`sghmc`, beta-hat of Chen et
    al.)."""
    temperature: NonNegative | Literal["auto"] = 1.0
    """1 samples the stated posterior. `auto` is the highest up to 1 within `noise_budget`: what a
    temperature does goes with weights and items, so a number does not travel between data sets."""
    noise_budget: Positive = 0.1
    """`temperature=auto`: the most that the noise may add to the mean loss, in nats. The noise of d
    weights on N items adds up to d·T/2N (docs/results/posterior.md)."""
    energy_variance: Positive = 5e-4
    """`mclmc`: the energy error of a step, squared and per weight, that its step size is tuned to
    (Robnik et al. 2024)."""
    num_data_generator: Count | None = None
    """N of the generators' posterior; by default the number of unlabelled items."""
    burn_in: CountOrZero = 300
    """Steps of Adam before sampling starts."""
    burn_in_lr: Positive = 1e-3
    generator_burn_in_lr: Positive = 2e-4
    schedule: Literal["constant", "exponential", "cyclical"] = "constant"
    num_cycles: Count = 4
    lr_decay: NonNegative = 3.0
    """`exponential`: the step size falls by exp(-lr_decay) over the sampling phase."""
    thinning: Count = 20
    max_samples: Count = 10


@dataclass(frozen=True, kw_only=True)
class Train:
    """The loop."""

    steps: Count = 1000
    """Of a round; a run takes `1 + rounds` times as many."""
    batch_size: Count = 16
    """Unlabelled clips a step."""
    labelled_batch_size: Count = 16
    fake_batch_size: Count | None = None
    """Fakes of each generator a step; by default all generators together make `batch_size`."""
    rounds: CountOrZero = 0
    """Rounds of self-training after the first, which learns from the labels: each learns from what
    the round before believes as well (section `rounds`)."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """What a labelled clip weighs by its class, where classes are of unlike size: one over how
    often its class is shown, or over the effective number of its labels (Cui et al. 2019)."""
    labelled_sampling: Literal["natural", "balanced"] = "natural"
    """Labelled clips as often as there are labels of their class, or of all classes as often. The
    `weight` of a table's rows counts within a class."""
    adam_schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: Adam's step size falls to 0 along half a cosine, over a chain's burn-in or, without
    sampling, over all steps."""
    max_grad_norm: Positive | None = None
    log_every: Count = 10
    evaluate_every: Count = 200
    evaluate_on: Literal["validation", "test"] = "validation"
    """`test` draws the original's accuracy curves; nothing is ever chosen by them."""
    checkpoint_every: Count = 200
    sample_every: Count = 200
    roll_back: CountOrZero = 0
    """How often a run whose numbers are not finite goes back to its newest sound checkpoint by
    itself, and on from there with all step sizes halved; after that, or at 0, it ends."""
    final_split: Literal["test", "validation"] = "test"
    """What a finished run is judged on; `validation` leaves test unseen while one develops."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What the rounds of `train.rounds` believe, and whom they ask (method/rounds.py)."""

    believed: Annotated[float, Range(0, 1, exclusive=True)] = 0.8
    """Part of the unlabelled pool that the last round believes; round r of R believes r/R of that:
    few at first, when the teacher knows least (Cascante-Bonilla et al. 2021)."""
    start: Literal["fresh", "warm"] = "fresh"
    """Where a round's networks begin: at fresh weights, so that early mistakes are forgotten, or at
    the last sample of the round before. Warm, the chains are cyclical (Zhang et al. 2020) with
    `train.adam_schedule=cosine`: Adam explores in each round, the sampler samples at its end. It
    holds for the Bayesian GAN and for self-training, alone or as an ensemble."""
    balance: Literal["equal", "estimated", "given"] = "equal"
    """How many of each class are believed: equal numbers, or numbers in proportion to a prior that
    is estimated from the pool (Saerens et al. 2002) or given, for classes of unlike size."""
    class_prior: tuple[float, ...] | None = None
    """`balance=given`: the classes' parts of the pool, in the order of their names."""
    certainty: Literal["probability", "discounted"] = "probability"
    """The most certain are believed: by the probability of their class, or by that times
    exp(-mutual information), so that what the chains disagree on is taught later."""
    share: Annotated[float, Range(0, 0.5)] = 0.5
    """The most that pseudo-labels may be of a labelled batch. Where they are fewer than the labels
    they are as many of it as of all labels, so that none weighs more than a true one."""
    min_pool: NonNegative = 5.0
    """Unlabelled videos for each labelled one below which nothing is believed, and the rounds are
    further starts from the labels alone: on small pools pseudo-labels did harm
    (docs/experiments.md)."""
    strangers: Fraction = 0.0
    """Part of the pool that is never believed: the videos least like the known classes, by total
    entropy. For pools that hold videos of no known class."""
    answer: Literal["auto", "all", "later", "last"] = "auto"
    """Whose samples answer: those of all rounds, of the second round and later ones, or the last's.
    `auto` lets validation videos choose: the later rounds, all, or the first, by their NLL, so that
    rounds that do harm do not answer. Where there are none, or the run is judged on them, it is
    `later`, and where the pool is too small for anything to be believed, `all`."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is trained, on the same batches with the same body, and how the rivals are set."""

    methods: tuple[Method, ...] = ("bayesian_gan", "supervised")
    """Labels alone: `supervised`, `deep_ensemble`, `mc_dropout`. On unlabelled clips too:
    `self_training` (one network in each round of `train.rounds`), `self_training_ensemble` (several
    that teach together), `swag` and `laplace` (networks drawn around the one of each round; the
    latter with `pip install 'bgan_video[laplace]'`), and of one network `pseudo_label`,
    `mean_teacher`, `fixmatch`.
    On frozen features (section `features`), without steps: `linear_probe` (its L2 by validation),
    `knn` (each labelled video has one vote), `self_training_probe` (the probe in the rounds of
    `train.rounds`).
    Methods without rounds take as many steps in all, the deep ensemble in fresh networks. GANs:
    `bayesian_gan`, `ml_gan` (one generator and one discriminator, no prior, no noise), `cold_gan`
    (the Bayesian GAN branched off at the end of burn-in and continued at temperature 0)."""
    lr: Positive | None = None
    """By default `posterior.burn_in_lr`: the same optimiser as the discriminators' burn-in."""
    num_networks: Count | None = None
    """Networks of `deep_ensemble`, `self_training_ensemble`, `swag` and `laplace`, an equal part of
    them in each round, and answers of `mc_dropout`; by default the posterior's, and of those that
    are trained and not drawn with rounds as many networks as its rounds train."""
    swag_lr: Positive | None = None
    """Step size of the steps that `swag` takes its Gaussian from, which widens with it; by default
    a fifth of the first step's, as in the paper."""
    dropout: Annotated[float, Range(0, 0.95, exclusive=True)] = 0.3
    """Of `mc_dropout`, kept on in prediction."""
    unlabelled_weight: NonNegative | None = None
    """Of the unlabelled term of `pseudo_label`, `mean_teacher` and `fixmatch`; by default
    `objective.consistency_weight`, or 1 where that is 0. `objective.consistency_threshold` and
    `objective.consistency_warmup` hold for them as well. A mean teacher's term is a squared error,
    summed over classes, whose authors weigh it by up to 100 over their number: it wants more."""
    ema_decay: Fraction = 0.99
    """Of the averaged weights that answer for `mean_teacher` and `fixmatch`."""


@dataclass(frozen=True, kw_only=True)
class Compat:
    """What the published codes do otherwise, one by one; off where a result should be right.

    `notebook` is the PyTorch code, `tensorflow` the first one; docs/image_mode.md has the formulas.
    """

    adam: bool = False
    """Adam to the end, as both codes run: no sampler, the last weights are the only sample."""
    noise_scale: Literal["posterior", "notebook", "tensorflow"] = "posterior"
    """How hot the chains are: the notebook's generators are N times too cold, its discriminators
    and the TensorFlow code about 10^12 times."""
    complement_clamp: NonNegative = 0.0
    """Added inside `-log(1 - p_0 + c)`: 1e-4 in the notebook, 1e-8 in the first TensorFlow commit;
    0 is the stable form, which has no bound."""
    feature_matching: Literal["mean", "huber"] = "mean"
    """What `objective.feature_matching_weight` weighs: distance of mean features, or the later
    TensorFlow code's Huber loss of features, sample by sample."""
    first_labels: bool = False
    """Label the first `data.num_labelled` training images, whatever their classes."""
