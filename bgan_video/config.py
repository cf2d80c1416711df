"""The settings of a run: frozen dataclasses, read from YAML and `key=value`.

`load` is the one way in. Whatever it returns is valid in itself; whether the data and the device
can serve it is found out by the layers that use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bgan_video import parsing
from bgan_video.errors import UserError
from bgan_video.parsing import Range

Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, exclusive=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Norm = Literal["batch", "group", "none"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run lives and what it runs on."""

    name: str | None = None
    """By default the config file's name, numbered where a run of that name exists."""
    dir: str = "runs"
    seed: CountOrZero = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 on CUDA and fp32 on CPU."""
    deterministic: bool = True
    """Deterministic cuDNN kernels; on CPU a run is always reproducible bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which videos, which split, and how many labels are used."""

    layout: Literal["motion_shapes", "ucf101", "hmdb51", "video_folder"] = "motion_shapes"
    root: str | None = None
    """`motion_shapes` renders itself into a cache folder where no root is given."""
    lists: str | None = None
    """Folder of the split lists; by default where the layout keeps them."""
    fold: Count = 1
    labels_per_class: Count | None = None
    num_labelled: Count | None = None
    label_list: str | None = None
    """The labelled training videos: a CSV `path,label,…` as `bgan-video suggest` writes it (a row
    without a label is passed over), or a published list, one path a line."""
    label_seed: CountOrZero = 0
    validation_fraction: Annotated[float, Range(0, 0.9)] = 0.15
    """Part of the training groups kept for validation."""
    held_out: str | None = None
    """Classes kept out of training, separated by commas: their test videos are the open set."""
    groups: str | None = None
    """`video_folder`: a CSV `path,group`, or a pattern whose first parenthesis is the group."""
    num_workers: CountOrZero = 0
    worker_timeout: Positive = 120.0
    """Seconds to wait for one batch of a loading process before the run stops."""
    cache_mib: CountOrZero = 1024
    """Memory for decoded videos, per loading process; 0 decodes every clip anew."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    max_broken: CountOrZero = 0
    """Broken or missing videos a run may leave out before it stops."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How a clip is cut out of a video."""

    num_frames: Count = 16
    stride: Count = 2
    size: Annotated[int, Range(8)] = 64
    load_size: Annotated[int, Range(8)] | None = None
    """Short side after decoding; by default 8/7 of `size`, as 128 is to 112."""
    short_clip: Literal["loop", "repeat_last", "error"] = "loop"
    test_clips: Count = 5
    test_crops: Literal[1, 3] = 1


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Views of a training clip. The weak view is what every network trains on."""

    flip: bool = True
    """Mirror left and right; off where direction tells the classes apart."""
    min_scale: Annotated[float, Range(0.2, 1)] = 0.8
    """Smallest side of the random crop, as a part of the loaded frame's short side."""
    color: Fraction = 0.2
    """Largest relative change of brightness, contrast and saturation."""
    strong_min_scale: Annotated[float, Range(0.2, 1)] = 0.6
    strong_color: Fraction = 0.5
    strong_erase: Fraction = 0.4
    """Side of the square cut out of the strong view, as a part of its size."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A generator's architecture."""

    name: str = "two_stream"
    width: Count = 64
    latent_dim: Count = 100
    norm: Norm = "batch"


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    """A discriminator's architecture; the supervised network has the same body."""

    input: Literal["rgb", "difference"] = "rgb"
    """`difference`: the classes see every frame minus the one before it, which leaves what moves;
    only the fake logit sees the frames as well."""
    name: str = "dcgan"
    """`dcgan`, a video network of torchvision (`r3d_18`, …) or `timm:<model>`."""
    width: Count = 64
    norm: Norm = "batch"
    dropout: Annotated[float, Range(0, 0.95)] = 0.0
    head: Literal["pool", "flatten"] = "pool"
    """`dcgan`: average the last feature map, or read all of it as the original does."""
    temporal: Literal["pool", "inflate"] = "pool"
    """`timm:`: run on frames and average, or turn its 2-D kernels into 3-D ones."""
    weights: str | None = None
    """A file with pretrained weights of the body (safetensors, or a state dict of tensors)."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the terms; in the original the first two are 1 and all others 0."""

    labelled_weight: NonNegative = 1.0
    """1 is what the published codes do; num_labelled / num_unlabelled is the literal posterior."""
    adversarial_weight: NonNegative = 1.0
    """Weight of the real and fake terms of a discriminator."""
    consistency_weight: NonNegative = 0.0
    """FixMatch between the weak and the strong view of unlabelled clips (Sohn et al. 2020)."""
    consistency_threshold: Fraction = 0.9
    consistency_warmup: CountOrZero = 0
    """Steps over which the consistency weight grows from 0 to its value."""
    balance_weight: NonNegative = 0.0
    """Keeps the mean prediction of unlabelled clips near uniform; only for balanced data."""
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
    prior: Literal["gaussian", "laplace", "student_t", "hierarchical"] = "gaussian"
    """`hierarchical`: a Gaussian whose scale, one for each tensor, has a prior of its own."""
    prior_std: Positive = 1.0
    """Scale of the prior."""
    prior_df: Positive = 3.0
    """Degrees of freedom of `student_t` and `hierarchical`."""
    prior_exempt: bool = False
    """Leave biases and norm scales without a prior."""
    sampler: Literal["sghmc", "sgld", "adaptive_sghmc"] = "sghmc"
    """`adaptive_sghmc` learns a step size for each weight in burn-in and then holds it; its `lr` is
    in units of the gradient's size."""
    integrator: Literal["symplectic", "euler", "baoa"] = "symplectic"
    lr: Positive = 1e-3
    friction: Annotated[float, Range(0, 1, exclusive=True)] = 0.1
    gradient_noise: Annotated[float, Range(0, 1)] = 0.0
    """The part of the friction that minibatch noise already supplies (`sghmc`, beta-hat of Chen et
    al.)."""
    temperature: NonNegative = 1.0
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
    batch_size: Count = 16
    """Unlabelled clips a step."""
    labelled_batch_size: Count = 16
    fake_batch_size: Count | None = None
    """Fakes of each generator a step; by default all generators together make `batch_size`."""
    max_grad_norm: Positive | None = None
    log_every: Count = 10
    evaluate_every: Count = 200
    checkpoint_every: Count = 200
    sample_every: Count = 200


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is trained beside the Bayesian GAN, on the labelled clips only."""

    supervised: bool = True
    lr: Positive | None = None
    """By default `posterior.burn_in_lr`: the same optimiser as the discriminators' burn-in."""
    ensemble: CountOrZero = 0
    """Networks of a deep ensemble (Lakshminarayanan et al. 2017), the supervised one among them."""
    mc_dropout: Annotated[float, Range(0, 0.95)] = 0.0
    """Dropout of one more network, kept on in prediction (Gal & Ghahramani 2016); 0 trains none."""
    cold: bool = False
    """Branch the same GAN off at the end of burn-in and go on with it at temperature 0."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    clip: Clip = field(default_factory=Clip)
    augment: Augment = field(default_factory=Augment)
    generator: Generator = field(default_factory=Generator)
    discriminator: Discriminator = field(default_factory=Discriminator)
    objective: Objective = field(default_factory=Objective)
    posterior: Posterior = field(default_factory=Posterior)
    train: Train = field(default_factory=Train)
    baseline: Baseline = field(default_factory=Baseline)

    def __post_init__(self) -> None:
        chosen = [
            key
            for key in ("labels_per_class", "num_labelled", "label_list")
            if getattr(self.data, key) is not None
        ]
        if len(chosen) > 1:
            raise UserError(
                f"data.{chosen[0]} and data.{chosen[1]} both choose the labels; set one to null"
            )
        if self.posterior.bayes and self.posterior.burn_in >= self.train.steps:
            raise UserError(
                f"posterior.burn_in={self.posterior.burn_in} leaves no step to sample in; "
                f"allowed: below train.steps={self.train.steps}"
            )
        p, sampling = self.posterior, self.train.steps - self.posterior.burn_in
        if p.bayes and p.schedule != "cyclical" and sampling < p.thinning:
            raise UserError(
                f"posterior.thinning={p.thinning} takes no sample in the {sampling} steps after "
                f"burn-in; allowed: 1..{sampling}"
            )
        # A cycle explores for four fifths of its steps, and has to keep one step for sampling.
        if p.bayes and p.schedule == "cyclical" and sampling < 5 * p.num_cycles:
            raise UserError(
                f"posterior.schedule=cyclical: posterior.num_cycles={p.num_cycles} does not fit "
                f"into the {sampling} steps after burn-in; allowed: 1..{sampling // 5}"
            )
        most = 0.0 if p.integrator == "baoa" else p.friction
        if p.gradient_noise > most:
            raise UserError(
                f"posterior.gradient_noise={p.gradient_noise} with posterior.integrator="
                f"{p.integrator}; allowed: 0..{most:g} (posterior.friction; 0 for baoa)"
            )
        if self.baseline.ensemble == 1 or (self.baseline.ensemble and not self.baseline.supervised):
            raise UserError(
                f"baseline.ensemble={self.baseline.ensemble}: an ensemble has the supervised "
                f"network and others; allowed: 0, or 2 and more with baseline.supervised=true"
            )
        if self.baseline.cold and not self.posterior.bayes:
            raise UserError("baseline.cold=true needs posterior.bayes=true: it follows its chains")
        if self.clip.load_size is not None and self.clip.load_size < self.clip.size:
            raise UserError(
                f"clip.load_size={self.clip.load_size} is below clip.size={self.clip.size}; "
                f"allowed: at least clip.size, or null"
            )

    @property
    def load_size(self) -> int:
        """Short side of a decoded frame in pixels."""
        return self.clip.load_size or round(self.clip.size * 8 / 7)

    @property
    def run_dir(self) -> Path:
        """The run's folder, once the run has a name."""
        assert self.run.name is not None, "the run was not named yet"
        return Path(self.run.dir) / self.run.name

    def named(self, name: str) -> Config:
        """The same settings for a run of that name."""
        return dataclasses.replace(self, run=dataclasses.replace(self.run, name=name))

    def with_dropout(self, dropout: float) -> Config:
        """The same networks with another dropout before the head."""
        discriminator = dataclasses.replace(self.discriminator, dropout=dropout)
        return dataclasses.replace(self, discriminator=discriminator)

    def without_weights(self) -> Config:
        """The same networks, without reading pretrained weights into them."""
        discriminator = dataclasses.replace(self.discriminator, weights=None)
        return dataclasses.replace(self, discriminator=discriminator)


