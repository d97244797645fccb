"""The table that is shown while a sweep runs: redrawn in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

SHOWN = 12  # rows of trials that are over


@dataclass
class Row:
    """A trial on the board."""

    number: int
    values: dict[str, Any]
    state: str = "running"
    epoch: int = 0
    value: float | None = None
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None

    def text(self) -> str:
        """The trial in one line."""
        seconds = time.monotonic() - self.began if self.seconds is None else self.seconds
        values = "  ".join(f"{key.split('.')[-1]}={value}" for key, value in self.values.items())
        reached = "" if self.value is None else f"{self.value:.4f}"
        epoch = f"epoch {self.epoch}" if self.epoch else ""
        return f"{self.number:>5}  {self.state:9} {reached:>8}  {epoch:8} {seconds:>5.0f} s  {values}"


class Board:
    """The trials of this process; all methods may be called from several threads.

    wanted: trials of the sweep.
    """

    def __init__(self, name: str, wanted: int, out: TextIO = sys.stdout) -> None:
        self._name, self._wanted, self._out = name, wanted, out
        self._rows: dict[int, Row] = {}
        self._done, self._drawn, self._best = 0, 0, ""
        self._lock = threading.Lock()

    def begin(self, number: int, values: dict[str, Any]) -> None:
        """A trial starts."""
        with self._lock:
            self._rows[number] = Row(number, values)
            self._show(self._rows[number])

    def epoch(self, number: int, epoch: int, value: float | None) -> None:
        """A trial has reached `value` after an epoch."""
        with self._lock:
            row = self._rows[number]
            row.epoch, row.value = epoch, value
            self._show(row)

    def end(self, number: int, state: str, value: float | None) -> None:
        """A trial is over."""
        with self._lock:
            row = self._rows[number]
            row.state, row.seconds = state, time.monotonic() - row.began
            row.value = row.value if value is None else value
            self._show(row)

    def total(self, done: int, best: str) -> None:
        """How far the sweep is, those of other workers included."""
        with self._lock:
            self._done, self._best = done, best
            if self._out.isatty():
                self._redraw()
            else:
                self._line(self._heading())

    def refresh(self) -> None:
        """Let the seconds run on in a terminal."""
        with self._lock:
            if self._out.isatty():
                self._redraw()

    def _show(self, row: Row) -> None:
        if self._out.isatty():
            self._redraw()
        else:
            self._line(row.text())

    def _heading(self) -> str:
        best = f"; best {self._best}" if self._best else ""
        return f"{self._name}: {self._done} of {self._wanted} trials{best}"

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def _redraw(self) -> None:
        rows = sorted(self._rows.values(), key=lambda row: (row.state == "running", row.number))
        lines = [self._heading(), "trial  state     reached              time  values"]
        lines += [row.text() for row in rows[-SHOWN:]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)
