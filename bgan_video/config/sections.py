"""Sections of the settings, of data and networks: what is allowed, defaults and their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bgan_video.config.kinds import (
    Count,
    CountOrZero,
    Fraction,
    NonNegative,
    Norm,
    Positive,
    Summary,
)
from bgan_video.parsing import Range


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run lives and what it runs on."""

    name: str | None = None
    """By default the config file's name, numbered where a run of that name exists."""
    dir: str = "runs"
    seed: CountOrZero = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 on a GPU that has it, fp16 on others, fp32 on a CPU. fp32 has no TF32."""
    deterministic: bool = False
    """On CUDA: deterministic kernels alone, slower, and refused where an operation has none. On a
    CPU a run is always reproducible bit for bit."""
    compile: bool = True
    """On CUDA, in bf16 and fp32: record the kernels of a training step once, and replay them."""
    tracker: Literal["none", "mlflow", "wandb"] = "none"
    """Where curves go beside the run's own files and, where it is installed, TensorBoard: MLflow
    (`mlflow.db` beside the runs) or Weights & Biases, offline (docs/studies.md)."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which videos or images, which split, and how many labels are used."""

    layout: Literal[
        "motion_shapes",
        "ucf101",
        "hmdb51",
        "video_folder",
        "table",
        "mnist",
        "cifar10",
        "svhn",
        "celeba",
        "image_folder",
        "synthetic",
    ] = "motion_shapes"
    root: str | None = None
    """`motion_shapes` renders itself into a cache folder where no root is given; the paths of a
    `table` then start at its own folder."""
    table: str | tuple[str, ...] | None = None
    """`table`: a CSV with a column `path` and any of `label`, `split`, `group`, `start`, `end`,
    `weight`; or the lists of Kinetics or Something-Something, one or several."""
    download: bool = False
    """Let torchvision fetch `mnist`, `cifar10`, `svhn` or `celeba` into the root."""
    lists: str | None = None
    """Folder of the split lists; by default where the layout keeps them."""
    fold: Count = 1
    labels_per_class: Count | None = None
    num_labelled: CountOrZero | None = None
    """0 trains without any label: the discriminators then know real and fake only."""
    label_fraction: Annotated[float, Range(0, 1, exclusive=True)] | None = None
    """Part of the training fold (validation included) that is labelled, balanced over classes and
    at least one a class; 0.05 of UCF101's fold 1 is 476 of 9,537."""
    label_list: str | None = None
    """The labelled training videos: a CSV `path,label,…` as `bgan-video suggest` writes it (a row
    without a label is passed over), or a published list, one path a line."""
    label_seed: CountOrZero = 0
    separate_recordings: bool = False
    """Leave out of training the unlabelled videos that share a recording with a labelled one. A
    recording is a group, or where each class numbers its own (`ucf101`) a class's group."""
    train_on_unused: bool = False
    """`hmdb51`: train on the videos the official lists do not use (tag 0) too, as published
    semi-supervised lists do."""
    validation_fraction: Annotated[float, Range(0, 0.9)] = 0.15
    """Part of the training groups kept for validation."""
    held_out: str | None = None
    """Classes kept out of training, separated by commas: their test videos are the open set."""
    held_out_in_pool: bool = False
    """Leave the training videos of `held_out` classes in the unlabelled pool, as strangers of no
    known class."""
    segment_seconds: Positive | None = None
    """Cut unlabelled training videos of twice this length or more into parts of about it: each
    counts as a video in epochs, in the pool of the rounds and in suggestions."""
    classes: tuple[str, ...] = ()
    """`video_folder`: classes that no folder has, for `data.label_list` to name."""
    groups: str | None = None
    """`video_folder`: a CSV `path,group`, or a pattern whose first parenthesis is the group."""
    groups_span_classes: bool = False
    """`ucf101`: g01 is the same recording or person in every class. Off, g01 of another class is
    another recording, as in UCF101; a split divides neither."""
    store: str | None = None
    """A clip store that `bgan-video prepare` fills: clips are read from it, not decoded."""
    num_workers: CountOrZero = 0
    """Processes that read what training learns from, all of it, and threads that read ahead of who
    is judged; 0 reads in the run's own process, when it is wanted."""
    worker_timeout: Positive = 120.0
    """Seconds to wait for what a loading process reads for one step before the run stops."""
    cache_mib: CountOrZero = 1024
    """Memory for decoded videos, where all of them fit, and for their features until it is spent; 0
    decodes or reads every clip anew."""
    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = "auto"
    """`auto` is PyAV, which also stands in for decord where that has no build; torchcodec comes
    with `pip install 'bgan_video[torchcodec]'`."""
    max_broken: CountOrZero | None = None
    """Broken or missing videos a run may leave out before it stops; by default one in a hundred."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How a clip is cut out of a video."""

    num_frames: Count = 16
    stride: Count = 2
    fps: Positive | None = None
    """Frames a second of a clip, whatever the video's rate, also a variable one; `stride` then does
    not matter. Null: every `stride`-th frame, so that a video of twice the rate looks half as
    fast."""
    size: Annotated[int, Range(8)] = 64
    load_size: Annotated[int, Range(8)] | None = None
    """Short side after decoding; by default 8/7 of `size`, as 128 is to 112, and all of an
    image."""
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
class Features:
    """Features of a frozen pretrained body, computed once a video and kept.

    The body sees the frames of evenly spread clips of `clip.num_frames` at `clip.stride`.

    The chains of a body `features:…` (`discriminator.bodies`) go by `lr`, `temperature` and
    `prior_scale` of this section in place of those of `posterior`: a Gaussian prior around zero for
    all parameters alike, a burn-in of a third of `train.steps`, then samples at a constant step
    size, thinned to `posterior.max_samples`. Of `posterior` only `bayes`, the numbers of chains,
    the sampler with its integrator, friction and noise, `prior_exempt` and `max_samples` hold for
    them; `objective` only as far as labels go, `critic` not at all.
    """

    body: str = "efficientnet-lite0"
    """`efficientnet-lite0` (with its ImageNet weights), or `timm:<model>`."""
    weights: str | None = None
    """A file with pretrained weights, or the name of packaged ones, for a body that brings none."""
    size: Annotated[int, Range(8)] = 160
    """Pixels a side of the middle square of each frame that the body sees."""
    clips: Count = 5
    """Clips of each video."""
    summary: Summary = "difference"
    """What a clip's vector is: the `mean` of its frames' features, the mean absolute `difference`
    of neighbouring frames' features, which sees motion and not what stands still, or `both`."""
    store: str | None = None
    """Folder of the feature stores; by default in the cache folder, as `motion_shapes` is."""
    length: Count | None = None
    """Of the vectors that the networks of a features body see in place of items; set where such a
    body's settings are made, never by hand."""
    noise: NonNegative = 0.0
    """Standard deviation of the noise that training adds to a vector, in units of the features'
    spread."""
    prior_scale: Positive = 16.0
    """The standard deviation of a weight's prior is this over the square root of the vector's
    length, so that logits have about this spread under the prior whatever the length."""
    temperature: NonNegative = 1e-3
    """Of the chains: 1 samples the stated posterior, whose N are the items that bear a label. With
    two labels a class that is broad: its mean needs thousands of samples. In rounds no temperature
    does: of n labels and m pseudo-labels that are half of each batch, a label counts as (n+m)/2n
    items."""
    lr: Positive = 3e-3
    """Step size of Adam in burn-in, and of the sampler after it."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A generator's architecture."""

    name: str = "two_stream"
    """`residual` (clips and images), `two_stream` (clips), `dcgan`, `notebook` or `tensorflow`
    (images, the published codes' own), or `mlp` (vectors)."""
    streams: Literal[1, 2] = 2
    """Of `residual` for clips: 2 is a moving foreground over a still background, 1 is for scenes in
    which nothing stands still."""
    width: Count = 64
    """Channels of the last map; of `residual` those of the first, which are the most."""
    size: Count | None = None
    """Pixels a side of what generators make and critics see; by default `clip.size`, which suits
    the classifiers: a pretrained body may want 112 or 224 where a game at 64 is dear enough."""
    latent_dim: Count = 100
    latent: Literal["normal", "uniform"] = "normal"
    """Distribution of a latent's entries: standard normal, or uniform on (-1, 1)."""
    norm: Norm = "batch"


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    """A discriminator's architecture; the supervised network has the same body."""

    input: Literal["rgb", "difference"] = "rgb"
    """`difference`: the classes see every frame minus the one before it, which leaves what moves;
    the fake logit sees the frames as well where it stands `beside` them."""
    fake: Literal["beside", "coupled"] = "beside"
    """`input=difference`: whether the fake logit stands beside normalised class logits, which then
    nothing adversarial reaches, or is coupled to them in one softmax over K+1 (Salimans et al.
    2016), and sees the differences alone."""
    name: str = "dcgan"
    """`dcgan`, a video network of torchvision (`r3d_18`, `mvit_v2_s`, …), `timm:<model>`,
    `notebook` or `tensorflow` (images, the published codes' own), `mlp` (vectors), or one's own:
    `python:package.module:function` (docs/pretrained.md)."""
    width: Count = 64
    norm: Norm = "batch"
    """`dcgan`. With batch norm and an average pool a body tells fakes hardly at all: they are
    normalised apart from real items. The classes do not mind."""
    dropout: Annotated[float, Range(0, 0.95)] = 0.0
    head: Literal["pool", "flatten"] = "pool"
    """`dcgan`: average the last feature map, or read all of it as the original does."""
    temporal: Literal["pool", "inflate"] = "pool"
    """`timm:`: run on frames and average, or turn its 2-D kernels into 3-D ones."""
    weights: str | None = None
    """Pretrained weights of the body `name`, also where `bodies` names it among others: a file
    (safetensors, or one that `torch.save` wrote), or `efficientnet-lite0` for
    `timm:tf_efficientnet_lite0`."""
    body_lr: Annotated[float, Range(0, 1, exclusive=True)] = 1.0
    """Step size of the body as a part of the head's, in burn-in and in sampling: small ones keep
    pretrained weights near where they were."""
    freeze: int | tuple[str, ...] = 0
    """What of a body of clips or images never moves: its first so many layers with kernels, in the
    order in which it defines them, with all that it defines before the next; or names of its
    modules (`[conv1, layer1]`). Batch norms among them keep their statistics."""
    freeze_norm: bool = False
    """All batch norms of the body keep statistics, scales and shifts."""
    bodies: tuple[str, ...] = ()
    """Bodies that the chains of the Bayesian GAN have, each with chains of its own: names as in
    `name`, `name@rgb` or `name@difference`, or `features:<features.body>`, a linear layer on frozen
    features. They teach each other in rounds and answer together. Empty: one body, `name`. The
    first one alone plays the game and learns by the terms of `objective` that look at unlabelled
    items; of others the labelled term is left."""
    combine: Literal["product", "weighed", "mean"] = "product"
    """How bodies answer together: the product of their probabilities, normalised, which is right
    where they err independently of each other; the product of powers of them, by which the
    validation videos are likeliest; or the mean."""


@dataclass(frozen=True, kw_only=True)
class Critic:
    """What judges the looks of generated items, beside the classifiers (method/game.py)."""

    name: Literal["none", "hybrid"] = "none"
    """`none`: generators play against the K+1-class discriminators, as in Saatchi & Wilson 2017.
    `hybrid`: they play against critics of their own, which see frames, their differences and single
    frames, under the relativistic pairing loss with R1 and R2 (Huang et al. 2024)."""
    num: Count = 1
    """Chains, times `posterior.num_mcmc`; every generator faces every critic."""
    width: Count = 32
    penalty: NonNegative = 1.0
    """Gamma of R1 and R2: half of it weighs the squared gradient of a critic by its items."""
    penalty_every: Count = 4
    """Steps from one penalty to the next, which weighs as many times as much: its gradient is the
    same in the mean, at a part of the cost of a second backward pass."""
    burn_in_lr: Positive = 1e-3
