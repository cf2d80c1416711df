"""What PyTorch's launcher `torchrun` tells the processes it starts: the one reader of its words.

They stand in the environment, so that who asks needs no torch: `--help` and a mistyped setting
answer at once. What the processes do together is in `ranks`.
"""

from __future__ import annotations

import os


def launched() -> int:
    """How many processes were started as one run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes, and speaks."""
    return launched() == 1 or os.environ.get("RANK", "0") == "0"


def launched_here() -> int:
    """How many of them were started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def number_here() -> int:
    """This one's among those of its machine, from 0."""
    return int(os.environ["LOCAL_RANK"])
