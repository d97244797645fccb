"""A worker runs the trials of a study, several in parallel, until there are enough, time is up, or Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from detector.core.errors import UserError
from git_commands import git
from sweeping.progress import TrialProgress, describe_trial
from sweeping.settings import Plan
from sweeping.study import count_trials, find_requeued, requeue, sweep_folder, trial_outcome
from sweeping.trials import SweepContext, SweepStopped, TrialFailed, run_trial

POLL_SECONDS = 1.0  # between two looks at the trials of other workers
MAY_CHANGE = ("sweep.yaml", "sweeps", "docs", "*.md")  # paths that may change during a sweep
MAX_INITIAL_FAILURES = 3  # a sweep whose first trials all fail ends after this many


def read_head_commit() -> str:
    """The commit that is checked out."""
    return git("rev-parse", "HEAD")


def check_unchanged(commit: str) -> None:
    """Raise UserError when files differ from `commit`, on which all trials of the sweep run."""
    changed = git("diff", "--name-only", "--relative", commit, "--", ".", *(f":(exclude){path}" for path in MAY_CHANGE))
    if changed:
        raise UserError(
            f"{', '.join(changed.splitlines())}: not as in commit {commit[:10]}, on which all trials of a sweep must "
            "run. To begin a new sweep, commit the changes; to continue this one, restore the files (`git checkout "
            f"params.yaml` after a killed experiment, or `git switch --detach {commit[:10]}`)"
        )


class Worker:
    """Runs trials in this process, `jobs` at a time, each in a thread that waits for its experiment."""

    def __init__(self, plan: Plan, study: optuna.Study, root: Path) -> None:
        sweep = plan.sweep
        self._plan, self._study = plan, study
        self._commit: str = study.user_attrs["commit"]
        self._progress = TrialProgress(sweep.name, sweep.trials, count_trials(study.get_trials(deepcopy=False)).used)
        folder = sweep_folder(plan).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._stopping = threading.Event()
        self._context = SweepContext(plan, root, folder, self._stopping)
        self._deadline = time.monotonic() + 60 * sweep.minutes if sweep.minutes else None
        self._starting = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self, jobs: int) -> bool:
        """Run trials until the sweep is over; return False when it was stopped before. Raises UserError."""
        threads = [threading.Thread(target=self._run_trials) for _ in range(jobs)]
        with stop_on_signals(self._stopping):
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
                self._progress.refresh()
        self._progress.close()
        if self._error is not None:
            raise self._error
        return not self._stopping.is_set()

    def _run_trials(self) -> None:
        try:
            while not self._stopping.is_set() and self._wait_for_trial():
                self._study.optimize(
                    self._objective, n_trials=1, callbacks=[self._finish], catch=(TrialFailed, SweepStopped)
                )
        except BaseException as error:
            self._error = error
            self._stopping.set()  # the other threads' trials are requeued

    def _wait_for_trial(self) -> bool:
        """Wait until another trial is needed; return False when there are enough or time is up."""
        while not self._stopping.is_set():
            fail_stale_trials(self._study)
            with self._lock:
                counts = count_trials(self._study.get_trials(deepcopy=False))
                if counts.used >= self._plan.sweep.trials or (self._deadline and time.monotonic() > self._deadline):
                    return False
                if counts.used + counts["running"] + self._starting < self._plan.sweep.trials:
                    self._starting += 1
                    return True
            self._stopping.wait(POLL_SECONDS)  # a running trial may turn out to be dead and be repeated here
        return False

    def _objective(self, trial: Trial) -> tuple[float, ...]:
        with self._lock:
            self._starting -= 1
            check_unchanged(self._commit)
        counts = count_trials(self._study.get_trials(deepcopy=False))
        self._progress.update(f"trial {trial.number} started", counts, describe_best(self._study))
        return run_trial(trial, self._context)

    def _finish(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._stopping.is_set() and trial.state == TrialState.FAIL:
            requeue(study, trial)
        trials = study.get_trials(deepcopy=False)
        counts = count_trials(trials)
        message = describe_trial(trial, trial_outcome(trial, find_requeued(trials)))
        self._progress.update(message, counts, describe_best(study))
        if counts["failed"] == counts.used >= min(MAX_INITIAL_FAILURES, self._plan.sweep.trials):
            log = self._context.folder / f"{trial.user_attrs['experiments'][0]}.log"
            raise UserError(f"all {counts.used} trials failed; end of the last log ({log}):\n{read_tail(log)}")


def read_tail(log: Path) -> str:
    """The last 15 lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def describe_best(study: optuna.Study) -> str:
    """The best trial so far, or the size of the Pareto front; empty before a trial is complete."""
    best = study.best_trials
    if not best:
        return ""
    if len(study.directions) > 1:
        return f"{len(best)} on the Pareto front"
    return f"best {best[0].value:.4f} in trial {best[0].number}"


@contextmanager
def stop_on_signals(stopping: threading.Event) -> Iterator[None]:
    """Set `stopping` on Ctrl-C or SIGTERM; a second signal has its usual effect."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            with suppress(TypeError):  # None: a handler that was not installed from Python
                signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        print("\nstopping: running trials save and will be repeated; press Ctrl-C again to stop at once", flush=True)
        stopping.set()

    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
