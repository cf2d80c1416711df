"""The configurational temperature of a sampler's weights: theta . grad U over their number."""
# torch names its multi-tensor operations with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from typing import Any

import torch
from torch import Tensor

from bgan_video.sampling.sampler import Sampler


class Virial:
    """Means of N theta . g / d over the steps of a sampler, for each of its parameters.

    Under exp(-U(theta)/T) the mean of theta . grad U over a tensor of d weights is d T, whatever U
    is, as long as the density falls to zero far out (integration by parts, the virial theorem; as a
    check of a sampler: Leimkuhler & Matthews 2015, 6.1.5; of networks' chains: Wenzel et al. 2020,
    arXiv:2002.02405, appendix on diagnostics). The kinetic temperature says whether momenta are as
    warm as they should be, this one whether the weights themselves have come to rest: as long as
    they drift it is far off, of either sign.

    g is a minibatch's gradient of the mean-loss potential L = U/N, taken where the step begins, so
    its noise is independent of theta and leaves the mean alone. Gradients that are clipped are
    another potential's.

    Args:
        sampler: Whose steps are seen, those that another optimiser makes are not.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.params: list[Tensor] = [p for group in sampler.param_groups for p in group["params"]]
        # Of each parameter, and the number of steps. In place, so that a step can be recorded.
        self._sums = torch.zeros(len(self.params) + 1, device=self.params[0].device)
        sampler.register_step_pre_hook(self._see)

    def take(self) -> list[float]:
        """The means since the last call, in the units of T; empty where there was no step."""
        *sums, steps = [float(value) for value in self._sums.cpu()]
        self._sums.zero_()
        return [total / steps for total in sums] if steps else []

    def state_dict(self) -> dict[str, Any]:
        """What has been summed since the last call of `take`."""
        return {"sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._sums.copy_(state["sums"])

    @torch.no_grad()
    def _see(self, *_: object) -> None:
        seen = [param.grad is not None for param in self.params]
        moving = [param for param, is_seen in zip(self.params, seen, strict=True) if is_seen]
        if not moving:
            return
        products = torch._foreach_mul(moving, [p.grad for p in moving if p.grad is not None])
        (num_data,) = {float(group["num_data"]) for group in self._sampler.param_groups}
        means = iter([product.mean() for product in products])
        zero = self._sums.new_zeros(())
        found = torch.stack([next(means) if is_seen else zero for is_seen in seen])
        self._sums[:-1] += num_data * found
        self._sums[-1] += 1
