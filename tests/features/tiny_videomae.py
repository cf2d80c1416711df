"""A small network of the class of CD-FVD's ViT-g/14, in files as its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

LIBRARY = "cdfvd.third_party.VideoMAEv2.utils"
FILE = "vit_g_hybrid_pt_1200e_ssv2_ft.pth"
WIDTH = 12


def small(depth: int = 2, **shape: Any) -> nn.Module:
    """Two narrow blocks, and weights large enough that clips differ."""
    from cdfvd.third_party.VideoMAEv2.videomaev2_finetune import VisionTransformer

    network = VisionTransformer(
        patch_size=14,
        embed_dim=WIDTH,
        depth=depth,
        num_heads=2,
        mlp_ratio=2,
        qkv_bias=True,
        **shape,
    )
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network


def write(file: Path, network: nn.Module, wrapper: str | None = "module") -> Path:
    """The network's weights as `torch.save` writes them, in a dictionary or bare."""
    state = network.state_dict()
    torch.save({wrapper: state} if wrapper else state, file)
    return file
