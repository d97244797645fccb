"""Threads, processes and a Dask cluster give the same results, even when a worker dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import PIL
import pytest
from distributed import Client
from PIL import Image

from detector.core.errors import UserError
from detector.preprocessing import executors
from detector.preprocessing.executors import BATCH_SIZE, Executor, parallel_map
from detector.preprocessing.inspection import inspect_image
from detector.preprocessing.inspection_cache import inspect_images

COUNT = 2 * BATCH_SIZE + 5


class Cluster(NamedTuple):
    """A scheduler and two workers, which run outside the project."""

    address: str
    workers: dict[str, subprocess.Popen[bytes]]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Small images, one of which is a text file."""
    for number in range(COUNT):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"text")
    return [tmp_path / f"{number}.png" for number in range(COUNT)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", "scheduler.json", "--no-dashboard"]
        started[name] = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)

    try:
        start("scheduler", "scheduler", "--port", "0", "--host", "127.0.0.1")
        for name in ("first", "second"):
            start(name, "worker", "--no-nanny", "--nthreads", "1", "--name", name, "--host", "127.0.0.1")
        address = read_address(folder / "scheduler.json")
        with Client(address, timeout=30) as client:
            client.wait_for_workers(2, timeout=30)
        yield Cluster(address, {name: process for name, process in started.items() if name != "scheduler"})
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def read_address(path: Path) -> str:
    """The address that the scheduler writes once it listens."""
    for _ in range(600):
        if path.exists() and (text := path.read_text()):
            return str(json.loads(text)["address"])
        time.sleep(0.05)
    raise AssertionError("the scheduler did not start")


def find_last_busy_worker(client: Client) -> str:
    """The name of the worker with the only remaining task."""
    for _ in range(600):
        busy = {worker: keys for worker, keys in client.processing().items() if keys}
        done = sum(bool(workers) for workers in client.who_has().values())
        if done and [len(keys) for keys in busy.values()] == [1]:
            return str(client.scheduler_info(n_workers=-1)["workers"][next(iter(busy))]["name"])
        time.sleep(0.05)
    raise AssertionError(f"still busy: {busy}")


def test_processes_return_the_same_as_threads(paths: list[Path], tmp_path: Path) -> None:
    found = inspect_images(paths, tmp_path / "a.sqlite", Executor("processes"))
    assert found == ([inspect_image(path) for path in paths], COUNT)


def test_errors_of_a_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor("dask", cluster.address)
    assert list(parallel_map(str.upper, [], executor)) == []
    assert list(parallel_map(str.upper, ["a", "b"], executor)) == ["A", "B"]
    with monkeypatch.context() as patch:
        patch.setattr(PIL, "__version__", "0.1")
        with pytest.raises(UserError, match=r"has Pillow \d.+ has 0\.1;"):
            list(parallel_map(str.upper, ["a"], executor))
    monkeypatch.setattr(executors, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(UserError, match=r"`dask_scheduler` is 'tcp://127\.0\.0\.1:9'"):
        list(parallel_map(str.upper, ["a"], Executor("dask", "tcp://127.0.0.1:9")))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="pip install distributed"):
        list(parallel_map(str.upper, ["a"], executor))


def test_a_worker_that_does_not_find_the_images(cluster: Cluster, tmp_path: Path) -> None:
    """Like a machine without the shared folder."""
    (tmp_path / "elsewhere").symlink_to("/proc/self/cwd")  # each process has its own
    assert inspect_images([], tmp_path / "a.sqlite", Executor("dask", cluster.address)) == ([], 0)
    with pytest.raises(UserError, match=r"elsewhere/README\.md: .*worker.*absolute path"):
        inspect_images([tmp_path / "elsewhere/README.md"], tmp_path / "a.sqlite", Executor("dask", cluster.address))


def test_the_results_are_complete_when_a_worker_is_killed(cluster: Cluster, paths: list[Path]) -> None:
    """One file is a pipe, which makes its worker wait until it is killed."""

    def read(path: str) -> bytes:
        return Path(path).read_bytes()

    expected = [path.read_bytes() for path in paths]
    slow, content = paths[3], expected[3]
    slow.unlink()
    os.mkfifo(slow)
    executor, results = Executor("dask", cluster.address), list[list[bytes]]()
    names = [str(path) for path in paths]
    thread = threading.Thread(target=lambda: results.append(list(parallel_map(read, names, executor))))
    thread.start()
    with Client(cluster.address) as client:
        victim = cluster.workers[find_last_busy_worker(client)]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    with slow.open("wb") as pipe:  # waits until the other worker reads it
        pipe.write(content)
    thread.join(timeout=60)
    assert results == [expected]
