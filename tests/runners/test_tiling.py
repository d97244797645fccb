"""Tiles cover the image, and what is seen in them adds up to what is there, once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy
from detector.engine.detections import Detections
from detector.runners.tiling import EDGE, SMALLEST_TILE, Tiling, is_cut, stitch, tiles_of

IOU = 0.6
TILINGS = st.builds(Tiling, st.integers(SMALLEST_TILE, 200), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))


def found(boxes: NDArray[np.float64], scores: NDArray[np.float64], labels: NDArray[np.int64]) -> Detections:
    """With the place of each as its state, by which tests tell them apart."""
    return Detections(boxes, scores.astype(np.float32), labels, np.arange(1, len(boxes) + 1), scores.astype(np.float32))


def seen_in(everything: Detections, window: NDArray[np.int64], part: float, worth: float) -> Detections:
    """A detector's view of a window: what lies wholly inside, and `part` or more of what does not, cut and rescored."""
    low, high = np.tile(window[:2], 2), np.tile(window[2:], 2)
    clipped = everything.boxes_xyxy.clip(low, high)
    sizes = (clipped[:, 2:] - clipped[:, :2]).prod(1) / (
        everything.boxes_xyxy[:, 2:] - everything.boxes_xyxy[:, :2]
    ).prod(1)
    whole = sizes > 1 - 1e-9
    scores = np.where(whole, everything.scores, worth * everything.scores).astype(np.float32)
    return everything._replace(boxes_xyxy=clipped, scores=scores).chosen(whole | (sizes >= part))


def objects(rng: np.random.Generator, count: int, width: int, height: int, longest: float) -> Detections:
    """Random boxes with sides up to `longest` of which no two of a class overlap so much that NMS would drop one."""
    sizes = rng.uniform(min(3.0, longest / 2), longest, (count, 2)).clip(None, [width, height])
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sizes)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    labels = rng.integers(1, 3, count)
    clash = np.triu((pairwise_iou_xyxy(boxes, boxes) > IOU - 0.01) & (labels[:, None] == labels), 1)
    free = ~clash.any(axis=0)
    return found(boxes[free], rng.permutation(np.linspace(0.2, 0.9, count))[free], labels[free])


@given(st.integers(1, 700), st.integers(1, 700), TILINGS)
@settings(deadline=None)
def test_every_pixel_lies_in_a_tile(width: int, height: int, tiling: Tiling) -> None:
    *tiles, whole = tiles_of(width, height, tiling).tolist()
    assert whole == [0, 0, width, height]
    if max(width, height) <= tiling.side:
        assert tiles == []
        return
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in tiles:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left, bottom - top) == (min(width, tiling.side), min(height, tiling.side))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert len({tuple(tile) for tile in tiles}) == len(tiles)


@given(
    st.integers(0, 10_000), st.integers(0, 30), st.integers(40, 700), st.integers(40, 700),
    st.builds(Tiling, st.integers(64, 200), st.sampled_from([0.1, 0.25, 0.5])),
    st.sampled_from([0.05, 0.5, 2.0]), st.sampled_from([0.3, 1.0, 1.9]), st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_stitched_tiles_show_every_object_once(
    seed: int, count: int, width: int, height: int, tiling: Tiling, part: float, worth: float, whole: bool
) -> None:
    """For objects that fit into the overlap, whether or not the detector sees parts of them at the tiles' edges too,
    or all of them in the whole image.
    """
    longest = tiling.side * (tiling.overlap - 2 * EDGE) - 2
    everything = objects(np.random.default_rng(seed), count, width, height, longest)
    windows = tiles_of(width, height, tiling)
    views = [seen_in(everything, window, part, worth) for window in windows]
    if len(windows) > 1 and not whole:  # the tiles alone are enough
        views[-1] = everything.chosen(np.zeros(len(everything.scores), bool))
    stitched = stitch(views, windows, tiling, IOU, 1000)
    assert sorted(stitched.states) == sorted(everything.states)
    assert (np.diff(stitched.scores) <= 0).all()
    back = everything.chosen(stitched.states - 1)
    assert stitched.boxes_xyxy == pytest.approx(back.boxes_xyxy)
    assert stitched.scores == pytest.approx(back.scores)


@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 40))
@settings(deadline=None)
def test_the_order_of_objects_and_a_limit_change_nothing_else(seed: int, count: int, most: int) -> None:
    everything = objects(np.random.default_rng(seed), count, 500, 300, 40)
    tiling = Tiling(150, 0.5)
    windows = tiles_of(500, 300, tiling)
    views = [seen_in(everything, window, 0.3, 0.8) for window in windows]
    all_, some = (stitch(views, windows, tiling, IOU, limit) for limit in (1000, most))
    assert some.states.tolist() == all_.states[:most].tolist()


