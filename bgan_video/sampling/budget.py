"""What a temperature costs: the noise of the weights in nats of mean loss.

In a potential U that is quadratic about its least value each of d weights adds T/2 to the mean of U
under exp(-U/T) (equipartition), so the mean loss L = U/N of weights at rest lies d T / 2N above
its least value. Only weights that the loss feels count in full, so this is the most it can be near
one minimum. It is what makes temperatures comparable: T itself goes with the data and the network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Noise:
    """A temperature with what it acts on.

    Attributes:
        temperature: T >= 0.
        weights: d, the weights that are sampled, >= 1.
        num_data: N of the mean-loss potential, > 0.
    """

    temperature: float
    weights: int
    num_data: float

    @property
    def nats(self) -> float:
        """Of mean loss: d T / 2N."""
        return self.weights * self.temperature / (2 * self.num_data)

    def facts(self) -> dict[str, float]:
        """What a log says of it."""
        return {**asdict(self), "nats": self.nats}

    @staticmethod
    def within(budget: float, weights: int, num_data: float) -> Noise:
        """The highest temperature within a budget, and never above the posterior's own, T = 1.

        Args:
            budget: Nats of mean loss, > 0.
            weights: d, >= 1.
            num_data: N, > 0.
        """
        return Noise(min(1.0, 2 * num_data * budget / weights), weights, num_data)
