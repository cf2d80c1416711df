"""Frozen bodies: pretrained networks that make features and are never trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bgan_video.backend import Backend
from bgan_video.config import Config, Features
from bgan_video.errors import UserError
from bgan_video.models.backbones import TIMM_PREFIX, timm_body
from bgan_video.models.weights import PACKAGED
from bgan_video.video.decoders import stand_in

# Frames at once: on CPUs more of them leave the cache, on GPUs fewer leave it idle.
_BATCH = {"cpu": 16, "cuda": 64}


@dataclass(frozen=True)
class FrozenBody:
    """An image network in evaluation mode.

    Attributes:
        name: As the settings have it.
        size: Pixels a side of the frames it sees.
        num_features: D.
        digest: Hash of its weights.
        network: From images `[B, 3, size, size]` in [-1, 1] to features `[B, D]`.
        backend: Its device. Features are computed in float32 whatever a run's precision is, so
            that those of one store are alike.
    """

    name: str
    size: int
    num_features: int
    digest: str
    network: nn.Module
    backend: Backend

    summaries: Sequence[str] = ("mean", "difference")
    """What is kept of a clip's frames' features, in this order."""

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        """Features `[N, D]`, float32 on the CPU, of frames `[N, 3, size, size]` in [-1, 1]."""
        device = self.backend.device
        found: list[Tensor] = []
        for batch in frames.split(_BATCH[device.type]):
            images = batch.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, enabled=False):
                found.append(self.network(images).cpu())
        return torch.cat(found)

    def settings(self, config: Config) -> dict[str, Any]:
        """All that the features of a video's clips depend on, beside the video."""
        c = config.clip
        return {
            "schema": 1,
            "body": self.name,
            "weights": self.digest,
            "num_features": self.num_features,
            "summaries": list(self.summaries),
            "size": self.size,
            "clips": config.features.clips,
            "num_frames": c.num_frames,
            "stride": c.stride,
            "short_clip": c.short_clip,
            "decoder": stand_in(config.data.decoder),
            # Only where it is set, so that stores made before there was such a setting serve.
            **({} if c.fps is None else {"fps": c.fps}),
        }


def frozen_body(features: Features, backend: Backend) -> FrozenBody:
    """The body that `features.body` names, with its weights.

    Raises:
        UserError: No such body, no weights, or weights that do not fit.
    """
    model, weights = _model_and_weights(features)
    body = timm_body(model, features.size, 2, "pool", weights, "features.weights")
    network, num_features = body.module, body.num_features
    network = network.eval().requires_grad_(False)
    digest = _digest(network)
    network = network.to(backend.device).to(memory_format=torch.channels_last)
    return FrozenBody(features.body, features.size, num_features, digest, network, backend)


class FrozenBodies:
    """The frozen bodies of a run, each opened once, however many parts of the run ask for it.

    Args:
        backend: Its device.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._opened: dict[tuple[str, str | None, int], FrozenBody] = {}

    def __call__(self, features: Features) -> FrozenBody:
        """As `frozen_body` gives it; raises what that raises."""
        key = (features.body, features.weights, features.size)
        if key not in self._opened:
            self._opened[key] = frozen_body(features, self._backend)
        return self._opened[key]


def _model_and_weights(features: Features) -> tuple[str, str]:
    name, weights = features.body, features.weights
    if name in PACKAGED:
        if weights is not None:
            raise UserError(
                f"features.body={name} brings its weights; set features.weights to null, or "
                f"features.body={TIMM_PREFIX}{PACKAGED[name].model}"
            )
        return PACKAGED[name].model, name
    if not name.startswith(TIMM_PREFIX):
        raise UserError(
            f"features.body={name} is not known; allowed: {', '.join(PACKAGED)}, timm:<model>"
        )
    if weights is None:
        raise UserError(
            f"features.body={name} needs features.weights: a frozen body with random weights sees "
            f"nothing; or set features.body={next(iter(PACKAGED))}"
        )
    return name.removeprefix(TIMM_PREFIX), weights


def _digest(network: nn.Module) -> str:
    """BLAKE2b-128 of all weights and statistics, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