def load(file: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (or the defaults) and apply `key=value` overrides.

    Raises:
        UserError: No such file, not YAML, an unknown key, a bad value, or settings that contradict
            each other.
    """
    try:
        merged = OmegaConf.merge(_read(file), OmegaConf.from_dotlist(_check_dotted(overrides)))
        mapping: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the settings do not read: {reason}") from None
    return from_mapping(mapping)


def load_run(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings stored in a run's folder.

    Raises:
        UserError: The folder is not a run's, or an override does not serve.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: it holds no config.yaml")
    return load(folder / "config.yaml", overrides)


def from_mapping(mapping: dict[str, Any]) -> Config:
    """The config a (possibly partial) nested mapping describes."""
    return parsing.build(Config, mapping)


def to_mapping(config: Config) -> dict[str, Any]:
    """The config as plain nested dicts."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    """The resolved config as YAML; `load` gives it back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_mapping(config)))


def _read(file: Path | str | None) -> Any:
    if file is None:
        return OmegaConf.create()
    path = Path(file)
    if not path.is_file():
        found = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        there = ", ".join(found) if found else "no YAML file"
        raise UserError(f"no config file {path}; in its folder: {there}")
    try:
        loaded = OmegaConf.load(path)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path} does not read as YAML: {' '.join(str(error).split())}") from None
    if not OmegaConf.is_dict(loaded):
        raise UserError(f"{path} is not a mapping of sections such as 'train:'")
    return loaded


def _check_dotted(overrides: Sequence[str]) -> list[str]:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise UserError(f"cannot read {override!r}; write key=value, such as train.steps=500")
    return list(overrides)
