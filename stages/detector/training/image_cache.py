"""Decoded, letterboxed images, kept in memory or in a file, so that each is decoded once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.core import images as image_path
from detector.engine.dataset import decode

CHUNK = 64  # images that wait in memory to be written

Decoded = NDArray[np.uint8]


def decoded_images(
    splits: list[dict[str, Any]],
    size: tuple[int, int],
    fill: tuple[int, int, int],
    memory_gb: float,
    disk_gb: float,
    folder: Path,
) -> list[Decoded | None]:
    """The images of each COCO dictionary, uint8 [N, H, W, 3]: in memory if all fit, else in files if they fit there.

    None where an image is to be decoded whenever it is needed.
    """
    bytes_needed = sum(len(coco["images"]) for coco in splits) * size[0] * size[1] * 3
    if bytes_needed <= memory_gb * 2**30:
        return [in_memory(coco, size, fill) for coco in splits]
    if bytes_needed <= disk_gb * 2**30:
        return [on_disk(coco, size, fill, folder) for coco in splits]
    return [None for _ in splits]


def in_memory(coco: dict[str, Any], size: tuple[int, int], fill: tuple[int, int, int]) -> Decoded:
    """All images, decoded by several threads."""
    decoded = np.empty((len(coco["images"]), *size, 3), np.uint8)
    start = 0
    for chunk in _chunks(coco, size, fill):
        decoded[start : start + len(chunk)] = chunk
        start += len(chunk)
    return decoded


def on_disk(coco: dict[str, Any], size: tuple[int, int], fill: tuple[int, int, int], folder: Path) -> Decoded | None:
    """All images, mapped from a file that is written once and that only the user removes.

    None, after a line that says so, when the disk is too full.
    """
    path = folder / f"{key_of(coco, size, fill)}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(path.with_suffix(".lock")):  # another training may be writing the same
            if not path.exists():
                _write(path, coco, size, fill)
    except OSError as error:
        print(f"images are decoded each time they are needed: {path} cannot be written ({error})", flush=True)
        return None
    mapped: Decoded = np.load(path, mmap_mode="r")
    return mapped


def key_of(coco: dict[str, Any], size: tuple[int, int], fill: tuple[int, int, int]) -> str:
    """A name for these images: their names and contents, and all that decides how they are decoded."""
    code = hashlib.sha256(Path(image_path.__file__).read_bytes()).hexdigest()
    text = json.dumps([coco["images"], size, fill, version("pillow"), code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(path: Path, coco: dict[str, Any], size: tuple[int, int], fill: tuple[int, int, int]) -> None:
    """Complete under its name, or not there. Raises OSError when the disk is too full."""
    shape = (len(coco["images"]), *size, 3)
    free = shutil.disk_usage(path.parent).free
    if np.prod(shape) > free:
        raise OSError(f"{np.prod(shape) / 2**30:.2f} GB are needed, {free / 2**30:.2f} GB are free")
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in _chunks(coco, size, fill):  # a mapped file would kill the process on a full disk
                file.write(chunk.data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _chunks(coco: dict[str, Any], size: tuple[int, int], fill: tuple[int, int, int]) -> Iterator[Decoded]:
    """The images in their order, some at a time [CHUNK, H, W, 3]."""
    paths = [Path(image["file_name"]) for image in coco["images"]]
    with ThreadPoolExecutor() as pool, tqdm(total=len(paths), desc="decode images", unit="image", disable=None) as bar:
        for start in range(0, len(paths), CHUNK):
            chunk = list(pool.map(partial(decode, size=size, fill=fill), paths[start : start + CHUNK]))
            bar.update(len(chunk))
            yield np.stack(chunk)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where the rest of the library should still be importable

    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
