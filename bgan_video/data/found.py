"""Files on the disk: those of a folder, links followed, and those that a list means."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bgan_video.data.manifest import VIDEO_SUFFIXES
from bgan_video.data.texts import meant, plain
from bgan_video.errors import UserError

_Names = dict[str, list[str]]


def is_video(name: str) -> bool:
    """Whether a file is taken for a video by its suffix."""
    return PurePosixPath(name).suffix.casefold() in VIDEO_SUFFIXES


def files_under(folder: Path) -> list[Path]:
    """All files in a folder, at any depth, sorted, without a system's own (`.DS_Store`, `._x.mp4`).

    Links to folders are followed, each folder once: a link that leads back to where the walk has
    been ends there. What is reached without a link is found under its own name.
    """
    found: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for top in waiting:
            found.extend(_walk(top, seen, links))
        waiting = sorted(links)
    return sorted(found)


def _walk(top: Path, seen: set[str], links: list[Path]) -> Iterator[Path]:
    """Files under a folder that was not seen yet; links to folders are put aside."""
    real = os.path.realpath(top)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{top} does not open: {error.strerror}") from None
    for entry in entries:
        path = top / entry.name
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if _is_folder(entry):
            if entry.is_symlink():
                links.append(path)
            else:
                yield from _walk(path, seen, links)
        else:
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to where nobody may look
        return False


def videos_under(root: Path, folder: str = ".") -> list[str]:
    """Paths of the videos in a folder of a root, at any depth, relative to the root."""
    files = files_under(root / folder)
    return [p.relative_to(root).as_posix() for p in files if is_video(p.name)]


def videos_in(root: Path, folder: str) -> list[str]:
    """As `videos_under`, without the folders in the folder; none where there is no such folder."""
    if not (root / folder).is_dir():
        return []
    files = sorted(p for p in (root / folder).iterdir() if is_video(p.name) and p.is_file())
    return [p.relative_to(root).as_posix() for p in files if not p.name.startswith(".")]


def passed_over(root: Path, folder: str) -> dict[str, list[str]]:
    """Paths of the other files in a folder of a root, relative to the root, by suffix."""
    others: dict[str, list[str]] = defaultdict(list)
    for path in files_under(root / folder):
        if not is_video(path.name):
            others[path.suffix.casefold()].append(path.relative_to(root).as_posix())
    return dict(others)


class Finder:
    """Files under a root by names as tables write them.

    Args:
        root: An existing folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, tuple[_Names, _Names]] = {}

    def find(self, path: str) -> str | None:
        """The file that a path means, relative to the root; None where there is none.

        Accents may be composed or not; case may differ where one file alone fits; `meant` has what
        else a path may mean.
        """
        return next((found for name in meant(path) if (found := self._fitting(name))), None)

    def _fitting(self, path: str) -> str | None:
        if (self._root / path).is_file():
            return PurePosixPath(path).as_posix()
        at = ""
        for part in PurePosixPath(path).parts:
            exact, folded = self._of_folder(at)
            fits = exact.get(plain(part)) or folded.get(plain(part).casefold(), [])
            if len(fits) != 1:
                return None
            at = f"{at}/{fits[0]}" if at else fits[0]
        return at if (self._root / at).is_file() else None

    def _of_folder(self, at: str) -> tuple[_Names, _Names]:
        """The names in a folder, by themselves composed, and by these in small letters."""
        if at not in self._names:
            exact, folded = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
            folder = self._root / at
            for name in sorted(p.name for p in folder.iterdir()) if folder.is_dir() else ():
                exact[plain(name)].append(name)
                folded[plain(name).casefold()].append(name)
            self._names[at] = exact, folded
        return self._names[at]
