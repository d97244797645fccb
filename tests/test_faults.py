"""Killed stages, full and read-only disks, closed outputs: the next run gives the bytes of an unbroken one.

The long tests go through every stage and print their counts (`pytest -s`).
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Reproduced
from tests.support.faults import (
    SCRIPTS,
    check_one_line,
    delete_outputs,
    digests,
    find_unfinished,
    leave_free,
    read_only,
    run_stage,
    small_disk,
    start_stage,
    time_stage,
)
from tests.support.repository import Repository

EVERY_STAGE = [script if script == "split" else pytest.param(script, marks=pytest.mark.long) for script in SCRIPTS]
KILLS = 3  # of each stage and signal
FREE = (0, 4096, 20_000, 65_536, 200_000, 1_000_000, 4_000_000)  # bytes on a full disk


def check_same_as_unbroken(root: Path, script: str, environment: dict[str, str], expected: dict[str, str]) -> None:
    ended = run_stage(root, script, environment)
    assert ended.code == 0, ended.error
    assert digests(root, script) == expected
    assert find_unfinished(root) == []


@pytest.mark.parametrize("script", EVERY_STAGE)
def test_killed_at_any_moment(script: str, pipeline: Repository) -> None:
    root, environment = pipeline.root, pipeline.environment
    expected, numbers, counts = digests(root, script), random.Random(script), Counter[str]()
    assert expected
    seconds = time_stage(root, script, environment)
    for number in [signal.SIGKILL, signal.SIGTERM] * KILLS:
        process = start_stage(root, script, environment)
        time.sleep(numbers.uniform(0.3, 1) * seconds)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode in (-number, 128 + number, 0), error
        assert "Traceback" not in error
        counts["finished" if process.returncode == 0 else number.name] += 1
        if counts.total() % 2 == 0:
            check_same_as_unbroken(root, script, environment, expected)
    check_same_as_unbroken(root, script, environment, expected)
    print(f"{script}: {dict(counts)} kills, all later runs as an unbroken one")


@pytest.mark.parametrize("script", EVERY_STAGE)
def test_a_full_disk_is_one_line(script: str, reproduced: Reproduced, tmp_path: Path) -> None:
    environment, counts = reproduced.repository.environment, Counter[str]()
    with small_disk(tmp_path / "disk", reproduced.repository) as root:
        expected = digests(root, script)
        for free in FREE:
            delete_outputs(root, script)  # otherwise the stage would first make room by deleting them itself
            with leave_free(root.parent, free):
                ended = run_stage(root, script, environment)
            if ended.code:
                assert "free some space" in check_one_line(ended)
            counts["stopped" if ended.code else "had enough"] += 1
            check_same_as_unbroken(root, script, environment, expected)
    assert counts["stopped"]
    print(f"{script}: {dict(counts)} of {len(FREE)} sizes, all later runs as an unbroken one")


@pytest.mark.parametrize("script", EVERY_STAGE)
def test_a_read_only_folder_is_one_line(script: str, reproduced: Reproduced, tmp_path: Path) -> None:
    environment = reproduced.repository.environment
    with small_disk(tmp_path / "disk", reproduced.repository) as root:
        expected = digests(root, script)
        with read_only(root.parent):
            line = check_one_line(run_stage(root, script, environment))
        assert "Read-only file system; make it writable" in line
        assert digests(root, script) == expected
        check_same_as_unbroken(root, script, environment, expected)


@pytest.mark.parametrize("script", EVERY_STAGE)
def test_a_full_or_closed_standard_output_is_no_traceback(script: str, pipeline: Repository) -> None:
    root, environment = pipeline.root, pipeline.environment
    expected = digests(root, script)
    with Path("/dev/full").open("w") as full:
        assert "No space left" in check_one_line(run_stage(root, script, environment, stdout=full))
    reader, writer = os.pipe()
    os.close(reader)
    ended = run_stage(root, script, environment, stdout=writer)
    os.close(writer)
    assert (ended.code, "Traceback" in ended.error) == (141, False), ended.error
    check_same_as_unbroken(root, script, environment, expected)


@pytest.mark.parametrize("script", EVERY_STAGE)
def test_two_at_once(script: str, pipeline: Repository) -> None:
    """Either one is told to wait, or they did not overlap."""
    root, environment = pipeline.root, pipeline.environment
    expected = digests(root, script)
    processes = [start_stage(root, script, environment) for _ in range(3)]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert any(process.returncode == 0 for process in processes), errors
    for process, error in zip(processes, errors, strict=True):
        if process.returncode:
            assert "another process is running" in error, error
            assert "Traceback" not in error
    assert digests(root, script) == expected


@pytest.mark.long
@pytest.mark.parametrize("stage", ["split", "train", "evaluate", "export"])
def test_a_killed_dvc_takes_its_stage_along(stage: str, pipeline: Repository) -> None:
    root, environment = pipeline.root, pipeline.environment
    expected = digests(root, stage)
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]
    for after in (0.1, 3.0):
        dvc = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for_stage(root, stage)
        time.sleep(after)
        dvc.kill()
        killed = time.monotonic()
        while find_stages(root, stage):
            # Loading a library such as torch's holds up all threads for about a second.
            assert time.monotonic() - killed < (1 if stage == "split" else 2.5), f"{stage} goes on without its dvc"
            time.sleep(0.02)
        dvc.communicate()
        pipeline.run(*command)
        assert digests(root, stage) == expected
        assert find_unfinished(root) == []


def wait_for_stage(root: Path, stage: str) -> None:
    """Return once the stage's process runs."""
    end = time.monotonic() + 60
    while not find_stages(root, stage):
        assert time.monotonic() < end
        time.sleep(0.005)


def find_stages(root: Path, stage: str) -> list[int]:
    """The processes of a stage in a repository, shells left out."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
            if re.search(rf"stages/{stage}\.py$", b" ".join(line[1:2]).decode()) and (process / "cwd").samefile(root):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found
