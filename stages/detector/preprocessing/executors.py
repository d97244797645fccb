"""Parallel map in threads, in processes or on the workers of a Dask cluster."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

import PIL

from detector.core.errors import UserError

BATCH_SIZE = 64  # items sent at once to a process or to a worker of a cluster
BATCHES_PER_THREAD = 4  # batches submitted ahead per thread of a cluster; more would only fill its memory
CONNECT_TIMEOUT = 10  # seconds to wait for the scheduler of a cluster

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(NamedTuple):
    """Where to run; scheduler: tcp://HOST:PORT of a Dask cluster, None for a cluster on this machine."""

    kind: Literal["threads", "processes", "dask"] = "threads"
    scheduler: str | None = None


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], executor: Executor) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of the items.

    Items and results should be of built-in types, since they are sent between machines.
    Raises UserError when the cluster cannot be used.
    """
    if executor.kind == "dask":
        yield from _map_on_cluster(function, items, executor.scheduler)
    elif executor.kind == "processes":
        import multiprocessing  # takes 15 ms
        from concurrent.futures import ProcessPoolExecutor

        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
        with ProcessPoolExecutor(os.cpu_count(), spawn) as processes:
            yield from processes.map(function, items, chunksize=BATCH_SIZE)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            yield from threads.map(function, items)


def _map_on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], scheduler: str | None
) -> Iterator[Result]:
    """Dask retries the batches of a dead worker on another one, and gives up when a batch has killed several."""
    distributed = _import_distributed()
    try:
        with _connect_client(distributed, scheduler) as client:
            yield from _map_batches(client, function, items)
    except distributed.KilledWorker as error:
        raise UserError(f"Dask workers keep dying on this task (out of memory?): {error}") from None


def _map_batches(client: Any, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    def process_batch(batch: list[Item]) -> tuple[str, list[Result]]:
        import PIL  # the worker's own version

        return PIL.__version__, [function(item) for item in batch]

    batches = (list(items[start : start + BATCH_SIZE]) for start in range(0, len(items), BATCH_SIZE))
    ahead = BATCHES_PER_THREAD * max(1, sum(client.nthreads().values()))
    # With pure=False, Dask gives each task a new name and returns no results cached from an earlier run.
    pending = deque(client.submit(process_batch, batch, pure=False) for batch in itertools.islice(batches, ahead))
    while pending:
        version, results = pending.popleft().result()
        if version != PIL.__version__:
            raise UserError(
                f"a worker of the Dask cluster has Pillow {version}, this machine has {PIL.__version__}; install the "
                "same version on both, since other versions may decode to other pixels"
            )
        pending += (client.submit(process_batch, batch, pure=False) for batch in itertools.islice(batches, 1))
        yield from results


def _import_distributed() -> Any:
    try:
        import cloudpickle
        import distributed
    except ImportError:
        raise UserError(
            "machine.yaml: `executor` is dask, but Dask is not installed; run pip install distributed"
        ) from None
    import detector

    # The code is sent with the tasks: workers need not have it installed and never run an outdated copy.
    cloudpickle.register_pickle_by_value(detector)
    return distributed


def _connect_client(distributed: Any, scheduler: str | None) -> Any:
    if scheduler is None:
        return distributed.Client(n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address=None)
    try:
        return distributed.Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError) as error:
        raise UserError(
            f"machine.yaml: `dask_scheduler` is {scheduler!r}, but no scheduler answers there ({error}); "
            "expected the address that `dask scheduler` prints, such as tcp://10.0.0.5:8786"
        ) from None
