"""Caching decoded images in memory, on disk, or not at all."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.engine.annotations import Annotations
from detector.engine.dataset import DetectionDataset, pack_annotations
from detector.training import image_cache
from detector.training.image_cache import cache_images, cache_on_disk, image_cache_key

SIZE, FILL = (32, 64), (7, 8, 9)
COUNT = image_cache.CHUNK_SIZE + 3
ENOUGH_GB = 1.0
FOLDER = Path("cache")


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Annotations:
    """Images in the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(numbers.integers(0, 256, (20, 10 + index % 40, 3), dtype=np.uint8)).save(f"{index}.png")
    images = [
        {"id": i + 1, "file_name": f"{i}.png", "width": 10 + i % 40, "height": 20, "content": f"{i:x}"}
        for i in range(COUNT)
    ]
    return pack_annotations({"images": images, "annotations": []})


def decoded(split: Annotations, memory_gb: float, disk_gb: float) -> image_cache.CachedImages | None:
    return cache_images([split], SIZE, FILL, memory_gb=memory_gb, disk_gb=disk_gb, folder=FOLDER)[0]


def test_cached_pixels_equal_decoded_pixels(split: Annotations) -> None:
    memory, disk = decoded(split, ENOUGH_GB, ENOUGH_GB), decoded(split, 0, ENOUGH_GB)
    assert isinstance(disk, np.memmap)
    assert not isinstance(memory, np.memmap)
    assert decoded(split, 0, 0) is None
    uncached, in_memory, on_disk = (
        DetectionDataset(split, Path(), SIZE, FILL, decoded=pixels) for pixels in (None, memory, disk)
    )
    for row in range(COUNT):
        assert (uncached[row].image == in_memory[row].image).all()
        assert (uncached[row].image == on_disk[row].image).all()


def test_all_splits_are_cached_or_none(split: Annotations) -> None:
    gigabytes = COUNT * SIZE[0] * SIZE[1] * 3 / 2**30
    assert decoded(split, gigabytes, 0) is not None
    both = cache_images([split, split], SIZE, FILL, memory_gb=1.9 * gigabytes, disk_gb=0, folder=FOLDER)
    assert both == [None, None]


def test_a_file_is_reused(split: Annotations) -> None:
    first = decoded(split, 0, ENOUGH_GB)
    written = {path.name: path.stat().st_mtime_ns for path in FOLDER.glob("*.npy")}
    for path in Path().glob("*.png"):
        path.unlink()
    second = decoded(split, 0, ENOUGH_GB)
    assert first is not None
    assert second is not None
    assert (first == second).all()
    assert {path.name: path.stat().st_mtime_ns for path in FOLDER.glob("*.npy")} == written
    assert len(written) == 1


def test_the_key_changes_with_names_contents_size_and_fill(split: Annotations) -> None:
    renamed = split._replace(paths=np.array(["other.png", *split.paths[1:]]))
    changed = split._replace(contents=np.array(["other", *split.contents[1:]]))
    keys = {image_cache_key(version, SIZE, FILL) for version in (split, renamed, changed)}
    others = {image_cache_key(split, (64, 64), FILL), image_cache_key(split, SIZE, (0, 0, 0))}
    assert len(keys | others) == 5
    assert image_cache_key(split._replace(states=np.ones(1, np.int64)), SIZE, FILL) in keys


def test_a_full_disk_is_detected_before_anything_is_written(
    split: Annotations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert decoded(split, 0, ENOUGH_GB) is None
    assert "0.00 GB are free" in capsys.readouterr().out
    assert not list(FOLDER.glob("*.npy"))


def test_a_disk_that_fills_up_while_writing(split: Annotations, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert decoded(split, 0, ENOUGH_GB) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in capsys.readouterr().out
    assert [path.suffix for path in FOLDER.iterdir()] == [".lock"]
    assert decoded(split, 0, ENOUGH_GB) is not None  # after space was freed


def test_a_killed_writer_leaves_no_cache_file(split: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os._exit(3))
        cache_on_disk(split, SIZE, FILL, FOLDER)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert not list(FOLDER.glob("[!.]*.npy"))
    assert list(FOLDER.glob(".*.part.npy"))
    disk, memory = decoded(split, 0, ENOUGH_GB), decoded(split, ENOUGH_GB, 0)
    assert disk is not None
    assert memory is not None
    assert (disk == memory).all()
    assert not list(FOLDER.glob(".*.part.npy"))


@pytest.mark.parametrize("memory_gb", [0, ENOUGH_GB])
def test_an_image_that_cannot_be_read_is_named(split: Annotations, memory_gb: float) -> None:
    Path("66.png").write_text("no image")
    with pytest.raises(UserError, match=r"66\.png"):
        decoded(split, memory_gb, ENOUGH_GB)
    assert not list(Path().glob("cache/*.npy"))


@pytest.mark.parametrize("memory_gb", [0, ENOUGH_GB])
def test_an_image_of_another_size_than_its_annotations_is_named(split: Annotations, memory_gb: float) -> None:
    Image.new("RGB", (20, 16)).save("66.png")
    with pytest.raises(UserError, match=r"66\.png.*20x16 pixels, but its annotations are for 36x20"):
        decoded(split, memory_gb, ENOUGH_GB)
    assert not list(Path().glob("cache/*.npy"))
