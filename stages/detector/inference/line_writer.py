"""Write text files that are valid even if writing is interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path

from detector.core.errors import UserError
from detector.core.output_files import replace_file


class LineWriter:
    """Writes a file line by line and keeps only complete lines. Raises UserError when it cannot be written."""

    def __init__(self, path: Path, reported_path: Path) -> None:
        """reported_path: the file named in error messages."""
        self.reported_path, self.complete_bytes = reported_path, 0
        self.error: UserError | None = None
        try:
            path.unlink(missing_ok=True)  # an older file may be a link to one that is to stay
            self.file = path.open("xb", buffering=0)
        except OSError as error:
            raise build_write_error(self.reported_path, error) from None

    def write(self, text: str) -> None:
        """Write one or more complete lines."""
        data = text.encode("utf-8")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = build_write_error(self.reported_path, error)
            self.remove_incomplete_line()
            self.file.close()
            raise self.error from None
        self.complete_bytes += len(data)

    def remove_incomplete_line(self) -> None:
        """Truncate the file to its last complete line."""
        try:
            self.file.truncate(self.complete_bytes)
        except OSError:  # a device
            return

    def close(self) -> None:
        self.file.close()


class DocumentWriter:
    """Writes a file that has an end, such as JSON or XML: it replaces an older one when `finish` has written the end.

    After an error, which is raised as UserError, nothing is left of it.
    """

    def __init__(self, path: Path, start: str) -> None:
        self.replacing = ExitStack()
        try:
            part = self.replacing.enter_context(replace_file(path))
        except OSError as error:
            raise build_write_error(path, error) from None
        self.lines = LineWriter(part, path)
        self.write(start)

    def write(self, text: str) -> None:
        """Write one or more complete lines."""
        try:
            self.lines.write(text)
        except UserError as error:
            self.replacing.__exit__(UserError, error, None)
            raise

    def finish(self, end: str) -> None:
        """Write the end, unless there was an error: that was raised when it happened."""
        if self.lines.error is None:
            with self.replacing, closing(self.lines):
                self.lines.write(end)


class ListWriter:
    """Writes the elements of a JSON array between a start and an end, one a line."""

    def __init__(self, path: Path, start: str) -> None:
        """start: JSON up to and with the `[`."""
        self.document, self.count = DocumentWriter(path, start), 0

    def write(self, values: Iterable[object]) -> None:
        """Append elements."""
        lines = []
        for value in values:
            lines.append(f"{',' * (self.count > 0)}\n{to_json(value)}")
            self.count += 1
        self.document.write("".join(lines))

    def finish(self, end: str) -> None:
        """end: JSON from the `]` on."""
        self.document.finish("\n" * (self.count > 0) + end)


def build_write_error(path: Path, error: OSError) -> UserError:
    """Build the error for a file that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror}); free disk space or choose another --out folder")


def to_json(value: object) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
