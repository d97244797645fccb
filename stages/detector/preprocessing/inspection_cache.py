"""Cache of inspected and converted images, so that preprocess opens only new and changed files.

A lost, stale or broken cache costs time, never correctness. An entry is valid only for the same Pillow version
and while the file keeps its size, modification time and change time (unlike the modification time, the change
time is updated even when a tool edits a file and restores its date). The cache lies outside the stage's
outputs and outside git; several processes may use it at once.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from detector.core.errors import UserError
from detector.core.tar_shards import stat_image
from detector.preprocessing.executors import Executor, parallel_map
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import ImageInfo, inspect_image, write_converted

LOCAL_THREADS = Executor()

# Increase the number whenever inspection.py returns or writes something else for the same file.
VERSION = f"4-pillow-{PIL.__version__}"

FileKey = tuple[str, int, int, int]  # path, size in bytes, modification and change time in nanoseconds


def make_file_key(path: Path) -> FileKey | None:
    """The cache key of a file; None when the file does not exist or cannot be accessed."""
    try:
        status = stat_image(path)
    except OSError:
        return None
    return str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def inspect_images(
    paths: list[Path], database: Path, executor: Executor = LOCAL_THREADS
) -> tuple[list[ImageInfo], int]:
    """Inspect every path on all cores with a progress bar; returns the results, in order, and the files opened.

    database: SQLite file of the cache, which also keeps what an interrupted run has inspected. Threads suffice on
    a few cores: Pillow decodes, and hashlib hashes, without holding the interpreter lock.
    Raises UserError when a worker of a Dask cluster does not find a file that exists here.
    """
    cached = load_cache(database)
    keys = [make_file_key(path) for path in paths]
    infos = [None if key is None else cached.get(key) for key in keys]
    unknown = [index for index, info in enumerate(infos) if info is None]
    inspected: dict[int, ImageInfo] = {}
    try:
        rows = parallel_map(_inspect_to_row, [str(paths[index].absolute()) for index in unknown], executor)
        bar = tqdm(rows, total=len(unknown), desc="inspect images", unit="image", disable=None)
        for index, row in zip(unknown, bar, strict=True):
            info = inspected[index] = ImageInfo.from_row(row)
            missing = info.finding is FindingKind.MISSING_FILE
            if executor.kind == "dask" and missing and keys[index] is not None:
                raise UserError(
                    f"{paths[index].absolute()}: a worker of the Dask cluster does not find this file; the dataset "
                    "must have the same absolute path on all machines of the cluster"
                )
    finally:
        # An unreadable file (without content) is not cached, since it may be readable next time.
        readable = {index: info for index, info in inspected.items() if info.content}
        update_cache(database, ((key, info) for index, info in readable.items() if (key := keys[index]) is not None))
    return [inspected[index] if info is None else info for index, info in enumerate(infos)], len(unknown)


def _inspect_to_row(path: str) -> tuple[Any, ...]:
    return inspect_image(Path(path)).to_row()


def load_cache(database: Path) -> dict[FileKey, ImageInfo]:
    """All entries; none when the database cannot be read, which is then deleted."""
    try:
        with closing(_connect(database)) as connection:
            rows = connection.execute(f'SELECT * FROM "{VERSION}"')
            return {row[:4]: ImageInfo.from_row(row[4:]) for row in rows}
    except (sqlite3.Error, OSError, KeyError):
        with suppress(OSError):
            database.unlink(missing_ok=True)
        return {}


def update_cache(database: Path, infos: Iterable[tuple[FileKey, ImageInfo]]) -> None:
    """Add or replace entries; a database that cannot be written is recreated, or else nothing is cached."""
    rows = [(*key, *info.to_row()) for key, info in infos]
    try:
        _insert_rows(database, rows)
    except (sqlite3.Error, OSError):
        with suppress(sqlite3.Error, OSError):
            database.unlink(missing_ok=True)
            _insert_rows(database, rows)


def _insert_rows(database: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with closing(_connect(database)) as connection, connection:
        connection.executemany(f'INSERT OR REPLACE INTO "{VERSION}" VALUES (?,?,?,?,?,?,?,?,?,?)', rows)


def _connect(database: Path) -> sqlite3.Connection:
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database, timeout=60)
    try:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{VERSION}" (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER,'
            " ctime INTEGER, content TEXT, width INTEGER, height INTEGER, thumbnail BLOB, finding TEXT, details TEXT)"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def convert_cached(source: Path, content: str, target: Path, cache: Path) -> Path:
    """Write the converted image as `target` with the suffix of its format; returns the written path.

    content: hash of the source's bytes, by which the folder `cache` keeps converted images.
    """
    cached = cache / VERSION / content
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".jpg", ".png"):
        with suppress(OSError):
            return Path(shutil.copyfile(cached.with_suffix(suffix), target.with_suffix(suffix)))
    written = write_converted(source, target)
    with suppress(OSError):
        _copy_atomically(written, cached.with_suffix(written.suffix))
    return written


def _copy_atomically(source: Path, target: Path) -> None:
    """Copy; an interruption leaves either the whole `target` or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        Path(shutil.copyfile(source, Path(folder) / "copy")).replace(target)
