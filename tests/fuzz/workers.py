"""Processes that run cases, each with limits of time and memory, and with an eye on what it writes and starts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Case, make_dataset, prepare_process, run_case, write_dataset

SECONDS = 20.0  # that a case may take
MEMORY = 2 << 30  # bytes of main memory that it may take
ADDRESS_SPACE = 3 << 30  # stops what goes far beyond
CASES_PER_PROCESS = 300

_STARTS = re.compile(r"subprocess\.Popen|os\.(exec|posix_spawn|spawn|system|fork|forkpty)|pty\.spawn|socket\.connect")
_WRITES = re.compile(
    r"os\.(remove|rename|mkdir|rmdir|link|symlink|chmod|chown|utime)|shutil\.(rmtree|move)|sqlite3\.connect"
)


class Guard:
    """Collects programs started, and files written outside of a folder or in the dataset in it."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.violations: list[str] = []
        sys.addaudithook(self._watch)

    @contextlib.contextmanager
    def __call__(self, folder: Path) -> Iterator[list[str]]:
        self.violations = []
        self.folder = os.path.realpath(folder)
        try:
            yield self.violations
        finally:
            self.folder = None

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if _STARTS.fullmatch(event):
            self.violations.append(f"{event}{arguments}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                self._check(event, path)
        elif _WRITES.fullmatch(event) and not any(isinstance(value, int) and value >= 0 for value in arguments[-1:]):
            paths = arguments[:2] if event in ("os.rename", "shutil.move") else arguments[:1]
            for path in arguments[1:2] if event in ("os.link", "os.symlink") else paths:
                self._check(event, path)

    def _check(self, event: str, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)) or self.folder is None:
            return
        given = Path(os.fsdecode(path))
        real = str(
            given.resolve() if event == "open" or given.name in ("", "..") else given.parent.resolve() / given.name
        )
        inside = f"{real}/".startswith(self.folder + "/") and not real.startswith(self.folder + "/data/raw/")
        if not inside and real != os.devnull:
            self.violations.append(f"{event}: {path!r}, which is {real!r}")


def _work(tasks: Connection, folder: Path) -> None:
    """Run the cases (format, seed) that come in; send each Case back."""
    sys.dont_write_bytecode = True
    os.fsync = lambda _: None  # type: ignore[assignment]  # nobody pulls the plug
    os.environ.pop("DVC_ROOT", None)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    os.chdir(folder)
    prepare_process()
    guard = Guard()
    while task := tasks.recv():
        format_, seed = task
        place = folder / f"{format_}-{seed}"
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        case = run_case(format_, seed, place, guard)
        peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) << 10
        if peak > MEMORY:
            case = case._replace(
                outcome="wrong", details=f"{peak >> 20:,} MB of memory; {case.outcome}: {case.details}"
            )
        shutil.rmtree(place, ignore_errors=True)
        tasks.send(case)


class _Worker:
    """A process and its case."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self.connection, other = context.Pipe()
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.process = context.Process(target=_work, args=(other, self.folder), daemon=True)
        self.process.start()
        other.close()
        self.started = 0.0
        self.count = 0
        self.task: tuple[str, int] | None = None

    def give(self, task: tuple[str, int]) -> None:
        self.task, self.started, self.count = task, time.monotonic(), self.count + 1
        self.connection.send(task)

    def stop(self) -> None:
        if self.task is None and self.process.is_alive():
            self.connection.send(None)
            self.process.join(SECONDS)
        self.process.kill()
        self.process.join()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_cases(tasks: Iterable[tuple[str, int]], processes: int) -> Iterator[Case]:
    """Run the cases (format, seed) in so many processes; yields each as it ends."""
    waiting = iter(tasks)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        workers = [_Worker(Path(folder)) for _ in range(processes)]
        try:
            for worker in list(workers):
                if task := next(waiting, None):
                    worker.give(task)
            while busy := [worker for worker in workers if worker.task]:
                wait([worker.connection for worker in busy], timeout=0.5)
                for worker in busy:
                    case = _collect(worker)
                    if case is None:
                        continue
                    yield case
                    worker.task = None
                    if worker.count >= CASES_PER_PROCESS or not worker.process.is_alive():
                        worker.stop()
                        workers[workers.index(worker)] = worker = _Worker(Path(folder))
                    if task := next(waiting, None):
                        worker.give(task)
        finally:
            for worker in workers:
                worker.stop()


def _collect(worker: _Worker) -> Case | None:
    """The case that a worker has finished, or that has finished it; None while it goes on."""
    format_, seed = worker.task or ("", 0)
    try:
        if worker.connection.poll():
            case: Case = worker.connection.recv()
            return case
        late = time.monotonic() - worker.started > SECONDS + 10 * (worker.count == 1)  # the first one waits for imports
        if not late:
            return None
        problem = f"not finished after {SECONDS:g} s"
    except (EOFError, ConnectionError):
        worker.process.join()
        problem = f"the process died with {worker.process.exitcode}"
    worker.process.kill()
    worker.process.join()
    return Case(format_, seed, tuple(make_dataset(format_, seed)[0].story), "wrong", problem)


def reproduce(format_: str, seed: int, folder: str | None = None) -> Case:
    """Run one case alone and print what it is; folder: where to leave its dataset, in subfolders that are new."""
    if folder is not None:
        write_dataset(make_dataset(format_, seed)[0], Path(folder).absolute() / "data/raw/set")
    (case,) = run_cases([(format_, seed)], 1)
    print(describe(case))
    return case


def describe(case: Case) -> str:
    """The case in a few lines."""
    story = "".join(f"\n    {line}" for line in case.story)
    return f"reproduce({case.format!r}, {case.seed}): {case.outcome}{story}\n  {case.details}"
