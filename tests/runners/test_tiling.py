"""Tiles cover the image, and merging their detections yields each object exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy
from detector.engine.detections import Detections
from detector.runners import tiling as tiling_module
from detector.runners.model_metadata import ObjectSize
from detector.runners.tiling import (
    EDGE_FRACTION,
    MIN_TILE_SIDE,
    Tiling,
    choose_tiling,
    compute_windows,
    count_windows,
    is_cut,
    stitch,
)

IOU = 0.6
TILINGS = st.builds(Tiling, st.integers(MIN_TILE_SIDE, 200), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.just(True))


def make_detections(boxes: NDArray[np.float64], scores: NDArray[np.float64], labels: NDArray[np.int64]) -> Detections:
    """Build detections with their index as the state, which identifies them in the tests."""
    return Detections(boxes, scores.astype(np.float32), labels, np.arange(1, len(boxes) + 1), scores.astype(np.float32))


def simulate_view(objects: Detections, window: NDArray[np.int64], part: float, score_factor: float) -> Detections:
    """Simulate detections in a window: objects entirely inside, and those visible by `part` or more, cut, rescored."""
    low, high = np.tile(window[:2], 2), np.tile(window[2:], 2)
    clipped = objects.boxes_xyxy.clip(low, high)
    sizes = (clipped[:, 2:] - clipped[:, :2]).prod(1) / (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).prod(1)
    whole = sizes > 1 - 1e-9
    scores = np.where(whole, objects.scores, score_factor * objects.scores).astype(np.float32)
    return objects._replace(boxes_xyxy=clipped, scores=scores).select(whole | (sizes >= part))


def draw_objects(rng: np.random.Generator, count: int, width: int, height: int, longest: float) -> Detections:
    """Draw random boxes with sides up to `longest`; no two of a class overlap enough for NMS to drop one."""
    sizes = rng.uniform(min(3.0, longest / 2), longest, (count, 2)).clip(None, [width, height])
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sizes)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    labels = rng.integers(1, 3, count)
    clash = np.triu((pairwise_iou_xyxy(boxes, boxes) > IOU - 0.01) & (labels[:, None] == labels), 1)
    free = ~clash.any(axis=0)
    return make_detections(boxes[free], rng.permutation(np.linspace(0.2, 0.9, count))[free], labels[free])


@given(st.integers(1, 700), st.integers(1, 700), TILINGS, st.booleans())
def test_windows_are_counted_without_them(width: int, height: int, tiling: Tiling, whole: bool) -> None:
    tiling = tiling._replace(whole_image=whole)
    assert count_windows(width, height, tiling) == len(compute_windows(width, height, tiling))


@given(st.integers(1, 700), st.integers(1, 700), TILINGS)
def test_tiles_cover_every_pixel(width: int, height: int, tiling: Tiling) -> None:
    *tiles, whole = compute_windows(width, height, tiling).tolist()
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
    st.builds(Tiling, st.integers(64, 200), st.sampled_from([0.1, 0.25, 0.5]), st.just(True)),
    st.sampled_from([0.05, 0.5, 2.0]), st.sampled_from([0.3, 1.0, 1.9]), st.booleans(),
)  # fmt: skip
@settings(max_examples=200)
def test_merged_tiles_contain_every_object_once(
    seed: int, count: int, width: int, height: int, tiling: Tiling, part: float, score_factor: float, whole: bool
) -> None:
    """This holds for objects that fit into the overlap, whether or not the detector also finds cut parts of them at
    tile edges, or all of them in the whole image.
    """
    longest = tiling.side * (tiling.overlap - 2 * EDGE_FRACTION) - 2
    objects = draw_objects(np.random.default_rng(seed), count, width, height, longest)
    windows = compute_windows(width, height, tiling)
    views = [simulate_view(objects, window, part, score_factor) for window in windows]
    if len(windows) > 1 and not whole:  # the tiles alone suffice
        views[-1] = objects.select(np.zeros(len(objects.scores), bool))
    stitched = stitch(views, windows, tiling, IOU, 1000)
    assert sorted(stitched.states) == sorted(objects.states)
    assert (np.diff(stitched.scores) <= 0).all()
    expected = objects.select(stitched.states - 1)
    assert stitched.boxes_xyxy == pytest.approx(expected.boxes_xyxy)
    assert stitched.scores == pytest.approx(expected.scores)


@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 40))
def test_max_detections_only_truncates_the_result(seed: int, count: int, max_detections: int) -> None:
    objects = draw_objects(np.random.default_rng(seed), count, 500, 300, 40)
    tiling = Tiling(150, 0.5)
    windows = compute_windows(500, 300, tiling)
    views = [simulate_view(objects, window, 0.3, 0.8) for window in windows]
    full, truncated = (stitch(views, windows, tiling, IOU, limit) for limit in (1000, max_detections))
    assert truncated.states.tolist() == full.states[:max_detections].tolist()


def make_one(box: list[float], score: float, label: int = 1) -> Detections:
    return make_detections(np.array([box], float), np.array([score]), np.array([label]))


NONE = make_one([0, 0, 1, 1], 0.5).select(np.zeros(1, bool))
TILING = Tiling(100, 0.2)
WINDOWS = compute_windows(180, 100, TILING)  # two tiles, starting at 0 and 80, and the whole image


def merge_scores(*views: Detections) -> list[float]:
    stitched = stitch(list(views), WINDOWS, TILING, IOU, 100)
    return [round(score, 3) for score in stitched.scores.tolist()]


def test_windows_of_small_examples() -> None:
    assert WINDOWS.tolist() == [[0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]]
    assert compute_windows(100, 60, TILING).tolist() == [[0, 0, 100, 60]]
    assert compute_windows(101, 60, Tiling(100, 0.0)).tolist() == [[0, 0, 100, 60], [1, 0, 101, 60], [0, 0, 101, 60]]


def test_an_uncut_box_suppresses_a_cut_one_despite_low_iou() -> None:
    whole = make_one([90, 10, 130, 50], 0.6)
    assert merge_scores(make_one([90, 10, 100, 50], 0.9), whole, NONE) == [0.6]
    assert merge_scores(make_one([90, 10, 100, 50], 0.9, label=2), whole, NONE) == [0.9, 0.6], "different class"
    assert merge_scores(make_one([70, 10, 95, 50], 0.9), whole, NONE) == [0.9, 0.6], "not cut, a different object"


def test_a_cut_box_without_an_uncut_one_is_kept() -> None:
    assert merge_scores(make_one([60, 10, 100, 50], 0.9), NONE, NONE) == [0.9]


def test_a_low_scoring_uncut_box_does_not_suppress_a_cut_one() -> None:
    assert merge_scores(make_one([80, 10, 100, 50], 0.9), make_one([82, 10, 102, 50], 0.02), NONE) == [0.9]


def test_image_edges_do_not_cut_boxes() -> None:
    image = WINDOWS[-1]
    boxes = np.array([[0, 0, 50, 100], [50, 20, 100, 40], [50, 20, 98, 40], [50, 20, 99.5, 40]], float)
    assert is_cut(boxes, WINDOWS[0], image).tolist() == [False, True, False, True]
    assert is_cut(boxes, image, image).tolist() == [False] * 4
    assert is_cut(boxes[:0], WINDOWS[0], image).tolist() == []


def test_large_objects_come_from_the_whole_image() -> None:
    large = make_one([10, 10, 170, 90], 0.5)
    assert merge_scores(make_one([10, 10, 100, 90], 0.9), make_one([80, 10, 170, 90], 0.9), large) == [0.5]
    assert merge_scores(NONE, NONE, make_one([10, 10, 15, 15], 0.5)) == [], "a tile shows it larger"


def test_an_image_that_fits_into_one_tile() -> None:
    windows = compute_windows(90, 60, TILING)
    assert stitch([make_one([10, 10, 12, 12], 0.5)], windows, TILING, IOU, 100).scores.tolist() == [0.5]
    assert stitch([NONE], windows, TILING, IOU, 100).scores.tolist() == []


@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(160, 700), st.integers(40, 700))
def test_leaving_the_whole_image_out_changes_nothing_else(seed: int, count: int, width: int, height: int) -> None:
    objects = draw_objects(np.random.default_rng(seed), count, width, height, 60)
    tiling = Tiling(150, 0.3)
    windows = compute_windows(width, height, tiling)
    views = [simulate_view(objects, window, 0.3, 0.8) for window in windows]
    views[-1] = objects.select(np.zeros(len(objects.scores), bool))
    without = tiling._replace(whole_image=False)
    assert compute_windows(width, height, without).tolist() == windows[:-1].tolist()
    stitched = stitch(views[:-1], windows[:-1], without, IOU, 1000)
    assert stitched.boxes_xyxy.tolist() == stitch(views, windows, tiling, IOU, 1000).boxes_xyxy.tolist()


@pytest.mark.parametrize(
    ("image_side", "p90", "side", "overlap"),
    [(640, 130.0, 640, 0.25), (640, 128.0, 640, 0.2), (320, 10.0, 320, 0.2), (320, 310.0, 320, 0.5), (8, 4.0, 32, 0.2)],
)
def test_automatic_tiles_are_as_large_as_training_images(
    image_side: int, p90: float, side: int, overlap: float
) -> None:
    """An object up to the 90th percentile lies entirely in one tile, within bounds."""
    chosen = choose_tiling(ObjectSize(image_side=image_side, p10=1.0, p50=2.0, p90=p90))
    assert chosen == Tiling(side, overlap, whole_image=False)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 80), st.sampled_from([1, 5, 1000]), st.sampled_from([7, 100_000]))
def test_nms_of_many_boxes_is_that_of_each_pair(seed: int, count: int, limit: int, max_pairs: int) -> None:
    """However they are grouped, and with boxes without area."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 60, (count, 2)).astype(float)
    boxes = np.hstack([corners, corners + random.integers(0, 40, (count, 2))])
    cut = random.random(count) < 0.4
    kept: list[int] = []
    for index in range(count):
        overlap = [intersection_xyxy(boxes[one], boxes[index]) for one in kept]
        area = float(np.prod(boxes[index, 2:] - boxes[index, :2]))
        areas = [float(np.prod(boxes[one, 2:] - boxes[one, :2])) for one in kept]
        is_same = any(both > IOU * (area + other - both) for both, other in zip(overlap, areas, strict=True))
        is_covered = any(cut[index] and not cut[one] and 2 * both >= area > 0
                         for one, both in zip(kept, overlap, strict=True))  # fmt: skip
        if not is_same and not is_covered and len(kept) < limit:
            kept.append(index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling_module, "MAX_PAIRS", max_pairs)
        assert np.flatnonzero(tiling_module._suppress(boxes, cut, IOU, limit)).tolist() == kept


def intersection_xyxy(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The area that two boxes share."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.clip(sides, 0, None)))
