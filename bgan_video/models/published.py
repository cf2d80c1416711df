"""The networks of the two published Bayesian GANs and of their synthetic experiment.

`notebook` is the PyTorch code (DCGAN for 32×32, Radford et al. 2016), `tensorflow` the first one
(Saatchi & Wilson 2017), whose sizes are halved and rounded up. Both have K+1 logits here, index 0
'fake'. What differs from `dcgan` is what their authors chose: biases, kernels, widths, initial
weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from einops.layers.torch import Rearrange
from torch import Tensor, nn

from bgan_video.errors import UserError
from bgan_video.models import nd
from bgan_video.models.generators import Generated

_NOTEBOOK_SIZE = 32
_MAX_WIDTH = 512


class Stack(nn.Module):
    """A generator that is a sequence of layers, and what brings their outputs into range."""

    def __init__(self, latent_dim: int, layers: Sequence[nn.Module], end: nn.Module) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(*layers)
        self.end = end

    def forward(self, z: Tensor) -> Generated:
        return Generated(self.end(nd.at_least_float32(self.layers(z))), mask=None)


def notebook_generator(latent_dim: int, width: int, size: int, channels: int) -> nn.Module:
    """ConvT 8w·4² → 4w → 2w → channels, batch norm and ReLU between, tanh; no bias."""
    _check_notebook_size(size)
    layers: list[nn.Module] = [Rearrange("b z -> b z 1 1")]
    layers += [nn.ConvTranspose2d(latent_dim, 8 * width, 4, 1, 0, bias=False)]
    for inner in (8 * width, 4 * width):
        layers += [nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(inner, inner // 2, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(2 * width, channels, 4, 2, 1, bias=False)]
    generator = Stack(latent_dim, layers, nn.Tanh())
    for layer in generator.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return generator


def notebook_body(width: int, size: int, channels: int) -> tuple[nn.Module, int]:
    """Four strided convolutions without bias; its initial weights are torch's, as published."""
    _check_notebook_size(size)
    layers: list[nn.Module] = []
    inner, outer = channels, width
    for index in range(4):
        layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(outer)] if index else []
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        inner, outer = outer, 2 * outer
    return nn.Sequential(*layers, nn.Flatten()), inner * (size // 16) ** 2


def tensorflow_generator(latent_dim: int, width: int, size: int, channels: int) -> nn.Module:
    """Linear → 2×2, three transposed convolutions of 3×3, one of 5×5, tanh."""
    sizes, widths = _halved(size), _widths(width)
    base = sizes[-1]
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, widths[-1] * base**2),
        Rearrange("b (c h w) -> b c h w", h=base, w=base),
        _norm(widths[-1]),
        nn.ReLU(inplace=True),
    ]
    for i in range(3, 0, -1):
        layers += [_upsample(widths[i], widths[i - 1], 3, sizes[i], sizes[i - 1])]
        layers += [_norm(widths[i - 1]), nn.ReLU(inplace=True)]
    layers += [_upsample(widths[0], channels, 5, sizes[0], size)]
    generator = Stack(latent_dim, layers, nn.Tanh())
    initialise_tensorflow(generator)
    return generator


def tensorflow_body(width: int, size: int, channels: int) -> tuple[nn.Module, int]:
    """A strided convolution of 5×5, three of 3×3, and a linear layer of 512 features.

    `initialise_tensorflow` is for the whole discriminator, with its head.
    """
    sizes, widths = _halved(size), _widths(width)
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 5, 2, 2), nn.LeakyReLU(0.2, True)]
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Conv2d(inner, outer, 3, 2, 1), _norm(outer), nn.LeakyReLU(0.2, True)]
    features = widths[-1] * sizes[-1] ** 2
    layers += [nn.Flatten(), nn.Linear(features, _MAX_WIDTH), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers), _MAX_WIDTH


def mlp_generator(latent_dim: int, width: int, length: int) -> nn.Module:
    """From a latent through one hidden layer to a vector of any range."""
    layers = [nn.Linear(latent_dim, width), nn.LeakyReLU(0.2), nn.Linear(width, length)]
    return Stack(latent_dim, layers, nn.Identity())


def mlp_body(width: int, length: int) -> tuple[nn.Module, int]:
    """From a vector to one hidden layer."""
    return nn.Sequential(nn.Linear(length, width), nn.LeakyReLU(0.2)), width


def _check_notebook_size(size: int) -> None:
    if size != _NOTEBOOK_SIZE:
        raise UserError(
            f"clip.size={size}: the notebook's networks take {_NOTEBOOK_SIZE}; "
            f"for other sizes use tensorflow or dcgan"
        )


def _halved(size: int) -> list[int]:
    """Sides after each of four halvings, rounded up: 28 → 14, 7, 4, 2."""
    return [math.ceil(size / 2**i) for i in range(1, 5)]


def _widths(width: int) -> list[int]:
    return [min(width << i, _MAX_WIDTH) for i in range(4)]


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


def _upsample(inner: int, outer: int, kernel: int, size: int, larger: int) -> nn.Module:
    """To `larger`, which is twice the size or one less."""
    extra = larger - (2 * size - 1)
    return nn.ConvTranspose2d(inner, outer, kernel, 2, kernel // 2, output_padding=extra)


def initialise_tensorflow(network: nn.Module) -> None:
    """N(0, 0.02) for every weight, biases and heads included."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.02)