def one(box: list[float], score: float, label: int = 1) -> Detections:
    return found(np.array([box], float), np.array([score]), np.array([label]))


NONE = one([0, 0, 1, 1], 0.5).chosen(np.zeros(1, bool))
TILING = Tiling(100, 0.2)
WINDOWS = tiles_of(180, 100, TILING)  # two tiles, from 0 and from 80, and the whole


def scores(*views: Detections) -> list[float]:
    stitched = stitch(list(views), WINDOWS, TILING, IOU, 100)
    return [round(score, 3) for score in stitched.scores.tolist()]


def test_the_tiles_by_hand() -> None:
    assert WINDOWS.tolist() == [[0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]]
    assert tiles_of(100, 60, TILING).tolist() == [[0, 0, 100, 60]]
    assert tiles_of(101, 60, Tiling(100, 0.0)).tolist() == [[0, 0, 100, 60], [1, 0, 101, 60], [0, 0, 101, 60]]


def test_a_cut_box_gives_way_to_the_whole_one_though_they_overlap_little() -> None:
    whole = one([90, 10, 130, 50], 0.6)
    assert scores(one([90, 10, 100, 50], 0.9), whole, NONE) == [0.6]
    assert scores(one([90, 10, 100, 50], 0.9, label=2), whole, NONE) == [0.9, 0.6], "of another class"
    assert scores(one([70, 10, 95, 50], 0.9), whole, NONE) == [0.9, 0.6], "not cut, another object"


def test_a_cut_box_with_nothing_whole_beside_it_stays() -> None:
    assert scores(one([60, 10, 100, 50], 0.9), NONE, NONE) == [0.9]


def test_a_cut_box_outlasts_one_that_is_hardly_believed() -> None:
    assert scores(one([80, 10, 100, 50], 0.9), one([82, 10, 102, 50], 0.02), NONE) == [0.9]


def test_an_edge_of_the_image_cuts_nothing() -> None:
    image = WINDOWS[-1]
    boxes = np.array([[0, 0, 50, 100], [50, 20, 100, 40], [50, 20, 98, 40], [50, 20, 99.5, 40]], float)
    assert is_cut(boxes, WINDOWS[0], image).tolist() == [False, True, False, True]
    assert is_cut(boxes, image, image).tolist() == [False] * 4
    assert is_cut(boxes[:0], WINDOWS[0], image).tolist() == []


def test_the_whole_image_answers_for_what_is_larger_than_the_overlap() -> None:
    large = one([10, 10, 170, 90], 0.5)
    assert scores(one([10, 10, 100, 90], 0.9), one([80, 10, 170, 90], 0.9), large) == [0.5]
    assert scores(NONE, NONE, one([10, 10, 15, 15], 0.5)) == [], "a tile would have seen it better"


def test_an_image_that_fits_into_a_tile_is_only_checked_for_doubles() -> None:
    windows = tiles_of(90, 60, TILING)
    assert stitch([one([10, 10, 12, 12], 0.5)], windows, TILING, IOU, 100).scores.tolist() == [0.5]
    assert stitch([NONE], windows, TILING, IOU, 100).scores.tolist() == []
