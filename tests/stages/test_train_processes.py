"""Real trainings by two processes: finished, stopped and gone on, and with one process that fails or dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_training import Nursery, digests, make_folder

LONG = {"processes": "2", "epochs": "300"}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


def workers_of(parent: int) -> list[int]:
    """The processes that a training started."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def wait_until_gone(process: int, seconds: float = 60) -> None:
    """Return once a process has ended."""
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}/stat").exists() and ") Z " not in Path(f"/proc/{process}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_finished_and_stopped_and_gone_on(nursery, tmp_path):
    whole, broken = (make_folder(tmp_path / name, processes="2") for name in ("whole", "broken"))
    ended = nursery.train(whole)
    assert ended.code == 0, ended.output
    assert "2 steps an epoch" in ended.output  # of 8 images, two by each process
    for line in ("GFLOPs an image", "epoch   1/3", "epoch   3/3", "best epoch"):
        assert ended.output.count(line) == 1, ended.output
    found = digests(whole)
    assert {"models/detector.safetensors", "metrics/train/iterations.json"} <= set(found)
    assert len(json.loads((whole / "metrics/train/iterations.json").read_text())) == 6
    card = json.loads((whole / "models/detector.json").read_text())
    assert (card["processes"], card["precision"]) == (2, "fp32")

    ended = nursery.train(broken, "epoch   1/3", lambda process: os.kill(process, signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert ended.output.count("SIGTERM: training is saved in epoch") == 1
    assert "Traceback" not in ended.output
    ended = nursery.train(broken)
    assert ended.code == 0, ended.output
    assert ended.output.count("resuming at epoch") == 1
    assert digests(broken) == found


def test_a_signal_to_one_worker_stops_all_of_them_saved(nursery, tmp_path):
    folder = make_folder(tmp_path / "one", **LONG)
    ended = nursery.train(folder, "epoch   1/300", lambda process: os.kill(workers_of(process)[1], signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert ended.output.count("training is saved in epoch") == 1
    assert list(folder.glob(".cache/train/*/*.pt"))


def test_a_mistake_is_told_once(nursery, tmp_path):
    ended = nursery.train(make_folder(tmp_path / "large", processes="2", batch_size="5"))
    assert ended.code == 1
    assert ended.output.count("`train.batch_size` is 5 in each of 2 processes, but train has 8 images") == 1
    assert "Traceback" not in ended.output
    assert ended.output.count("error") == 1


def test_the_death_of_one_worker_ends_the_others(nursery, tmp_path):
    folder = make_folder(tmp_path / "dead", **LONG)
    ended = nursery.train(folder, "epoch   1/300", lambda process: os.kill(workers_of(process)[1], signal.SIGKILL))
    assert ended.code == 1, ended.output
    assert ended.output.count("another process of this training ended without a word") == 1
    assert "Traceback" not in ended.output


def test_no_worker_is_left_when_the_one_that_started_them_is_killed(nursery, tmp_path):
    folder = make_folder(tmp_path / "orphans", **LONG)
    left: list[int] = []

    def kill(process: int) -> None:
        left.extend(workers_of(process))
        os.kill(process, signal.SIGKILL)

    assert nursery.train(folder, "epoch   1/300", kill).code == -signal.SIGKILL
    assert len(left) == 2
    for process in left:
        wait_until_gone(process)
    assert "training is saved in epoch" in (folder / "output.txt").read_text()
    assert list(folder.glob(".cache/train/*/*.pt"))
