"""The picture of sample images: any number and shape of images, and the same bytes each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from detector.manifest.manifest import CleanBox, CleanImage, Labels
from detector.plotting.box_drawing import StyledBox
from detector.plotting.contact_sheet import GAP
from detector.plotting.palette import ABSENT_COLOR
from detector.preprocessing import samples
from detector.preprocessing.samples import CELL_SIZE, COLUMNS, draw_sample, draw_samples

LABELS = Labels(["bolt", "Größe $µ$"], ["intact", "absent"])
BOXES = (
    CleanBox("bolt", (2.0, 3.0, 40.0, 50.0), "intact"),
    CleanBox("Größe $µ$", (50.0, 3.0, 80.0, 50.0), "absent"),
    CleanBox("bolt", (10.0, 30.0, 60.0, 60.0)),
)


def image(folder: Path, number: int, size: tuple[int, int] = (96, 64)) -> CleanImage:
    name = f"{number}.jpg"
    Image.new("RGB", size, (number * 40 % 256, 90, 120)).save(folder / name)
    return CleanImage(name, name, str(number), *size, name, None, None, BOXES if number else ())


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 4, 2), (30, 4, 3)])
def test_the_images_fill_a_grid(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    draw_samples([image(tmp_path, n) for n in range(count)], LABELS, tmp_path, tmp_path / "samples.jpg")
    with Image.open(tmp_path / "samples.jpg") as sheet:
        assert sheet.width == COLUMNS * (CELL_SIZE + GAP) + GAP
        assert (sheet.height - GAP) % rows == 0
        cell = (sheet.height - GAP) // rows
        for number in range(columns * rows):
            center = (number % columns * (CELL_SIZE + GAP) + CELL_SIZE // 2, number // columns * cell + cell - 20)
            is_blank = sheet.getpixel(center) == (255, 255, 255)
            assert is_blank == (number >= min(count, 12))


def test_images_may_have_any_shape(tmp_path: Path) -> None:
    images = [image(tmp_path, n, size) for n, size in enumerate([(3000, 20), (9, 900), (1, 1)])]
    draw_samples(images, LABELS, tmp_path, tmp_path / "samples.jpg")
    with Image.open(tmp_path / "samples.jpg") as sheet:
        assert sheet.height < CELL_SIZE + 50


def test_ignored_regions_do_not_look_like_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[StyledBox] = []
    monkeypatch.setattr(samples, "draw_boxes", lambda picture, boxes, font_size: drawn.extend(boxes))
    regions = [replace(box, iscrowd=True) for box in BOXES[:2]]
    draw_sample(replace(image(tmp_path, 1), boxes=(*regions, BOXES[0])), LABELS.states, tmp_path)
    assert [(box.label, box.color == ABSENT_COLOR, box.dashed) for box in drawn] == [
        ("bolt (ignored)", True, True),
        ("Größe $µ$ (ignored)", True, True),
        ("bolt, intact", False, False),
    ]


def test_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    images = [image(tmp_path, n) for n in range(5)]
    for name in ("first.jpg", "second.jpg"):
        draw_samples(images, LABELS, tmp_path, tmp_path / name)
    assert (tmp_path / "first.jpg").read_bytes() == (tmp_path / "second.jpg").read_bytes()
