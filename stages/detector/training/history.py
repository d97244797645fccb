"""The training log: epochs through DVCLive, iterations as points of a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvclive import Live
from scmrepo.exceptions import SCMError

from detector.core.errors import UserError
from detector.core.output_files import write_text
from detector.training.loggers import ExperimentLogger
from detector.training.loop import Step

MAX_POINTS = 500  # of the iteration plot, which shows no more


class History:
    """Collects the steps of an epoch and logs once per epoch, because DVCLive rereads all its files each time.

    loggers: get the same values.
    """

    def __init__(self, folder: Path, loggers: Sequence[ExperimentLogger] = ()) -> None:
        self._folder, self._loggers = folder, list(loggers)
        try:
            self._live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)
        except SCMError:
            raise UserError("DVCLive needs at least one commit: run `git commit` in this repository") from None
        self._rows: list[dict[str, float]] = []
        self._epoch: list[Step] = []
        self._points: list[dict[str, Any]] = []
        self._every = 1

    def log_step(self, step: Step) -> None:
        """Record one iteration; with many, the plot keeps every 2nd, 4th, ... of them."""
        self._epoch.append(step)
        if step.iteration % self._every == 0:
            losses = {name: round(value, 6) for name, value in step.losses.items()}
            self._points.append({"iteration": step.iteration, "learning_rate": round(step.lr, 9), **losses})
        if len(self._points) > MAX_POINTS:
            self._every *= 2
            self._points = [point for point in self._points if point["iteration"] % self._every == 0]

    def average_loss(self) -> float:
        """Return the mean loss of the epoch's iterations so far."""
        return sum(step.losses["batch_loss"] for step in self._epoch) / len(self._epoch)

    def learning_rate(self) -> float:
        """Return the learning rate of the last iteration."""
        return self._epoch[-1].lr

    def log_epoch(self, epoch: int, validation: dict[str, float]) -> None:
        """Log the epoch (from 1): the losses of its last iteration, their average, and the validation."""
        last = self._epoch[-1]
        values = {f"train/{name}": value for name, value in last.losses.items()}
        values |= {"train/learning_rate": last.lr, "train/epoch": epoch}
        values |= {"train/epoch_avg_loss": self.average_loss()}
        values |= {f"val/{name}": value for name, value in validation.items()}
        self._log({name: float(f"{value:.6g}") for name, value in values.items()})
        self._epoch = []

    def state_dict(self) -> dict[str, Any]:
        """Return what `replay` needs, as plain values; includes the current epoch."""
        return {
            "rows": self._rows,
            "epoch": [tuple(step) for step in self._epoch],
            "points": self._points,
            "every": self._every,
        }

    def replay(self, state: dict[str, Any]) -> None:
        """Log everything that another history had logged; DVCLive's own `resume` duplicates rows after a crash."""
        for row in state["rows"]:
            self._log(row)
        self._epoch = [Step(*step) for step in state["epoch"]]
        self._points, self._every = state["points"], state["every"]

    def _log(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._live.log_metric(name, value)
        self._log_to_loggers(row)
        self._live.next_step()
        self._rows.append(row)

    def _log_to_loggers(self, row: dict[str, float]) -> None:
        for logger in list(self._loggers):
            try:
                logger.log(self._live.step, row)
            except Exception as error:  # training does not need the logger's server
                print(f"warning: logging to {logger.name} failed and is disabled from now on ({error})", flush=True)
                self._loggers.remove(logger)

    def close(self, summary: dict[str, float]) -> None:
        """Close the log; `summary` is added to the last epoch's values in its metrics file."""
        for name, value in summary.items():
            self._live.summary[name] = value
        self._live.make_summary()
        self._live.end()
        text = json.dumps(self._points, separators=(",", ":")).replace("},{", "},\n{")
        write_text(self._folder / "iterations.json", text + "\n")
