"""A command as one of several processes, whose shares are small and are written down.

`python -m torch.distributed.run … -m tests.e2e.ranked NOTES WORDS…`. Test data are few: with
batches of two clips there is something to share.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bgan_video import cli
from bgan_video.data import frames
from bgan_video.features import extraction
from bgan_video.prediction import bodies, chunks
from bgan_video.video import index

BATCH = 2
"""Clips that a network sees at once."""

Notes = dict[str, list[str]]


def main(notes: Path, words: Sequence[str]) -> int:
    """The command's exit code."""
    found: Notes = {"judged": [], "read": [], "features": []}
    test_chunks, make, decode = bodies.test_chunks, index._make, extraction._decode

    def judging(items: Sequence[Any], *given: Any) -> Iterator[Any]:
        found["judged"] += [item.path for item in items]
        return test_chunks(items, *given)

    def reading(path: Path, *given: Any) -> Any:
        found["read"].append(path.name)
        return make(path, *given)

    def decoding(item: Any, *given: Any) -> Any:
        found["features"].append(item.path)
        return decode(item, *given)

    bodies.test_chunks, index._make, extraction._decode = judging, reading, decoding
    chunks._BATCH, frames._BLOCK, extraction._BLOCK = BATCH, 1, 1
    code = cli.main(words)
    (notes / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
    return code


def read(notes: Path) -> list[Notes]:
    """Of each process."""
    return [json.loads(file.read_text()) for file in sorted(notes.iterdir())]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
