"""Work in threads, in processes and on a Dask cluster gives the same, even when a worker dies of it."""

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
from detector.preprocessing.executors import BATCH, Executor, spread
from detector.preprocessing.inspection import inspect
from detector.preprocessing.inspection_cache import inspect_all

COUNT = 2 * BATCH + 5


class Cluster(NamedTuple):
    """A scheduler and two workers: processes that know nothing of this project, somewhere else."""

    address: str
    workers: dict[str, subprocess.Popen[bytes]]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Small images, and one that is none."""
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
        address = address_in(folder / "scheduler.json")
        with Client(address, timeout=30) as client:
            client.wait_for_workers(2, timeout=30)
        yield Cluster(address, {name: process for name, process in started.items() if name != "scheduler"})
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def address_in(path: Path) -> str:
    """What the scheduler writes when it listens."""
    for _ in range(600):
        if path.exists() and (text := path.read_text()):
            return str(json.loads(text)["address"])
        time.sleep(0.05)
    raise AssertionError("the scheduler does not start")


def worker_of_the_last_batch(client: Client) -> str:
    """The name of the worker that has the only work left."""
    for _ in range(600):
        busy = {worker: keys for worker, keys in client.processing().items() if keys}
        done = sum(bool(workers) for workers in client.who_has().values())
        if done and [len(keys) for keys in busy.values()] == [1]:
            return str(client.scheduler_info(n_workers=-1)["workers"][next(iter(busy))]["name"])
        time.sleep(0.05)
    raise AssertionError(f"still at work: {busy}")


def test_processes_find_what_threads_find(paths: list[Path], tmp_path: Path) -> None:
    found = inspect_all(paths, tmp_path / "a.sqlite", Executor("processes"))
    assert found == ([inspect(path) for path in paths], COUNT)


def test_what_is_wrong_with_a_cluster_is_said(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor("dask", cluster.address)
    assert list(spread(str.upper, [], executor)) == []
    assert list(spread(str.upper, ["a", "b"], executor)) == ["A", "B"]
    with monkeypatch.context() as patch:
        patch.setattr(PIL, "__version__", "0.1")
        with pytest.raises(UserError, match=r"has Pillow \d.+, this machine 0\.1; both must be the same"):
            list(spread(str.upper, ["a"], executor))
    monkeypatch.setattr(executors, "PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"`preprocess\.dask_scheduler` is 'tcp://127\.0\.0\.1:9', which does not"):
        list(spread(str.upper, ["a"], Executor("dask", "tcp://127.0.0.1:9")))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="pip install distributed"):
        list(spread(str.upper, ["a"], executor))


def test_a_worker_that_does_not_see_the_images(cluster: Cluster, tmp_path: Path) -> None:
    """As on a machine without the shared folder."""
    (tmp_path / "elsewhere").symlink_to("/proc/self/cwd")  # each process has its own
    assert inspect_all([], tmp_path / "a.sqlite", Executor("dask", cluster.address)) == ([], 0)
    with pytest.raises(UserError, match="is not there for a worker of the Dask cluster"):
        inspect_all([tmp_path / "elsewhere/README.md"], tmp_path / "a.sqlite", Executor("dask", cluster.address))


def test_the_same_facts_though_a_worker_is_killed_midway(cluster: Cluster, paths: list[Path], tmp_path: Path) -> None:
    """One image is a pipe, so that its worker waits until it is killed."""
    expected = [inspect(path) for path in paths]
    slow, content = paths[3], paths[3].read_bytes()
    slow.unlink()
    os.mkfifo(slow)
    executor, answers = Executor("dask", cluster.address), []
    thread = threading.Thread(target=lambda: answers.append(inspect_all(paths, tmp_path / "a.sqlite", executor)))
    thread.start()
    with Client(cluster.address) as client:
        victim = cluster.workers[worker_of_the_last_batch(client)]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    with slow.open("wb") as pipe:  # waits for the other worker, which reads it then
        pipe.write(content)
    thread.join(timeout=60)
    assert answers == [(expected, COUNT)]
