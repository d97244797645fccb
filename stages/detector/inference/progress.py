"""Show the progress of a long run on stderr."""

from __future__ import annotations

import sys
import time

from detector.core.text_output import escape_controls

TERMINAL_INTERVAL = 0.2  # seconds between updates of the line on a terminal
LOG_INTERVAL = 30.0  # seconds between lines elsewhere


class Progress:
    """One line that is updated in place: images done, total, tiles of the image at hand, images/s, time left."""

    def __init__(self, total: int) -> None:
        """total: 0 if unknown."""
        self.total, self.done = total, 0
        self.tile, self.tiles = 0, 0
        self.start = time.perf_counter()
        self.is_terminal = sys.stderr.isatty()
        self.next_update = self.start + (0 if self.is_terminal else LOG_INTERVAL)

    def step(self) -> None:
        """Count one more image."""
        self.done += 1
        self.tile = self.tiles = 0
        self._show_when_due()

    def count_tiles(self, done: int, total: int) -> None:
        """Note how many tiles of the image at hand are done."""
        self.tile, self.tiles = done, total
        self._show_when_due()

    def _show_when_due(self) -> None:
        now = time.perf_counter()
        if now >= self.next_update:
            self.next_update = now + (TERMINAL_INTERVAL if self.is_terminal else LOG_INTERVAL)
            self.show()

    def show(self) -> None:
        """Print the current line."""
        done = f"{self.done:,} / {self.total:,} images" if self.total else pluralize(self.done, "image")
        tile = f", tile {self.tile:,} / {self.tiles:,}" if self.tiles else ""
        line = f"{done}{tile}" + (f", {self.speed()}" if self.done else "")
        finished = self.done + self.tile / max(1, self.tiles)
        if finished and self.total > finished:
            seconds = round((self.total - finished) / finished * self.seconds())
            line += f", {seconds // 60}:{seconds % 60:02d} left"
        text, end = (f"\r{line:<78}", "") if self.is_terminal else (line, "\n")
        print(text, end=end, file=sys.stderr, flush=True)

    def print_line(self, text: str) -> None:
        """Print a separate line."""
        self.clear()
        print(escape_controls(text), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Clear the line for other output."""
        if self.is_terminal:
            print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)

    def rate(self) -> float:
        """Return images per second so far."""
        return self.done / max(1e-9, self.seconds())

    def speed(self) -> str:
        """Return the rate as text."""
        return f"{self.rate():,.{1 if self.rate() >= 1 else 2}f} images/s"

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.start


def pluralize(count: int, noun: str) -> str:
    """Return "1 image", "2 images" and so on."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
