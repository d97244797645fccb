"""What TensorBoard, Weights & Biases and MLflow are told, read back from what they write without a network."""

from __future__ import annotations

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
from detector.training.loggers import Mirror, opened
from detector.training.loop import Step

SETTINGS = {"lr": 0.01, "zoom": (0.7, 1.5)}
Points = dict[str, list[tuple[int, float]]]  # by name: step and value


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside any repository, without a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def epochs(history: History, first: int, last: int) -> None:
    for epoch in range(first, last + 1):
        history.step(Step(epoch, 0.01, {"batch_loss": 2.0 / epoch, "box": 1.0}))
        history.epoch_done(epoch, {"loss": 1.5, "AP": 0.1 * epoch, "AP50": 0.2 * epoch})


def dvclives(folder: str) -> Points:
    """What DVCLive wrote."""
    found: Points = {}
    root = Path(folder) / "plots/metrics"
    for path in root.rglob("*.tsv"):
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        found[str(path.relative_to(root).with_suffix(""))] = [(int(step), float(value)) for step, value in lines]
    return found


def tensorboards(folder: Path) -> Points:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def wandbs(folder: Path) -> Points:
    """A run's file is LevelDB's log: 7 bytes, then records in blocks of 32 KiB, each a message of wandb's protocol."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # waits for the process that writes
    (path,) = folder.glob("*.wandb")
    data, position, message = path.read_bytes(), 7, b""
    found: Points = {}
    while position + 7 <= len(data):
        if position % 2**15 > 2**15 - 7:  # the end of a block, too short for a header
            position += -position % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record.FromString(message)
            values = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            for name in [name for name in values if not name.startswith("_")]:
                found.setdefault(name, []).append((json.loads(values["_step"]), json.loads(values[name])))
            message = b""
    return found


def mlflows() -> Points:
    client = pytest.importorskip("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("detector")
    (run, *_) = client.search_runs([experiment.experiment_id])
    return {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


READERS: dict[str, Callable[[], Points]] = {
    "tensorboard": lambda: tensorboards(Path("logs/tensorboard/run")),
    "wandb": lambda: wandbs(Path("logs/wandb/latest-run")),
    "mlflow": mlflows,
}


def needs(name: str) -> None:
    modules = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}.get(name, (name,))
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")  # of the mirrors' own code, and of what they import
def test_a_mirror_has_what_dvclive_has(name: str) -> None:
    needs(name)
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with opened([name], Path("logs"), "run", SETTINGS) as mirrors:
        history = History(Path("first"), mirrors)
        epochs(history, 1, 3)
        history.close({"best/epoch": 3})
    assert generators == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    expected, found = dvclives("first"), READERS[name]()
    assert {"train/batch_loss", "train/learning_rate", "val/AP"} <= set(expected)
    assert {key: [step for step, _ in points] for key, points in found.items()} == {key: [0, 1, 2] for key in expected}
    for key, points in expected.items():
        assert [value for _, value in found[key]] == pytest.approx([value for _, value in points], rel=1e-6)
    assert [path.name for path in Path().iterdir() if path.name not in ("first", "logs")] == []


class Recorded(list[tuple[int, dict[str, float]]]):
    """What a mirror is told."""

    def mirror(self) -> Mirror:
        return Mirror("recorded", lambda step, values: self.append((step, values)), lambda complete: None)


def test_a_resumed_training_has_every_epoch_once() -> None:
    killed, resumed, whole = Recorded(), Recorded(), Recorded()
    history = History(Path("killed"), [killed.mirror()])
    epochs(history, 1, 2)
    going_on = History(Path("resumed"), [resumed.mirror()])
    going_on.replay(history.state())
    epochs(going_on, 3, 4)
    epochs(History(Path("whole"), [whole.mirror()]), 1, 4)
    assert resumed == whole
    assert [step for step, _ in resumed] == [0, 1, 2, 3]


def test_a_mirror_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    good = Recorded()

    def fail(step: int, values: dict[str, float]) -> None:
        if step == 1:
            raise ConnectionError("no route to the server")

    epochs(History(Path("log"), [Mirror("far", fail, lambda complete: None), good.mirror()]), 1, 4)
    assert len(good) == 4
    assert capsys.readouterr().out.count("far gets no more values, as it failed (no route to the server)") == 1


@pytest.mark.parametrize("name", READERS)
def test_a_package_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [*sys.modules]:
        if module.startswith(("torch.utils.tensorboard", "wandb", "mlflow")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(UserError, match=f"`train.mirrors` names {name}.*pip install {name}"),
        opened([name], Path("logs"), "run", SETTINGS),
    ):
        pass


def test_mirrors_are_closed_and_know_whether_the_training_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[Any] = []

    def close(complete: bool) -> None:
        closed.append(complete)
        raise ConnectionError("gone")

    def fake(*_: object) -> Mirror:
        return Mirror("fake", lambda step, values: None, close)

    monkeypatch.setattr("detector.training.loggers._wandb", fake)
    with opened(["wandb"], Path("logs"), "run", SETTINGS):
        pass
    with pytest.raises(SystemExit), opened(["wandb", "wandb"], Path("logs"), "run", SETTINGS):
        raise SystemExit(143)
    assert closed == [True, False, False]
    assert "fake did not end as it should (gone)" in capsys.readouterr().out
    with opened([], Path("logs"), "run", SETTINGS) as mirrors:
        assert mirrors == []


def test_nothing_is_imported_that_is_not_named() -> None:
    """Others do so: timm imports wandb where it is installed."""
    code = "import sys, detector.training.loggers as m\nwith m.opened([], m.Path(), '', {}): print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "tensorboard", "wandb", "mlflow"} & set(done.stdout.split())
