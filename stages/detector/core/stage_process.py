"""What every stage does around its work: run alone in its repository, and end when its `dvc` ends."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.core.output_files import remove_unfinished

LOCKS = Path(".cache/locks")
WRITTEN = tuple(map(Path, ("logs", "metrics", "models", "plots")))  # where stages write; those of data/ they empty
POLL_SECONDS = 0.2


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` as `run_command` does, as the only process of that stage in this folder.

    When DVC started the stage and is killed, the stage ends too: it would otherwise go on writing beside the next one.
    """

    def run_alone() -> None:
        with stage_lock(Path(sys.argv[0]).stem):
            end_with_dvc()
            main()

    run_command(run_alone)


@contextmanager
def stage_lock(stage: str) -> Iterator[None]:
    """Keep other processes of this stage out of this folder, and remove what killed ones left unfinished.

    Raises UserError when there is another process of this stage.
    """
    with exclusive_lock(LOCKS / stage, f"another process is running the stage `{stage}` in this folder"):
        for folder in WRITTEN:
            remove_unfinished(folder)
        yield


@contextmanager
def exclusive_lock(path: Path, problem: str) -> Iterator[None]:
    """Hold the lock file at `path`. Raises UserError with `problem` when another process holds it.

    The kernel releases the lock when its process ends in any way, so a file that is left behind locks nothing.
    """
    import fcntl  # missing on Windows, where the rest of the library should still be importable

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            # Not flock, which forked processes would still hold after this one dies.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"{problem} (it holds {path}); wait until it ends, or stop it and run this command again"
            ) from None
        yield


@functools.cache  # a second thread would do the same
def end_with_dvc() -> None:
    """Start a thread that ends this process with SIGTERM once the DVC that started it is gone; nothing without DVC.

    The kernel's parent-death signal is no alternative: the parent may be a shell that outlives DVC.
    """
    if _CHILD_OF_DVC is not None:
        _end_when_orphaned(*_CHILD_OF_DVC)


def end_with_parent() -> None:
    """Start a thread that ends this process with SIGTERM once its parent is gone."""
    _end_when_orphaned(os.getpid(), os.getppid())


def _end_when_orphaned(process: int, parent: int) -> None:
    def poll() -> None:
        while _find_parent(process) == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=poll, name="end when orphaned", daemon=True).start()


def _find_parent(process: int) -> int:
    """The parent's process ID; 0 if the process is gone."""
    if process == os.getpid():
        return os.getppid()
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _find_child_of_dvc() -> int:
    """Find the process that DVC started: this one, or a shell such as dash that runs it as a child."""
    process = os.getpid()
    with suppress(OSError):  # no /proc, or another user's process
        while b"DVC_STAGE=" in Path(f"/proc/{_find_parent(process)}/environ").read_bytes():
            process = _find_parent(process)
    return process


def _watch_dvc() -> tuple[int, int] | None:
    """The process that DVC started, and DVC; None without DVC."""
    if "DVC_STAGE" not in os.environ:
        return None
    process = _find_child_of_dvc()
    return process, _find_parent(process)


# Found on import: what a stage imports next takes seconds, in which DVC may be killed.
_CHILD_OF_DVC = _watch_dvc()
