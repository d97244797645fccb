"""One DVC experiment, as `dvc exp run --temp` makes it: a process of its own, which `trials.py` starts and may stop.

    python experiment.py '{"name": ..., "targets": [...], "params": ["train.lr=0.1", ...], "lock": ..., "result": ...}'

Two `dvc exp run --temp` at once take each other's work: both put it on one stash and take what lies on top. Here
the time between putting and taking is under a lock, and only one experiment is taken.

Ctrl-C (SIGINT) ends it cleanly, and so does the death of the sweep.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.exceptions import ExpQueueEmptyError
from dvc.repo.experiments.queue.base import QueueGetResult
from dvc.repo.experiments.queue.tempdir import TempDirQueue
from dvc.repo.experiments.refs import WORKSPACE_STASH


class OneExperiment(TempDirQueue):
    """DVC's queue for `--temp`, from which this process takes only what it has put there; `lock` is held till then."""

    def __init__(self, repo: Repo, lock: TextIO) -> None:
        super().__init__(repo, WORKSPACE_STASH)
        self._lock, self._taken = lock, False

    def get(self) -> QueueGetResult:
        if self._taken:
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # DVC locks its repository again now, and waits only 3 s for it
            raise ExpQueueEmptyError("The one experiment is done.")
        found = super().get()
        self._taken = True
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return found


def main() -> None:
    request = json.loads(sys.argv[1])
    threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
    try:
        revision = run(request)
        metrics = {file: json.loads(DVCFileSystem(rev=revision).read_text(file)) for file in request["metrics"]}
    except DvcException as error:
        sys.exit(f"error: {error}")
    Path(request["result"]).write_text(json.dumps({"revision": revision, "metrics": metrics}), encoding="utf-8")


def run(request: dict[str, Any]) -> str:
    """Run it. Returns the experiment's commit."""
    with Repo() as repo, Path(request["lock"]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        repo.experiments.__dict__["tempdir_queue"] = OneExperiment(repo, lock)  # instead of the cached property
        revisions = repo.experiments.run(
            targets=request["targets"], params=request["params"], name=request["name"], tmp_dir=True
        )
        return str(next(iter(revisions)))


def follow(parent: int) -> None:
    """Interrupt this process and what it runs when the sweep that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGINT)


if __name__ == "__main__":
    main()
