"""One function over many items: in threads of this process, in processes, or on the workers of a Dask cluster."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

import PIL

from detector.core.errors import UserError

BATCH = 64  # items that a process or a worker of a cluster gets at a time
AHEAD = 4  # batches for each thread of a cluster that are on their way; more would only fill its memory
PATIENCE = 10  # seconds that a scheduler may take to answer

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(NamedTuple):
    """Where the work is done; scheduler: of a Dask cluster, tcp://HOST:PORT, None for a cluster on this machine."""

    kind: Literal["threads", "processes", "dask"] = "threads"
    scheduler: str | None = None


def spread(function: Callable[[Item], Result], items: Sequence[Item], executor: Executor) -> Iterator[Result]:
    """`function` of each item, in their order, whichever is finished first.

    Items and results travel between machines, so let them be of built-in types. Raises UserError when the
    cluster cannot be used.
    """
    if executor.kind == "dask":
        yield from _on_cluster(function, items, executor.scheduler)
    elif executor.kind == "processes":
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that run here
        with ProcessPoolExecutor(os.cpu_count(), spawn) as processes:
            yield from processes.map(function, items, chunksize=BATCH)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            yield from threads.map(function, items)


def _on_cluster(function: Callable[[Item], Result], items: Sequence[Item], scheduler: str | None) -> Iterator[Result]:
    """Work that a killed worker had is done again by another one; Dask gives up after the third that it kills."""
    distributed = _distributed()
    try:
        with _client(distributed, scheduler) as client:
            yield from _in_batches(client, function, items)
    except distributed.KilledWorker as error:
        raise UserError(f"the workers of the Dask cluster die of the same work, of memory perhaps: {error}") from None


def _in_batches(client: Any, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    def work(batch: list[Item]) -> tuple[str, list[Result]]:
        import PIL  # the worker's own

        return PIL.__version__, [function(item) for item in batch]

    batches = (list(items[start : start + BATCH]) for start in range(0, len(items), BATCH))
    ahead = AHEAD * max(1, sum(client.nthreads().values()))
    # pure=False: Dask names the work anew, so that nothing comes from an earlier run's memory.
    waiting = deque(client.submit(work, batch, pure=False) for batch in itertools.islice(batches, ahead))
    while waiting:
        version, results = waiting.popleft().result()
        if version != PIL.__version__:
            raise UserError(f"a worker of the Dask cluster has Pillow {version}, this machine {PIL.__version__}; both "
                            "must be the same, or the results are not")  # fmt: skip
        waiting += (client.submit(work, batch, pure=False) for batch in itertools.islice(batches, 1))
        yield from results


def _distributed() -> Any:
    try:
        import cloudpickle
        import distributed
    except ImportError:
        raise UserError(
            "params.yaml: `preprocess.executor` is dask, which is not installed; pip install distributed"
        ) from None
    import detector

    # The code travels with the work: workers need none of it, and never run an older state of it.
    cloudpickle.register_pickle_by_value(detector)
    return distributed


def _client(distributed: Any, scheduler: str | None) -> Any:
    if scheduler is None:
        return distributed.Client(n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address=None)
    try:
        return distributed.Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"params.yaml: `preprocess.dask_scheduler` is {scheduler!r}, which does not answer ({error}); expected the "
            "address that `dask scheduler` prints, such as tcp://10.0.0.5:8786"
        ) from None
