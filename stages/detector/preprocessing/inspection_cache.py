"""Cache of inspected and converted images, so that preprocess opens only new and changed files.

A lost, stale or broken cache costs time, never correctness. An entry is valid only for the same Pillow version and
while the file keeps its size, inode, modification time and change time. Unlike the modification time, no tool can
restore the change time, so a file that was edited or replaced at the same size and date is seen. A file that changed
within the last CLOCK_STEP seconds is not remembered: another change could leave the same time. Every entry has a
checksum, so damage to the cache is seen as well. The cache lies outside the stage's outputs and outside git; several
processes may use it at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from detector.core.errors import UserError
from detector.core.images import ImageError, read_image
from detector.core.output_files import write_bytes
from detector.core.tar_shards import stat_image
from detector.preprocessing.executors import Executor, parallel_map
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import ConvertedImage, ImageInfo, convert_image, inspect_image

LOCAL_THREADS = Executor()

# Increase the number whenever inspection.py returns or writes something else for the same file.
VERSION = f"5-pillow-{PIL.__version__}"
CLOCK_STEP = 2.0  # seconds; the coarsest clock of a file system (FAT)
CHECKSUM_BYTES = 16
_LARGEST_INTEGER = 2**63 - 1  # of SQLite

FileKey = tuple[str, int, int, int, int]  # path, size in bytes, inode, modification and change time in nanoseconds


def make_file_key(path: Path) -> FileKey | None:
    """The cache key of a file; None when it does not exist, cannot be accessed or has only just changed."""
    try:
        str(path).encode()  # SQLite keeps UTF-8 only
        status = stat_image(path)
    except (OSError, ValueError):
        return None
    if status.st_ctime > time.time() - CLOCK_STEP:
        return None
    return str(path), status.st_size, status.st_ino & _LARGEST_INTEGER, status.st_mtime_ns, status.st_ctime_ns


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
            if executor.kind == "dask" and missing and paths[index].exists():
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
    """All entries; none when the database cannot be read or any entry is damaged, and it is then deleted."""
    try:
        with closing(_connect(database)) as connection:
            return dict(_read_row(row) for row in connection.execute(f'SELECT * FROM "{VERSION}"'))
    except Exception:  # a damaged database makes SQLite return anything
        with suppress(OSError):
            database.unlink(missing_ok=True)
        return {}


def _read_row(row: tuple[Any, ...]) -> tuple[FileKey, ImageInfo]:
    """Raises ValueError for a row that was not written by `_insert_rows`."""
    if row[-1] != _checksum(repr(row[:-1]).encode()):
        raise ValueError("damaged entry")
    return row[:5], ImageInfo.from_row(row[5:-1])


def update_cache(database: Path, infos: Iterable[tuple[FileKey, ImageInfo]]) -> None:
    """Add or replace entries; a database that cannot be written is recreated, or else nothing is cached."""
    rows = [(*key, *info.to_row()) for key, info in infos]
    rows = [(*row, _checksum(repr(row).encode())) for row in rows]
    try:
        _insert_rows(database, rows)
    except (sqlite3.Error, OSError):
        with suppress(sqlite3.Error, OSError):
            database.unlink(missing_ok=True)
            _insert_rows(database, rows)


def _insert_rows(database: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with closing(_connect(database)) as connection, connection:
        connection.executemany(f'INSERT OR REPLACE INTO "{VERSION}" VALUES (?,?,?,?,?,?,?,?,?,?,?,?)', rows)


def _connect(database: Path) -> sqlite3.Connection:
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database, timeout=60)
    try:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{VERSION}" (path TEXT PRIMARY KEY, size INTEGER, inode INTEGER,'
            " mtime INTEGER, ctime INTEGER, content TEXT, width INTEGER, height INTEGER, thumbnail BLOB,"
            " finding TEXT, details TEXT, checksum BLOB)"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def convert_cached(source: Path, content: str, target: Path, cache: Path) -> Path:
    """Write the converted image as `target` with the suffix of its format; returns the written path.

    content: hash of the source's bytes, by which the folder `cache` keeps converted images. Raises UserError when the
    source has other bytes by now.
    """
    kept = cache / VERSION / content
    converted = _read_kept(kept)
    if converted is None:
        converted = _convert(source, content)
        with suppress(OSError):
            _write_kept(kept, converted)
    target = target.with_suffix(converted.suffix)
    write_bytes(target, converted.data, sync=False)  # DVC hashes it when the stage has ended
    return target


def _convert(source: Path, content: str) -> ConvertedImage:
    data = read_image(source)
    if hashlib.sha256(data).hexdigest() != content:
        raise UserError(f"{source} changed while preprocess was running; run it again")
    try:
        return convert_image(data)
    except ImageError as error:
        raise ImageError(error.reason, error.problem, source) from None


def _read_kept(path: Path) -> ConvertedImage | None:
    """A kept image; None if there is none or it is not as `_write_kept` wrote it."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    checksum, suffix, image = (
        data[:CHECKSUM_BYTES],
        data[CHECKSUM_BYTES : CHECKSUM_BYTES + 4],
        data[CHECKSUM_BYTES + 4 :],
    )
    if checksum != _checksum(path.name.encode() + suffix + image):
        return None
    return ConvertedImage(suffix.decode(), image)


def _write_kept(path: Path, converted: ConvertedImage) -> None:
    """Checksum, suffix and image in one file, so that they cannot come apart."""
    data = converted.suffix.encode() + converted.data
    write_bytes(path, _checksum(path.name.encode() + data) + data, sync=False)  # the checksum tells


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest()
