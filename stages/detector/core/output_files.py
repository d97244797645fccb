"""Writing files so that a reader never sees half of one.

Each write goes to a new file beside the target, is synced to disk and renamed. So a kill or a full disk leaves the
old file as it was, and a file that DVC has linked into its cache is replaced, never written through.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replace_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a new file beside `path`, which replaces it when the block ends without an exception.

    sync: wait until the disk has the content, for files whose loss in a power failure would go unnoticed; one of many
    copies can do without. The folder is created. The new file has the suffix of `path`. Raises OSError that names
    `path`, whichever of the two files it happened to. A device or pipe, such as /dev/stdout, is no file to replace: it
    is yielded itself.
    """
    if _is_device(path):
        yield path
        return
    new = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        if sync:
            with new.open("rb+") as file:
                os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        if error.filename in (None, str(new), new):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):  # such as a folder that became read-only: the error above says so
            new.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether a path names something other than a file or a place for one; /dev/stdout is a link, perhaps to a file."""
    parts = path.absolute().parts
    return (
        parts[1:2] == ("proc",)
        or (parts[1:2] == ("dev",) and parts[2:3] != ("shm",))
        or (path.exists() and not path.is_file() and not path.is_dir())
    )


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes of this machine were writing with `replace_file`, in all folders below."""
    for path in folder.rglob(".*.part*"):
        process = re.search(r"\.(\d+)\.part(\.\w+)?$", path.name)
        if process is not None and not _is_running(int(process[1])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with the line ends it has, as `replace_file` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` as `replace_file` does."""
    with replace_file(path, sync=sync) as new:
        new.write_bytes(data)


def make_empty_folder(path: Path) -> None:
    """Create the folder anew, without the files of an earlier run. A link to a folder is replaced, never followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
