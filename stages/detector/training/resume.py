"""Checkpoints for resuming an interrupted training, in a folder outside all outputs.

The folder's name is a hash of everything that affects the result, so only the same training finds them. A file
holds the SHA-256 of its content, then plain values written by `torch.save`; no pickled code is loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from detector.core.output_files import replace_file

KEPT_CHECKPOINTS = 2  # if the latest is damaged, the previous one is used
DIGEST_SIZE = hashlib.sha256().digest_size


def fingerprint(values: dict[str, Any], files: list[Path]) -> str:
    """Hash these values (as JSON) and the contents of these files, for a file name."""
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    text = json.dumps({**values, "files": contents}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def checkpoint_path(folder: Path, epoch: int, batch: int) -> Path:
    """Return the path of the checkpoint after so many epochs, and batches of the next one."""
    return folder / f"{epoch:06}-{batch:08}.pt"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically and delete all but the latest two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    try:
        with replace_file(checkpoint_path(folder, state["epoch"], state["batch"])) as new, new.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        for old in sorted(folder.glob("*.pt"))[:-KEPT_CHECKPOINTS]:
            old.unlink()
    except OSError as error:  # a full disk should not end the training, which may not need the checkpoint
        print(f"warning: could not write a checkpoint ({error})", flush=True)


def load_latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the latest readable checkpoint, on the CPU; warn about damaged ones and delete them."""
    for path in sorted(folder.glob("[0-9]*.pt"), reverse=True):  # no unfinished one, which starts with a dot
        try:
            return _load(path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"warning: {path} cannot be read ({error}); trying an older checkpoint", flush=True)
            path.unlink()  # otherwise it would count as one of the latest two
    return None


def delete_checkpoints(folder: Path) -> None:
    """Delete the folder, after the training's results are written."""
    shutil.rmtree(folder, ignore_errors=True)


def _load(path: Path) -> dict[str, Any]:
    content = memoryview(path.read_bytes())
    if hashlib.sha256(content[DIGEST_SIZE:]).digest() != content[:DIGEST_SIZE]:
        raise ValueError("its checksum does not match")
    state: dict[str, Any] = torch.load(io.BytesIO(content[DIGEST_SIZE:]), map_location="cpu", weights_only=True)
    return state
