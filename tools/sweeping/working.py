"""Working on a study: several trials at a time, until there are enough, it is too late, or Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from detector.core.errors import UserError
from git_commands import git
from sweeping.progress import Board
from sweeping.settings import Plan
from sweeping.study import count, fate, folder_of, retried_numbers, retry
from sweeping.trials import Interrupted, Surroundings, TrialFailed, run_trial

WAIT = 1.0  # seconds between two looks at what other workers do
UNRELATED = ("sweep.yaml", "sweeps", "docs", "*.md")  # what may change while a sweep goes on
HOPELESS = 3  # trials, after which a sweep ends in which all of them failed


def head() -> str:
    """The commit that is checked out."""
    return git("rev-parse", "HEAD")


def check_unchanged(commit: str) -> None:
    """Raise UserError when files are not as in `commit`, on which the sweep's trials stand, committed or not."""
    changed = git("diff", "--name-only", commit, "--", ".", *(f":(exclude){path}" for path in UNRELATED))
    if changed:
        raise UserError(
            f"{', '.join(changed.splitlines())}: not as in commit {commit[:10]}, on which all trials of a sweep "
            "must stand. For a new sweep, commit; to go on with one, put them back (`git checkout params.yaml` after "
            f"an experiment that was killed, or `git switch --detach {commit[:10]}`)"
        )


class Worker:
    """Trials of one process, `jobs` at a time, each in a thread that waits for its experiment."""

    def __init__(self, plan: Plan, study: optuna.Study, root: Path) -> None:
        sweep = plan.sweep
        self._plan, self._study = plan, study
        self._commit: str = study.user_attrs["commit"]
        self._board = Board(sweep.name, sweep.trials)
        folder = folder_of(plan).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._stopping = threading.Event()
        self._around = Surroundings(plan, root, folder, self._board, self._stopping)
        self._until = time.monotonic() + 60 * sweep.minutes if sweep.minutes else None
        self._starting = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def work(self, jobs: int) -> bool:
        """Run trials until the sweep is over; False when it was asked to stop before. Raises UserError."""
        threads = [threading.Thread(target=self._thread) for _ in range(jobs)]
        with listening(self._stopping):
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
                self._board.refresh()
        if self._error is not None:
            raise self._error
        return not self._stopping.is_set()

    def _thread(self) -> None:
        try:
            while not self._stopping.is_set() and self._place():
                self._study.optimize(
                    self._objective, n_trials=1, callbacks=[self._ended], catch=(TrialFailed, Interrupted)
                )
        except BaseException as error:
            self._error = error
            self._stopping.set()  # the other threads' trials are put back

    def _place(self) -> bool:
        """Wait for one more trial to be needed; False when there are enough or it is too late."""
        while not self._stopping.is_set():
            fail_stale_trials(self._study)
            with self._lock:
                now = count(self._study.get_trials(deepcopy=False))
                if now.used >= self._plan.sweep.trials or (self._until and time.monotonic() > self._until):
                    return False
                if now.used + now["running"] + self._starting < self._plan.sweep.trials:
                    self._starting += 1
                    return True
            self._stopping.wait(WAIT)  # a running trial may still turn out to be dead, and be ours to repeat
        return False

    def _objective(self, trial: Trial) -> tuple[float, ...]:
        with self._lock:
            self._starting -= 1
            check_unchanged(self._commit)
        return run_trial(trial, self._around)

    def _ended(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._stopping.is_set() and trial.state == TrialState.FAIL:
            retry(study, trial)
        trials = study.get_trials(deepcopy=False)
        state, now = fate(trial, retried_numbers(trials)), count(trials)
        self._board.end(trial.number, state, trial.values[0] if trial.state == TrialState.COMPLETE else None)
        self._board.total(now.used, best_of(study))
        if now["failed"] == now.used >= min(HOPELESS, self._plan.sweep.trials):
            log = self._around.folder / f"{trial.user_attrs['experiments'][0]}.log"
            raise UserError(f"all {now.used} trials failed; the last one's output ({log}):\n{last_lines(log)}")


def last_lines(log: Path) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def best_of(study: optuna.Study) -> str:
    """The best trial so far, or how many are on the Pareto front; nothing before one is complete."""
    best = study.best_trials
    if not best:
        return ""
    if len(study.directions) > 1:
        return f"{len(best)} that no other beats in everything"
    return f"{best[0].value:.4f} in trial {best[0].number}"


class listening:
    """Ctrl-C and SIGTERM set `stopping`; a second one is as ever. As a context."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            with suppress(TypeError):
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)
        print("\nstopping: running trials are saved and will be repeated; again Ctrl-C: at once", flush=True)
        self._stopping.set()
