"""The kinds of items, of methods and of numbers there are."""

from __future__ import annotations

from typing import Annotated, Literal

from bgan_video.parsing import Range

Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, exclusive=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Norm = Literal["batch", "group", "none"]
Method = Literal[
    "bayesian_gan",
    "supervised",
    "deep_ensemble",
    "mc_dropout",
    "self_training",
    "self_training_ensemble",
    "swag",
    "laplace",
    "pseudo_label",
    "mean_teacher",
    "fixmatch",
    "ml_gan",
    "cold_gan",
    "linear_probe",
    "knn",
    "self_training_probe",
]
LABELS_ONLY: tuple[Method, ...] = ("supervised", "deep_ensemble", "mc_dropout")
ON_FEATURES: tuple[Method, ...] = ("linear_probe", "knn", "self_training_probe")
"""They are fitted to frozen features, without steps."""
DRAWN: tuple[Method, ...] = ("swag", "laplace")
"""They learn one network in each round and answer by networks drawn around it."""
SELF_TRAINING: tuple[Method, ...] = ("self_training", "self_training_ensemble", *DRAWN)
"""Networks of the settings' own body that learn from labels and, in rounds, from pseudo-labels of
their own, without any GAN."""
BELIEVERS: tuple[Method, ...] = ("bayesian_gan", *SELF_TRAINING, "self_training_probe")
"""They learn from labels and, in rounds, from pseudo-labels of their own."""
NEED_LABELS = (
    *(*LABELS_ONLY, *SELF_TRAINING, "pseudo_label", "mean_teacher", "fixmatch"),
    *ON_FEATURES,
)
"""They learn nothing without a label."""
GANS = ("bayesian_gan", "ml_gan", "cold_gan")
SIZED = (
    *("bayesian_gan", "cold_gan", "deep_ensemble", "mc_dropout", "self_training_ensemble"),
    *DRAWN,
)
"""They have as many networks as posterior samples are taken."""


IN_ROUNDS: tuple[Method, ...] = (
    *("self_training", "self_training_ensemble", "self_training_probe"),
)
"""Without rounds they would be other methods under another name."""


def model_of(method: str) -> str:
    """What `metrics.json` calls a method: the Bayesian GAN's posterior is `bayesian` there."""
    return "bayesian" if method == "bayesian_gan" else method


LABEL_CHOICES = ("labels_per_class", "num_labelled", "label_fraction", "label_list")
"""The settings of `data` that say which labels are used; one of them at most is set."""

SpatialDims = Literal[0, 2, 3]
"""Axes behind batch and channels: none for vectors, two for images, three for clips."""

Summary = Literal["mean", "difference", "both"]
"""What a clip's vector is made of, from the features of its frames."""

FEATURES = "features:"
"""What a body's name begins with that sees features of a frozen body, whose name is behind it."""

_IMAGES = ("mnist", "cifar10", "svhn", "celeba", "image_folder")
GREY = ("mnist",)
VECTORS = "synthetic"
VECTOR_LENGTH = 100


ITEMS: dict[SpatialDims, str] = {0: "points", 2: "images", 3: "videos"}
"""What a person calls them."""


def spatial_dims_of(layout: str) -> SpatialDims:
    """The axes of a layout's items behind batch and channels."""
    if layout == VECTORS:
        return 0
    return 2 if layout in _IMAGES else 3
