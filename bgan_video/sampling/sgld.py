"""Stochastic gradient Langevin dynamics (Welling & Teh 2011, ICML)."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

import math

import torch
from torch.optim.optimizer import ParamsT

from bgan_video.sampling.sampler import Sampler, with_gradient


class SGLD(Sampler):
    """SGLD on a mean-loss potential L = U/N.

        theta <- theta - lr g + sqrt(2 lr T / N) xi

    g is the gradient of L, xi standard normal. The target is exp(-U(theta)/T). In the units of
    Welling & Teh (eq. 4, step eps on the sum over all data) lr = eps N / 2. On a Gaussian target
    whose L has curvature c, with h = lr c, the stationary variance over its target is
    1 / (1 - h/2), stable for h < 2; minibatch noise of covariance V_g multiplies it by
    1 + lr N V_g / (2 T). Symplectic SGHMC with friction 1 makes the same steps.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        temperature: float,
        num_data: float,
        generator: torch.Generator | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            params: Parameters or groups of them, float32 or float64.
            lr: Step size on L, > 0.
            temperature: T >= 0; 1 samples the posterior, 0 is gradient descent.
            num_data: N > 0, the number of data items L is the mean over.
            generator: Source of the noise, on the parameters' device; None is torch's default one.

        Raises:
            ValueError: A setting is out of range or a parameter is not float32 or float64.
        """
        defaults = {"lr": lr, "temperature": temperature, "num_data": num_data}
        super().__init__(params, defaults, generator)

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - takes no closure
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            params, gradients = with_gradient(group)
            if params:
                torch._foreach_add_(params, gradients, alpha=-group["lr"])
                variance = 2 * group["lr"] * group["temperature"] / group["num_data"]
                self.add_noise(params, math.sqrt(variance))
