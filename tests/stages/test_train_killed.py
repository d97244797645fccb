"""Real trainings that are killed, interrupted, orphaned or damaged, and resumed."""

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

STARTED = "steps per epoch"
BATCHES = 4  # of an epoch of the tiny training
DVC = """
import os, subprocess, sys
subprocess.run(sys.argv[1:], env={**os.environ, "DVC_ROOT": os.getcwd(), "DVC_STAGE": "train"})
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def uninterrupted(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """The output files of an uninterrupted training, and its duration in seconds."""
    folder = make_folder(tmp_path_factory.mktemp("uninterrupted"))
    ended = nursery.train(folder, STARTED, lambda pid: None)
    assert ended.code == 0, ended.output
    assert "resuming" not in ended.output
    assert not list((folder / ".cache/train").iterdir())
    found = digests(folder)
    assert {"models/detector.safetensors", "models/detector.json", "metrics/train/iterations.tsv"} <= set(found)
    return found, ended.seconds


def send_signal(number: int, after: float = 0.0) -> Callable[[int], None]:
    """Return a function that sends a signal after some seconds."""

    def send(pid: int) -> None:
        time.sleep(after)
        with suppress(ProcessLookupError):  # the training has ended already
            os.kill(pid, number)

    return send


def test_a_kill_in_the_second_epoch_leaves_all_iterations_and_the_console(nursery: Nursery, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "killed", epochs="300")
    table = folder / "metrics/train/iterations.tsv"

    def kill_within_an_epoch(pid: int) -> None:
        while len(table.read_text().splitlines()) % BATCHES != 3:  # the header and 2 of 4 iterations
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)

    ended = nursery.train(folder, "epoch   1/300", kill_within_an_epoch)
    assert ended.code == -signal.SIGKILL
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert rows[0] == ["iteration", "epoch", "lr", "loss", "loss_cls", "loss_ciou", "loss_dfl"]
    assert [row[:2] for row in rows[1:]] == [[str(n), str(n // BATCHES + 1)] for n in range(len(rows) - 1)]
    epochs = ended.output.count("  val loss ")
    assert epochs * BATCHES < len(rows) - 1 <= (epochs + 1) * BATCHES
    log = (folder / "logs/train.log").read_text()
    printed = [line for line in ended.output.splitlines() if line.strip()]
    assert [line[20:] for line in log.splitlines()[1:]] == printed
    assert "device CPU" in log
    assert "epoch   1/300" in log

    ended = nursery.train(folder, "resuming at epoch", send_signal(signal.SIGTERM))
    log = (folder / "logs/train.log").read_text()
    assert log.count("--- process") == 2
    assert "SIGTERM: training saved in epoch" in log


def stop_in_epoch_3(nursery: Nursery, folder: Path) -> list[Path]:
    """Stop a training after its second epoch; its checkpoints, oldest first."""
    ended = nursery.train(make_folder(folder), "epoch   2/3", send_signal(signal.SIGTERM))
    assert ended.code == 143, ended.output
    found = sorted(folder.glob(".cache/train/*/*.pt"))
    assert len(found) == 2
    return found


def test_killed_ten_times_at_any_moment(
    nursery: Nursery, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    numbers, folder = random.Random(0), make_folder(tmp_path / "killed")
    expected, seconds = uninterrupted
    kills = resumed = 0
    while kills < 10:
        ended = nursery.train(folder, STARTED, send_signal(signal.SIGKILL, numbers.uniform(0, 0.6 * seconds)))
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
        pytest.param({"accumulate_steps": "3", "patience": "12", "schedule": "plateau"}, marks=pytest.mark.long),
    ],
)
def test_a_stop_request_saves_within_the_epoch(nursery: Nursery, tmp_path: Path, changes: dict[str, str]) -> None:
    changes = {**changes, "epochs": "16"}  # long enough to be running when the signal arrives
    reference, folder = make_folder(tmp_path / "reference", **changes), make_folder(tmp_path / "stopped", **changes)
    if changes.get("schedule") == "plateau":
        (folder / "machine.yaml").write_text("workers: 1\n")  # the settings of a machine change nothing
    assert nursery.train(reference).code == 0
    for number, code, epoch in ((signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 6)):
        ended = nursery.train(folder, f"epoch {epoch:3}/16", send_signal(number))
        assert ended.code == code, ended.output
        assert re.search(rf"{number.name}: training saved in epoch \d+ of 16", ended.output)
        assert "Traceback" not in ended.output
    ended = nursery.train(folder)
    assert ended.code == 0, ended.output
    assert re.search(r"resuming at epoch \d+, iteration ", ended.output)
    assert digests(folder) == digests(reference)


def test_a_stop_before_the_first_step_needs_no_checkpoint(nursery: Nursery, tmp_path: Path) -> None:
    ended = nursery.train(make_folder(tmp_path / "early"), "M parameters", send_signal(signal.SIGTERM))
    assert ended.code == 143, ended.output
    assert "Traceback" not in ended.output


def test_a_damaged_checkpoint_is_skipped(
    nursery: Nursery, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    older, newer = stop_in_epoch_3(nursery, folder)
    content = bytearray(newer.read_bytes())
    content[len(content) // 2] ^= 1
    newer.write_bytes(content)
    ended = nursery.train(folder)
    assert f"warning: {newer.relative_to(folder)} cannot be read" in ended.output
    assert f"resuming at epoch {1 + int(older.name.split('-')[0])}, iteration 1" in ended.output
    assert digests(folder) == uninterrupted[0]


def test_without_a_readable_checkpoint_it_starts_from_scratch(
    nursery: Nursery, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    for path in stop_in_epoch_3(nursery, folder):
        path.write_bytes(path.read_bytes()[:100])
    ended = nursery.train(folder)
    assert ended.output.count("cannot be read") == 2
    assert "resuming" not in ended.output
    assert digests(folder) == uninterrupted[0]


def test_another_training_does_not_resume_from_it(
    nursery: Nursery, uninterrupted: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    stop_in_epoch_3(nursery, folder)
    set_params(folder, lr="0.02")
    ended = nursery.train(folder)
    assert ended.code == 0, ended.output
    assert "resuming" not in ended.output
    set_params(folder, lr="0.01")
    assert "resuming at epoch 3" in nursery.train(folder).output
    assert digests(folder) == uninterrupted[0]


@pytest.mark.parametrize("shell", [pytest.param("sh", marks=pytest.mark.long), "bash"])
def test_no_orphan_is_left_when_dvc_is_killed(tmp_path: Path, shell: str) -> None:
    """As DVC runs a stage: through a shell that stays (dash) or is replaced by the command (bash)."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    folder = make_folder(tmp_path / "orphan", epochs="300")
    command = f"{sys.executable} -u {ROOT / 'stages/train.py'}"
    parent = subprocess.Popen(
        [sys.executable, "-c", DVC, shell, "-c", command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert parent.stdout is not None
    before = ""
    while "epoch   1/300" not in before:
        line = parent.stdout.readline()
        assert line, before
        before += line
    parent.kill()
    after = parent.stdout.read()  # returns when the last process that could write has ended
    parent.wait()
    parent.stdout.close()
    assert "SIGTERM: training saved in epoch" in after
    assert "Traceback" not in after
    assert list((folder / ".cache/train").glob("*/*.pt"))
