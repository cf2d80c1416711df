"""All networks of a run as one module: from a clip's bytes to what the run says of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from bgan_video.data.feature_store import rows
from bgan_video.errors import UserError
from bgan_video.features.extraction import summarised
from bgan_video.method import losses
from bgan_video.prediction.bodies import Body
from bgan_video.prediction.predict import Networks, Prediction
from bgan_video.prediction.together import combine
from bgan_video.prediction.trained import TrainedRun


@dataclass(frozen=True)
class Input:
    """A clip that the program takes: `uint8 [B, num_frames, H, W, 3]`, RGB.

    Attributes:
        name: Of the argument.
        short_side: Pixels of the frames' short side; frames of another size are to be resized.
        size: Pixels a side of the middle square that is looked at.
    """

    name: str
    short_side: int
    size: int


class Program(nn.Module):
    """The posterior predictive of clips, the mean over all networks inside.

    Args:
        parts: Of each body, its networks.
        how: How bodies answer together (`together.combine`).
        weights: What each one's word is worth.
        knows_fakes: Whether p(fake) means anything; else it is left out.
    """

    def __init__(
        self,
        parts: Sequence[ClipPart | FeaturePart],
        how: str,
        weights: Sequence[float],
        knows_fakes: bool,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.how, self.weights, self.knows_fakes = how, list(weights), knows_fakes

    @property
    def inputs(self) -> list[Input]:
        """The arguments, each once: bodies that see the same clip share it."""
        return list(dict.fromkeys(part.input for part in self.bodies))

    @property
    def outputs(self) -> list[str]:
        """The names of what it tells, in order."""
        p_fake = ["p_fake"] if self.knows_fakes else []
        of_bodies = ["body_probabilities"] if len(self.parts) > 1 else []
        return ["probabilities", "mutual_information", *p_fake, *of_bodies]

    @property
    def bodies(self) -> list[ClipPart | FeaturePart]:
        """The bodies, in order."""
        return list(self.parts)  # pyright: ignore[reportReturnType] - a ModuleList forgets

    def forward(self, *clips: Tensor) -> dict[str, Tensor]:
        """What the run says of a batch of clips.

        Args:
            clips: In the order of `inputs`.

        Returns:
            `probabilities [B, K]`, `mutual_information [B]` in nats, where the networks learned
            from fakes `p_fake [B]`, and of several bodies `body_probabilities [B, bodies, K]`,
            what each says alone; float32.
        """
        given = dict(zip(self.inputs, clips, strict=True))
        parts = [part(given[part.input]) for part in self.bodies]
        said = combine(parts, self.how, self.weights)
        told = {
            "probabilities": said.video_probabilities,
            "mutual_information": said.mutual_information,
            "p_fake": said.p_fake,
            "body_probabilities": torch.stack([p.video_probabilities for p in parts], dim=1),
        }
        return {name: told[name] for name in self.outputs}


class ClipPart(nn.Module):
    """The networks of a body that sees clips."""

    def __init__(self, networks: Sequence[nn.Module], input: Input) -> None:
        super().__init__()
        self.networks, self.input = nn.ModuleList(networks), input

    def forward(self, clip: Tensor) -> Prediction:
        """What they say of clips `uint8 [B, T, H, W, 3]`."""
        return _judged(self.networks, to_network(clip, self.input.size))


class FeaturePart(nn.Module):
    """A frozen body, and the layers on its features."""

    mean: Tensor
    spread: Tensor

    def __init__(self, networks: Sequence[nn.Module], input: Input, body: Body) -> None:
        super().__init__()
        vectors = body.vectors
        assert vectors is not None
        self.networks, self.input = nn.ModuleList(networks), input
        self.frozen = copy.deepcopy(vectors.frozen.network)
        self.summaries = tuple(vectors.frozen.summaries)
        self.rows = rows(self.summaries, vectors.config.features.summary)
        self.register_buffer("mean", vectors.scale.mean)
        self.register_buffer("spread", vectors.scale.spread)

    def forward(self, clip: Tensor) -> Prediction:
        """What they say of clips `uint8 [B, T, H, W, 3]`."""
        seen = to_network(clip, self.input.size)
        frames = rearrange(seen, "b c t h w -> (b t) c h w")
        features = rearrange(self.frozen(frames), "(b t) d -> b t d", t=clip.shape[1])
        chosen = summarised(features, self.summaries)[:, self.rows]
        vectors = (rearrange(chosen, "b s d -> b (s d)") - self.mean) / self.spread
        return _judged(self.networks, vectors)


def to_network(clip: Tensor, size: int) -> Tensor:
    """The middle square `[B, 3, T, size, size]` in [-1, 1] of `uint8 [B, T, H, W, 3]`.

    The same pixels as `data.transforms.test_view`, which rounds half a pixel to the even one.
    """
    for axis in (2, 3):
        spare = clip.shape[axis] - size
        half = spare // 2
        first = half + (spare % 2) * (half % 2)
        # By index: a slice would have the exporter prove that it ends inside of every frame.
        clip = clip.index_select(axis, first + torch.arange(size, device=clip.device))
    return rearrange(clip, "b t h w c -> b c t h w").float() / 255 * 2 - 1


def of_run(run: TrainedRun) -> Program:
    """The program of the model that answers for a run, on the CPU.

    Raises:
        UserError: It has no clips, or answers with dropout left on.
    """
    if run.config.spatial_dims != 3:
        raise UserError(
            f"a program takes clips, and {run.folder} was trained on {run.config.items}"
        )
    if run.answering == "mc_dropout":
        raise UserError(
            f"{run.folder} answers by MC-dropout, which draws anew each time; a program gives the "
            f"same answer each time: --to hub keeps the run as it is"
        )
    knows_fakes = run.answering in run.know_fakes
    bodies = run.answering_bodies(run.frames(()))
    if bodies:
        parts, weights = [_part(run, body) for body in bodies], [body.weight for body in bodies]
    else:
        parts, weights = [ClipPart(copies(run.networks(run.answering)), _clip_input(run))], [1.0]
    made = Program(parts, run.config.discriminator.combine, weights, knows_fakes)
    return made.eval().cpu()


def copies(networks: Networks) -> list[nn.Module]:
    """The networks side by side: `Stored` gives one module again and again."""
    return [copy.deepcopy(network) for network in networks]


def _part(run: TrainedRun, body: Body) -> ClipPart | FeaturePart:
    networks = copies(run.answering_networks(body))
    if body.vectors is None:
        return ClipPart(networks, _clip_input(run))
    size = body.vectors.frozen.size
    return FeaturePart(networks, Input(f"clip_{size}", size, size), body)


def _clip_input(run: TrainedRun) -> Input:
    return Input("clip", run.config.load_size, run.config.clip.size)


def _judged(networks: nn.ModuleList, seen: Tensor) -> Prediction:
    """What networks say, a clip being a video of its own."""
    logits = [network(seen).float() for network in networks]
    p = torch.stack([losses.class_probabilities(of_network) for of_network in logits])
    fake = torch.stack([losses.log_fake(of_network).exp() for of_network in logits])
    return Prediction(p.mean(dim=0), p, fake.mean(dim=0))
