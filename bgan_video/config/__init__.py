"""The settings of a run: frozen dataclasses, read from YAML and `key=value`.

`load` is the one way in. Whatever it returns is valid in itself; whether the data and the device
can serve it is found out by the layers that use it.
"""

from bgan_video.config.files import (
    CHANGES,
    dotted,
    flat,
    from_mapping,
    load,
    load_run,
    to_mapping,
    to_yaml,
)
from bgan_video.config.kinds import (
    BELIEVERS,
    DRAWN,
    FEATURES,
    GANS,
    IN_ROUNDS,
    ITEMS,
    LABEL_CHOICES,
    LABELS_ONLY,
    ON_FEATURES,
    SELF_TRAINING,
    SIZED,
    Method,
    SpatialDims,
    Summary,
    model_of,
    spatial_dims_of,
)
from bgan_video.config.learning import Baseline, Compat, Objective, Posterior, Rounds, Train
from bgan_video.config.schema import Config
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

__all__ = [
    "BELIEVERS",
    "CHANGES",
    "DRAWN",
    "FEATURES",
    "GANS",
    "IN_ROUNDS",
    "ITEMS",
    "LABELS_ONLY",
    "LABEL_CHOICES",
    "ON_FEATURES",
    "SELF_TRAINING",
    "SIZED",
    "Augment",
    "Baseline",
    "Clip",
    "Compat",
    "Config",
    "Critic",
    "Data",
    "Discriminator",
    "Features",
    "Generator",
    "Method",
    "Objective",
    "Posterior",
    "Rounds",
    "Run",
    "SpatialDims",
    "Summary",
    "Train",
    "dotted",
    "flat",
    "from_mapping",
    "load",
    "load_run",
    "model_of",
    "spatial_dims_of",
    "to_mapping",
    "to_yaml",
]
