"""The memory of inspected and converted images, so that preprocess opens only files that it has not seen.

A memory that is lost, stale or broken costs time, never correctness: a file counts as seen only while its
size and its times of modification and of change are the same (the last one moves, unlike the other, when
a tool edits a file and puts its date back), and only by the same version of Pillow. The memory lives
outside the stage's outputs and outside git; several processes may use it.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from detector.core.errors import UserError
from detector.core.tar_shards import file_status
from detector.preprocessing.executors import Executor, spread
from detector.preprocessing.inspection import MISSING, ImageFacts, inspect, write_changed

THREADS = Executor()

# The number is raised whenever inspection.py finds or writes something else for the same file.
VERSION = f"3-pillow-{PIL.__version__}"

FileKey = tuple[str, int, int, int]  # path, size in bytes, times of modification and change in nanoseconds


def file_key(path: Path) -> FileKey | None:
    """The key of a file, or None when it cannot be seen."""
    try:
        status = file_status(path)
    except OSError:
        return None
    return str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def inspect_all(paths: list[Path], memory: Path, executor: Executor = THREADS) -> tuple[list[ImageFacts], int]:
    """The facts of every path, in order, and how many files had to be opened; all cores, with a bar.

    memory: an SQLite file. Threads serve on a few cores: Pillow decodes, and hashlib hashes, without holding the
    interpreter's lock. What an interrupted run has found is remembered too. Raises UserError when a worker of a
    cluster does not see a file that is there.
    """
    known = recall(memory)
    keys = [file_key(path) for path in paths]
    facts = [None if key is None else known.get(key) for key in keys]
    unknown = [index for index, fact in enumerate(facts) if fact is None]
    fresh: dict[int, ImageFacts] = {}
    try:
        found = spread(_inspected, [str(paths[index].absolute()) for index in unknown], executor)
        bar = tqdm(found, total=len(unknown), desc="inspect images", unit="image", disable=None)
        for index, values in zip(unknown, bar, strict=True):
            fresh[index] = ImageFacts(*values)
            if executor.kind == "dask" and fresh[index].error == MISSING and keys[index] is not None:
                raise UserError(f"{paths[index].absolute()} is not there for a worker of the Dask cluster: the dataset "
                                "must lie at the same absolute path on all its machines")  # fmt: skip
    finally:
        # What could not be read may be readable next time.
        read = {index: fact for index, fact in fresh.items() if fact.content}
        remember(memory, ((key, fact) for index, fact in read.items() if (key := keys[index]) is not None))
    return [fresh[index] if fact is None else fact for index, fact in enumerate(facts)], len(unknown)


def _inspected(path: str) -> tuple[Any, ...]:
    """The facts of a file, as plain values."""
    return astuple(inspect(Path(path)))


def recall(memory: Path) -> dict[FileKey, ImageFacts]:
    """Everything remembered; nothing when the memory cannot be read, which is then removed."""
    try:
        with closing(_connect(memory)) as connection:
            return {row[:4]: ImageFacts(*row[4:]) for row in connection.execute(f'SELECT * FROM "{VERSION}"')}
    except (sqlite3.Error, OSError):
        with suppress(OSError):
            memory.unlink(missing_ok=True)
        return {}


def remember(memory: Path, facts: Iterable[tuple[FileKey, ImageFacts]]) -> None:
    """Add or replace; a memory that cannot be written is begun anew, or else there is none."""
    rows = [
        (*key, fact.content, fact.width, fact.height, fact.thumbnail, fact.change, fact.error) for key, fact in facts
    ]
    try:
        _insert(memory, rows)
    except (sqlite3.Error, OSError):
        with suppress(sqlite3.Error, OSError):
            memory.unlink(missing_ok=True)
            _insert(memory, rows)


def _insert(memory: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with closing(_connect(memory)) as connection, connection:
        connection.executemany(f'INSERT OR REPLACE INTO "{VERSION}" VALUES (?,?,?,?,?,?,?,?,?,?)', rows)


def _connect(memory: Path) -> sqlite3.Connection:
    memory.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(memory, timeout=60)
    try:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{VERSION}" (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER,'
            " ctime INTEGER, content TEXT, width INTEGER, height INTEGER, thumbnail BLOB, change TEXT, error TEXT)"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def convert(source: Path, content: str, target: Path, memory: Path) -> Path:
    """Write the converted image as `target` plus a suffix, which is returned with it.

    content: the hash of the source's bytes, by which the folder `memory` keeps what was converted before.
    """
    kept = memory / VERSION / content
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".jpg", ".png"):
        with suppress(OSError):
            return Path(shutil.copyfile(kept.with_suffix(suffix), target.with_suffix(suffix)))
    written = write_changed(source, target)
    with suppress(OSError):
        _copy_whole(written, kept.with_suffix(written.suffix))
    return written


def _copy_whole(source: Path, target: Path) -> None:
    """Copy so that `target` is either whole or not there, whatever interrupts it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        Path(shutil.copyfile(source, Path(folder) / "copy")).replace(target)
