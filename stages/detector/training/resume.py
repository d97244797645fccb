"""Checkpoints for resuming an interrupted training, in a folder outside all outputs.

The folder's name is a hash of everything that affects the result, so only the same training finds them. A file
holds the SHA-256 of its content, then plain values written by `torch.save`; no pickled code is loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from detector.core.errors import UserError

KEPT_CHECKPOINTS = 2  # if the latest is damaged, the previous one is used
DIGEST_SIZE = hashlib.sha256().digest_size


def fingerprint(values: dict[str, Any], files: list[Path]) -> str:
    """Hash these values (as JSON) and the contents of these files, for a file name."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    text = json.dumps({**values, "files": contents}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock the folder for this process. Raises UserError when another process holds the lock."""
    import fcntl  # missing on Windows, where the rest of the library should still be importable

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            # Not flock, which forked processes would still hold after this one dies.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is running the same training (it holds {folder / 'lock'}); wait until it ends, or "
                "stop it and run this command again to resume"
            ) from None
        yield


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically and delete all but the latest two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        _write(folder / f"{state['epoch']:06}-{state['batch']:08}.pt", buffer.getbuffer())
    except OSError as error:  # a full disk should not end the training, which may not need the checkpoint
        print(f"warning: could not write a checkpoint ({error})", flush=True)
    for old in sorted(folder.glob("*.pt"))[:-KEPT_CHECKPOINTS]:
        old.unlink()


def load_latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the latest readable checkpoint, on the CPU; warn about damaged ones and delete them."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            return _load(path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"warning: {path} cannot be read ({error}); trying an older checkpoint", flush=True)
            path.unlink()  # otherwise it would count as one of the latest two
    return None


def delete_checkpoints(folder: Path) -> None:
    """Delete the folder, after the training's results are written."""
    shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: memoryview) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _load(path: Path) -> dict[str, Any]:
    content = memoryview(path.read_bytes())
    if hashlib.sha256(content[DIGEST_SIZE:]).digest() != content[:DIGEST_SIZE]:
        raise ValueError("its checksum does not match")
    state: dict[str, Any] = torch.load(io.BytesIO(content[DIGEST_SIZE:]), map_location="cpu", weights_only=True)
    return state
