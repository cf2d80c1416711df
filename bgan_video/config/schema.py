"""The settings: frozen dataclasses. What contradicts itself is refused when one is made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from bgan_video.config import checks
from bgan_video.config.kinds import (
    FEATURES,
    GANS,
    GREY,
    ITEMS,
    LABELS_ONLY,
    ON_FEATURES,
    SELF_TRAINING,
    SIZED,
    VECTOR_LENGTH,
    VECTORS,
    SpatialDims,
    spatial_dims_of,
)
from bgan_video.config.learning import Baseline, Compat, Objective, Posterior, Rounds, Train
from bgan_video.config.sections import (
    Augment,
    Clip,
    Critic,
    Data,
    Discriminator,
    Features,
    Generator,
    Run,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    clip: Clip = field(default_factory=Clip)
    augment: Augment = field(default_factory=Augment)
    features: Features = field(default_factory=Features)
    generator: Generator = field(default_factory=Generator)
    discriminator: Discriminator = field(default_factory=Discriminator)
    critic: Critic = field(default_factory=Critic)
    objective: Objective = field(default_factory=Objective)
    posterior: Posterior = field(default_factory=Posterior)
    train: Train = field(default_factory=Train)
    rounds: Rounds = field(default_factory=Rounds)
    baseline: Baseline = field(default_factory=Baseline)
    compat: Compat = field(default_factory=Compat)

    def __post_init__(self) -> None:
        checks.check(self)

    @property
    def spatial_dims(self) -> SpatialDims:
        """2 for images, 3 for clips, 0 for vectors: the layout says which."""
        return 0 if self.features.length else spatial_dims_of(self.data.layout)

    @property
    def channels(self) -> int:
        """Of an item: 3 colours, 1 of grey images, or a vector's length."""
        if self.features.length:
            return self.features.length
        if self.data.layout == VECTORS:
            return VECTOR_LENGTH
        return 1 if self.data.layout in GREY else 3

    @property
    def items(self) -> str:
        """What a person calls the items."""
        return ITEMS[self.spatial_dims]

    @property
    def item_level(self) -> str:
        """Where one test item is one prediction; clips have a level of their own below it."""
        return self.items.removesuffix("s")

    @property
    def is_unsupervised(self) -> bool:
        """Whether no label is used."""
        return self.data.num_labelled == 0

    def num_classes(self, of_data: int) -> int:
        """K of the discriminators: that of the data, or 1 ('real') where no label is used."""
        return 1 if self.is_unsupervised else of_data

    @property
    def samples_posterior(self) -> bool:
        """Whether chains sample after burn-in; else the last weights are the only sample."""
        return self.posterior.bayes and not self.compat.adam

    @property
    def temperature(self) -> float:
        """T of the chains, once `posterior.temperature=auto` was made a number."""
        assert not isinstance(self.posterior.temperature, str), "the temperature is not known yet"
        return self.posterior.temperature

    @property
    def total_steps(self) -> int:
        """Steps of all rounds."""
        return self.train.steps * (1 + self.train.rounds)

    @property
    def adam_steps(self) -> int:
        """Steps that chains take under Adam: their burn-in, or all where nothing samples."""
        return self.posterior.burn_in if self.samples_posterior else self.train.steps

    @property
    def needs_schedule(self) -> bool:
        """Whether anything depends on when `posterior` has samples taken: no body of features."""
        is_sized = bool({*SIZED} & set(self.baseline.methods))
        return self.samples_posterior and is_sized and not self.has_features_alone

    @property
    def needs_strong_views(self) -> bool:
        """Whether anything learns from the strong view of unlabelled items."""
        methods = set(self.baseline.methods)
        is_consistent = self.objective.consistency_weight > 0
        return bool(methods & {"mean_teacher", "fixmatch"} or (is_consistent and methods & {*GANS}))

    @property
    def has_critics(self) -> bool:
        """Whether generators play against critics of their own."""
        return self.critic.name != "none"

    @property
    def has_generators(self) -> bool:
        """Whether there is a game at all."""
        return self.has_critics or self.objective.adversarial_weight > 0

    @property
    def has_discriminators(self) -> bool:
        """Whether there is anything for K+1-class discriminators to learn."""
        return not self.is_unsupervised or self.discriminators_need_unlabelled

    @property
    def gans_need_unlabelled(self) -> bool:
        """Whether any term of the GANs looks at unlabelled items."""
        return self.has_critics or self.discriminators_need_unlabelled

    @property
    def discriminators_need_unlabelled(self) -> bool:
        """Whether any term of the K+1-class discriminators looks at unlabelled items."""
        o = self.objective
        terms = (o.adversarial_weight, o.consistency_weight, o.pretext_weight, o.balance_weight)
        return any(weight > 0 for weight in terms)

    @property
    def needs_unlabelled(self) -> bool:
        """Whether anything learns from unlabelled items, but for those a round believes."""
        learning = {*self.baseline.methods} - {*LABELS_ONLY, *ON_FEATURES, *SELF_TRAINING}
        return not learning <= {*GANS} or (bool(learning) and self.gans_need_unlabelled)

    @property
    def sees_clips(self) -> bool:
        """Whether any network of the run looks at frames, and not at features of them alone."""
        methods = {*self.baseline.methods} - {*ON_FEATURES}
        return bool(methods - {"bayesian_gan"}) or (bool(methods) and not self.has_features_alone)

    @property
    def has_features_alone(self) -> bool:
        """Whether all bodies of the Bayesian GAN are of features."""
        bodies = self.discriminator.bodies
        return bool(bodies) and all(name.startswith(FEATURES) for name in bodies)

    @property
    def weighs_bodies(self) -> bool:
        """Whether bodies answer by weights that are fitted on the validation videos."""
        d, methods = self.discriminator, self.baseline.methods
        return d.combine == "weighed" and len(d.bodies) > 1 and "bayesian_gan" in methods

    @property
    def trains_named_body(self) -> bool:
        """Whether any network has the body `discriminator.name`, be it that `bodies` names others.

        Those are the Bayesian GAN's alone, and methods on frozen features have no such network.
        """
        others = {*ON_FEATURES, *(["bayesian_gan"] if self.discriminator.bodies else [])}
        return bool({*self.baseline.methods} - others)

    @property
    def load_size(self) -> int:
        """Short side of a decoded frame in pixels."""
        whole = self.clip.size if self.spatial_dims == 2 else round(self.clip.size * 8 / 7)
        return self.clip.load_size or whole

    @property
    def of_game(self) -> Config:
        """The settings of what generators and critics see: items of their own size."""
        size = self.generator.size or self.clip.size
        return dataclasses.replace(self, clip=dataclasses.replace(self.clip, size=size))

    @property
    def run_dir(self) -> Path:
        """The run's folder, once the run has a name."""
        assert self.run.name is not None, "the run was not named yet"
        return Path(self.run.dir) / self.run.name

    def named(self, name: str) -> Config:
        """The same settings for a run of that name."""
        return dataclasses.replace(self, run=dataclasses.replace(self.run, name=name))

    def for_networks_of(self, model: str) -> Config:
        """The settings of the networks of a method or model: MC-dropout has its own dropout."""
        if model != "mc_dropout":
            return self
        discriminator = dataclasses.replace(self.discriminator, dropout=self.baseline.dropout)
        return dataclasses.replace(self, discriminator=discriminator)

    def without_weights(self) -> Config:
        """The same networks, without reading pretrained weights into them."""
        discriminator = dataclasses.replace(self.discriminator, weights=None)
        return dataclasses.replace(self, discriminator=discriminator)
