"""Worker processes of a training: started here (`train.processes`), or by torchrun, also on several machines."""

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

GRACE_SECONDS = 15.0  # for the other processes to notice that one failed


class ProcessRank(NamedTuple):
    """Rank of this process among all and on this machine; rendezvous_file: shared by all, "" with torchrun."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    rendezvous_file: str = ""


@contextmanager
def spawn_workers(processes: int) -> Iterator[None]:
    """Run the block in `processes` worker processes, or in those that torchrun started.

    With several workers, the calling process does not run the block: it waits for them and exits with their exit
    code. Only rank 0 prints, and only one of several failing workers reports its error. Raises UserError if torchrun
    started another number than `processes`, which DVC records and which decides the learning rate.
    """
    process_rank = read_torchrun_rank() or (fork_workers(processes) if processes > 1 else ProcessRank(0, 1, 0, 1))
    if process_rank.world_size != processes:
        raise UserError(
            f"torchrun started {process_rank.world_size} processes, params.yaml has `train.processes: {processes}`: "
            f"set it to {process_rank.world_size}, so that dvc.lock records how the model was trained"
        )
    if process_rank.world_size == 1:
        yield
        return
    interruption.watch_parent()
    store = _init_process_group(process_rank)
    try:
        assign_gpu(process_rank)
        if process_rank.rank == 0:
            yield
        else:
            with open(os.devnull, "w") as devnull, redirect_stdout(devnull):  # noqa: PTH123
                yield
    except Exception as error:
        if store.add("failed", 1) > 1:
            raise SystemExit(1) from None
        if "gloo" in str(error) or isinstance(error, dist.DistError):
            raise UserError(
                f"a worker process exited unexpectedly ({str(error).strip().splitlines()[0]}); run the same command "
                "again to resume from the latest checkpoint"
            ) from None
        raise
    dist.destroy_process_group()


def read_torchrun_rank() -> ProcessRank | None:
    """Read this process's rank from torchrun's environment variables; None without torchrun."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, world_size, local_rank, local_world_size = (int(os.environ[name]) for name in names)
    return ProcessRank(rank, world_size, local_rank, local_world_size)


def assign_gpu(process_rank: ProcessRank) -> None:
    """Assign one GPU to this process, if the machine has any. Raises UserError when there are too few."""
    if not torch.cuda.is_available():
        return
    if process_rank.local_world_size > torch.cuda.device_count():
        raise UserError(
            f"params.yaml: `train.processes` is {process_rank.local_world_size}, but this machine has "
            f"{torch.cuda.device_count()} GPUs and each process needs one: lower it, or check CUDA_VISIBLE_DEVICES"
        )
    torch.cuda.set_device(process_rank.local_rank)


def _init_process_group(process_rank: ProcessRank) -> dist.Store:
    """Join the process group; return its store."""
    if process_rank.rendezvous_file:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all processes are on this machine
        store: dist.Store = dist.FileStore(process_rank.rendezvous_file, process_rank.world_size)
    else:
        store, _, _ = next(iter(dist.rendezvous("env://")))
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=process_rank.rank, world_size=process_rank.world_size)
    return store


def fork_workers(processes: int) -> ProcessRank:
    """Fork `processes` workers, in which this returns; the calling process waits and exits with their exit code.

    Forking happens before CUDA is initialized or torch starts a thread, so torch is imported only once. The first
    signal is forwarded, and the workers get the time they need to save; a second one kills all immediately.
    """
    folder = tempfile.mkdtemp(prefix="train-")
    workers: set[int] = set()  # IDs of the running processes
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with interruption.defer_signals():
            for rank in range(processes):
                process = os.fork()
                if process == 0:
                    os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which forwards it
                    return ProcessRank(rank, processes, rank, processes, f"{folder}/rendezvous")
                workers.add(process)
            raise SystemExit(_wait_for_workers(workers))
    finally:
        if os.getpid() == parent:
            for process in workers:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for_workers(workers: set[int]) -> int:
    """Wait and return the exit code: 0 when all workers succeed; removes those that exited from `workers`."""
    forwarded, code, deadline = False, 0, float("inf")
    while workers and time.monotonic() < deadline:
        if interruption.is_stop_requested() and not forwarded:
            forwarded = True
            for process in workers:
                os.kill(process, signal.SIGTERM)
        for process in list(workers):
            exited, status = os.waitpid(process, os.WNOHANG)
            if exited:
                workers.remove(process)
                code = code or os.waitstatus_to_exitcode(status)
        if code:
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        time.sleep(0.02)
    if code and forwarded:
        raise interruption.make_interrupted()
    return code if code >= 0 else 1
