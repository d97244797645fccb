"""The table of iterations on disk, which grows while a training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detector.core.output_files import write_bytes

MAX_ROWS = 2000

Row = dict[str, float]


class IterationTable:
    """A TSV file with one row per iteration; beyond MAX_ROWS it keeps every 2nd, 4th, ... iteration, from the first on.

    A row is in the file as soon as `append` returns, so a killed process leaves all of them; only a power failure may
    lose some.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.every = 1
        self._rewrite()

    def append(self, row: Row) -> None:
        """Add a row, which has a key `iteration` (from 0) and the same keys as all others."""
        if row["iteration"] % self.every:
            return
        self.rows.append(row)
        if len(self.rows) > MAX_ROWS:
            self.every *= 2
            self.rows = [kept for kept in self.rows if kept["iteration"] % self.every == 0]
            self._rewrite()
        elif len(self.rows) == 1:
            self._rewrite()  # with a header
        else:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_format_row(row) + "\n")

    def restore(self, rows: Sequence[Row], every: int) -> None:
        """Replace all rows by those of another table."""
        self.rows, self.every = list(rows), every
        self._rewrite()

    def _rewrite(self) -> None:
        """Write all rows to a new file: DVC may have linked the one of an earlier training into its cache."""
        lines = ["\t".join(self.rows[0]), *map(_format_row, self.rows)] if self.rows else []
        write_bytes(self._path, "".join(f"{line}\n" for line in lines).encode(), sync=False)


def _format_row(row: Row) -> str:
    return "\t".join(map(str, row.values()))
