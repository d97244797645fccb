"""Processes that train together: started by the script (`train.processes`), or by torchrun on several machines too."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import NamedTuple

import torch
import torch.distributed as dist

from detector.core.errors import UserError
from detector.training import interruption

GRACE = 15.0  # seconds that the other processes have to notice that one failed


class Place(NamedTuple):
    """rank of all processes; local_rank of those on this machine; meeting: a file that all know, "" for torchrun."""

    rank: int
    processes: int
    local_rank: int
    local_processes: int
    meeting: str = ""


@contextmanager
def together(processes: int) -> Iterator[None]:
    """Run the block in `processes` processes, or in those that torchrun started.

    The process that came in does not run the block when there are several: it waits for them and ends as they
    do. Only the first process prints, and of several that fail only one says why.
    """
    place = place_in_environment() or (launch(processes) if processes > 1 else Place(0, 1, 0, 1))
    if place.processes == 1:
        yield
        return
    interruption.follow()
    failed = _join(place)
    try:
        check_gpus(place)
        if place.rank == 0:
            yield
        else:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
                yield
    except Exception as error:
        if failed.add("failed", 1) > 1:
            raise SystemExit(1) from None
        if "gloo" in str(error) or isinstance(error, dist.DistError):
            raise UserError(
                f"another process of this training ended without a word ({str(error).strip().splitlines()[0]}); "
                "the same command goes on from the last checkpoint"
            ) from None
        raise
    dist.destroy_process_group()


def place_in_environment() -> Place | None:
    """This process's place as torchrun gives it; None without torchrun."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, processes, local_rank, local_processes = (int(os.environ[name]) for name in names)
    return Place(rank, processes, local_rank, local_processes)


def check_gpus(place: Place) -> None:
    """Give this process a GPU of its own, where there are any. Raises UserError when there are too few."""
    if not torch.cuda.is_available():
        return
    if place.local_processes > torch.cuda.device_count():
        raise UserError(
            f"params.yaml: `train.processes` is {place.local_processes}, and each needs a GPU, of which this machine "
            f"has {torch.cuda.device_count()}: lower it, or look at CUDA_VISIBLE_DEVICES"
        )
    torch.cuda.set_device(place.local_rank)


def _join(place: Place) -> dist.Store:
    """Meet the others; returns the store that they share."""
    if place.meeting:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
        store: dist.Store = dist.FileStore(place.meeting, place.processes)
    else:
        store, _, _ = next(iter(dist.rendezvous("env://")))
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=place.rank, world_size=place.processes)
    return store


def launch(processes: int) -> Place:
    """Fork into `processes` workers, which return with their places; here it waits and ends as they do.

    Forked before CUDA is touched or a thread is started, so that torch is imported once. A signal is passed
    on, once, and the workers have the time that they need to save; a second one ends all at once.
    """
    folder = tempfile.mkdtemp(prefix="train-")
    workers: set[int] = set()  # the processes that run
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with interruption.deferred():
            for rank in range(processes):
                process = os.fork()
                if process == 0:
                    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes it on
                    return Place(rank, processes, rank, processes, f"{folder}/meeting")
                workers.add(process)
            raise SystemExit(_wait(workers))
    finally:
        if os.getpid() == parent:
            for process in workers:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            shutil.rmtree(folder, ignore_errors=True)


def _wait(workers: set[int]) -> int:
    """Exit code of the whole: 0 when all workers end well; takes those that ended out of `workers`."""
    passed_on, code, deadline = False, 0, float("inf")
    while workers and time.monotonic() < deadline:
        if interruption.requested() and not passed_on:
            passed_on = True
            for process in workers:
                os.kill(process, signal.SIGTERM)
        for process in list(workers):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                workers.remove(process)
                code = code or os.waitstatus_to_exitcode(status)
        if code:
            deadline = min(deadline, time.monotonic() + GRACE)
        time.sleep(0.02)
    if code and passed_on:
        raise interruption.interrupt()
    return code if code >= 0 else 1
