"""The charts of the dataset: how often each class occurs, where boxes lie and how large they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.engine.ground_truth import GroundTruth
from detector.evaluation.report.chart_parts import CHART_COLORS, build_spec, encode_series, tooltip_number

MAX_CLASSES = 30  # of the class distribution
GRID = 24  # rows and columns of a heat map


def count_objects(labels: GroundTruth) -> dict[str, int]:
    """The number of objects per class of a split, crowds and absent objects left out."""
    counted = labels.objects.categories[labels.present & ~labels.objects.crowds]
    counts = np.bincount(counted - 1, minlength=len(labels.names.classes))
    return dict(zip(labels.names.classes, counts.tolist(), strict=True))


def build_class_distribution(splits: Mapping[str, GroundTruth]) -> dict[str, dict[str, Any]]:
    """The share of each class in the objects of each split, for the most frequent MAX_CLASSES."""
    counts = {split: count_objects(labels) for split, labels in splits.items()}
    sums: dict[str, int] = {}
    for of_split in counts.values():
        for name, count in of_split.items():
            sums[name] = sums.get(name, 0) + count
    names = sorted(sums, key=lambda name: -sums[name])
    if not any(sums.values()):
        return {}
    totals = {split: max(1, sum(of_split.values())) for split, of_split in counts.items()}
    rows = [
        {"class": name, "split": split, "count": of_split.get(name, 0),
         "share": round(of_split.get(name, 0) / totals[split], 5)}
        for name in names[:MAX_CLASSES]
        for split, of_split in counts.items()
    ]  # fmt: skip
    cut = {"title": f"Objects per class: the {MAX_CLASSES} most frequent of {len(names):,} classes"}
    split_names = list(counts)
    y = {"field": "class", "type": "nominal", "title": None, "sort": names[:MAX_CLASSES]}
    x = {"field": "share", "type": "quantitative", "title": "share of the split's objects", "axis": {"format": "%"}}
    tooltip = [
        {"field": "class", "type": "nominal"},
        {"field": "split", "type": "nominal"},
        tooltip_number("count", "objects"),
        tooltip_number("share", "share", ".1%"),
    ]
    color = encode_series("split", split_names)["color"]
    legend = color["legend"] and {**color["legend"], "symbolType": "square"}
    return {
        "distribution-chart": build_spec(
            **(cut if len(names) > MAX_CLASSES else {}),
            height=max(80, (8 * len(split_names) + 6) * len(names[:MAX_CLASSES])),
            data={"values": rows},
            mark={"type": "bar"},
            encoding={"y": y, "yOffset": {"field": "split", "sort": split_names}, "x": x, "tooltip": tooltip,
                      "color": {**color, "legend": legend}},
        )
    }  # fmt: skip


def build_heat_maps(splits: Iterable[GroundTruth]) -> dict[str, dict[str, Any]]:
    """Where the centers of the boxes of all splits lie in their images, and the boxes' widths and heights."""
    centers, sizes = np.zeros((2, GRID, GRID), np.int64)
    for labels in splits:
        image_sizes = labels.images.sizes[labels.objects.images, ::-1]  # [A, 2]: width, height
        places, extents = (labels.objects.boxes_xywh[:, part] / image_sizes for part in (slice(2), slice(2, 4)))
        centers += _count_points(places + extents / 2)
        sizes += _count_points(extents)
    if not centers.any():
        return {}
    places_chart = _build_heat_map(centers, "center, left to right", "center, top to bottom")
    places_chart["encoding"]["y"]["scale"]["reverse"] = True
    return {
        "place-chart": places_chart,
        "box-size-chart": _build_heat_map(sizes, "width / image width", "height / image height"),
    }


def _count_points(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of points (x, y) [N, 2] in each cell of a grid over 0..1."""
    x, y = points.clip(0, 1).T
    counts: NDArray[np.int64] = np.histogram2d(x, y, bins=GRID, range=((0, 1), (0, 1)))[0].astype(np.int64)
    return counts


def _build_heat_map(counts: NDArray[np.int64], x_title: str, y_title: str) -> dict[str, Any]:
    """counts [GRID, GRID]: points in each cell, by column and row."""
    values = [
        {"x": round(column / GRID, 5), "x2": round((column + 1) / GRID, 5), "y": round(row / GRID, 5),
         "y2": round((row + 1) / GRID, 5), "boxes": int(counts[column, row])}
        for column, row in np.argwhere(counts).tolist()
    ]  # fmt: skip

    def axis(field: str, title: str) -> dict[str, Any]:
        return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1], "nice": False},
                "axis": {"format": "%", "grid": False}, "bin": "binned"}  # fmt: skip

    return build_spec(
        height=260,
        data={"values": values},
        mark={"type": "rect", "color": CHART_COLORS[0]},
        encoding={
            "x": axis("x", x_title),
            "x2": {"field": "x2"},
            "y": axis("y", y_title),
            "y2": {"field": "y2"},
            "opacity": {
                "field": "boxes",
                "type": "quantitative",
                "scale": {"type": "sqrt", "range": [0.12, 1]},
                "legend": None,
            },
            "tooltip": [tooltip_number("boxes", "boxes")],
        },
    )
