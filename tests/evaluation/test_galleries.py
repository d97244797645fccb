"""Which pictures are chosen, and how they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.evaluation.error_types import KINDS, RIGHT, Pairs, pair
from detector.evaluation.galleries import Shown, choose, ranked_images
from detector.evaluation.gallery_pictures import FOUND, PANEL, TRUTH, Names, draw_galleries
from tests.support.report_case import matches_in, random_case, write_images

CLASSES, COUNT = 3, 5


def judged(seed: int = 1, images: int = 20) -> Pairs:
    coco, found = random_case(seed, images, CLASSES)
    return pair(coco, found, matches_in(coco, found))


def test_galleries_hold_what_they_say() -> None:
    pairs, thresholds = judged(), np.full(CLASSES, 0.4)
    galleries = choose(pairs, 20, thresholds, COUNT)
    assert list(galleries) == ["best", "worst", "random", "false_positives", "missed_small", "missed_medium",
                               "missed_large", "state_confusions"]  # fmt: skip
    assert all(len(shown) <= COUNT for shown in galleries.values())
    wrong = [one.detection for one in galleries["false_positives"]]
    assert len(wrong) == COUNT
    assert wrong == sorted(wrong)  # detections stand by score
    assert {KINDS[pairs.kinds[place]] for place in wrong} <= set(KINDS[2:])
    area = pairs.objects.boxes_xywh[:, 2:].prod(axis=1)
    for size, low, high in (("small", 0, 32**2), ("medium", 32**2, 96**2)):
        places = [one.object for one in galleries[f"missed_{size}"]]
        assert places
        assert all(low <= area[place] < high for place in places)
        assert area[places].tolist() == sorted(area[places], reverse=True)
    told = galleries["state_confusions"]
    assert told
    assert {KINDS[pairs.kinds[one.detection]] for one in told} == {"state"}
    assert all(one.object == pairs.partners[one.detection] for one in told)


def test_images_are_ranked_by_f1_and_random_ones_stay() -> None:
    pairs, thresholds = judged(), np.full(CLASSES, 0.4)
    ranks = ranked_images(pairs, 20, thresholds)
    found, missed = pairs.found(thresholds), pairs.missed(thresholds)

    def f1(image: int) -> float:
        right = int((found & (pairs.images == image) & (pairs.kinds <= 1)).sum())
        wrong = int((found & (pairs.images == image) & (pairs.kinds > 1)).sum())
        there = (pairs.objects.images == image) & ~pairs.objects.absent
        assert (there & missed).sum() <= there.sum() - right
        return 2 * right / (right + wrong + int(there.sum()))

    best = [f1(image) for image in ranks["best"]]
    assert best == sorted(best, reverse=True)
    assert [f1(image) for image in ranks["worst"]] == sorted(best)
    other = judged(seed=2)
    assert ranked_images(other, 20, thresholds)["random"].tolist() == ranks["random"].tolist()
    assert sorted(ranks["random"]) == list(range(20))


def test_nothing_wrong_gives_no_pictures_of_mistakes() -> None:
    pairs = judged()
    galleries = choose(pairs, 20, np.full(CLASSES, 2.0), COUNT)
    assert galleries["false_positives"] == galleries["state_confusions"] == []
    assert galleries["missed_medium"]
    assert choose(pairs, 20, np.full(CLASSES, 0.4), 0)["best"] == []


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels are nearly of a colour such as #009E73."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return np.abs(pixels.astype(int) - wanted).max(axis=2) < 40


@pytest.mark.parametrize("scale", [2, 25])
def test_lines_are_as_wide_in_small_as_in_large_images(scale: int, tmp_path: Path) -> None:
    """320 × 240 and 4,000 × 3,000 pixels; the truth is dashed, what was found is not."""
    coco, found = random_case(1, 1, 1, states=False)
    image = coco["images"][0] | {"width": 160 * scale, "height": 120 * scale}
    box = [20 * scale, 20 * scale, 100 * scale, 80 * scale]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0, "state": 0}
    coco |= {"images": [image], "annotations": [annotation]}
    found = [{**found[0], "bbox": box, "score": 0.9}]
    write_images(coco, tmp_path)
    pairs = pair(coco, found, matches_in(coco, found))
    drawn = draw_galleries(
        {"best": [Shown(0)]}, pairs, [image], Names(["cup"], []), np.array([0.5]), tmp_path, tmp_path / "out"
    )
    (path,) = drawn
    pixels = np.asarray(Image.open(path))
    assert path.name == "best_01.jpg"
    assert pixels.shape[1] == 2 * PANEL + 8
    truth, right = near(pixels[:, :PANEL], TRUTH), near(pixels[:, PANEL + 8 :], FOUND)
    column = round(PANEL * 20 / 160)  # the left edge of the box
    rows = slice(round(PANEL * 30 / 160), round(PANEL * 90 / 160))
    dashed, solid = (mask[rows, column - 1 : column + 2].any(axis=1).mean() for mask in (truth, right))
    assert solid > 0.95
    assert 0.4 < dashed < 0.85
    assert 2 <= right[PANEL * 60 // 160, column - 10 : column + 10].sum() <= 5


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    coco, found = random_case(3, 6, CLASSES)
    write_images(coco, tmp_path)
    pairs, thresholds = pair(coco, found, matches_in(coco, found)), np.full(CLASSES, 0.4)
    galleries = choose(pairs, 6, thresholds, 3)
    names = Names(["cup", "jug", "Zange ß"], ["intact", "broken", "absent"])
    written = [
        {path.name: path.read_bytes() for path in
         draw_galleries(galleries, pairs, coco["images"], names, thresholds, tmp_path, tmp_path / folder)}
        for folder in ("one", "two")
    ]  # fmt: skip
    assert len(written[0]) == sum(map(len, galleries.values())) > 8
    assert written[0] == written[1]
    assert RIGHT == 0
