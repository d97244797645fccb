"""What training writes down: epochs through DVCLive, and a plot of the iterations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvclive import Live
from scmrepo.exceptions import SCMError

from detector.core.errors import UserError
from detector.training.loggers import Mirror
from detector.training.loop import Step

MOST_POINTS = 500  # of the iterations' plot: more cannot be seen


class History:
    """Collects the steps of an epoch and logs once an epoch: DVCLive reads all its files again each time.

    mirrors: get the same values.
    """

    def __init__(self, folder: Path, mirrors: Sequence[Mirror] = ()) -> None:
        self._folder, self._mirrors = folder, list(mirrors)
        try:
            self._live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)
        except SCMError:
            raise UserError("DVCLive needs a commit to stand on: run `git commit` once in this repository") from None
        self._rows: list[dict[str, float]] = []
        self._epoch: list[Step] = []
        self._points: list[dict[str, Any]] = []
        self._every = 1

    def step(self, step: Step) -> None:
        """Note one iteration; of many, every 2nd, 4th, ... is kept for the plot."""
        self._epoch.append(step)
        if step.iteration % self._every == 0:
            losses = {name: round(value, 6) for name, value in step.losses.items()}
            self._points.append({"iteration": step.iteration, "learning_rate": round(step.lr, 9), **losses})
        if len(self._points) > MOST_POINTS:
            self._every *= 2
            self._points = [point for point in self._points if point["iteration"] % self._every == 0]

    def average_loss(self) -> float:
        """Mean loss of the epoch's iterations so far."""
        return sum(step.losses["batch_loss"] for step in self._epoch) / len(self._epoch)

    def learning_rate(self) -> float:
        """Of the last iteration."""
        return self._epoch[-1].lr

    def epoch_done(self, epoch: int, validation: dict[str, float]) -> None:
        """Log the epoch (from 1): its last batch, its average, and the validation."""
        last = self._epoch[-1]
        values = {f"train/{name}": value for name, value in last.losses.items()}
        values |= {"train/learning_rate": last.lr, "train/epoch": epoch}
        values |= {"train/epoch_avg_loss": self.average_loss()}
        values |= {f"val/{name}": value for name, value in validation.items()}
        self._log({name: float(f"{value:.6g}") for name, value in values.items()})
        self._epoch = []

    def state(self) -> dict[str, Any]:
        """What `replay` needs: plain values, those of the present epoch included."""
        return {"rows": self._rows, "epoch": [tuple(step) for step in self._epoch],
                "points": self._points, "every": self._every}  # fmt: skip

    def replay(self, state: dict[str, Any]) -> None:
        """Log again what another history had noted; DVCLive's own `resume` repeats rows after a crash."""
        for row in state["rows"]:
            self._log(row)
        self._epoch = [Step(*step) for step in state["epoch"]]
        self._points, self._every = state["points"], state["every"]

    def _log(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._live.log_metric(name, value)
        self._mirror(row)
        self._live.next_step()
        self._rows.append(row)

    def _mirror(self, row: dict[str, float]) -> None:
        for mirror in list(self._mirrors):
            try:
                mirror.log(self._live.step, row)
            except Exception as error:  # a server that is gone should not end a training that does not need it
                print(f"warning: {mirror.name} gets no more values, as it failed ({error})", flush=True)
                self._mirrors.remove(mirror)

    def close(self, summary: dict[str, float]) -> None:
        """End the log; `summary` stands in its metrics file beside the last epoch's values."""
        for name, value in summary.items():
            self._live.summary[name] = value
        self._live.make_summary()
        self._live.end()
        text = json.dumps(self._points, separators=(",", ":")).replace("},{", "},\n{")
        (self._folder / "iterations.json").write_text(text + "\n", encoding="utf-8")
