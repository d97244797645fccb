"""Pictures of an evaluation: curves and confusion matrices, as Vega-Lite charts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.confusion import describe_folding, fold_confusions, normalize_confusions
from detector.plotting.chart_process import save_chart
from detector.plotting.fonts import format_count
from detector.plotting.names import shorten_name
from detector.plotting.palette import PALETTE, palette_color

MAX_CURVES = len(PALETTE)  # more curves cannot be told apart
EXTREME_CURVES = 3  # of more classes, the best and the worst that are drawn
ROOMY_MATRIX = 12  # rows up to which the cells of a matrix have their full size
GRAY = "#888888"
STYLE = {
    "background": "white",
    "font": "DejaVu Sans",
    "title": {"anchor": "start", "fontSize": 13, "offset": 10},
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 400,
             "labelFlush": False},
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 400},
    "view": {"stroke": "#cccccc"},
    "line": {"strokeWidth": 2},
}  # fmt: skip


def draw_precision_recall(
    curves: dict[str, NDArray[np.float64]],
    path: Path,
    *,
    threshold: float | None,
    precision: float | None,
    recall: float | None,
) -> None:
    """Precision at IoU 0.5 over 101 recalls, one curve per class, and the operating point over all classes.

    Of more than MAX_CURVES classes: their mean, the range of the middle half, and the worst and the best of them.
    """
    recalls = np.linspace(0, 1, 101).round(2).tolist()
    x, y = _unit_axis("recall", "Recall"), _unit_axis("precision", "Precision")
    layers: list[dict[str, Any]] = []
    series: dict[str, tuple[NDArray[np.float64], str]] = {}  # label -> curve and color
    shown = list(curves)
    if len(curves) > MAX_CURVES:
        values = np.stack(list(curves.values()))  # [class, recall]
        low, high = np.quantile(values, (0.25, 0.75), axis=0)
        band = _make_rows(recall=recalls, low=low, high=high)
        span = {"x": x, "y": _unit_axis("low", "Precision"), "y2": {"field": "high"}}
        layers.append({"data": {"values": band}, "mark": {"type": "area", "color": "#d9d9d9"}, "encoding": span})
        label = f"mean of {len(curves):,} classes: {values.mean():.2f} (gray: the middle half of them)"
        series[label] = values.mean(axis=0), "#444444"
        ranked = sorted(curves, key=lambda name: -float(curves[name].mean()))
        shown = [*ranked[:EXTREME_CURVES], *ranked[-EXTREME_CURVES:]]
    for index, name in enumerate(shown):
        label = _make_unique(f"{shorten_name(name, 24)}: {curves[name].mean():.2f}", series)
        series[label] = curves[name], palette_color(index)
    rows = [
        row | {"series": label}
        for label, (curve, _) in series.items()
        for row in _make_rows(recall=recalls, precision=curve)
    ]
    color = _encode_color({label: color for label, (_, color) in series.items()}, "class: AP50")
    layers.append({"data": {"values": rows}, "mark": "line", "encoding": {"x": x, "y": y, "color": color}})
    title = "Precision-recall curve at IoU 0.5"
    if precision is not None and recall is not None:
        point = "per-class thresholds" if threshold is None else f"threshold {threshold:.2f}"
        title += f" (black: {point})"
        mark = {"type": "point", "shape": "diamond", "size": 160, "filled": True, "color": "black", "opacity": 1}
        layers.append({"data": {"values": [{"recall": recall, "precision": precision}]}, "mark": mark,
                       "encoding": {"x": x, "y": y}})  # fmt: skip
    save_chart({"config": STYLE, "title": title, "width": 420, "height": 320, "layer": layers}, path)


def draw_confusion(
    matrix: NDArray[Any], names: list[str], path: Path, *, title: str, noun: str, background: bool
) -> None:
    """Counts [K, K], true in rows and predicted in columns, colored by fraction of the row; folded if it is large.

    background: whether the last row and column are the background. It is no class with a number of its own: its row
    has the false detections, colored by their fraction of all detections of the class, so that a few look like a few.
    """
    counts, shown = fold_confusions(matrix, names, background=background)
    fractions = normalize_confusions(counts, background=background)
    crowded = len(shown) > ROOMY_MATRIX
    side, font_size = (24, 8) if crowded else (44, 12)  # of a cell and its text, in pixels
    cells = [
        {"row": row, "column": column, "text": format_count(int(counts[row, column]), side - 4, font_size),
         "fraction": float(fractions[row, column])}
        for row, column in np.argwhere(counts).tolist()
    ]  # fmt: skip
    # Positions are numbers, since shortened names may be equal.
    labels = json.dumps([shorten_name(name) for name in shown]) + "[datum.value]"
    places = {"type": "ordinal", "scale": {"domain": list(range(len(shown)))}}
    below = ["background: of the column"] if background else []
    white_on_dark = {"condition": {"test": "datum.fraction > 0.6", "value": "white"}, "value": "black"}
    legend = {"title": ["fraction of the row", *below], "gradientLength": 120}
    blues = {"domain": [0, 1], "scheme": "blues"}
    chart = {
        "config": STYLE,
        "title": (title + describe_folding(names, background=background)).split("\n"),
        "width": {"step": side},
        "height": {"step": side},
        "data": {"values": cells},
        "encoding": {
            "x": {"field": "column", **places, "title": f"Predicted {noun}",
                  "axis": {"labelExpr": labels, "labelAngle": -90 if crowded else -35, "labelOverlap": False}},
            "y": {"field": "row", **places, "title": f"True {noun}",
                  "axis": {"labelExpr": labels, "labelOverlap": False}},
        },
        "layer": [
            {"mark": "rect",
             "encoding": {"color": {"field": "fraction", "type": "quantitative", "scale": blues, "legend": legend}}},
            {"mark": {"type": "text", "fontSize": font_size},
             "encoding": {"text": {"field": "text", "type": "nominal"}, "color": white_on_dark}},
        ],
    }  # fmt: skip
    save_chart(chart, path)


def draw_reliability(
    raw_bins: Sequence[Mapping[str, Any]], calibrated_bins: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Precision by score, of the model's own and of the calibrated ones, which belong on the diagonal; and how many."""
    colors = {"the model's scores": "#999999", "calibrated scores": palette_color(0)}
    rows = [
        {"series": label, "score": row["confidence"], "precision": row["accuracy"]}
        for label, bins in zip(colors, (raw_bins, calibrated_bins), strict=True)
        for row in bins
        if row["count"]
    ]
    x, y = _unit_axis("score", "Score"), _unit_axis("precision", "Precision")
    color = _encode_color(colors, "") | {"legend": {"orient": "top-left", "title": None}}
    diagonal = {"values": [{"score": 0, "precision": 0}, {"score": 1, "precision": 1}]}
    dotted = {"type": "line", "strokeDash": [2, 3], "color": GRAY}
    curves = {
        "title": "Reliability diagram (dotted: perfect)", "width": 300, "height": 240,
        "layer": [
            {"data": diagonal, "mark": dotted, "encoding": {"x": x, "y": y}},
            {"data": {"values": rows}, "mark": {"type": "line", "point": {"size": 50}},
             "encoding": {"x": x, "y": y, "color": color}},
        ],
    }  # fmt: skip
    bars = [{key: row[key] for key in ("low", "high", "count")} for row in calibrated_bins]
    histogram = {
        "width": 300, "height": 80, "data": {"values": bars}, "mark": {"type": "bar", "color": palette_color(0)},
        "encoding": {
            "x": _unit_axis("low", "Calibrated score") | {"bin": "binned"}, "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "title": "Detections", "axis": {"tickCount": 3}},
        },
    }  # fmt: skip
    save_chart({"config": STYLE, "vconcat": [curves, histogram]}, path)


