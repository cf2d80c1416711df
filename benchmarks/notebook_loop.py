"""The published PyTorch notebook's training loop, and how many times faster a step of ours is.

    python -m benchmarks.notebook_loop [--config FILE] [key=value ...]   (minutes on a CPU)

`NotebookLoop` is written anew for today's torch from a description of the notebook (Saatchi &
Wilson's Bayesian GAN in PyTorch). The networks are this package's own modules, the same on both
sides, so what is timed is the loop. What the notebook does, and is kept:

- every one of the J_g·M generators makes a whole batch of fakes in a forward of its own; the M
  chains of one z-group share their latents;
- one discriminator. It sees real images, all fakes concatenated and labelled images in one forward
  each, in training mode, and the same fakes once more, in one forward, for all generators. The
  description does not count the forwards. This reading fits what it says: the fake loss is a mean
  over concatenated fakes, and 53 % of the running statistics come from fakes, as they do in the
  order real, fake, labelled, fake again with torch's momentum of 0.1;
- the generators' backward deposits gradients in the discriminator that nobody uses;
- prior (without its ½) and noise are terms of the loss, over every weight, drawn and
  differentiated at every step; each network has an Adam of its own;
- a supervised network takes a step as well. How it codes the classes is not in the description;
  here its cross-entropy is over the same K+1 logits as the discriminator's.

What is not kept: the noise has a fresh buffer for every draw, since torch now refuses the reuse
that gave all generators the same noise. Generators do not share batch norms. Loading is left out,
also the labelled DataLoader that the notebook rebuilds every step: both sides have their data in
memory. So are evaluation, logging and files.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.__main__ import interleaved
from bgan_video import config
from bgan_video.backend import Backend, resolve_backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.models import Classifier, published
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

SIZE, CHANNELS, LATENT_DIM = 32, 3, 100
NUM_CLASSES, NUM_IMAGES, NUM_LABELLED = 10, 50_000, 4_000  # CIFAR-10
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
PRIOR_STD = 1.0
ALPHA = 1e-4
NUM_DATA_GENERATOR = 1000
# As the notebook has them; neither is the posterior's.
NOISE_STD_GENERATOR = math.sqrt(2 * ALPHA / LEARNING_RATE)
NOISE_STD_DISCRIMINATOR = math.sqrt(2 * ALPHA * LEARNING_RATE)
CLAMP = 1e-4
FAKE = 0
TOP_OPERATIONS = 12

Terms = dict[str, Tensor]


def complement_cross_entropy(logits: Tensor) -> Tensor:
    """`mean(-log(1 - p_0 + 1e-4))`: of real images, and of fakes for the generators."""
    log_complement = (1 - logits.softmax(dim=1) + CLAMP).log()
    return F.nll_loss(log_complement, _all_fake(logits))


def fake_cross_entropy(logits: Tensor) -> Tensor:
    """`mean(-log p_0)`: of fakes for the discriminator."""
    return F.cross_entropy(logits, _all_fake(logits))


def labelled_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """`mean(-log p_{y+1})` of images of classes 0..K-1."""
    return F.cross_entropy(logits, classes + 1)


def prior_loss(network: nn.Module, num_data: int) -> Tensor:
    """`Σ (θ/σ)² / N` over every weight."""
    squares = [(p / PRIOR_STD).square().sum() for p in network.parameters()]
    return torch.stack(squares).sum() / num_data


def noise_loss(network: nn.Module, std: float, num_data: int) -> Tensor:
    """`std · Σ θ·ξ / N`, whose gradient is the noise `std · ξ / N`."""
    products = [(p * torch.randn_like(p)).sum() for p in network.parameters()]
    return std * torch.stack(products).sum() / num_data


class NotebookLoop:
    """J_g·M generators, one discriminator and the supervised network, with an Adam each.

    Args:
        num_generators: J_g·M.
        batch_size: Fakes of each generator.
        num_classes: K.
        num_z: J_g, the groups of generators with the same latents.
        num_images: N of the discriminator's prior and noise.
        width: Channels of the discriminator's first layer; all others go by it.
        device: Where the networks are.
    """

    def __init__(
        self,
        num_generators: int = 10,
        batch_size: int = 64,
        num_classes: int = NUM_CLASSES,
        *,
        num_z: int = 1,
        num_images: int = NUM_IMAGES,
        width: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_generators % num_z:
            raise ValueError(f"{num_generators} generators do not fall into {num_z} equal groups")

        def discriminator() -> Classifier:
            body, features = published.notebook_body(width, SIZE, CHANNELS)
            return Classifier(body, features, num_classes + 1, dropout=0.0, head_bias=False)

        self.netD = discriminator().to(device).train()
        self.netGs = [
            published.notebook_generator(LATENT_DIM, width, SIZE, CHANNELS).to(device).train()
            for _ in range(num_generators)
        ]
        self.baseline = discriminator().to(device).train()
        _initialise(self.baseline)
        self._adam_d = _adam(self.netD)
        self._adams_g = [_adam(netG) for netG in self.netGs]
        self._adam_baseline = _adam(self.baseline)
        self._num_z = num_z
        self._batch_size = batch_size
        self._num_images = num_images
        self._device = device

    def step(self, labelled: LabelledBatch, unlabelled: Tensor) -> Terms:
        """One step of every network; every term of every loss, still on the device."""
        x, y = (t.to(self._device) for t in labelled)
        unlabelled = unlabelled.to(self._device)
        fakes = self._fakes()
        terms = self._step_discriminator(x, y, unlabelled, fakes.detach())
        terms |= self._step_generators(fakes)
        terms |= self._step_baseline(x, y)
        return {name: term.detach() for name, term in terms.items()}

    def _fakes(self) -> Tensor:
        """Those of all generators, with their graphs."""
        per_group = len(self.netGs) // self._num_z
        fakes: list[Tensor] = []
        for first in range(0, len(self.netGs), per_group):
            z = torch.randn(self._batch_size, LATENT_DIM, device=self._device)
            fakes += [netG(z).items for netG in self.netGs[first : first + per_group]]
        return torch.cat(fakes)

    def _step_discriminator(self, x: Tensor, y: Tensor, unlabelled: Tensor, fakes: Tensor) -> Terms:
        self._adam_d.zero_grad()
        terms = {
            "real": complement_cross_entropy(self.netD(unlabelled)),
            "fake": fake_cross_entropy(self.netD(fakes)),
            "labelled": labelled_cross_entropy(self.netD(x), y),
            "prior_d": prior_loss(self.netD, self._num_images),
            "noise_d": noise_loss(self.netD, NOISE_STD_DISCRIMINATOR, self._num_images),
        }
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        self._adam_d.step()
        return {"loss_d": loss, **terms}

    def _step_generators(self, fakes: Tensor) -> Terms:
        for adam in self._adams_g:
            adam.zero_grad()
        generator = complement_cross_entropy(self.netD(fakes))
        priors = [prior_loss(netG, NUM_DATA_GENERATOR) for netG in self.netGs]
        noises = [noise_loss(netG, NOISE_STD_GENERATOR, NUM_DATA_GENERATOR) for netG in self.netGs]
        terms = {
            "generator": generator,
            "prior_g": torch.stack(priors).sum(),
            "noise_g": torch.stack(noises).sum(),
        }
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()  # into the discriminator as well, whose next step throws it away
        for adam in self._adams_g:
            adam.step()
        return {"loss_g": loss, **terms}

    def _step_baseline(self, x: Tensor, y: Tensor) -> Terms:
        self._adam_baseline.zero_grad()
        loss = labelled_cross_entropy(self.baseline(x), y)
        loss.backward()
        self._adam_baseline.step()
        return {"supervised": loss}


def _all_fake(logits: Tensor) -> Tensor:
    return torch.full((len(logits),), FAKE, device=logits.device)


def _adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS)


def _initialise(network: nn.Module) -> None:
    """As DCGAN: generators come so from the package, the discriminator stays as torch makes it."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/image/cifar10_original.yaml")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args(arguments)
    c = config.load(options.config, options.overrides)
    backend = resolve_backend(c.run, c.spatial_dims)
    steppers = variants(c, backend)
    t = c.train
    images = t.batch_size + t.labelled_batch_size
    print(f"{backend.hardware}, torch {torch.__version__}; ours in {backend.precision}")
    print(f"images: the {t.batch_size} unlabelled and {t.labelled_batch_size} labelled of a step")
    found = interleaved(steppers)
    for name, seconds in found.items():
        ratio = found["notebook"] / seconds
        print(
            f"  {name:32} {1000 * seconds:9.1f} ms {images / seconds:9.1f} images/s {ratio:6.2f}x"
        )
    for name, step in steppers.items():
        print(f"\none step, {name}")
        print(operations(step, backend.device))


