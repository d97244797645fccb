"""What the benchmark of label errors plants, and how it counts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from benchmarks.label_errors import KINDS, Place, iou, plant, rows_of
from detector.manifest.manifest import CleanBox, CleanImage, Labels

LABELS = Labels(["bolt", "ring"], ["intact", "absent"])


def images(count: int) -> list[CleanImage]:
    spots = [(10.0, 10.0, 40.0, 50.0), (80.0, 10.0, 120.0, 60.0), (150.0, 60.0, 190.0, 95.0)]
    states = ("intact", "intact", "absent")
    boxes = tuple(CleanBox("bolt", spot, state) for spot, state in zip(spots, states, strict=True))
    return [CleanImage(f"{k}.jpg", f"{k}.jpg", f"{k}", 200, 100, f"{k}.jpg", None, None, boxes) for k in range(count)]


def test_errors_of_all_kinds_are_planted_one_a_box_and_as_the_docstring_says() -> None:
    before = images(40)
    after, planted = plant(before, LABELS, ["intact"], 0)
    assert Counter(place.kind for place in planted) == dict.fromkeys(KINDS, 6)
    assert plant(before, LABELS, ["intact"], 0) == (after, planted)
    assert plant(before, LABELS, ["intact"], 1)[1] != planted
    now = {image.image: image for image in after}
    old = {image.image: [box.xyxy for box in image.boxes] for image in before}
    for place in planted:
        boxes = {box.xyxy: box for box in now[place.image].boxes}
        nearest = iou(place.xyxy, old[place.image]).max()
        if place.kind == "missing_box":
            assert place.xyxy not in boxes
            continue
        box = boxes[place.xyxy]
        assert (box.label == "ring") == (place.kind == "wrong_class") or place.kind == "spurious_box"
        low, high = {"bad_location": (0.3, 0.7), "duplicate_box": (0.6, 0.9), "spurious_box": (0, 0.05)}.get(
            place.kind, (1, 1)
        )
        assert low <= round(float(nearest), 9) <= high
    assert sum(len(image.boxes) for image in after) == 120 + 6  # 6 less, 6 on nothing, 6 double


def test_only_entries_of_the_right_kind_and_place_count() -> None:
    box = (10.0, 10.0, 50.0, 50.0)
    planted = [Place("1.jpg", "wrong_class", box), Place("2.jpg", "missing_box", box)]
    listed = [
        Place("1.jpg", "wrong_class", box),
        Place("1.jpg", "wrong_class", (90.0, 10.0, 99.0, 50.0)),
        Place("2.jpg", "wrong_class", box),
        Place("2.jpg", "missing_box", (15.0, 10.0, 55.0, 50.0)),
        Place("3.jpg", "missing_box", box),
    ]
    rows = {row.what: row for row in rows_of(planted, listed, 20)}
    assert list(rows) == [*KINDS, "all kinds"]
    assert (rows["wrong_class"].here, rows["wrong_class"].beside) == ("1 of 1 found", "1 of 2 read are right")
    assert (rows["missing_box"].here, rows["missing_box"].passed) == ("1 of 1 found", True)
    assert (rows["bad_location"].here, rows["bad_location"].passed) == ("0 of 0 found", False)
    assert rows["all kinds"].beside == "1 of 2 read are right"
    assert np.isclose(float(rows["all kinds"].measured.rstrip("%")), 50)
