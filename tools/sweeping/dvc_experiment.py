"""Run one DVC experiment as `dvc exp run --temp` does; `trials.py` starts this script and may stop it.

    python dvc_experiment.py '{"name": ..., "targets": [...], "params": ["train.lr=0.1", ...], "lock": ..., ...}'

This is the only module that uses names which DVC does not document; tests/tools/test_dvc_experiment.py checks each.

Two concurrent runs of `dvc exp run --temp` steal each other's work: both push to one stash and pop its top entry.
Here a lock is held from push to pop, and only one entry is popped.

Ctrl-C (SIGINT) ends the experiment cleanly, and so does the death of the sweep.
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

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.exceptions import ExpQueueEmptyError
from dvc.repo.experiments.queue.base import QueueGetResult
from dvc.repo.experiments.queue.tempdir import TempDirQueue
from dvc.repo.experiments.refs import WORKSPACE_STASH

from detector.core.output_files import write_text


class SingleExperimentQueue(TempDirQueue):  # type: ignore[misc]  # DVC is untyped  # type: ignore[misc]  # DVC has no types
    """DVC's queue for `--temp`, limited to the entry that this process pushed; holds `lock` until it is popped."""

    def __init__(self, repo: Repo, lock: TextIO) -> None:
        super().__init__(repo, WORKSPACE_STASH)
        self._lock, self._popped = lock, False

    def get(self) -> QueueGetResult:
        if self._popped:
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # DVC locks its repository again now, and waits only 3 s for it
            raise ExpQueueEmptyError("The only experiment is done.")
        entry = super().get()
        self._popped = True
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return entry


def main() -> None:
    sys.path.append(str(Path(__file__).parents[1]))  # of a script, only its own folder is on the path
    from revisions import open_files

    request = json.loads(sys.argv[1])
    threading.Thread(target=stop_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        revision = run_experiment(request)
        files = open_files(revision)
        metrics = {file: json.loads(files.read_text(file)) for file in request["metrics"]}
    except DvcException as error:
        sys.exit(f"error: {error}")
    write_text(Path(request["result"]), json.dumps({"revision": revision, "metrics": metrics}))


def run_experiment(request: dict[str, Any]) -> str:
    """Run the experiment and return its commit."""
    with Repo() as repo, Path(request["lock"]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        repo.experiments.__dict__["tempdir_queue"] = SingleExperimentQueue(repo, lock)  # replaces the cached property
        revisions = repo.experiments.run(
            targets=request["targets"], params=request["params"], name=request["name"], tmp_dir=True
        )
        return str(next(iter(revisions)))


def stop_with_parent(parent: int) -> None:
    """Interrupt this process and its children when the sweep that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGINT)


if __name__ == "__main__":
    main()