def draw_state_curves(
    roc: Mapping[str, Sequence[Sequence[float]]], precision_recall: Mapping[str, Sequence[Sequence[float]]], path: Path
) -> None:
    """ROC and precision-recall curves per state, given the true boxes; of the MAX_CURVES worst where there are more."""
    drawn = [name for name, points in precision_recall.items() if points]
    lowest = sorted(drawn, key=lambda name: _compute_area(precision_recall[name]))[:MAX_CURVES]
    shown = [name for name in drawn if name in lowest]
    labels: dict[str, str] = {}
    for name in shown:
        labels[name] = _make_unique(shorten_name(name), labels.values())
    note = f": {len(shown)} of {len(drawn):,} with the lowest AP" if len(shown) < len(drawn) else ""
    color = _encode_color({labels[name]: palette_color(index) for index, name in enumerate(shown)}, "state")
    sides = [
        (roc, "ROC curve per state" + note, "False positive rate", "True positive rate"),
        (precision_recall, "Precision-recall curve per state", "Recall", "Precision"),
    ]
    charts = [
        {
            "title": title, "width": 300, "height": 260,
            "data": {"values": [
                {"state": labels[name], "x": x, "y": y, "order": order}
                for name in shown for order, (x, y) in enumerate(curves[name])
            ]},
            "mark": "line",
            "encoding": {
                "x": _unit_axis("x", x_title), "y": _unit_axis("y", y_title), "color": color | {"field": "state"},
                "order": {"field": "order", "type": "quantitative"},
            },
        }
        for curves, title, x_title, y_title in sides
    ]  # fmt: skip
    save_chart({"config": STYLE, "hconcat": charts}, path)


def _unit_axis(field: str, title: str) -> dict[str, Any]:
    """An axis from 0 to 1."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1]}}


def _encode_color(colors: Mapping[str, str], title: str) -> dict[str, Any]:
    """The colors of the field `series`, by label."""
    scale = {"domain": list(colors), "range": list(colors.values())}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": {"title": title, "symbolType": "stroke"}}


def _make_rows(**columns: Any) -> list[dict[str, float]]:
    return [dict(zip(columns, map(float, values), strict=True)) for values in zip(*columns.values(), strict=True)]


def _make_unique(label: str, others: Collection[str]) -> str:
    """The label, with invisible characters at its end if it is taken: names may be equal when shortened."""
    while label in others:
        label += "\u200b"
    return label


def _compute_area(points: Sequence[Sequence[float]]) -> float:
    """The area under a precision-recall curve. The mean height of its points would rather say how rare the state is."""
    before = [0.0, *(recall for recall, _ in points)]
    return sum((recall - left) * precision for left, (recall, precision) in zip(before, points, strict=False))
