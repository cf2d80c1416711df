"""Several processes that train one run: `torchrun --nproc-per-node=N train_video.py …`.

Every process ("rank") holds all networks and takes its slice of the sample numbers. Gradients meet
in `mean_gradients`; the sampler's noise comes of the same generator everywhere; so all ranks hold
the same weights, bit for bit, and the first one alone writes. What is read, judged or looked at
item by item is shared (`share`, `together`), and all ranks get all of it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bgan_video import launcher
from bgan_video.errors import UserError

# Said again here, where the ranks are spoken of; who does without torch asks the launcher.
from bgan_video.launcher import is_first as is_first
from bgan_video.launcher import launched as launched

_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|by peer|broken pipe", re.I)

T = TypeVar("T")
Thing = TypeVar("Thing")

# The first rank writes, fits and draws while the others wait. One that dies is noticed at once all
# the same.
_PATIENCE = timedelta(days=1)
# Seconds in which a disk that several machines share shows all of them a new name; NFS has 60.
_DISK_PATIENCE = 180.0


def count() -> int:
    """How many processes train together now."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """This one's, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def joined(on_cuda: bool) -> Iterator[None]:
    """Train with the processes that were started beside this one; alone where there are none.

    Within itself it does nothing.

    Args:
        on_cuda: Whether each takes a GPU of its machine, in order; else they share its CPUs.

    Raises:
        UserError: There is no GPU for this one, or one of the others ended.
    """
    if launched() == 1 or dist.is_initialized():
        yield
        return
    if on_cuda:
        if launcher.number_here() >= (gpus := torch.cuda.device_count()):
            raise UserError(
                f"{launcher.launched_here()} processes on this machine, which has {gpus} CUDA "
                f"devices; allowed: torchrun --nproc-per-node up to their number, or run.device=cpu"
            )
        torch.cuda.set_device(launcher.number_here())
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=_PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not is_loss(error):
            raise
        raise UserError(
            "another process of this command ended; its own line or the launcher's says why; what "
            "was written stays: start it again"
        ) from None
    finally:
        dist.destroy_process_group()


def is_loss(error: Exception) -> bool:
    """Whether an error tells that another of several processes ended."""
    return launched() > 1 and bool(_LOST.search(str(error)))


def mine(size: int, what: str) -> range:
    """Which of the items of a batch are this rank's.

    Raises:
        UserError: They cannot be shared evenly.
    """
    if size % (ranks := count()):
        raise UserError(
            f"{what}={size} cannot be shared by {ranks} processes; allowed: multiples of {ranks}"
        )
    return range(number(), size, count())


def on_machine() -> int:
    """How many of the processes share this machine's processors."""
    return launcher.launched_here() if count() > 1 else 1


def part(size: int, unit: int, rank: int, ranks: int) -> slice:
    """A rank's part of `size` things in a row; the parts of all are all things, each once.

    Args:
        size: How many things, >= 0.
        unit: Things that stay together, >= 1: a part begins at a multiple of it.
        rank: From 0.
        ranks: How many there are. Their parts differ by one unit at most.
    """
    units = -(-size // unit)
    first, behind = (units * r // ranks * unit for r in (rank, rank + 1))
    return slice(min(first, size), min(behind, size))


def share(size: int, unit: int = 1) -> slice:
    """This rank's part of things that all ranks have in the same order (see `part`)."""
    return part(size, unit, number(), count())


def gathered(own: T) -> list[T]:
    """What each rank has, by rank, for all."""
    if count() == 1:
        return [own]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, own)
    return found


def together(
    job: Callable[[Sequence[Thing]], Iterable[T]], things: Sequence[Thing], block: int
) -> Iterator[T]:
    """The results of a job on things, in order, on every rank; each does its share of them.

    Args:
        job: From some things to a result of each, in order.
        things: The same on all ranks.
        block: Things that a rank does before it hands over what it has.
    """
    if count() == 1:
        yield from job(things)
        return
    for start in range(0, len(things), block * count()):
        of_all = things[start : start + block * count()]
        for found in gathered(list(job(of_all[share(len(of_all))]))):
            yield from found


def mean_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients of the mean loss over all ranks' items, the same on every rank."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if count() == 1 or not gradients:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= count()
    means = together.split([gradient.numel() for gradient in gradients])
    for gradient, of_all in zip(gradients, means, strict=True):
        gradient.copy_(of_all.view(gradient.shape))


def mean(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means over ranks of what each logs of its own items."""
    if count() == 1 or not terms:
        return dict(terms)
    together = torch.stack([value.detach().float() for value in terms.values()])
    dist.all_reduce(together)
    return dict(zip(terms, together / count(), strict=True))


def highest(value: int, device: torch.device) -> int:
    """The highest of all ranks' values."""
    if count() == 1:
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def first_says(make: Callable[[], T]) -> T:
    """What the first rank makes, for all."""
    if count() == 1:
        return make()
    told: list[Any] = [make() if is_first() else None]
    dist.broadcast_object_list(told)
    return told[0]


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The others come in here once the first rank has left, and find what it made."""
    if count() > 1 and not is_first():
        dist.barrier()
    yield
    if count() > 1 and is_first():
        dist.barrier()


def meet(folder: Path) -> None:
    """Go on once all ranks are here, and see the names in a folder that the first one sees.

    Raises:
        UserError: This rank still sees other ones after minutes.
    """
    if count() == 1:
        return

    def names() -> list[str]:
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    seen_by_first = first_says(names)
    until = time.monotonic() + _DISK_PATIENCE
    while names() != seen_by_first:
        if time.monotonic() > until:
            raise UserError(
                f"{folder}: process {number()} does not see the files there that process 0 sees; "
                f"it has to lie on a disk that all machines share"
            )
        time.sleep(0.05)
    dist.barrier()  # what anyone adds now, nobody looks for any more


def check_equal(networks: Iterable[nn.Module]) -> None:
    """Raises UserError where ranks hold other weights than the first: they would drift apart."""
    if count() == 1:
        return
    digest = hashlib.blake2b(digest_size=16)
    for network in networks:
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    found = gathered(digest.hexdigest())
    if len(set(found)) > 1:
        others = [rank for rank, of in enumerate(found) if of != found[0]]
        raise UserError(
            f"processes {others} hold other weights than process 0; go on from the checkpoint "
            f"before with --resume, and report this"
        )


def synchronised(network: nn.Module) -> nn.Module:
    """The network, whose batch statistics are from now on over the items of all ranks.

    Norms that are held at their stored statistics, which are in evaluation already, stay so.

    Raises:
        UserError: It normalises over batches, and computes on a CPU, where torch has no such layer.
    """
    found = [
        (parent, name, layer)
        for parent in network.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, _BatchNorm) and layer.training
    ]
    if count() == 1 or not found:
        return network
    if next(network.parameters()).device.type != "cuda":
        raise UserError(
            "batch normalisation over several processes needs CUDA; set generator.norm=group and "
            "discriminator.norm=group, or train in one process"
        )
    for parent, name, layer in found:
        setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
    return network
