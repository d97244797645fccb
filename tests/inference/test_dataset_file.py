"""The dataset of detections holds its images, whatever folder they come from."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.inference.dataset_file import JsonLinesFile
from tests.support.written_results import METADATA, PREDICTIONS, decoded_image


def make_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100), "red").save(path)
    return path


def write_paths(folder: Path, root: Path, *paths: Path) -> list[str]:
    """Write a line for each image; return the paths in the lines."""
    with closing(JsonLinesFile(folder, METADATA, root)) as file:
        for path in paths:
            file.add(decoded_image(path), PREDICTIONS)
    lines = (folder / "dataset.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["image_path"] for line in lines]


def test_images_are_copied_unchanged(tmp_path: Path) -> None:
    paths = [make_image(tmp_path / name) for name in ("photos/a.png", "photos/deep/a.png")]
    (tmp_path / "photos/link.png").symlink_to("a.png")
    (tmp_path / "out").mkdir()
    written = write_paths(tmp_path / "out", tmp_path / "photos", *paths, tmp_path / "photos/link.png")
    assert written == ["images/a.png", "images/deep/a.png", "images/link.png"]
    for name in written:
        assert not (tmp_path / "out" / name).is_symlink()
        assert (tmp_path / "out" / name).read_bytes() == paths[0].read_bytes()


def test_images_in_the_output_folder_are_not_copied(tmp_path: Path) -> None:
    path = make_image(tmp_path / "out/photos/a.png")
    assert write_paths(tmp_path / "out", tmp_path / "out/photos", path) == ["photos/a.png"]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["dataset.jsonl", "photos"]


def test_a_dataset_that_may_have_been_corrected_is_kept(tmp_path: Path) -> None:
    path = make_image(tmp_path / "photos/a.png")
    (tmp_path / "out").mkdir()
    write_paths(tmp_path / "out", tmp_path / "photos", path)
    before = (tmp_path / "out/dataset.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"dataset\.jsonl: exists and may hold corrections; move it away"):
        JsonLinesFile(tmp_path / "out", METADATA, tmp_path / "photos")
    assert (tmp_path / "out/dataset.jsonl").read_bytes() == before


def test_an_image_that_cannot_be_copied(tmp_path: Path) -> None:
    path = make_image(tmp_path / "photos/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").touch()
    with pytest.raises(UserError, match=r"images/a\.png: cannot be written"):
        write_paths(tmp_path / "out", tmp_path / "photos", path)
