"""With every image once, the matches give pycocotools' AP of each class and IoU."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.matching import IMAGES_PER_CHUNK, NUM_IOUS, collect_matches
from tests.support.random_cases import compute_pycocotools_ap, make_random_case


@pytest.mark.parametrize("block", range(10))
def test_every_image_once_equals_pycocotools(block: int) -> None:
    empty, detected = 0, 0
    for seed in range(block * 30, block * 30 + 30):
        truth, predictions = make_random_case(seed, 1 + seed % 7, 1 + seed % 4, (0, 3, 10)[seed % 3])
        matches = collect_matches(evaluate_boxes(truth, predictions))
        precision = compute_average_precisions(matches, np.ones((1, len(matches.image_ids)), np.int32))[0]
        expected = compute_pycocotools_ap(truth, predictions)
        np.testing.assert_allclose(precision, expected, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
        empty += bool(np.isnan(expected).any())
        detected += bool(np.nansum(expected) > 0)
    assert empty, "a class without objects is among the cases"
    assert detected >= 10


def test_more_than_100_detections_of_an_image() -> None:
    for seed in range(12):
        truth, predictions = make_random_case(seed, 2, 1, 300, ties=seed % 2 == 0)
        matches = collect_matches(evaluate_boxes(truth, predictions))
        assert len(predictions) > len(matches.scores) or len(predictions) < 200
        precision = compute_average_precisions(matches, np.ones((1, 2), np.int32))[0]
        np.testing.assert_allclose(precision, compute_pycocotools_ap(truth, predictions), rtol=0, atol=1e-9)


def test_more_images_than_a_chunk() -> None:
    truth, predictions = make_random_case(4, 2 * IMAGES_PER_CHUNK + 3, 2, 4)
    matches = collect_matches(evaluate_boxes(truth, predictions))
    assert matches.object_counts.sum() == sum(not annotation["iscrowd"] for annotation in truth["annotations"])
    assert sorted(matches.prediction_indices) == list(range(len(predictions)))
    precision = compute_average_precisions(matches, np.ones((1, len(truth["images"])), np.int32))[0]
    np.testing.assert_allclose(precision, compute_pycocotools_ap(truth, predictions), rtol=0, atol=1e-9)


def test_columns_refer_to_image_class_prediction_and_object() -> None:
    truth, predictions = make_random_case(5, 6, 3, 8, ties=False)
    matches = collect_matches(evaluate_boxes(truth, predictions))
    annotations = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert np.all(np.diff(matches.scores) <= 0)
    assert matches.hits[0].sum() >= 5
    for column, place in enumerate(matches.prediction_indices):
        prediction = predictions[place]
        assert matches.image_ids[matches.images[column]] == prediction["image_id"]
        assert matches.category_ids[matches.categories[column]] == prediction["category_id"]
        assert matches.scores[column] == prediction["score"]
        partner = annotations.get(int(matches.annotation_ids[column]))
        assert (partner is not None) == bool(matches.hits[0, column])
        if partner is not None:
            assert (partner["image_id"], partner["category_id"]) == (prediction["image_id"], prediction["category_id"])
            assert matches.ignored[0, column] == bool(partner["iscrowd"])


@pytest.mark.parametrize(("images", "detections"), [(3, 0), (1, 0), (0, 0)])
def test_no_detections(images: int, detections: int) -> None:
    matches = collect_matches(evaluate_boxes(*make_random_case(1, images, 2, detections)))
    assert matches.hits.shape == matches.ignored.shape == (NUM_IOUS, 0)
    assert matches.object_counts.shape == (images, 2)
    precision = compute_average_precisions(matches, np.ones((2, images), np.int32))
    assert precision.shape == (2, NUM_IOUS, 2)
    assert np.array_equal(np.isnan(precision[0, 0]), matches.object_counts.sum(axis=0) == 0)
    assert not np.nansum(precision)


def test_selected_detections_keep_all_objects() -> None:
    matches = collect_matches(evaluate_boxes(*make_random_case(3, 5, 2, 9)))
    half = matches.select_iou50()
    assert len(half.scores) < len(matches.scores)
    assert not half.ignored[0].any()
    assert np.array_equal(half.object_counts, matches.object_counts)
