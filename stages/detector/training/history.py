"""The training log: epochs through DVCLive, iterations as rows of a table; experiment loggers get both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvclive import Live
from scmrepo.exceptions import SCMError

from detector.core.errors import UserError
from detector.training.iterations import IterationTable
from detector.training.loggers import ExperimentLogger
from detector.training.loop import Step


class EpochRow(NamedTuple):
    """An epoch in the log: its last iteration, its values by name, and `epoch` and `AP` of the best epoch so far."""

    iteration: int
    values: dict[str, float]
    best: dict[str, float]


class History:
    """Logs each iteration and each epoch; docs/experiments.md lists the names.

    loggers: get the same values, at the number of the iteration (from 0); an epoch's at that of its last iteration.
    """

    def __init__(self, folder: Path, loggers: Sequence[ExperimentLogger] = ()) -> None:
        self._loggers = list(loggers)
        try:
            self._live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)
        except SCMError:
            raise UserError("DVCLive needs at least one commit: run `git commit` in this repository") from None
        self._table = IterationTable(folder / "iterations.tsv")
        self._epochs: list[EpochRow] = []
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._sums: Counter[str] = Counter()
        self._count, self._lr = 0, 0.0

    def log_step(self, step: Step) -> None:
        """Log one iteration."""
        self._lr = step.lr
        if all(math.isfinite(value) for value in step.losses.values()):  # in fp16, a step may overflow and be skipped
            self._sums.update(step.losses)
            self._count += 1
        row = {"iteration": step.iteration, "epoch": len(self._epochs) + 1, **_round({"lr": step.lr, **step.losses})}
        self._table.append(row)
        self._log_iteration(row)

    def average_losses(self) -> dict[str, float]:
        """Return the mean of the loss and of each component over the epoch's finite iterations so far; NaN if none."""
        if not self._count:
            return {"loss": math.nan}
        return {name: total / self._count for name, total in self._sums.items()}

    def learning_rate(self) -> float:
        """Return the learning rate of the last iteration."""
        return self._lr

    def log_epoch(self, last_iteration: int, validation: dict[str, float], best: dict[str, float]) -> None:
        """Log the end of an epoch.

        last_iteration: its number. validation: loss, AP and AP50. best: `epoch` and `AP` of the best epoch so far.
        """
        values = {f"train/{name}": value for name, value in self.average_losses().items()}
        values |= {f"val/{name}": value for name, value in validation.items()} | {"lr": self._lr}
        self._log_epoch(EpochRow(last_iteration, _round(values), _round(best)))
        self._start_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return what `replay` needs, as plain values; includes the current epoch."""
        return {
            "epochs": [tuple(row) for row in self._epochs],
            "iterations": self._table.rows,
            "every": self._table.every,
            "sums": dict(self._sums),
            "count": self._count,
            "lr": self._lr,
        }

    def replay(self, state: dict[str, Any]) -> None:
        """Log all epochs of another history, and those of its iterations that iterations.tsv has kept.

        DVCLive's own `resume` duplicates rows after a crash.
        """
        self._table.restore(state["iterations"], state["every"])
        waiting = list(reversed(self._table.rows))
        for row in (EpochRow(*row) for row in state["epochs"]):
            while waiting and waiting[-1]["iteration"] <= row.iteration:  # loggers want rising numbers
                self._log_iteration(waiting.pop())
            self._log_epoch(row)
        while waiting:
            self._log_iteration(waiting.pop())
        self._sums, self._count, self._lr = Counter(state["sums"]), state["count"], state["lr"]

    def close(self) -> None:
        """Close the log after the last epoch."""
        self._live.end()

    def _log_iteration(self, row: dict[str, float]) -> None:
        values = {f"batch/{name}": value for name, value in row.items() if name != "iteration"}
        self._log_to_loggers(int(row["iteration"]), values)

    def _log_epoch(self, row: EpochRow) -> None:
        self._epochs.append(row)
        self._live.step = len(self._epochs)
        for name, value in row.values.items():
            self._live.log_metric(name, value)
        # Only what people compare between trainings; everything is in the files that DVCLive has just extended.
        summary = self._live.summary
        self._live.summary = {"train": {"loss": summary["train"]["loss"]}, "val": summary["val"], "best": row.best}
        self._live.next_step()
        self._log_to_loggers(row.iteration, row.values)

    def _log_to_loggers(self, iteration: int, values: dict[str, float]) -> None:
        for logger in list(self._loggers):
            try:
                logger.log(iteration, values)
            except Exception as error:  # training does not need the logger's server
                print(f"warning: logging to {logger.name} failed and is disabled from now on ({error})", flush=True)
                self._loggers.remove(logger)


def _round(values: dict[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in values.items()}
