"""Images decoded once: in memory, on disk, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.engine.dataset import DetectionDataset, pack
from detector.training import image_cache
from detector.training.image_cache import decoded_images, key_of, on_disk

SIZE, FILL = (32, 64), (7, 8, 9)
COUNT = image_cache.CHUNK + 3
ROOM = 1.0  # GB
KEPT = Path("kept")


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Images in the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(numbers.integers(0, 256, (20, 10 + index % 40, 3), dtype=np.uint8)).save(f"{index}.png")
    images = [
        {"id": i + 1, "file_name": f"{i}.png", "width": 10 + i % 40, "height": 20, "content": f"{i:x}"}
        for i in range(COUNT)
    ]
    return {"images": images, "annotations": []}


def decoded(coco: dict[str, Any], memory_gb: float, disk_gb: float) -> image_cache.Decoded | None:
    return decoded_images([coco], SIZE, FILL, memory_gb, disk_gb, KEPT)[0]


def test_memory_and_disk_hold_what_decoding_gives(coco: dict[str, Any]) -> None:
    memory, disk = decoded(coco, ROOM, ROOM), decoded(coco, 0, ROOM)
    assert isinstance(disk, np.memmap)
    assert not isinstance(memory, np.memmap)
    assert decoded(coco, 0, 0) is None
    plain, kept, mapped = (DetectionDataset(pack(coco), Path(), SIZE, FILL, pixels) for pixels in (None, memory, disk))
    for row in range(COUNT):
        assert (plain[row].image == kept[row].image).all()
        assert (plain[row].image == mapped[row].image).all()


def test_all_splits_or_none(coco: dict[str, Any]) -> None:
    room = COUNT * SIZE[0] * SIZE[1] * 3 / 2**30
    assert decoded(coco, room, 0) is not None
    assert decoded_images([coco, coco], SIZE, FILL, 1.9 * room, 0, KEPT) == [None, None]


def test_a_file_is_used_again(coco: dict[str, Any]) -> None:
    first = decoded(coco, 0, ROOM)
    written = {path.name: path.stat().st_mtime_ns for path in KEPT.glob("*.npy")}
    for path in Path().glob("*.png"):
        path.unlink()
    second = decoded(coco, 0, ROOM)
    assert (first == second).all()
    assert {path.name: path.stat().st_mtime_ns for path in KEPT.glob("*.npy")} == written
    assert len(written) == 1


def test_the_key_changes_with_names_contents_size_and_fill(coco: dict[str, Any]) -> None:
    renamed = {**coco, "images": [{**coco["images"][0], "file_name": "other.png"}, *coco["images"][1:]]}
    changed = {**coco, "images": [{**coco["images"][0], "content": "other"}, *coco["images"][1:]]}
    keys = {key_of(one, SIZE, FILL) for one in (coco, renamed, changed)}
    assert len(keys | {key_of(coco, (64, 64), FILL), key_of(coco, SIZE, (0, 0, 0))}) == 5
    assert key_of({**coco, "annotations": [1]}, SIZE, FILL) in keys


def test_a_full_disk_is_told_before_anything_is_written(
    coco: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert decoded(coco, 0, ROOM) is None
    assert "cannot be written (0.00 GB are needed, 0.00 GB are free)" in capsys.readouterr().out
    assert not list(KEPT.glob("*.npy"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_writing(
    coco: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    KEPT.mkdir()
    (KEPT / f"{key_of(coco, SIZE, FILL)}.part").symlink_to("/dev/full")
    assert decoded(coco, 0, ROOM) is None
    assert "No space left on device" in capsys.readouterr().out
    assert [path.suffix for path in KEPT.iterdir()] == [".lock"]
    assert decoded(coco, 0, ROOM) is not None  # once there is room again


def test_a_writer_that_died_leaves_nothing_that_counts(coco: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os._exit(3))
        on_disk(coco, SIZE, FILL, KEPT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert not list(KEPT.glob("*.npy"))
    assert (decoded(coco, 0, ROOM) == decoded(coco, ROOM, 0)).all()
    assert not list(KEPT.glob("*.part"))


@pytest.mark.parametrize("memory_gb", [0, ROOM])
def test_an_image_that_cannot_be_read_is_named(coco: dict[str, Any], memory_gb: float) -> None:
    Path("66.png").write_text("no image")
    with pytest.raises(UserError, match=r"66\.png: cannot be read any more"):
        decoded(coco, memory_gb, ROOM)
    assert not list(Path().glob("kept/*.npy")) + list(Path().glob("kept/*.part"))
