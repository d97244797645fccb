"""The memory of inspected images, so that preprocess opens only files that it has not seen.

A memory that is lost, stale or broken costs time, never correctness: a file counts as seen only while
its size and modification time are the same. It lives outside the stage's outputs and outside git.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from tqdm.contrib.concurrent import thread_map

from detector.data.inspection import ImageFacts, inspect

# Raised whenever inspection.py finds other facts in the same file: older memories are then ignored.
VERSION = 1

FileKey = tuple[str, int, int]  # path, size in bytes, modification time in nanoseconds


def file_key(path: Path) -> FileKey | None:
    """The key of a file, or None when it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_size, status.st_mtime_ns


class Memory:
    """Facts by file key, in an SQLite file that several processes may use."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._connect()
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._connect()

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=60)
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS facts_{VERSION} (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER,"
            " content TEXT, width INTEGER, height INTEGER, thumbnail BLOB, change TEXT, error TEXT)"
        )

    def recall(self) -> dict[FileKey, ImageFacts]:
        """Everything remembered."""
        rows = self._connection.execute(f"SELECT * FROM facts_{VERSION}")
        return {row[:3]: ImageFacts(*row[3:]) for row in rows}

    def remember(self, facts: Iterable[tuple[FileKey, ImageFacts]]) -> None:
        """Add or replace."""
        rows = [
            (*key, fact.content, fact.width, fact.height, fact.thumbnail, fact.change, fact.error)
            for key, fact in facts
        ]
        with self._connection:
            self._connection.executemany(f"INSERT OR REPLACE INTO facts_{VERSION} VALUES (?,?,?,?,?,?,?,?,?)", rows)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def inspect_all(paths: list[Path], memory_path: Path) -> tuple[list[ImageFacts], int]:
    """The facts of every path, in order, and how many files had to be opened; all cores, with a bar.

    Threads serve: Pillow decodes, and hashlib hashes, without holding the interpreter's lock.
    """
    memory = Memory(memory_path)
    known = memory.recall()
    keys = [file_key(path) for path in paths]
    unknown = [index for index, key in enumerate(keys) if key is None or key not in known]
    inspected = thread_map(
        lambda index: inspect(paths[index]), unknown, desc="inspect images", unit="image", disable=None,
        max_workers=os.cpu_count(),
    )  # fmt: skip
    fresh = dict(zip(unknown, inspected, strict=True))
    memory.remember((key, fresh[index]) for index in unknown if (key := keys[index]) is not None)
    memory.close()
    facts = [fresh[index] if index in fresh else known[key] for index, key in enumerate(keys)]  # type: ignore[index]
    return facts, len(unknown)
