"""Curves in other programs: with what is installed, and with stand-ins where it is not."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgan_video import config as config_module
from bgan_video.config import Config
from bgan_video.errors import Stopped, UserError
from bgan_video.training import trackers
from bgan_video.training.scalars import Scalars


def settings(tracker: str) -> Config:
    return config_module.load(None, [f"run.tracker={tracker}"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's, as far as a tracker looks at it."""
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("a run's")
    (run / "manifest.json").write_text("{}")
    (run / "environment.json").write_text('{"run": "one"}')
    return run


def without(*names: str) -> Any:
    return lambda name: None if name in names else object()


def test_nothing_is_written_where_nothing_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", without("tensorboard"))
    assert trackers.open_writers(settings("none"), folder) == []


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_is_not_installed_is_said_with_the_way_to_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", without(name))
    with pytest.raises(UserError, match=rf"run.tracker={name} needs .*bgan_video\[{name}\]"):
        trackers.check(settings(name))
    trackers.check(settings("none"))


def test_only_the_first_of_several_processes_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert trackers.open_writers(settings("wandb"), folder) == []


def test_event_files_hold_what_was_written(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with trackers.writing(settings("none"), folder) as writers:
        Scalars(writers).logged({"step": 30, "loss_d": 1.5})
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert events.Scalars("Loss_D")[0].value == 1.5


def test_weights_and_biases_is_offline_and_knows_the_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []
    finished: list[int] = []

    def init(**given: Any) -> Any:
        begun.append(given)
        return SimpleNamespace(
            log=lambda values, step: logged.append((values, step)),
            finish=lambda exit_code: finished.append(exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setattr(trackers, "find_spec", without("tensorboard"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for _ in range(2):
        with trackers.writing(settings("wandb"), folder) as (writer,):
            writer.add_scalar("D(x)", 0.5, 30)
    assert [given["mode"] for given in begun] == ["offline"] * 2
    assert begun[0] == begun[1]
    assert (begun[0]["name"], begun[0]["dir"]) == ("mine", str(folder))
    assert begun[0]["config"]["run.tracker"] == "wandb"
    assert logged == [({"D(x)": 0.5}, 30)] * 2
    with pytest.raises(UserError), trackers.writing(settings("wandb"), folder):
        raise UserError
    assert finished == [0, 0, 1]
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers.open_writers(settings("wandb"), folder)
    assert begun[3]["mode"] == "online"


class Client:
    """What of MLflow's client is used, with a memory that outlives it."""

    runs: list[dict[str, Any]]
    places: list[str]

    def __init__(self, tracking_uri: str) -> None:
        Client.places.append(tracking_uri)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if Client.runs else None

    def create_experiment(self, name: str) -> str:
        return "7"

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        assert experiments == ["7"]
        tagged = {
            f"tags.`{key}` = '{value}'": run["run"]
            for run in Client.runs
            for key, value in run["tags"].items()
        }
        return [tagged[query]] if query in tagged else []

    def create_run(self, number: str, run_name: str, tags: dict[str, str]) -> Any:
        run = SimpleNamespace(info=SimpleNamespace(run_id=str(len(Client.runs))))
        Client.runs.append(
            {"run": run, "name": run_name, "tags": tags, "metrics": [], "params": [], "stands": []}
        )
        return run

    def log_batch(self, run: str, params: list[tuple[str, str]]) -> None:
        assert len(params) <= 100
        Client.runs[int(run)]["params"] += params

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        assert not {*name} & {*"()"}
        Client.runs[int(run)]["metrics"].append((name, value, step))

    def set_terminated(self, run: str, status: str) -> None:
        Client.runs[int(run)]["stands"].append(status)

    update_run = set_terminated


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    Client.runs, Client.places = [], []
    module = SimpleNamespace(
        MlflowClient=Client,
        entities=SimpleNamespace(Param=lambda key, value: (key, value)),
        exceptions=SimpleNamespace(MlflowException=LookupError),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(trackers, "find_spec", without("tensorboard"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Client


def test_mlflow_has_settings_and_curves_of_a_run_that_goes_on(
    folder: Path, mlflow: type[Client]
) -> None:
    config = settings("mlflow")
    for step in (10, 20):
        with trackers.writing(config, folder) as (writer,):
            writer.add_scalar("D(G(z))_before", 0.5, step)
    (run,) = mlflow.runs
    assert run["name"] == "mine"
    assert run["metrics"] == [("D_G_z_before", 0.5, 10), ("D_G_z_before", 0.5, 20)]
    assert dict(run["params"])["train.steps"] == str(config.train.steps)
    assert len(run["params"]) == len(config_module.flat(config))
    assert mlflow.places == [f"sqlite:///{folder.parent / 'mlflow.db'}"] * 2


def test_mlflow_is_told_how_a_run_ended(folder: Path, mlflow: type[Client]) -> None:
    config = settings("mlflow")
    for error in (UserError("broken"), Stopped("asked to", signal.SIGTERM)):
        with pytest.raises(type(error)), trackers.writing(config, folder):
            raise error
    with trackers.writing(config, folder):
        pass
    (run,) = mlflow.runs
    assert run["stands"] == ["FAILED", "RUNNING", "KILLED", "RUNNING", "FINISHED"]


def test_a_run_begun_anew_is_no_old_one(folder: Path, mlflow: type[Client]) -> None:
    for drawn in ("one", "other"):
        (folder / "environment.json").write_text(json.dumps({"run": drawn}))
        trackers.open_writers(settings("mlflow"), folder)
    assert len(mlflow.runs) == 2


def test_mlflow_goes_where_it_is_told(
    folder: Path, mlflow: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    trackers.open_writers(settings("mlflow"), folder)
    assert mlflow.places == ["http://localhost:5000"]


def test_a_place_that_does_not_answer_is_one_line(
    folder: Path, mlflow: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise LookupError("no\nanswer")

    monkeypatch.setattr(Client, "get_experiment_by_name", refuse)
    with pytest.raises(UserError, match=r"run.tracker=mlflow: no answer; or set run.tracker=none"):
        trackers.open_writers(settings("mlflow"), folder)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_with_the_library_itself(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    monkeypatch.setattr(trackers, "find_spec", without("tensorboard"))
    for step in (10, 20):
        with trackers.writing(settings(name), folder) as (writer,):
            writer.add_scalar("D(G(z))_before", 0.5, step)
    if name == "wandb":
        assert len(list((folder / "wandb").glob("offline-run-*"))) >= 1
        return
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    number = client.get_experiment_by_name("bgan_video").experiment_id
    (run,) = client.search_runs([number])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "D_G_z_before")
    assert [(point.step, point.value) for point in history] == [(10, 0.5), (20, 0.5)]
