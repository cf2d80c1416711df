"""How several bodies answer together, and what each one's word is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bgan_video.files import write_atomically
from bgan_video.prediction.predict import Prediction, entropy

WEIGHTS = Path("posterior") / "body_weights.json"
"""In a run's folder: what its bodies' words are worth, by the bodies' names."""
_STEPS = 100


def combine(parts: Sequence[Prediction], how: str, weights: Sequence[float]) -> Prediction:
    """What several bodies say together of some videos.

    `product`: with bodies that err independently of each other given the class, and classes alike
    often, `p(y|x) ∝ Π_b p_b(y|x)`. `weighed`: the logarithmic opinion pool `∝ Π_b p_b(y|x)^w_b`
    (Genest & Zidek 1986). `mean`: the mixture. The networks of all bodies stand side by side, so
    that the mutual information is that within bodies and between them.

    Args:
        parts: Of each body, at least one.
        how: `product`, `weighed` or `mean`.
        weights: w of each body, which only `weighed` asks for.
    """
    if len(parts) == 1:
        return parts[0]
    answers = torch.stack([p.video_probabilities for p in parts])
    if how == "mean":
        together = answers.mean(dim=0)
    else:
        exponents = answers.new_tensor(weights if how == "weighed" else [1.0] * len(parts))
        together = _pool(_log(answers), exponents).exp()
    networks = _alike_often([p.network_probabilities for p in parts])
    # Only the first body plays the game, and knows what is fake.
    return Prediction(together, networks, parts[0].p_fake, together)


def information(parts: Sequence[Prediction]) -> tuple[Tensor, Tensor]:
    """The mutual information of label and networks of several bodies, in two parts, `[V]` each.

    Within bodies, the mean of each one's own, and between them, that of label and body: together
    the mutual information of what `combine` gives, whose networks are the same.

    Args:
        parts: Of each body, at least one.
    """
    chosen = _alike_often([p.network_probabilities for p in parts])
    of_bodies = torch.stack(chosen.chunk(len(parts)))  # [bodies, S, V, K]
    means = of_bodies.mean(dim=1)
    own = entropy(means).mean(dim=0)
    return own - entropy(of_bodies).mean(dim=(0, 1)), entropy(means.mean(dim=0)) - own


def fit_weights(parts: Sequence[Prediction], labels: Tensor) -> list[float]:
    """What bodies' words are worth: the weights under which labels are likeliest.

    They need not add up to one: bodies that are together less sure than they are right weigh more.
    `log w_b ~ N(0, 1)`, so that few videos move them little.

    Args:
        parts: What each body says of videos.
        labels: Theirs, `[V]`.
    """
    log_p = _log(torch.stack([p.video_probabilities for p in parts]).double())
    log_weights = torch.zeros(len(parts), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_weights], max_iter=_STEPS, line_search_fn="strong_wolfe")
    videos = torch.arange(len(labels))

    def potential() -> Tensor:
        optimizer.zero_grad()
        said = _pool(log_p, log_weights.exp())[videos, labels]
        u = 0.5 * log_weights.square().sum() - said.sum()
        u.backward()
        return u

    optimizer.step(potential)  # pyright: ignore[reportArgumentType] - wants a float, takes a Tensor
    return log_weights.detach().exp().tolist()


def write_weights(folder: Path, weights: Mapping[str, float]) -> None:
    """Keep with a run what its bodies' words are worth, by the bodies' names."""
    write_atomically(folder / WEIGHTS, json.dumps(dict(weights), indent=2) + "\n")


def read_weights(folder: Path) -> dict[str, float]:
    """What `write_weights` wrote; empty where the run has not ended, or its bodies weigh alike."""
    file = folder / WEIGHTS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _log(probabilities: Tensor) -> Tensor:
    """A class that a body rules out stays a number."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _pool(log_p: Tensor, weights: Tensor) -> Tensor:
    """Log-probabilities `[V, K]` of the pool of `[bodies, V, K]`."""
    return torch.einsum("b,bvk->vk", weights, log_p).log_softmax(dim=1)


def _alike_often(networks: Sequence[Tensor]) -> Tensor:
    """As many networks `[S, V, K]` of each body: of those with more, evenly spread ones."""
    least = min(map(len, networks))
    chosen = (torch.linspace(0, len(p) - 1, least).round().long() for p in networks)
    return torch.cat([p[which] for p, which in zip(networks, chosen, strict=True)])
