"""Annotated pictures: box positions, labels, and one picture per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import load_rgb
from detector.core.pixels import LetterboxedImage
from detector.engine.detections import Prediction
from detector.inference.annotate import ImageAnnotator, draw_detections
from detector.inference.decoding import DecodedImage
from detector.inference.video import Frame, count_frames
from detector.plotting.box_drawing import StyledBox
from detector.plotting.palette import PALETTE
from detector.runners.model_metadata import ModelMetadata

METADATA = ModelMetadata(
    model="m", classes=["bolt", "ü"], states=["intact", "damaged"], size=(64, 64), fill=(0, 0, 0), data=""
)


def prediction(bbox: list[float], category: int = 1, state: int = 0) -> Prediction:
    return {"image_id": 1, "category_id": category, "bbox": bbox, "score": 0.875, "state": state, "state_score": 1.0}


def contains_color(picture: Image.Image, color: str, box: tuple[int, int, int, int]) -> bool:
    """Return whether a region of a picture contains a palette color."""
    rgb = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    return bool((np.asarray(picture.crop(box)) == rgb).all(axis=2).any())


@pytest.mark.parametrize(
    ("size", "drawn_size"),
    [((100, 50), (640, 320)), ((800, 600), (800, 600)), ((1, 1), (640, 640)), ((3, 5000), (2, 4096))],
)
def test_small_images_are_enlarged_and_huge_ones_shrunk(size: tuple[int, int], drawn_size: tuple[int, int]) -> None:
    assert draw_detections(Image.new("RGB", size), size[0], [], METADATA).size == drawn_size


def test_boxes_are_drawn_in_place_in_the_color_of_their_class() -> None:
    """Boxes are in pixels of the original image, although it was decoded at a smaller size."""
    detections = [prediction([100, 100, 200, 100], 1), prediction([600, 400, 100, 100], 2)]
    picture = draw_detections(Image.new("RGB", (400, 300), "gray"), 800, detections, METADATA)
    assert picture.size == (640, 480)
    assert contains_color(picture, PALETTE[0], (76, 120, 84, 140))
    assert contains_color(picture, PALETTE[1], (476, 330, 484, 380))
    assert not contains_color(picture, PALETTE[0], (300, 60, 640, 480))


def test_labels_show_class_state_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def record(picture: Image.Image, boxes: list[StyledBox], font_size: int) -> None:
        texts.extend(box.label for box in boxes)

    monkeypatch.setattr("detector.inference.annotate.draw_boxes", record)
    detections = [prediction([0, 0, 9, 9], 2, 2), prediction([9, 9, 9, 9])]
    draw_detections(Image.new("RGB", (640, 480)), 640, detections, METADATA)
    assert sorted(texts) == ["bolt 0.88", "ü, damaged 0.88"]


def decoded_image(path: Path) -> DecodedImage:
    letterboxed = LetterboxedImage(np.zeros((64, 64, 3), np.uint8), (1.0, 1.0))
    return DecodedImage(path, 64, 48, letterboxed, image=None, frame=None, is_multi_page=False)


def test_pictures_keep_the_subfolders_of_their_images(tmp_path: Path) -> None:
    paths = [tmp_path / "in" / name for name in ("a.jpg", "deep/a.jpg", "a.png", "b.JPEG", "c.d")]
    pictures = ImageAnnotator(tmp_path / "out", METADATA, tmp_path / "in", 2)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(path, "PNG")
        pictures.add(decoded_image(path), [])
    pictures.close()
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a.jpg", "a.png.jpg", "b.JPEG", "c.d.jpg", "deep/a.jpg"]
    with Image.open(tmp_path / "out/a.png.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))


def test_pictures_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """The second of two names for the same file gets a number."""
    pictures = ImageAnnotator(tmp_path / "out", METADATA, tmp_path, 2)
    for number, name in enumerate(("1.png", "1.png.jpg", "1.png_2.jpg")):
        Image.new("RGB", (64, 48), (100 * number, 0, 0)).save(tmp_path / name, "PNG")
        pictures.add(decoded_image(tmp_path / name), [])
    for name in ("clip.avi", "clip.avi.mp4"):
        for number in (1, 2, 3):
            image = Image.new("RGB", (64, 48))
            frame = decoded_image(tmp_path / name)._replace(image=image, frame=Frame(number, None, 10.0))
            pictures.add(frame, [])
    pictures.close()
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["1.png.jpg", "1.png_2.jpg", "1.png_2_2.jpg", "clip.avi.mp4", "clip.avi_2.mp4"]
    for number, name in enumerate(written[:3]):
        assert abs(np.asarray(load_rgb(tmp_path / "out" / name))[0, 0, 0] - 100.0 * number) < 5
    assert [count_frames(tmp_path / "out" / name) for name in written[3:]] == [3, 3]


def test_a_picture_that_cannot_be_written_or_read_again(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    pictures = ImageAnnotator(tmp_path / "file", METADATA, tmp_path, 1)
    pictures.add(decoded_image(tmp_path / "a.png"), [])
    with pytest.raises(UserError, match=r"a\.png\.jpg: cannot be written \(File exists\)|Not a directory"):
        pictures.close()
    pictures = ImageAnnotator(tmp_path / "out", METADATA, tmp_path, 1)
    pictures.add(decoded_image(tmp_path / "gone.png"), [])
    with pytest.raises(UserError, match=r"gone\.png: "):
        pictures.close()


def style_boxes(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], *sides: float) -> list[StyledBox]:
    """The boxes drawn for square detections with these sides, in a picture of `size` pixels."""
    drawn: list[StyledBox] = []

    def record(picture: Image.Image, boxes: list[StyledBox], font_size: int) -> None:
        drawn.extend(boxes)

    monkeypatch.setattr("detector.inference.annotate.draw_boxes", record)
    draw_detections(Image.new("RGB", size), size[0], [prediction([0, 0, side, side]) for side in sides], METADATA)
    return drawn


def test_labels_and_lines_grow_with_the_object_and_not_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    small, medium, large = style_boxes(monkeypatch, (4000, 3000), 30, 300, 2000)
    assert small.font_size < medium.font_size < large.font_size
    assert small.width < medium.width < large.width
    (in_small_picture,) = style_boxes(monkeypatch, (640, 480), 30)
    assert (in_small_picture.font_size, in_small_picture.width) == (small.font_size, small.width)
    assert small.font_size == 11, "the smallest that can be read"
