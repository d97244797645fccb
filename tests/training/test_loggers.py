"""Experiment loggers: what TensorBoard, Weights & Biases and MLflow write, read back without a network."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.core.errors import UserError
from detector.training.history import History
from detector.training.loggers import ExperimentLogger, open_loggers
from detector.training.loop import Step

SETTINGS = {"lr": 0.01, "scale": (0.7, 1.5)}
Points = dict[str, list[tuple[int, float]]]  # (step, value) by name


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside any repository, without a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def log_epochs(history: History, first: int, last: int) -> None:
    """Log these epochs, of two iterations each."""
    for epoch in range(first, last + 1):
        for iteration in (2 * epoch - 2, 2 * epoch - 1):
            history.log_step(Step(iteration, 0.01 / 3, {"loss": 2.0 / (iteration + 1), "loss_ciou": 1.0}))
        history.log_epoch(iteration, {"loss": 1.5, "AP": 0.1 * epoch, "AP50": 0.2 * epoch}, {"epoch": 1, "AP": 0.1})


def read_files(folder: str) -> Points:
    """The points in the files: of epochs, at their last iteration, and of iterations."""
    found: Points = {}
    root = Path(folder) / "plots/metrics"
    for path in root.rglob("*.tsv"):
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        points = [(2 * int(epoch) - 1, float(value)) for epoch, value in lines]
        found[str(path.relative_to(root).with_suffix(""))] = points
    with (Path(folder) / "iterations.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            iteration = int(row.pop("iteration"))
            for name, text in row.items():
                found.setdefault(f"batch/{name}", []).append((iteration, float(text)))
    return found


def read_tensorboard(folder: Path) -> Points:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def read_wandb(folder: Path) -> Points:
    """A run's file is a LevelDB log: 7 bytes, then records in blocks of 32 KiB, each a wandb protobuf message."""
    import wandb

    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    wandb.teardown()  # waits for the writing process
    (path,) = folder.glob("*.wandb")
    data, position, message = path.read_bytes(), 7, b""
    found: Points = {}
    while position + 7 <= len(data):
        if position % 2**15 > 2**15 - 7:  # too close to the end of a block for a header
            position += -position % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = messages.Record.FromString(message)
            values = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            for name in [name for name in values if not name.startswith("_")]:
                found.setdefault(name, []).append((json.loads(values["_step"]), json.loads(values[name])))
            message = b""
    return found


def read_mlflow() -> Points:
    client = pytest.importorskip("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("detector")
    (run, *_) = client.search_runs([experiment.experiment_id])
    return {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


READERS: dict[str, Callable[[], Points]] = {
    "tensorboard": lambda: read_tensorboard(Path("logs/tensorboard/run")),
    "wandb": lambda: read_wandb(Path("logs/wandb/latest-run")),
    "mlflow": read_mlflow,
}


def require(name: str) -> None:
    modules = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}.get(name, (name,))
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def read_random_states() -> tuple[Any, ...]:
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")  # from the loggers and their imports
def test_a_logger_has_the_same_points_as_the_files(name: str) -> None:
    require(name)
    random_states = read_random_states()
    with open_loggers([name], Path("logs"), "run", SETTINGS) as loggers:
        history = History(Path("first"), loggers)
        log_epochs(history, 1, 3)
        history.close()
    assert random_states == read_random_states()
    expected, found = read_files("first"), READERS[name]()
    assert {"batch/loss_ciou", "batch/lr", "batch/epoch", "train/loss", "val/AP", "lr"} <= set(expected)
    assert [step for step, _ in expected["batch/loss"]] == [0, 1, 2, 3, 4, 5]
    assert found.keys() == expected.keys()
    for key, points in expected.items():
        assert [step for step, _ in found[key]] == [step for step, _ in points]
        assert [value for _, value in found[key]] == pytest.approx([value for _, value in points], rel=1e-6)
    assert [path.name for path in Path().iterdir() if path.name not in ("first", "logs")] == []


class Recording(list[tuple[int, dict[str, float]]]):
    """The points that a logger receives."""

    def logger(self) -> ExperimentLogger:
        return ExperimentLogger("recorded", lambda step, values: self.append((step, values)), lambda complete: None)


def test_a_resumed_training_has_every_iteration_and_epoch_once() -> None:
    killed, resumed, whole = Recording(), Recording(), Recording()
    history = History(Path("killed"), [killed.logger()])
    log_epochs(history, 1, 2)
    history.log_step(Step(4, 0.01, {"loss": 7.0, "loss_ciou": 1.0}))
    continued = History(Path("resumed"), [resumed.logger()])
    continued.replay(history.state_dict())
    uninterrupted = History(Path("whole"), [whole.logger()])
    log_epochs(uninterrupted, 1, 2)
    uninterrupted.log_step(Step(4, 0.01, {"loss": 7.0, "loss_ciou": 1.0}))
    for one in (continued, uninterrupted):
        one.log_step(Step(5, 0.01, {"loss": 9.0, "loss_ciou": 1.0}))
        one.log_epoch(5, {"loss": 1.0, "AP": 0.3, "AP50": 0.3}, {"epoch": 3, "AP": 0.3})
    assert resumed == whole
    assert [step for step, _ in resumed] == [0, 1, 1, 2, 3, 3, 4, 5, 5]
    assert resumed[-1][1]["train/loss"] == 8


def test_a_failing_logger_is_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    good = Recording()

    def fail(step: int, values: dict[str, float]) -> None:
        if step == 2:
            raise ConnectionError("no route to the server")

    log_epochs(History(Path("log"), [ExperimentLogger("far", fail, lambda complete: None), good.logger()]), 1, 4)
    assert len(good) == 4 + 8
    assert capsys.readouterr().out.count("(no route to the server)") == 1


@pytest.mark.parametrize("name", READERS)
def test_a_package_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [*sys.modules]:
        if module.startswith(("torch.utils.tensorboard", "wandb", "mlflow")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(UserError, match=f"`loggers` names {name}.*pip install {name}"),
        open_loggers([name], Path("logs"), "run", SETTINGS),
    ):
        pass


def test_loggers_are_closed_with_the_outcome_of_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[Any] = []

    def close(complete: bool) -> None:
        closed.append(complete)
        raise ConnectionError("gone")

    def fake(*_: object) -> ExperimentLogger:
        return ExperimentLogger("fake", lambda step, values: None, close)

    monkeypatch.setattr("detector.training.loggers._open_wandb", fake)
    with open_loggers(["wandb"], Path("logs"), "run", SETTINGS):
        pass
    with pytest.raises(SystemExit), open_loggers(["wandb", "wandb"], Path("logs"), "run", SETTINGS):
        raise SystemExit(143)
    assert closed == [True, False, False]
    assert "could not close fake (gone)" in capsys.readouterr().out
    with open_loggers([], Path("logs"), "run", SETTINGS) as loggers:
        assert loggers == []


def test_unnamed_loggers_are_not_imported() -> None:
    """Unlike in timm, which imports wandb where it is installed."""
    code = "import sys, detector.training.loggers as m\nwith m.open_loggers([], m.Path(), '', {}): print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "tensorboard", "wandb", "mlflow"} & set(done.stdout.split())
