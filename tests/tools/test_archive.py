"""Tar shards: created, extended, relabeled, and read like the original folder."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archive import main
from detector.core.errors import UserError
from detector.core.images import load_letterboxed, load_rgb
from detector.core.tar_shards import INDEX_LINE, build_member_name, read_image_bytes
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import inspect_image
from detector.preprocessing.inspection_cache import inspect_images

ROOT = Path(__file__).parents[2]
COUNT = 7


def picture(seed: int) -> Image.Image:
    """A different image for each seed."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return Image.fromarray(cells.repeat(8, 0).repeat(8, 1))


def write_dataset(folder: Path, count: int = COUNT, **fields: Any) -> None:
    """`count` images, the last one rotated by EXIF, and one that is listed but missing."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        exif = Image.Exif()
        exif[0x0112] = 6 if number == COUNT - 1 else 1
        path = f"images/{number}.JPG"
        if not (folder / path).exists():
            picture(number).save(folder / path, "JPEG", exif=exif)
        lines.append({"image_path": path, "bounding_box_annotations": [], **fields})
    lines.append({"image_path": "images/gone.jpg", "bounding_box_annotations": []})
    (folder / "dataset.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))


def pack(dataset: Path, archive: Path) -> None:
    """Shards of about three images."""
    size = (dataset / "images/0.JPG").stat().st_size
    main([str(dataset), str(archive), "--shard-mb", str(3.5 * size / 2**20)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "folder")
    pack(tmp_path / "folder", tmp_path / "packed")
    return tmp_path / "packed"


def test_shards_are_plain_tar_files_without_timestamps_or_users(packed: Path) -> None:
    names = [f"shard-0000{number}.{suffix}" for number in range(3) for suffix in ("idx", "jsonl", "tar")]
    assert sorted(contents(packed)) == names
    with tarfile.open(packed / "shard-00001.tar") as tar:
        members = tar.getmembers()
        (first, *_) = members
        file = tar.extractfile(first)
        assert file is not None
        assert file.read() == (packed / "../folder/images/3.JPG").read_bytes()
    assert [member.name for member in members] == [build_member_name(1, number, ".jpg") for number in range(3)]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}


def test_same_images_give_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "folder/dataset.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "folder/dataset.jsonl").write_text("".join(lines[::-1]))
    pack(tmp_path / "folder", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(packed)


def test_left_out_images_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "folder")
    pack(tmp_path / "folder", tmp_path / "packed")
    printed = capsys.readouterr().out
    assert f"packed: {COUNT} images added in 3 new shards" in printed
    assert "left out: dataset.jsonl:8: images/gone.jpg: no such file\n" in printed
    assert "left out: dataset.jsonl:9: images/0.JPG: listed twice" in printed


def test_new_images_go_into_new_shards_and_changed_labels_into_old_ones(packed: Path, tmp_path: Path) -> None:
    before = contents(packed)
    write_dataset(tmp_path / "folder", COUNT + 1)
    pack(tmp_path / "folder", packed)
    added = {f"shard-00003.{suffix}" for suffix in ("idx", "jsonl", "tar")}
    after = contents(packed)
    assert after.keys() - before.keys() == added
    assert {name: after[name] for name in before} == before
    write_dataset(tmp_path / "folder", 2, split="test")
    pack(tmp_path / "folder", packed)
    relabeled = contents(packed)
    assert {name for name in after if after[name] != relabeled[name]} == {"shard-00000.jsonl"}
    splits = [json.loads(line).get("split") for line in relabeled["shard-00000.jsonl"].splitlines()]
    assert splits == ["test", "test", None]


def test_changed_image_under_an_old_name_is_an_error(packed: Path, tmp_path: Path) -> None:
    before = contents(packed)
    picture(99).save(tmp_path / "folder/images/2.JPG")
    with pytest.raises(UserError, match=r"2\.JPG differs from images/2\.JPG in .*shard-00000\.tar"):
        pack(tmp_path / "folder", packed)
    assert contents(packed) == before


def test_removed_images_leave_no_bytes_in_the_archive(packed: Path, tmp_path: Path) -> None:
    before = contents(packed)
    with pytest.raises(UserError, match=r"no image has the source 'images/8\.JPG'"):
        main([str(packed), "--remove", "images/1.JPG", "images/8.JPG"])
    assert contents(packed) == before
    main([str(packed), "--remove", "images/1.JPG", "images/6.JPG"])
    after = contents(packed)
    assert before.keys() - after.keys() == {f"shard-00002.{suffix}" for suffix in ("idx", "jsonl", "tar")}
    assert {name for name in after if after[name] != before[name]} == {
        f"shard-00000.{suffix}" for suffix in ("idx", "jsonl", "tar")
    }
    pixels = (tmp_path / "folder/images/1.JPG").read_bytes()
    assert any(pixels in content for content in before.values())
    assert not any(pixels in content or b"images/1.JPG" in content for content in after.values())
    record = json.loads(after["shard-00000.jsonl"].splitlines()[1])
    assert read_image_bytes(packed / record["image_path"]) == (tmp_path / "folder/images/2.JPG").read_bytes()


def test_member_is_read_like_its_file(packed: Path, tmp_path: Path) -> None:
    for member, number in (("shard-00001.tar/00001_000001.jpg", 4), ("shard-00002.tar/00002_000000.jpg", 6)):
        path = packed / member
        file = tmp_path / f"folder/images/{number}.JPG"
        assert read_image_bytes(path) == file.read_bytes()
        assert inspect_image(path) == inspect_image(file)
        np.testing.assert_array_equal(np.asarray(load_rgb(path)), np.asarray(load_rgb(file)))
        np.testing.assert_array_equal(
            load_letterboxed(path, (32, 32), (1, 2, 3)).pixels, load_letterboxed(file, (32, 32), (1, 2, 3)).pixels
        )


def test_missing_members(packed: Path) -> None:
    for name in ("00000_000003.jpg", "notes.txt", "x.jpg"):
        assert inspect_image(packed / "shard-00000.tar" / name).finding is FindingKind.MISSING_FILE
    index = packed / "shard-00000.idx"
    index.write_text("no numbers\n")
    info = inspect_image(packed / "shard-00000.tar/00000_000000.jpg")
    assert info.finding is FindingKind.UNREADABLE_FILE
    assert "index" in info.details
    for wrong in ("512 1", "0 1", "99999999999 1", "512 999999999999", "99999999999999 999999999999"):
        offset, size = map(int, wrong.split())
        index.write_text(INDEX_LINE.format(offset, size))
        with pytest.raises(OSError, match="index does not match"):
            read_image_bytes(packed / "shard-00000.tar/00000_000000.jpg")


def test_only_new_shards_are_inspected(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.preprocessing.inspection_cache.CLOCK_STEP", 0.0)

    def paths() -> list[Path]:
        lines = [line for path in sorted(packed.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [packed / json.loads(line)["image_path"] for line in lines]

    assert inspect_images(paths(), tmp_path / "memory.sqlite")[1] == COUNT
    write_dataset(tmp_path / "folder", COUNT + 1)
    pack(tmp_path / "folder", packed)
    assert inspect_images(paths(), tmp_path / "memory.sqlite")[1] == 1


def test_only_one_function_opens_images() -> None:
    """This lets a shard member stand in for any image file."""
    command = ["git", "grep", "--line-number", r"Image\.open(", "--", "stages"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    others = [line for line in found if "core/images.py:" not in line]
    assert others == []
    assert found


def test_invalid_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["one"], ["one", "two", "three"], ["one", "two", "--shard-mb", "0"], ["a", "b", "--remove", "c"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    with pytest.raises(UserError, match=r"expected dataset\.jsonl"):
        main([str(tmp_path), str(tmp_path / "archive")])
    assert not (tmp_path / "archive").exists()
    capsys.readouterr()