def variants(c: config.Config, backend: Backend) -> dict[str, Callable[[], object]]:
    """A step of the notebook's loop and of ours, on the same images.

    The notebook's loop has as many generators as ours and a batch of fakes of each, and always one
    discriminator; ours has the J_d·M of its settings. Where the settings ask for fewer fakes, ours
    comes once more with as many as the notebook makes.
    """
    t, p = c.train, c.posterior
    random = torch.Generator().manual_seed(0)
    shape = (CHANNELS, SIZE, SIZE)
    targets = torch.arange(t.labelled_batch_size) % NUM_CLASSES
    labelled = LabelledBatch(
        torch.rand(t.labelled_batch_size, *shape, generator=random) * 2 - 1, targets
    )
    unlabelled = torch.rand(t.batch_size, *shape, generator=random) * 2 - 1
    views = UnlabelledBatch(unlabelled, unlabelled)

    def ours(settings: config.Config) -> tuple[str, Callable[[], object]]:
        models = build(settings, DataSize(NUM_CLASSES, NUM_IMAGES, NUM_LABELLED), backend)
        chains = models.chains
        assert chains is not None
        name = (
            f"ours ({len(chains.generators)} G x {chains.fakes_per_generator} fakes, "
            f"{len(chains.discriminators)} D)"
        )
        return name, lambda: models.step(0, labelled, views)

    loop = NotebookLoop(
        p.num_z * p.num_mcmc,
        t.batch_size,
        num_z=p.num_z,
        width=c.discriminator.width,
        device=backend.device,
    )
    whole = dataclasses.replace(t, fake_batch_size=t.batch_size)
    return {
        "notebook": lambda: loop.step(labelled, unlabelled),
        **dict(ours(dataclasses.replace(c, train=train)) for train in dict.fromkeys([t, whole])),
    }


def operations(step: Callable[[], object], device: torch.device) -> str:
    """A table of the operations that took most of the time of a step."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return profiler.key_averages().table(
        sort_by="self_cpu_time_total", row_limit=TOP_OPERATIONS, max_name_column_width=40
    )


if __name__ == "__main__":
    main()
