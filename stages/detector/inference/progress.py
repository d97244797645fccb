"""How far a long run is, on stderr."""

from __future__ import annotations

import sys
import time

TERMINAL_PAUSE = 0.2  # seconds between two states of the line
LOG_PAUSE = 30.0  # and between two lines where stderr is no terminal


class Progress:
    """One line that is written over: images done, of how many, images/s, time left."""

    def __init__(self, total: int) -> None:
        """total: 0 when nobody knows."""
        self.total, self.done = total, 0
        self.start = time.perf_counter()
        self.live = sys.stderr.isatty()
        self.next = self.start + (0 if self.live else LOG_PAUSE)

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        now = time.perf_counter()
        if now >= self.next:
            self.next = now + (TERMINAL_PAUSE if self.live else LOG_PAUSE)
            self.show()

    def show(self) -> None:
        """The line as it is now."""
        line = f"{self.done:,}{f' / {self.total:,}' if self.total else ''} images, {self.speed()}"
        if self.done and self.total > self.done:
            seconds = round((self.total - self.done) / self.rate())
            line += f", {seconds // 60}:{seconds % 60:02d} left"
        print(f"\r{line:<78}" if self.live else line, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other output."""
        if self.live:
            print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)

    def rate(self) -> float:
        """Images a second so far."""
        return self.done / max(1e-9, self.seconds())

    def speed(self) -> str:
        """The rate in words."""
        return f"{self.rate():,.{1 if self.rate() >= 1 else 2}f} images/s"

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start
