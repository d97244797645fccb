"""Selecting and drawing the galleries' pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import ImageColumns, pack_ground_truth
from detector.evaluation.error_types import CORRECT, ERROR_TYPES, MISSED, ErrorAnalysis, analyze_errors
from detector.evaluation.galleries import ERROR_TITLES, GalleryPicture, rank_images, select_gallery_pictures
from detector.evaluation.gallery_pictures import (
    GROUND_TRUTH_COLOR,
    PANEL_SIZE,
    PREDICTION_COLOR,
    DisplayNames,
    draw_galleries,
)
from tests.support.report_case import make_random_split, match_case, write_images

CLASSES, COUNT = 3, 5


def make_analysis(seed: int = 1, images: int = 20) -> ErrorAnalysis:
    coco, predictions = make_random_split(seed, images, CLASSES)
    return analyze_errors(pack_ground_truth(coco), pack_rows(predictions), match_case(coco, predictions))


def test_galleries_hold_their_error_types_in_order() -> None:
    analysis, thresholds = make_analysis(), np.full(CLASSES, 0.4)
    galleries = select_gallery_pictures(analysis, 20, thresholds, COUNT)
    assert list(galleries) == ["best", "worst", "random", "false_positives", "missed_small", "missed_medium",
                               "missed_large", "state_confusions"]  # fmt: skip
    assert all(len(pictures) <= COUNT for pictures in galleries.values())
    wrong = [picture.detection for picture in galleries["false_positives"]]
    assert len(wrong) == COUNT
    assert wrong == sorted(wrong)  # detections are sorted by score
    assert {ERROR_TYPES[analysis.error_types[detection]] for detection in wrong} <= set(ERROR_TYPES[2:])
    area = analysis.objects.boxes_xywh[:, 2:].prod(axis=1)
    for size, low, high in (("small", 0, 32**2), ("medium", 32**2, 96**2)):
        objects = [picture.object for picture in galleries[f"missed_{size}"]]
        assert objects
        assert all(low <= area[index] < high for index in objects)
        assert area[objects].tolist() == sorted(area[objects], reverse=True)
    wrong_state = galleries["state_confusions"]
    assert wrong_state
    assert {ERROR_TYPES[analysis.error_types[picture.detection]] for picture in wrong_state} == {"state"}
    assert all(picture.object == analysis.object_indices[picture.detection] for picture in wrong_state)


def test_every_error_type_has_a_title() -> None:
    assert set(ERROR_TITLES) == {*ERROR_TYPES, MISSED}


def test_images_are_ranked_by_f1_and_random_ones_are_fixed() -> None:
    analysis, thresholds = make_analysis(), np.full(CLASSES, 0.4)
    ranks = rank_images(analysis, 20, thresholds)
    detected, missed = analysis.select_detections(thresholds), analysis.select_missed(thresholds)

    def f1(image: int) -> float:
        correct = int((detected & (analysis.images == image) & (analysis.error_types <= 1)).sum())
        wrong = int((detected & (analysis.images == image) & (analysis.error_types > 1)).sum())
        present = (analysis.objects.images == image) & ~analysis.objects.absent
        assert (present & missed).sum() <= present.sum() - correct
        return 2 * correct / (correct + wrong + int(present.sum()))

    best = [f1(image) for image in ranks["best"]]
    assert best == sorted(best, reverse=True)
    assert [f1(image) for image in ranks["worst"]] == sorted(best)
    other = make_analysis(seed=2)
    assert rank_images(other, 20, thresholds)["random"].tolist() == ranks["random"].tolist()
    assert sorted(ranks["random"]) == list(range(20))


def test_without_detections_there_are_only_missed_objects() -> None:
    analysis = make_analysis()
    galleries = select_gallery_pictures(analysis, 20, np.full(CLASSES, 2.0), COUNT)
    assert galleries["false_positives"] == galleries["state_confusions"] == []
    assert galleries["missed_medium"]
    assert select_gallery_pictures(analysis, 20, np.full(CLASSES, 0.4), 0)["best"] == []


def has_color(pixels: np.ndarray, color: str) -> np.ndarray:
    """Mask of the pixels that are close to a color such as #009E73."""
    expected = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)])
    mask: np.ndarray = np.abs(pixels.astype(int) - expected).max(axis=2) < 40
    return mask


