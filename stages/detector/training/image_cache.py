"""Cache of decoded, letterboxed images, in memory or in a file: each image is decoded once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.core import images as core_images
from detector.core import pixels as core_pixels
from detector.core.output_files import replace_file
from detector.engine.annotations import Annotations

CHUNK_SIZE = 64  # images decoded before they are stored

CachedImages = NDArray[np.uint8]


def cache_images(
    splits: list[Annotations],
    size: tuple[int, int],
    fill: tuple[int, int, int],
    *,
    memory_gb: float,
    disk_gb: float,
    folder: Path,
) -> list[CachedImages | None]:
    """Cache the images of each split in memory if all fit, else in files in `folder` if they fit there.

    Returns uint8 [N, H, W, 3] per split; None where images are to be decoded each time they are needed.
    """
    bytes_needed = sum(len(annotations.paths) for annotations in splits) * size[0] * size[1] * 3
    if bytes_needed <= memory_gb * 2**30:
        return [cache_in_memory(annotations, size, fill) for annotations in splits]
    if bytes_needed <= disk_gb * 2**30:
        return [cache_on_disk(annotations, size, fill, folder) for annotations in splits]
    return [None for _ in splits]


def cache_in_memory(annotations: Annotations, size: tuple[int, int], fill: tuple[int, int, int]) -> CachedImages:
    """Decode all images with several threads."""
    decoded = np.empty((len(annotations.paths), *size, 3), np.uint8)
    start = 0
    for chunk in _decode_in_chunks(annotations, size, fill):
        decoded[start : start + len(chunk)] = chunk
        start += len(chunk)
    return decoded


def cache_on_disk(
    annotations: Annotations, size: tuple[int, int], fill: tuple[int, int, int], folder: Path
) -> CachedImages | None:
    """Return all images memory-mapped from a file, which is written once and never deleted.

    Prints a warning and returns None when the file cannot be written.
    """
    path = folder / f"{image_cache_key(annotations, size, fill)}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(path.with_suffix(".lock")):  # another training may be writing the same file
            if not path.exists():
                _write(path, annotations, size, fill)
    except OSError as error:
        print(f"warning: {path} cannot be written ({error}); images are decoded in every epoch", flush=True)
        return None
    mapped: CachedImages = np.load(path, mmap_mode="r")
    return mapped


def image_cache_key(annotations: Annotations, size: tuple[int, int], fill: tuple[int, int, int]) -> str:
    """Hash the images' names and contents and everything else that affects their decoded pixels."""
    files = [Path(str(module.__file__)) for module in (core_images, core_pixels)]
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    text = json.dumps([annotations.paths.tolist(), annotations.contents.tolist(), size, fill, version("pillow"), code])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(path: Path, annotations: Annotations, size: tuple[int, int], fill: tuple[int, int, int]) -> None:
    """Write the file atomically. Raises OSError when the disk is too full."""
    shape = (len(annotations.paths), *size, 3)
    free = shutil.disk_usage(path.parent).free
    if np.prod(shape) > free:
        raise OSError(f"it needs {np.prod(shape) / 2**30:.2f} GB, and {free / 2**30:.2f} GB are free")
    for left_over in path.parent.glob(f".{path.stem}.*"):  # by a killed training; this one holds the lock
        left_over.unlink()
    with replace_file(path) as new, new.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for chunk in _decode_in_chunks(annotations, size, fill):
            file.write(chunk.data)  # not to a mapped file, where a full disk kills the process


def _decode_in_chunks(
    annotations: Annotations, size: tuple[int, int], fill: tuple[int, int, int]
) -> Iterator[CachedImages]:
    """Yield the images in order, up to CHUNK_SIZE per chunk [N, H, W, 3]."""
    count = len(annotations.paths)
    with ThreadPoolExecutor() as pool, tqdm(total=count, desc="decode images", unit="image", disable=None) as bar:
        for start in range(0, count, CHUNK_SIZE):
            paths = [Path(path) for path in annotations.paths[start : start + CHUNK_SIZE].tolist()]
            sizes = [(width, height) for height, width in annotations.sizes[start : start + CHUNK_SIZE].tolist()]
            chunk = list(pool.map(core_images.load_letterboxed, paths, repeat(size), repeat(fill), sizes))
            bar.update(len(chunk))
            yield np.stack([one.pixels for one in chunk])


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl  # missing on Windows, where the rest of the library should still be importable

    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
