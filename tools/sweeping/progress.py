"""The progress of a sweep: one bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from sweeping.study import TrialCounts


class TrialProgress:
    """A bar over the trials of a sweep, other workers' included. Its methods may be called from several threads.

    total: number of trials to run. done: number of trials that were finished before.
    """

    def __init__(self, name: str, total: int, done: int) -> None:
        self._name, self._total = name, total
        self._bar = tqdm(desc=name, total=total, initial=done, unit="trial", disable=None)  # None: only in a terminal
        self._lock = threading.Lock()

    def update(self, message: str, counts: TrialCounts, best: str) -> None:
        """Print a line about one trial and the state of the whole sweep."""
        status = f"{best or 'none complete'}, {counts['running']} running, {counts['failed']} failed"
        with self._lock:
            if self._bar.disable:
                print(f"{message}\n{self._name}: {counts.used} of {self._total} trials, {status}", flush=True)
            else:
                tqdm.write(message)
                self._bar.n = counts.used
                self._bar.set_postfix_str(status)

    def refresh(self) -> None:
        """Update the elapsed time of the bar."""
        with self._lock:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def describe_trial(trial: FrozenTrial, outcome: str) -> str:
    """One line: the outcome, the value that was reached, the duration and the parameters."""
    epochs = trial.intermediate_values
    reached = ""
    if trial.state == TrialState.COMPLETE:
        reached = f" {trial.values[0]:.4f}"
    elif epochs:
        reached = f" {epochs[max(epochs)]:.4f} after epoch {max(epochs)}"
    values = "  ".join(f"{key}={value}" for key, value in trial.user_attrs.get("values", {}).items())
    return f"trial {trial.number} {outcome}{reached} in {trial.user_attrs.get('seconds', 0):.0f} s  {values}"
