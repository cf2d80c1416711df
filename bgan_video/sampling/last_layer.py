"""Last-layer Laplace: a Gaussian over the weights of a softmax's linear layer."""

import math
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bgan_video.errors import UserError

_LOG_PRECISIONS = range(-20, 21)


def check_installed() -> None:
    """Raises UserError where laplace-torch is not installed."""
    if find_spec("laplace") is None:
        raise UserError(
            "baseline.methods: laplace needs laplace-torch: pip install 'bgan_video[laplace]', or "
            "take it out"
        )


class LastLayer:
    """N(w, (H + δ)^-1) around a layer's weights w (Daxberger et al. 2021, arXiv:2106.14806).

    H is the Gauss-Newton matrix of the cross-entropy summed over items, which for a linear softmax
    layer is its Hessian, as the product of one matrix of features and one of classes (Ritter et
    al. 2018): exact for one item, an approximation for more. δ is the precision of a Gaussian prior
    around zero, the one of highest marginal likelihood. By laplace-torch, in float64.

    Args:
        features: What the layer sees of N items, `[N, F]`; a column of ones where it has a bias.
        labels: Theirs, `[N]` in 0..K-1.
        weight: w, `[K, F]`.

    Attributes:
        prior_precision: δ.

    Raises:
        UserError: laplace-torch is not installed.
    """

    def __init__(self, features: Tensor, labels: Tensor, weight: Tensor) -> None:
        check_installed()
        layer = nn.Linear(weight.shape[1], len(weight), bias=False).double()
        layer.load_state_dict({"weight": weight})
        data = DataLoader(TensorDataset(features.double(), labels), batch_size=256)
        with warnings.catch_warnings():  # of torch's deprecations, and of a way not taken here
            warnings.simplefilter("ignore")
            library: Any = import_module("laplace")
            self._gaussian = library.Laplace(
                layer, "classification", subset_of_weights="all", hessian_structure="kron"
            )
            self._gaussian.fit(data)
        self.prior_precision = self._best_precision()
        self._gaussian.prior_precision = self.prior_precision
        self._shape = weight.shape

    def _best_precision(self) -> float:
        """δ of highest marginal likelihood: the best power of e, then the best near it, to 5 %.

        The library's own search takes a hundred steps from 1, too few for a δ that is far from it.
        """

        def evidence(log_precision: float) -> float:
            precision = torch.tensor(math.exp(log_precision), dtype=torch.float64)
            return float(self._gaussian.log_marginal_likelihood(precision))

        near = max(_LOG_PRECISIONS, key=evidence)
        return math.exp(max((near + k / 20 for k in range(-20, 21)), key=evidence))

    @property
    def precision(self) -> Tensor:
        """`H + δ`, `[K·F, K·F]`, row by row of the weight."""
        return self._gaussian.posterior_precision.to_matrix().detach()

    def draw(self, generator: torch.Generator) -> Tensor:
        """A weight `[K, F]`, by a generator of the CPU."""
        (drawn,) = self._gaussian.sample(1, generator=generator).detach()
        return drawn.view(self._shape)
