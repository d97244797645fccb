"""Real trainings that are killed, stopped, orphaned or damaged, and what the next one makes of it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.tiny_training import ROOT, Nursery, digests, make_folder, set_params

STARTED = "steps an epoch"
DVC = """
import os, subprocess, sys
subprocess.run(sys.argv[1:], env={**os.environ, "DVC_ROOT": os.getcwd(), "DVC_STAGE": "train"})
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def unbroken(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What a training leaves that nobody disturbs, and the seconds it takes."""
    folder = make_folder(tmp_path_factory.mktemp("unbroken"))
    ended = nursery.train(folder, STARTED, lambda pid: None)
    assert ended.code == 0, ended.output
    assert "resuming" not in ended.output
    assert not list((folder / ".cache/train").iterdir())
    found = digests(folder)
    assert {"models/detector.safetensors", "models/detector.json", "metrics/train/iterations.json"} <= set(found)
    return found, ended.seconds


def stop(number: int, after: float = 0.0) -> Callable[[int], None]:
    """Sends a signal, later."""

    def send(pid: int) -> None:
        time.sleep(after)
        with suppress(ProcessLookupError):  # it was faster than we are
            os.kill(pid, number)

    return send


def stopped_in_epoch_3(nursery: Nursery, folder: Path) -> list[Path]:
    """The checkpoints, oldest first, of a training that was told to stop after its second epoch."""
    ended = nursery.train(make_folder(folder), "epoch   2/3", stop(signal.SIGTERM))
    assert ended.code == 143, ended.output
    found = sorted(folder.glob(".cache/train/*/*.pt"))
    assert len(found) == 2
    return found


def test_killed_ten_times_at_any_moment(nursery, unbroken, tmp_path):
    numbers, folder = random.Random(0), make_folder(tmp_path / "killed")
    expected, seconds = unbroken
    kills = resumed = 0
    while kills < 10:
        ended = nursery.train(folder, STARTED, stop(signal.SIGKILL, numbers.uniform(0, 0.6 * seconds)))
        kills += ended.code == -signal.SIGKILL
        resumed += "resuming at epoch" in ended.output
        if ended.code != -signal.SIGKILL:
            assert ended.code == 0, ended.output
            assert digests(folder) == expected
    assert resumed
    ended = nursery.train(folder)
    assert ended.code == 0, ended.output
    assert digests(folder) == expected
    assert not list((folder / ".cache/train").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            {"accumulate": "3", "patience": "12", "schedule": "plateau", "workers": "1"}, marks=pytest.mark.long
        ),
    ],
)
def test_asked_to_stop_saves_within_the_epoch(nursery, tmp_path, changes):
    changes = {**changes, "epochs": "16"}  # long enough that it is not over when the signal comes
    whole, folder = make_folder(tmp_path / "whole", **changes), make_folder(tmp_path / "stopped", **changes)
    assert nursery.train(whole).code == 0
    for number, code, epoch in ((signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 6)):
        ended = nursery.train(folder, f"epoch {epoch:3}/16", stop(number))
        assert ended.code == code, ended.output
        assert re.search(rf"{number.name}: training is saved in epoch \d+ of 16", ended.output)
        assert "Traceback" not in ended.output
    ended = nursery.train(folder)
    assert ended.code == 0, ended.output
    assert re.search(r"resuming at epoch \d+, iteration ", ended.output)
    assert digests(folder) == digests(whole)


def test_before_the_first_step_nothing_needs_saving(nursery, tmp_path):
    ended = nursery.train(make_folder(tmp_path / "early"), "M parameters", stop(signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert "Traceback" not in ended.output


def test_a_broken_checkpoint_is_passed_over(nursery, unbroken, tmp_path):
    folder = tmp_path / "broken"
    older, newer = stopped_in_epoch_3(nursery, folder)
    content = bytearray(newer.read_bytes())
    content[len(content) // 2] ^= 1
    newer.write_bytes(content)
    ended = nursery.train(folder)
    assert f"warning: {newer.relative_to(folder)} cannot be read (its content is not what was written)" in ended.output
    assert f"resuming at epoch {1 + int(older.name.split('-')[0])}, iteration 1" in ended.output
    assert digests(folder) == unbroken[0]


def test_without_a_checkpoint_that_can_be_read_it_starts_anew(nursery, unbroken, tmp_path):
    folder = tmp_path / "broken"
    for path in stopped_in_epoch_3(nursery, folder):
        path.write_bytes(path.read_bytes()[:100])
    ended = nursery.train(folder)
    assert ended.output.count("cannot be read") == 2
    assert "resuming" not in ended.output
    assert digests(folder) == unbroken[0]


def test_another_training_does_not_go_on_from_there(nursery, unbroken, tmp_path):
    folder = tmp_path / "other"
    stopped_in_epoch_3(nursery, folder)
    set_params(folder, lr="0.02")
    ended = nursery.train(folder)
    assert ended.code == 0, ended.output
    assert "resuming" not in ended.output
    set_params(folder, lr="0.01")
    assert "resuming at epoch 3" in nursery.train(folder).output
    assert digests(folder) == unbroken[0]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_no_orphan_is_left_when_dvc_is_killed(tmp_path, shell):
    """As DVC does it: through a shell, which stays (dash) or hands its process over (bash)."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    folder = make_folder(tmp_path / "orphan", epochs="300")
    command = f"{sys.executable} -u {ROOT / 'stages/train.py'}"
    parent = subprocess.Popen(
        [sys.executable, "-c", DVC, shell, "-c", command],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert parent.stdout is not None
    before = ""
    while "epoch   1/300" not in before:
        line = parent.stdout.readline()
        assert line, before
        before += line
    parent.kill()
    after = parent.stdout.read()  # ends when the last process that could write has ended
    parent.wait()
    parent.stdout.close()
    assert "SIGTERM: training is saved in epoch" in after
    assert "Traceback" not in after
    assert list((folder / ".cache/train").glob("*/*.pt"))
