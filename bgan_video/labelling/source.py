"""Where the page's videos come from: a trained run, or a data set that has none yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bgan_video.acquisition.first import Beginning
from bgan_video.acquisition.suggestions import By, Suggestion
from bgan_video.config import Config
from bgan_video.data.manifest import Manifest
from bgan_video.prediction.trained import TrainedRun

Choose = Callable[[int, By, Mapping[str, bool]], list[Suggestion]]


@dataclass(frozen=True)
class Source:
    """Videos to label.

    Attributes:
        name: What the page is about.
        config: Of the run, or of the one to come.
        manifest: Its items.
        choose: The next suggestions: how many, chosen how, and what was asked for already.
        run: The run's folder; None where there is none yet.
        settings: The settings file or recipe, and what was set beside it, of the training to come.
    """

    name: str
    config: Config
    manifest: Manifest
    choose: Choose
    settings: tuple[str, Sequence[str]]
    run: Path | None = None

    @property
    def root(self) -> Path:
        """Folder that the items' paths are relative to."""
        return Path(self.config.data.root or self.manifest.root)


def of_run(run: TrainedRun, overrides: Sequence[str] = ()) -> Source:
    """The unlabelled training videos of a run, which has a name also where it was opened as `.`.

    Args:
        run: Trained.
        overrides: What differs from the run's settings, such as where its data are now.
    """
    folder = run.folder.resolve()
    settings = (str(folder / "config.yaml"), overrides)
    return Source(folder.name, run.config, run.manifest, run.choose, settings, folder)


def of_beginning(beginning: Beginning, config: str, overrides: Sequence[str]) -> Source:
    """The training videos of a data set that has no run.

    Args:
        beginning: The videos.
        config: The settings file or recipe.
        overrides: `key=value` beside it.
    """
    settings = (config, overrides)
    manifest = beginning.manifest
    return Source(manifest.name, beginning.config, manifest, beginning.choose, settings)
