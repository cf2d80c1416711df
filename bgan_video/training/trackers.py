"""Where a run's curves go beside its own files: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bgan_video import config as config_module
from bgan_video import ranks
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.training import run_folder

_EXPERIMENT = "bgan_video"
_IDENTITY = "bgan_video.identity"
"""The tag by which a resumed run finds itself in MLflow."""

_BATCH = 100
"""Parameters that MLflow takes at once."""


_Kind = type[BaseException] | None
_Trace = TracebackType | None


class Writer(Protocol):
    """What a curve is written with; TensorBoard's own writer is one."""

    def add_scalar(self, name: str, value: float, step: int, /) -> None:
        """A point of a curve."""
        ...

    def __enter__(self) -> object:
        """It is closed when this is left."""
        ...

    def __exit__(self, kind: _Kind, error: BaseException | None, trace: _Trace, /) -> None:
        """Write what is still in memory, and how the run ended."""
        ...


def check(config: Config) -> None:
    """Raises UserError where the run's tracker is not installed."""
    name = config.run.tracker
    if name != "none" and find_spec(name) is None:
        raise UserError(
            f"run.tracker={name} needs {name}: pip install 'bgan_video[{name}]', or set "
            f"run.tracker=none"
        )


@contextmanager
def writing(config: Config, folder: Path) -> Iterator[list[Writer]]:
    """The writers of a run, which are told how it ends; arguments and errors as `open_writers`."""
    with ExitStack() as held:
        writers = open_writers(config, folder)
        for writer in writers:
            held.enter_context(writer)
        yield writers


def open_writers(config: Config, folder: Path) -> list[Writer]:
    """The writers of a run; of the first rank alone.

    Args:
        config: The run's settings.
        folder: Its folder.

    Raises:
        UserError: The tracker cannot be reached.
    """
    if not ranks.is_first():
        return []
    writers: list[Writer] = []
    if find_spec("tensorboard") is not None:
        from torch.utils.tensorboard.writer import SummaryWriter

        writers.append(SummaryWriter(str(folder / "tensorboard")))
    made = {"mlflow": MLflow, "wandb": WeightsAndBiases}.get(config.run.tracker)
    return writers if made is None else [*writers, made(config, folder)]


class MLflow:
    """A run of MLflow, in `mlflow.db` beside the runs' folders or where MLFLOW_TRACKING_URI says.

    Args:
        config: Its settings become parameters.
        folder: The run's; a resumed run goes on with the curves it began.

    Raises:
        UserError: The place of the tracking cannot be used.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        mlflow: Any = import_module("mlflow")
        beside = folder.absolute().parent
        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{beside / 'mlflow.db'}")
        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=place)
            experiment = self._client.get_experiment_by_name(_EXPERIMENT)
            number = experiment and experiment.experiment_id
            number = number or self._client.create_experiment(_EXPERIMENT)
            identity = run_folder.identity(folder)
            found = self._client.search_runs([number], f"tags.`{_IDENTITY}` = '{identity}'")
            if found:
                self._run = found[0].info.run_id
                self._client.update_run(self._run, status="RUNNING")
                return
            tags = {_IDENTITY: identity}
            self._run = self._client.create_run(number, run_name=folder.name, tags=tags).info.run_id
            given = config_module.flat(config).items()
            settings = [mlflow.entities.Param(key, str(value)) for key, value in given]
            for start in range(0, len(settings), _BATCH):
                self._client.log_batch(self._run, params=settings[start : start + _BATCH])
        except (mlflow.exceptions.MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"run.tracker=mlflow: {reason}; or set run.tracker=none") from None

    def add_scalar(self, name: str, value: float, step: int, /) -> None:
        """A point of a curve; MLflow allows no parentheses in names."""
        plain = name.replace("(", "_").replace(")", "")
        self._client.log_metric(self._run, plain, float(value), step=step)

    def __enter__(self) -> MLflow:
        """It is closed when this is left."""
        return self

    def __exit__(self, kind: _Kind, error: BaseException | None, trace: _Trace, /) -> None:
        """Finished; killed where a signal ended the run, else failed."""
        failed = "FAILED" if isinstance(error, Exception) else "KILLED"
        self._client.set_terminated(self._run, "FINISHED" if error is None else failed)


class WeightsAndBiases:
    """A run of Weights & Biases in the run's folder `wandb`; `wandb sync` sends it, if ever.

    It is offline unless WANDB_MODE says otherwise.

    Args:
        config: Its settings.
        folder: The run's; a resumed run has the same id, so that what is sent is one run.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        wandb: Any = import_module("wandb")
        self._run = wandb.init(
            project=_EXPERIMENT,
            name=folder.name,
            id=run_folder.identity(folder),
            resume="allow",
            dir=str(folder),
            config=config_module.flat(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def add_scalar(self, name: str, value: float, step: int, /) -> None:
        """A point of a curve."""
        self._run.log({name: float(value)}, step=step)

    def __enter__(self) -> WeightsAndBiases:
        """It is closed when this is left."""
        return self

    def __exit__(self, kind: _Kind, error: BaseException | None, trace: _Trace, /) -> None:
        """Finished, or failed, as by its exit code."""
        self._run.finish(exit_code=0 if error is None else 1)
