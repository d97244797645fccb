"""Box arithmetic, compared with torchvision where it has the same function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import box_area, box_iou

from detector.core.boxes import (
    Boxes,
    area_xyxy,
    iou_xyxy,
    pairwise_iou_xyxy,
    scale_to_fit,
    to_image_pixels,
    to_input_pixels,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from detector.core.pixels import fit_scale, fit_size

EMPTY = np.zeros((0, 4))
coordinates = st.floats(-1000, 1000, width=32)


def boxes_xywh(min_count: int = 0) -> st.SearchStrategy[Boxes]:
    return st.integers(min_count, 8).flatmap(
        lambda count: arrays(np.float64, (count, 4), elements=coordinates).map(
            lambda values: np.concatenate([values[:, :2], abs(values[:, 2:])], axis=1)
        )
    )


def test_empty() -> None:
    assert xyxy_to_xywh(EMPTY).shape == (0, 4)
    assert xywh_to_xyxy(EMPTY).shape == (0, 4)
    assert area_xyxy(EMPTY).shape == (0,)
    assert pairwise_iou_xyxy(EMPTY, EMPTY).shape == (0, 0)
    assert pairwise_iou_xyxy(EMPTY, np.ones((3, 4))).shape == (0, 3)
    assert pairwise_iou_xyxy(np.ones((3, 4)), EMPTY).shape == (3, 0)


@given(boxes_xywh(min_count=1))
def test_iou_of_two_boxes_is_that_of_pairs(boxes: Boxes) -> None:
    boxes_xyxy = xywh_to_xyxy(boxes)
    pairs = [[iou_xyxy(one, other) for other in boxes_xyxy.tolist()] for one in boxes_xyxy.tolist()]
    np.testing.assert_array_equal(pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy), pairs)


def test_one_box_without_a_batch() -> None:
    assert xyxy_to_xywh(np.array([1.0, 2.0, 4.0, 8.0])).tolist() == [1, 2, 3, 6]
    assert xywh_to_xyxy(np.array([1.0, 2.0, 3.0, 6.0])).tolist() == [1, 2, 4, 8]
    assert area_xyxy(np.array([1.0, 2.0, 4.0, 8.0])) == 18


@given(boxes_xywh())
def test_conversions_round_trip(boxes: Boxes) -> None:
    boxes_xyxy = xywh_to_xyxy(boxes)
    np.testing.assert_allclose(xyxy_to_xywh(boxes_xyxy), boxes, atol=1e-9)
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(boxes_xyxy)), boxes_xyxy, atol=1e-9)


@given(boxes_xywh())
def test_conversions_do_not_change_their_input(boxes: Boxes) -> None:
    before = boxes.copy()
    xywh_to_xyxy(boxes)[...] = 7
    xyxy_to_xywh(boxes)[...] = 7
    np.testing.assert_array_equal(boxes, before)


@given(boxes_xywh())
def test_area_matches_torchvision(boxes: Boxes) -> None:
    boxes_xyxy = xywh_to_xyxy(boxes)
    np.testing.assert_allclose(area_xyxy(boxes_xyxy), box_area(torch.from_numpy(boxes_xyxy)), rtol=1e-9)


def test_corners_in_the_wrong_order_have_no_area() -> None:
    assert area_xyxy(np.array([[5.0, 0, 1, 9], [0, 5, 9, 1], [5, 5, 1, 1]])).tolist() == [0, 0, 0]


@given(boxes_xywh(), boxes_xywh())
def test_iou_matches_torchvision(first: Boxes, second: Boxes) -> None:
    first_xyxy, second_xyxy = xywh_to_xyxy(first), xywh_to_xyxy(second)
    expected = box_iou(torch.from_numpy(first_xyxy), torch.from_numpy(second_xyxy)).nan_to_num(0.0)
    np.testing.assert_allclose(pairwise_iou_xyxy(first_xyxy, second_xyxy), expected, atol=1e-9)


@given(boxes_xywh(1))
def test_iou_is_symmetric_and_one_with_itself(boxes: Boxes) -> None:
    boxes_xyxy = xywh_to_xyxy(boxes)
    iou = pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy)
    np.testing.assert_array_equal(iou, iou.T)
    assert ((iou >= 0) & (iou <= 1 + 1e-12)).all()
    np.testing.assert_allclose(np.diag(iou), (area_xyxy(boxes_xyxy) > 0).astype(float))


def test_boxes_that_only_touch_do_not_overlap() -> None:
    assert pairwise_iou_xyxy(np.array([[0.0, 0, 2, 2]]), np.array([[2.0, 0, 4, 2], [1, 0, 3, 2]])).tolist() == [
        [0, 1 / 3]
    ]


SIDE = st.integers(1, 20_000)


@given(SIDE, SIDE, st.integers(32, 2048), st.integers(32, 2048), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_round_trip_and_corners_map_to_corners(
    width: int, height: int, target_width: int, target_height: int, box: list[float]
) -> None:
    """Also in single precision, which a dataset and a model have."""
    scale = fit_scale(width, height, target_width, target_height)
    boxes = np.array([box, [0, 0, 1, 1]]) * np.array([width, height] * 2)
    there = to_input_pixels(boxes, scale)
    assert there[1].tolist() == pytest.approx([0, 0, *fit_size(width, height, target_width, target_height)], rel=1e-12)
    np.testing.assert_allclose(to_image_pixels(there, scale), boxes, rtol=1e-12)
    in_single = there.astype(np.float32)
    assert in_single[1].tolist() == [0, 0, *fit_size(width, height, target_width, target_height)]
    np.testing.assert_allclose(to_image_pixels(in_single, scale), boxes, atol=1e-3, rtol=1e-7)


@pytest.mark.parametrize(
    ("image", "target", "scale"),
    [((640, 480), (320, 320), 0.5), ((480, 640), (320, 320), 0.5), ((10, 20), (30, 30), 1.5), ((7, 7), (7, 7), 1.0)],
)
def test_scale_to_fit(image: tuple[int, int], target: tuple[int, int], scale: float) -> None:
    assert scale_to_fit(*image, *target) == scale


@given(*[st.integers(1, 5000)] * 4)
def test_scaled_image_fits_and_fills_one_side(width: int, height: int, target_width: int, target_height: int) -> None:
    scale = scale_to_fit(width, height, target_width, target_height)
    sides = np.array([width * scale / target_width, height * scale / target_height])
    assert sides.max() == pytest.approx(1)
