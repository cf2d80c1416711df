"""The features of CD-FVD: VideoMAE-v2 ViT-g/14, fine-tuned on Something-Something v2.

Fréchet distances in the features of a network that was taught the classes of Kinetics follow single
frames more than motion, and those in the features of this one less (Ge et al. 2024,
arXiv:2404.12391). The network, and how clips are made ready for it, are those of the authors'
package cd-fvd. Its loader is not used: it fetches a file that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgan_video.config import Config
from bgan_video.data.transforms import to_pixels
from bgan_video.errors import UserError
from bgan_video.models import weights

PREFIX = "videomae:"
"""Before the file of its weights, where an extractor is named."""

_NETWORK = "VideoMAE-v2 ViT-g/14 fine-tuned on Something-Something v2"
# As `load_videomae_model` of cd-fvd 0.1.1 builds it.
_SHAPE = {"img_size": 224, "num_classes": 174, "all_frames": 16, "tubelet_size": 2}

# Clips of 16 frames at once. Attention takes about 0.5 GB of each: the square of the frames.
_AT_ONCE = {"cpu": 1, "cuda": 4}
_FRAMES = 16


@dataclass(frozen=True)
class VideoMAE:
    """The network in evaluation mode.

    Attributes:
        name: What a reader has to know of it.
        network: cd-fvd's `VisionTransformer`.
        library: cd-fvd's module of VideoMAE-v2.
        device: Where it computes: in float32, whatever a run's precision is.
    """

    name: str
    network: Any
    library: Any
    device: torch.device

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """Features `[N, 1408]`, float32 on the CPU, of clips `[N, C, T, H, W]` in [-1, 1].

        As in `get_videomae_features` of cd-fvd: whole numbers 0..255 over 255, resized to 224×224
        without regard to their shape, not standardised. Grey clips have three equal colours. Codes
        of time are those of 16 frames, interpolated for more or fewer (`interpolate_pos_encoding`).
        """
        found: list[Tensor] = []
        at_once = max(1, _AT_ONCE[self.device.type] * _FRAMES**2 // clips.shape[2] ** 2)
        for batch in clips.split(at_once):
            x = self.library.preprocess_videomae(to_pixels(batch)).to(self.device)
            with torch.autocast(self.device.type, enabled=False):
                found.append(self.network.forward_features(x).cpu())
        return torch.cat(found)


def videomae(file: Path, config: Config, device: torch.device) -> VideoMAE:
    """The network with the weights of a file.

    Args:
        file: `vit_g_hybrid_pt_1200e_ssv2_ft.pth` as its authors publish it, or its weights by the
            same names in safetensors.
        config: Of the run whose clips it will see.
        device: To compute on.

    Raises:
        UserError: It sees no such items, cd-fvd is not installed, no such file, or other weights.
    """
    what = f"--extractor={PREFIX}{file}"
    _check_items(config, what)
    if not file.is_file():
        raise UserError(f"{what}: no such file")
    library = _library(what)
    with torch.random.fork_rng(devices=[]):
        network = library.vit_giant_patch14_224(**_SHAPE)
    _load(network, file, what)
    name = f"{_NETWORK}, as in CD-FVD ({file.name}; {config.clip.num_frames} frames)"
    return VideoMAE(name, network.eval().requires_grad_(False).to(device), library, device)


def _check_items(config: Config, what: str) -> None:
    if config.spatial_dims != 3:
        raise UserError(
            f"{what} sees clips, and data.layout={config.data.layout} has {config.items}; allowed "
            f"for them: a run's folder"
        )
    if config.clip.num_frames % _SHAPE["tubelet_size"]:
        raise UserError(
            f"{what} sees frames in pairs, and clip.num_frames={config.clip.num_frames} is odd; "
            f"allowed: even numbers, or a run's folder"
        )


def _library(what: str) -> Any:
    try:
        from cdfvd.third_party.VideoMAEv2 import utils
    except ImportError:
        raise UserError(f"{what} needs cd-fvd: pip install 'bgan_video[cd-fvd]'") from None
    return utils


def _load(network: Any, file: Path, what: str) -> None:
    """Load all of a file, its classifier too: by it one sees what the network was taught."""
    state, own = weights.read(str(file), what), network.state_dict()
    odd = [
        name
        for name in {**own, **state}
        if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if odd:
        raise UserError(
            f"{what} is not {_NETWORK}: {len(odd)} tensors are missing, unknown or of another "
            f"shape ({odd[0]} is the first); CD-FVD's are in vit_g_hybrid_pt_1200e_ssv2_ft.pth"
        )
    network.load_state_dict(state)