@pytest.mark.parametrize("scale", [2, 25])
def test_line_width_does_not_depend_on_the_image_size(scale: int, tmp_path: Path) -> None:
    """320 × 240 and 4,000 × 3,000 pixels; ground truth is dashed, predictions are solid."""
    coco, predictions = make_random_split(1, 1, 1, states=False)
    image = coco["images"][0] | {"width": 160 * scale, "height": 120 * scale}
    box: list[float] = [20 * scale, 20 * scale, 100 * scale, 80 * scale]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0, "state": 0}
    coco |= {"images": [image], "annotations": [annotation]}
    predictions = [{**predictions[0], "bbox": box, "score": 0.9}]
    write_images(coco, tmp_path)
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows(predictions), match_case(coco, predictions))
    (path,) = draw_galleries(
        {"best": [GalleryPicture(0)]},
        analysis,
        images=pack_ground_truth(coco).images,
        names=DisplayNames(["cup"], []),
        thresholds=np.array([0.5]),
        root=tmp_path,
        folder=tmp_path / "out",
    )
    pixels = np.asarray(Image.open(path))
    assert path.name == "best_01.jpg"
    assert pixels.shape[1] == 2 * PANEL_SIZE + 8
    truth = has_color(pixels[:, :PANEL_SIZE], GROUND_TRUTH_COLOR)
    prediction = has_color(pixels[:, PANEL_SIZE + 8 :], PREDICTION_COLOR)
    column = round(PANEL_SIZE * 20 / 160)  # the left edge of the box
    rows = slice(round(PANEL_SIZE * 30 / 160), round(PANEL_SIZE * 90 / 160))
    dashed, solid = (mask[rows, column - 1 : column + 2].any(axis=1).mean() for mask in (truth, prediction))
    assert solid > 0.95
    assert 0.4 < dashed < 0.85
    assert 2 <= prediction[PANEL_SIZE * 60 // 160, column - 10 : column + 10].sum() <= 5


def test_names_of_several_lines_and_images_of_another_size(tmp_path: Path) -> None:
    """A name may be that of a model from elsewhere; its line breaks are spaces. A size must be the image's."""
    coco, predictions = make_random_split(3, 2, 1, states=False)
    write_images(coco, tmp_path)
    truth, found = pack_ground_truth(coco), pack_rows(predictions)
    analysis = analyze_errors(truth, found, match_case(coco, predictions))
    names, picture = DisplayNames(["two\nlines"], []), {"false_positives": [GalleryPicture(0, detection=0)]}

    def draw(images: ImageColumns) -> list[Path]:
        folders = {"root": tmp_path, "folder": tmp_path / "out"}
        return list(draw_galleries(picture, analysis, images=images, names=names, thresholds=np.zeros(1), **folders))

    assert len(draw(truth.images)) == 1
    with pytest.raises(UserError, match=r"1\.png: .* pixels, but its annotations are for 9999x"):
        draw(truth.images._replace(sizes=np.array([[120, 9999]] * 2, np.int32)))


def test_pictures_are_byte_identical_each_time(tmp_path: Path) -> None:
    coco, predictions = make_random_split(3, 6, CLASSES)
    write_images(coco, tmp_path)
    analysis, thresholds = (
        analyze_errors(pack_ground_truth(coco), pack_rows(predictions), match_case(coco, predictions)),
        np.full(CLASSES, 0.4),
    )
    galleries = select_gallery_pictures(analysis, 6, thresholds, 3)
    names = DisplayNames(["cup", "jug", "Zange ß"], ["intact", "broken", "absent"])
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        paths = draw_galleries(
            galleries,
            analysis,
            images=pack_ground_truth(coco).images,
            names=names,
            thresholds=thresholds,
            root=tmp_path,
            folder=folder,
        )
        written.append({path.name: path.read_bytes() for path in paths})
    assert len(written[0]) == sum(map(len, galleries.values())) > 8
    assert written[0] == written[1]
    assert CORRECT == 0
