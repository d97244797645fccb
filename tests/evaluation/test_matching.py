"""The columns say what pycocotools says: every image once gives its AP of each class and IoU."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation.bootstrap import average_precisions
from detector.evaluation.matching import AT_ONCE, IOUS, matches_of
from tests.support.random_cases import random_case, reference_precision


@pytest.mark.parametrize("block", range(10))
def test_every_image_once_is_pycocotools(block):
    empty, detected = 0, 0
    for seed in range(block * 30, block * 30 + 30):
        truth, predictions = random_case(seed, 1 + seed % 7, 1 + seed % 4, (0, 3, 10)[seed % 3])
        matches = matches_of(evaluate_boxes(truth, predictions))
        precision = average_precisions(matches, np.ones((1, len(matches.image_ids)), np.int32))[0]
        expected = reference_precision(truth, predictions)
        np.testing.assert_allclose(precision, expected, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
        empty += bool(np.isnan(expected).any())
        detected += bool(np.nansum(expected) > 0)
    assert empty, "a class without objects is among the cases"
    assert detected >= 10


def test_more_than_100_detections_of_an_image():
    for seed in range(12):
        truth, predictions = random_case(seed, 2, 1, 300, ties=seed % 2 == 0)
        matches = matches_of(evaluate_boxes(truth, predictions))
        assert len(predictions) > len(matches.scores) or len(predictions) < 200
        precision = average_precisions(matches, np.ones((1, 2), np.int32))[0]
        np.testing.assert_allclose(precision, reference_precision(truth, predictions), rtol=0, atol=1e-9)


def test_more_images_than_are_read_at_once():
    truth, predictions = random_case(4, 2 * AT_ONCE + 3, 2, 4)
    matches = matches_of(evaluate_boxes(truth, predictions))
    assert matches.truths.sum() == sum(not annotation["iscrowd"] for annotation in truth["annotations"])
    assert sorted(matches.detections) == list(range(len(predictions)))
    precision = average_precisions(matches, np.ones((1, len(truth["images"])), np.int32))[0]
    np.testing.assert_allclose(precision, reference_precision(truth, predictions), rtol=0, atol=1e-9)


def test_columns_name_image_class_prediction_and_object():
    truth, predictions = random_case(5, 6, 3, 8, ties=False)
    matches = matches_of(evaluate_boxes(truth, predictions))
    annotations = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert np.all(np.diff(matches.scores) <= 0)
    assert matches.hits[0].sum() >= 5
    for column, place in enumerate(matches.detections):
        prediction = predictions[place]
        assert matches.image_ids[matches.images[column]] == prediction["image_id"]
        assert matches.category_ids[matches.categories[column]] == prediction["category_id"]
        assert matches.scores[column] == prediction["score"]
        partner = annotations.get(int(matches.partners[column]))
        assert (partner is not None) == bool(matches.hits[0, column])
        if partner is not None:
            assert (partner["image_id"], partner["category_id"]) == (prediction["image_id"], prediction["category_id"])
            assert matches.ignored[0, column] == bool(partner["iscrowd"])


@pytest.mark.parametrize(("images", "detections"), [(3, 0), (1, 0), (0, 0)])
def test_nothing_found(images, detections):
    matches = matches_of(evaluate_boxes(*random_case(1, images, 2, detections)))
    assert matches.hits.shape == matches.ignored.shape == (IOUS, 0)
    assert matches.truths.shape == (images, 2)
    precision = average_precisions(matches, np.ones((2, images), np.int32))
    assert precision.shape == (2, IOUS, 2)
    assert np.array_equal(np.isnan(precision[0, 0]), matches.truths.sum(axis=0) == 0)
    assert not np.nansum(precision)


def test_a_part_keeps_the_objects():
    matches = matches_of(evaluate_boxes(*random_case(3, 5, 2, 9)))
    half = matches.at_half()
    assert len(half.scores) < len(matches.scores)
    assert not half.ignored[0].any()
    assert np.array_equal(half.truths, matches.truths)
