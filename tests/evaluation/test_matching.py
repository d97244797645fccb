"""With every image once, the matches give pycocotools' AP of each class and IoU."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation import matching, overlaps
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.matching import NUM_IOUS, collect_matches, count_cells
from detector.evaluation.overlaps import SIZES, find_overlaps
from tests.support.packed import evaluate_rows, match_rows
from tests.support.random_cases import compute_pycocotools_ap, make_random_case


@pytest.mark.parametrize("block", range(10))
def test_every_image_once_equals_pycocotools(block: int) -> None:
    empty, detected = 0, 0
    for seed in range(block * 30, block * 30 + 30):
        truth, predictions = make_random_case(seed, 1 + seed % 7, 1 + seed % 4, (0, 3, 10)[seed % 3])
        matches = match_rows(truth, predictions)
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
        matches = match_rows(truth, predictions)
        assert len(predictions) > len(matches.scores) or len(predictions) < 200
        precision = compute_average_precisions(matches, np.ones((1, 2), np.int32))[0]
        np.testing.assert_allclose(precision, compute_pycocotools_ap(truth, predictions), rtol=0, atol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = make_random_case(4, 30, 2, 12)
    expected = match_rows(truth, predictions)
    assert expected.object_counts.sum() == sum(not annotation["iscrowd"] for annotation in truth["annotations"])
    assert sorted(expected.prediction_indices) == list(range(len(predictions)))
    for module in (matching, overlaps):
        monkeypatch.setattr(module, "BLOCK", block)
    for one, other in zip(match_rows(truth, predictions), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(20))
def test_each_size_equals_hotcoco(seed: int) -> None:
    truth, predictions = make_random_case(seed, 6, 3, 9)
    found = find_overlaps(pack_ground_truth(truth), pack_rows(predictions))
    expected = evaluate_rows(truth, predictions).eval
    assert expected is not None
    for place, size in enumerate(SIZES):
        matches = collect_matches(found, size)
        precision = compute_average_precisions(matches, np.ones((1, 6), np.int32))[0]
        theirs = expected["precision"][:, :, :, place, -1]
        theirs = np.where(theirs[:, 0] < 0, np.nan, theirs.mean(axis=1))
        np.testing.assert_allclose(precision, theirs, rtol=0, atol=1e-9, err_msg=size)


def test_detections_of_unknown_images_and_classes_are_left_out() -> None:
    truth, predictions = make_random_case(4, 5, 2, 6)
    unknown = [{**predictions[0], "image_id": 99}, {**predictions[0], "category_id": 99}]
    assert len(match_rows(truth, [*predictions, *unknown]).scores) == len(predictions)


def test_columns_refer_to_image_class_prediction_and_object() -> None:
    truth, predictions = make_random_case(5, 6, 3, 8, ties=False)
    matches = match_rows(truth, predictions)
    annotations = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert np.all(np.diff(matches.scores) <= 0)
    assert matches.hits().sum() >= 5
    for column, place in enumerate(matches.prediction_indices):
        prediction = predictions[place]
        assert matches.image_ids[matches.images[column]] == prediction["image_id"]
        assert matches.category_ids[matches.categories[column]] == prediction["category_id"]
        assert matches.scores[column] == prediction["score"]
        partner = annotations.get(int(matches.annotation_ids[column]))
        assert (partner is not None) == bool(matches.hits()[column])
        if partner is not None:
            assert (partner["image_id"], partner["category_id"]) == (prediction["image_id"], prediction["category_id"])
            assert matches.ignored()[column] == bool(partner["iscrowd"])


@pytest.mark.parametrize(("images", "detections"), [(3, 0), (1, 0), (0, 0)])
def test_no_detections(images: int, detections: int) -> None:
    matches = match_rows(*make_random_case(1, images, 2, detections))
    assert matches.hit_bits.shape == matches.ignored_bits.shape == (0,)
    assert matches.object_counts.shape == (images, 2)
    precision = compute_average_precisions(matches, np.ones((2, images), np.int32))
    assert precision.shape == (2, NUM_IOUS, 2)
    assert np.array_equal(np.isnan(precision[0, 0]), matches.object_counts.sum(axis=0) == 0)
    assert not np.nansum(precision)


def test_selected_detections_keep_all_objects() -> None:
    matches = match_rows(*make_random_case(3, 5, 2, 9))
    half = matches.select_iou50()
    assert len(half.scores) < len(matches.scores)
    assert not half.ignored().any()
    assert np.array_equal(half.object_counts, matches.object_counts)


def test_objects_are_counted_per_image_and_class_in_one_table() -> None:
    images, categories = 2000, 500
    cells = np.sort(np.random.default_rng(0).integers(0, images * categories, 3000))
    tracemalloc.start()
    counts = count_cells(cells, images, categories)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = np.bincount(cells, minlength=images * categories).reshape(categories, images).T
    assert (counts == expected).all()
    assert peak < 1.5 * counts.nbytes, "for many images and classes it is the largest array of all"
