"""Real trainings with two processes: completed, interrupted and resumed, and with a failing or killed process."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.core.yaml_files import read_yaml
from tests.support.tiny_training import Nursery, digests, make_folder

LONG = {"processes": "2", "epochs": "300"}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


def list_workers(parent: int) -> list[int]:
    """The worker processes of a training."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def wait_until_gone(process: int, seconds: float = 60) -> None:
    """Return once a process has ended."""
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}/stat").exists() and ") Z " not in Path(f"/proc/{process}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_completed_and_interrupted_and_resumed(nursery: Nursery, tmp_path: Path) -> None:
    complete, resumed = (make_folder(tmp_path / name, processes="2") for name in ("complete", "resumed"))
    ended = nursery.train(complete)
    assert ended.code == 0, ended.output
    assert "2 steps per epoch" in ended.output  # 8 images, two per process and step
    for line in ("GFLOPs per image", "epoch   1/3", "epoch   3/3", "best epoch"):
        assert ended.output.count(line) == 1, ended.output
    found = digests(complete)
    assert {"models/detector.safetensors", "metrics/train/iterations.tsv"} <= set(found)
    assert len((complete / "metrics/train/iterations.tsv").read_text().splitlines()) == 1 + 6
    log = (complete / "logs/train.log").read_text()
    for line in ("GFLOPs per image", "epoch   3/3", "best epoch"):
        assert log.count(line) == 1, log
    recipe = read_yaml(complete / "metrics/train/recipe.yaml")["recipe"]
    assert recipe == {
        "weights": "none", "image_size": [64, 64], "epochs": 3, "batch_size": 2, "optimizer": "adamw", "lr": 0.01,
        "schedule": "cosine", "class_loss_weight": 1.0, "precision": "fp32",
    }  # fmt: skip
    card = json.loads((complete / "models/detector.json").read_text())
    assert (card["processes"], card["precision"]) == (2, "fp32")

    ended = nursery.train(resumed, "epoch   1/3", lambda process: os.kill(process, signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert ended.output.count("SIGTERM: training saved in epoch") == 1
    assert "Traceback" not in ended.output
    ended = nursery.train(resumed)
    assert ended.code == 0, ended.output
    assert ended.output.count("resuming at epoch") == 1
    assert digests(resumed) == found


def test_a_signal_to_one_worker_stops_all_after_saving(nursery: Nursery, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "one", **LONG)
    ended = nursery.train(folder, "epoch   1/300", lambda process: os.kill(list_workers(process)[1], signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert ended.output.count("training saved in epoch") == 1
    assert list(folder.glob(".cache/train/*/*.pt"))


def test_a_user_error_is_reported_once(nursery: Nursery, tmp_path: Path) -> None:
    ended = nursery.train(make_folder(tmp_path / "large", processes="2", batch_size="5"))
    assert ended.code == 1
    assert ended.output.count("`train.batch_size` is 5 in each of 2 processes, but train has 8 images") == 1
    assert "Traceback" not in ended.output
    assert ended.output.count("error") == 1


def test_a_killed_worker_ends_the_others(nursery: Nursery, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "dead", **LONG)
    ended = nursery.train(folder, "epoch   1/300", lambda process: os.kill(list_workers(process)[1], signal.SIGKILL))
    assert ended.code == 1, ended.output
    assert ended.output.count("a worker process exited unexpectedly") == 1
    assert "Traceback" not in ended.output


def test_no_worker_survives_when_the_launcher_is_killed(nursery: Nursery, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "orphans", **LONG)
    workers: list[int] = []

    def kill(process: int) -> None:
        workers.extend(list_workers(process))
        os.kill(process, signal.SIGKILL)

    assert nursery.train(folder, "epoch   1/300", kill).code == -signal.SIGKILL
    assert len(workers) == 2
    for process in workers:
        wait_until_gone(process)
    assert "training saved in epoch" in (folder / "output.txt").read_text()
    assert list(folder.glob(".cache/train/*/*.pt"))
