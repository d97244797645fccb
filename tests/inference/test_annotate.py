"""Annotated pictures: boxes in place, labels legible and inside, one picture for each image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from detector.core.errors import UserError
from detector.core.images import Letterboxed
from detector.engine.detections import Prediction
from detector.inference.annotate import Label, Pictures, annotated, ink_on, places_of
from detector.inference.decoding import Seen
from detector.plotting import boxes_on_images
from detector.plotting.boxes_on_images import PALETTE, font
from detector.runners.tiled import ModelMetadata

FACTS = ModelMetadata("m", ["bolt", "ü"], ["intact", "damaged"], (64, 64), (0, 0, 0), "")


def prediction(bbox: list[float], category: int = 1, state: int = 0) -> Prediction:
    return {"image_id": 1, "category_id": category, "bbox": bbox, "score": 0.875, "state": state, "state_score": 1.0}


def has(picture: Image.Image, colour: str, box: tuple[int, int, int, int]) -> bool:
    """Whether a colour of the palette is in a part of a picture."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.asarray(picture.crop(box)) == wanted).all(axis=2).any())


@pytest.mark.parametrize(("size", "shown"), [((100, 50), (640, 320)), ((800, 600), (800, 600)),
                                             ((1, 1), (640, 640)), ((3, 5000), (2, 4096))])  # fmt: skip
def test_small_images_are_enlarged_and_huge_ones_shrunk(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert annotated(Image.new("RGB", size), size[0], [], FACTS).size == shown


def test_boxes_are_where_they_belong_in_the_colour_of_their_class() -> None:
    """In pixels of the image, though a smaller picture of it was decoded."""
    found = [prediction([100, 100, 200, 100], 1), prediction([600, 400, 100, 100], 2)]
    picture = annotated(Image.new("RGB", (400, 300), "grey"), 800, found, FACTS)
    assert picture.size == (640, 480)
    assert has(picture, PALETTE[0], (76, 120, 84, 140))
    assert has(picture, PALETTE[1], (476, 330, 484, 380))
    assert not has(picture, PALETTE[0], (300, 60, 640, 480))


def test_the_label_says_class_state_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr("detector.inference.annotate.plate", lambda canvas, place, text, *_: texts.append(text))
    annotated(Image.new("RGB", (640, 480)), 640, [prediction([0, 0, 9, 9], 2, 2), prediction([9, 9, 9, 9])], FACTS)
    assert sorted(texts) == ["bolt 0.88", "ü, damaged 0.88"]


@given(st.lists(st.tuples(st.integers(-50, 700), st.integers(-50, 500), st.integers(0, 300), st.integers(0, 300)),
                max_size=12))  # fmt: skip
def test_every_label_is_inside_the_picture(boxes: list[tuple[int, int, int, int]]) -> None:
    labels = [Label((x, y, x + width, y + height), "bolt 0.88", PALETTE[0]) for x, y, width, height in boxes]
    for left, top, right, bottom in places_of(labels, (640, 480), 14):
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480


def test_labels_make_way_for_each_other() -> None:
    """Four objects in one place have four labels that can be read."""
    labels = [Label((200, 200, 400, 300), "bolt 0.88", PALETTE[0])] * 4
    for one, other in itertools.combinations(places_of(labels, (640, 480), 14), 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


@pytest.mark.parametrize("ground", PALETTE)
def test_letters_stand_out(ground: str) -> None:
    """A contrast of 4 to 1; WCAG 2.1 asks for 3 of large letters."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = {"black": 0.0, "white": 1.0}[ink_on(ground)]
    low, high = sorted((ink, luminance(ground)))
    assert (high + 0.05) / (low + 0.05) >= 4


def test_letters_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the system, or Pillow's own."""
    assert Path(str(font(14).path)).name == "DejaVuSans.ttf"  # type: ignore[union-attr]
    monkeypatch.setattr(boxes_on_images, "find_spec", lambda name: None)
    monkeypatch.setattr(boxes_on_images, "SYSTEM_FONTS", ())
    font.cache_clear()
    try:
        assert isinstance(font(14), ImageFont.FreeTypeFont)
        assert annotated(Image.new("RGB", (64, 64)), 64, [prediction([0, 0, 9, 9], 2)], FACTS).size == (640, 640)
    finally:
        font.cache_clear()


def seen(path: Path) -> Seen:
    return Seen(path, 64, 48, Letterboxed(np.zeros((64, 64, 3), np.uint8), 1.0), None, None, False)


def test_pictures_keep_the_folders_of_their_images(tmp_path: Path) -> None:
    paths = [tmp_path / "in" / name for name in ("a.jpg", "deep/a.jpg", "a.png", "b.JPEG", "c.d")]
    pictures = Pictures(tmp_path / "out", FACTS, tmp_path / "in", 2)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(path, "PNG")
        pictures.add(seen(path), [])
    pictures.close()
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a.jpg", "a.png.jpg", "b.JPEG", "c.d.jpg", "deep/a.jpg"]
    with Image.open(tmp_path / "out/a.png.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))


def test_a_picture_that_cannot_be_written_or_read_again(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    pictures = Pictures(tmp_path / "file", FACTS, tmp_path, 1)
    pictures.add(seen(tmp_path / "a.png"), [])
    with pytest.raises(UserError, match=r"a\.png\.jpg: cannot be written \(File exists\)|Not a directory"):
        pictures.close()
    pictures = Pictures(tmp_path / "out", FACTS, tmp_path, 1)
    pictures.add(seen(tmp_path / "gone.png"), [])
    with pytest.raises(UserError, match=r"gone\.png: cannot be read any more"):
        pictures.close()
