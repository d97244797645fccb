"""Our metrics and pycocotools agree, and where they do not, the metric is named."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.errors import UserError
from detector.engine.coco_metrics import COCO_METRICS
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation import coco_check
from detector.evaluation.coco_check import check_coco_metrics, compute_with_pycocotools, select_images
from detector.evaluation.intervals import compute_coco_metrics
from tests.support.random_cases import make_random_case


@pytest.mark.parametrize("seed", range(4))
def test_both_agree_with_crowds_and_tied_scores(seed: int) -> None:
    coco, predictions = make_random_case(seed, images=8, classes=3, detections=9)
    truth = pack_ground_truth(coco)
    packed = pack_rows(predictions)
    check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")


def test_both_agree_on_more_detections_than_count() -> None:
    """As with a `max_detections` above 100: at most so many of an image and class count in both."""
    coco, predictions = make_random_case(3, images=3, classes=1, detections=250)
    truth = pack_ground_truth(coco)
    packed = pack_rows(predictions)
    assert len(predictions) > 300
    check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")


def test_without_detections_or_objects() -> None:
    coco, predictions = make_random_case(4, images=4, classes=2, detections=5)
    truth = pack_ground_truth(coco)
    packed = pack_rows(predictions)
    nothing_found = pack_rows([])
    assert compute_with_pycocotools(truth, nothing_found)["AP"] == 0
    check_coco_metrics(truth, nothing_found, compute_coco_metrics(truth, nothing_found), "test split")
    nothing = truth._replace(objects=truth.objects.select(slice(0)))
    assert set(compute_with_pycocotools(nothing, packed).values()) == {None}
    check_coco_metrics(nothing, packed, compute_coco_metrics(nothing, packed), "test split")


@pytest.mark.parametrize("name", ["AP", "AR_large"])
def test_a_difference_is_an_error_that_names_the_metric(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    coco, predictions = make_random_case(4, images=8, classes=2, detections=9)
    truth = pack_ground_truth(coco)
    packed = pack_rows(predictions)
    right = compute_with_pycocotools(truth, packed)
    assert list(right) == list(COCO_METRICS)
    value = right[name]
    assert value is not None

    def answer(other: float | None) -> None:
        monkeypatch.setattr(coco_check, "compute_with_pycocotools", lambda *_: right | {name: other})

    answer(value + 2e-6)
    with pytest.raises(UserError, match=rf"test split: .*\({name}: 0\.\d+ by us, 0\.\d+ by pycocotools\)"):
        check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")
    answer(None)
    with pytest.raises(UserError, match=f"{name}: .* None by pycocotools"):
        check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")
    answer(value + 5e-7)
    check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")


def test_of_a_large_split_evenly_spaced_images_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    coco, predictions = make_random_case(3, images=20, classes=2, detections=5)
    truth = pack_ground_truth(coco)
    packed = pack_rows(predictions)
    assert select_images(truth, packed)[0] is truth
    monkeypatch.setattr(coco_check, "MAX_CHECKED_CELLS", 20)
    part, chosen = select_images(truth, packed)
    kept = part.images.ids
    assert kept.tolist() == truth.images.ids[::2].tolist()
    assert np.isin(chosen.image_ids, kept).all()
    assert part.objects.ids.tolist() == truth.objects.ids[truth.objects.images % 2 == 0].tolist()
    check_coco_metrics(truth, packed, compute_coco_metrics(truth, packed), "test split")
