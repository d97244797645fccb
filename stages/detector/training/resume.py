"""Checkpoints that a killed training goes on from: files in a folder of their own, outside of any output.

The folder's name is a hash of all that decides the result, so that only the same training finds them. A
file is the SHA-256 of its content, then what `torch.save` makes of plain values; nothing is unpickled.
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

KEPT = 2  # checkpoints: if the newest cannot be read, the one before can
DIGEST = hashlib.sha256().digest_size


def key_of(values: dict[str, Any], files: list[Path]) -> str:
    """A name for the training that these values (as JSON) and the contents of these files make."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    text = json.dumps({**values, "files": contents}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises UserError when another one holds it."""
    import fcntl  # not on Windows, where the rest of the library should still be importable

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            # Not flock: processes that were forked off would go on holding that after the death of this one.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is training the same at this moment (it holds {folder / 'lock'}); "
                "wait until it ends, or stop it and run again to go on from where it was"
            ) from None
        yield


def save(folder: Path, state: dict[str, Any]) -> None:
    """Add a checkpoint that is complete under its name, or not there; older ones than the last two go."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        _write(folder / f"{state['epoch']:06}-{state['batch']:08}.pt", buffer.getbuffer())
    except OSError as error:  # a full disk should not end a training that it may not even harm
        print(f"warning: this state of the training cannot be saved ({error})", flush=True)
    for old in sorted(folder.glob("*.pt"))[:-KEPT]:
        old.unlink()


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; a broken one is named and passed over."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            return _load(path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"warning: {path} cannot be read ({error}), trying an older one", flush=True)
            path.unlink()  # or it would count as one of the last two
    return None


def forget(folder: Path) -> None:
    """Remove everything, after the training's results are written."""
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
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise ValueError("its content is not what was written")
    state: dict[str, Any] = torch.load(io.BytesIO(content[DIGEST:]), map_location="cpu", weights_only=True)
    return state
