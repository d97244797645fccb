"""The charts as Vega-Lite specifications. Colors such as var(--soft) are the page's, for dark and light mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

CHART_COLORS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8a00", "#777777"]
DASH_PATTERNS = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 2], [6, 2, 1, 2]]
MAX_POINTS = 200  # per curve
ROW_HEIGHT = 20  # pixels per row of an interval chart
MAX_INTERVALS = 60  # rows of an interval chart
# Keys of `tide` in details.json, and their titles.
TIDE_ERRORS = {
    "class": "class",
    "location": "localization",
    "both": "class + localization",
    "duplicate": "duplicate",
    "background": "background",
    "missed": "missed",
}
# Title of each training chart, and its series: name in the log -> name in the chart.
TRAINING_CHARTS = {
    "Loss": {"train/epoch_avg_loss": "train", "val/loss": "val"},
    "AP on val": {"val/AP": "AP", "val/AP50": "AP50"},
    "Learning rate": {"train/learning_rate": "learning rate"},
}


class TrainingCurve(NamedTuple):
    """A series of the training log: its name, such as val/AP, and its values from epoch 1 on."""

    name: str
    values: Sequence[float]


def build_charts(details: dict[str, Any], curves: Sequence[TrainingCurve]) -> dict[str, dict[str, Any]]:
    """Charts by the id of their HTML element; only those with data."""
    charts = {"pr-chart": build_precision_recall_chart()}
    charts |= build_training_charts(curves)
    charts |= build_interval_chart("class-chart", details.get("classes") or [], "class", "classes")
    slices = [{**row, "name": f"{row['by']}: {row['slice']}"} for row in details.get("slices") or []]
    charts |= build_interval_chart("slice-chart", slices, "name", "slices")
    charts |= build_tide_chart(details.get("tide"))
    charts |= build_calibration_charts(details.get("calibration"))
    states = details.get("states") or {}
    charts |= build_state_chart("roc-chart", states.get("roc"), "false positive rate", "true positive rate")
    charts |= build_state_chart("state-pr-chart", states.get("precision_recall"), "recall", "precision")
    return charts


def _build_spec(**content: Any) -> dict[str, Any]:
    return {"width": "container", "height": 240, "autosize": {"type": "fit-x", "contains": "padding"}, **content}


def _unit_axis(field: str, title: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1]}, **more}


def _tooltip_number(field: str, title: str, format: str | None = None) -> dict[str, Any]:
    tooltip = {"field": field, "type": "quantitative", "title": title}
    return tooltip if format is None else {**tooltip, "format": format}


def build_precision_recall_chart() -> dict[str, Any]:
    """The page's scripts set its data, `curve` and `threshold`."""
    encoding = {"x": _unit_axis("recall", "recall"), "y": _unit_axis("precision", "precision")}
    tooltip = [_tooltip_number(name, name, ".4f") for name in ("score", "precision", "recall")]
    return _build_spec(
        height=300,
        layer=[
            {"data": {"name": "curve"}, "encoding": {**encoding, "order": {"field": "recall", "type": "quantitative"}},
             "mark": {"type": "line", "color": CHART_COLORS[0]}},
            {"data": {"name": "curve"}, "encoding": {**encoding, "tooltip": tooltip},
             "mark": {"type": "point", "opacity": 0, "size": 60}},
            {"data": {"name": "threshold"}, "encoding": {**encoding, "tooltip": tooltip},
             "mark": {"type": "point", "color": CHART_COLORS[3], "filled": True, "size": 160, "opacity": 1}},
        ],
    )  # fmt: skip


def build_training_charts(curves: Sequence[TrainingCurve]) -> dict[str, dict[str, Any]]:
    """Those of TRAINING_CHARTS with data."""
    values = {curve.name: curve.values for curve in curves}
    charts = {}
    for number, (title, series) in enumerate(TRAINING_CHARTS.items(), 1):
        rows = [
            {"epoch": epoch, "series": label, "value": value}
            for name, label in series.items()
            for epoch, value in enumerate(values.get(name, ()), 1)
        ]
        if rows:
            charts[f"training-chart-{number}"] = _build_spec(
                title=title,
                height=200,
                data={"values": rows},
                mark={"type": "line", "point": len(rows) < 100, "tooltip": True},
                encoding={
                    "x": {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"tickMinStep": 1}},
                    "y": {"field": "value", "type": "quantitative", "title": None},
                    **_encode_series("series", list(dict.fromkeys(str(row["series"]) for row in rows))),
                },
            )
    return charts


def build_interval_chart(
    element: str, rows: Sequence[dict[str, Any]], name: str, noun: str
) -> dict[str, dict[str, Any]]:
    """AP as a dot and its 95% confidence interval as a line, highest AP first; the lowest MAX_INTERVALS.

    name: the rows' key of their name; noun: what they are, in the plural.
    """
    known = [
        {
            "name": row[name],
            "AP": row["AP"],
            "low": row.get("AP_low"),
            "high": row.get("AP_high"),
            "objects": row.get("objects"),
            "note": "little data" if row.get("little_data") else "enough data",
        }
        for row in sorted(rows, key=lambda row: -(row.get("AP") or 0))
        if row.get("AP") is not None
    ]
    if not known:
        return {}
    left_out = len(known) - MAX_INTERVALS
    caption = {"title": f"AP with 95% CI of the {MAX_INTERVALS} of {len(known):,} {noun} with the lowest AP"}
    known = known[max(0, left_out) :]
    title = "AP with 95% CI"
    y = {"field": "name", "type": "nominal", "title": None, "sort": [row["name"] for row in known]}
    tooltip = [
        {"field": "name", "type": "nominal"},
        _tooltip_number("AP", "AP", ".3f"),
        _tooltip_number("low", "95% CI from", ".3f"),
        _tooltip_number("high", "95% CI to", ".3f"),
        _tooltip_number("objects", "objects"),
        {"field": "note", "type": "nominal"},
    ]
    hollow = {"test": "datum.note == 'little data'", "value": "var(--page)"}
    line = {
        "mark": {"type": "rule", "strokeWidth": 2, "color": CHART_COLORS[0]},
        "encoding": {"x": _unit_axis("low", title), "x2": {"field": "high"}},
    }
    dot = {
        "mark": {"type": "point", "size": 60, "opacity": 1, "color": CHART_COLORS[0]},
        "encoding": {"x": _unit_axis("AP", title), "fill": {"condition": hollow, "value": CHART_COLORS[0]}},
    }
    return {
        element: _build_spec(
            **(caption if left_out > 0 else {}),
            height=ROW_HEIGHT * len(known),
            data={"values": known},
            encoding={"y": y, "tooltip": tooltip},
            layer=[line, dot],
        )
    }


def build_tide_chart(tide: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """AP50 lost to each error type."""
    tide = tide or {}
    counts = tide.get("counts") or {}
    rows = [
        {"error": title, "lost": tide[error], "count": counts.get(error)}
        for error, title in TIDE_ERRORS.items()
        if tide.get(error) is not None
    ]
    if not rows:
        return {}
    x = {"field": "lost", "type": "quantitative", "title": "AP50 lost"}
    y = {"field": "error", "type": "nominal", "title": None, "sort": list(TIDE_ERRORS.values())}
    label = {"field": "lost", "type": "quantitative", "format": ".4f"}
    tooltip = [
        {"field": "error", "title": "error type"},
        {"field": "lost", "title": "AP50 lost"},
        {"field": "count", "title": "errors"},
    ]
    return {
        "tide-chart": _build_spec(
            height=28 * len(rows),
            data={"values": rows},
            encoding={"x": x, "y": y, "tooltip": tooltip},
            layer=[
                {"mark": {"type": "bar", "color": CHART_COLORS[3]}},
                {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"text": label}},
            ],
        )
    }


def build_calibration_charts(calibration: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The reliability diagram, and the histogram of the scores."""
    bins = [row for row in (calibration or {}).get("bins") or [] if row.get("count")]
    if not bins:
        return {}
    score_bin = {"x": _unit_axis("low", "score", bin="binned"), "x2": {"field": "high"}}
    precision = _unit_axis("accuracy", "precision")
    tooltip = [
        _tooltip_number("low", "score from"),
        _tooltip_number("high", "score to"),
        _tooltip_number("confidence", "mean score"),
        _tooltip_number("accuracy", "precision"),
        _tooltip_number("count", "detections"),
    ]
    bars = {
        "mark": {"type": "bar", "color": CHART_COLORS[5]},
        "encoding": {**score_bin, "y": precision, "tooltip": tooltip},
    }
    diagonal = {
        "data": {"values": [{"score": 0, "precision": 0}, {"score": 1, "precision": 1}]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": "var(--soft)"},
        "encoding": {"x": _unit_axis("score", "score"), "y": _unit_axis("precision", "precision")},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": CHART_COLORS[3]},
        "encoding": {"x": _unit_axis("confidence", "score"), "y": precision, "tooltip": tooltip},
    }
    count = {"field": "count", "type": "quantitative", "title": "detections"}
    histogram = _build_spec(
        data={"values": bins},
        height=120,
        mark={"type": "bar", "color": CHART_COLORS[7]},
        encoding={**score_bin, "y": count, "tooltip": tooltip},
    )
    reliability = _build_spec(data={"values": bins}, layer=[bars, diagonal, dots], height=260)
    return {"calibration-chart": reliability, "score-chart": histogram}


def build_state_chart(
    element: str, curves: dict[str, Any] | None, x_title: str, y_title: str
) -> dict[str, dict[str, Any]]:
    """One curve per state; curves: points (x, y) by state."""
    rows = [
        {"state": state, "x": round(x, 4), "y": round(y, 4)}
        for state, points in (curves or {}).items()
        for x, y in subsample([point for point in points or [] if None not in point])
    ]
    if not rows:
        return {}
    encoding = {
        "x": _unit_axis("x", x_title),
        "y": _unit_axis("y", y_title),
        "order": {"field": "index", "type": "quantitative"},
        **_encode_series("state", list(dict.fromkeys(str(row["state"]) for row in rows))),
    }
    values = [{**row, "index": index} for index, row in enumerate(rows)]
    return {element: _build_spec(data={"values": values}, mark={"type": "line", "tooltip": True}, encoding=encoding)}


def subsample(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most MAX_POINTS evenly spaced points, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return list(points)
    return [points[index] for index in np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]


def _encode_series(field: str, names: list[str]) -> dict[str, Any]:
    """One color and one dash pattern per name."""
    scale = {"domain": names, "range": CHART_COLORS}
    dashes = {"domain": names, "range": DASH_PATTERNS}
    legend = {"orient": "bottom", "title": None} if len(names) > 1 else None
    return {
        "color": {"field": field, "type": "nominal", "scale": scale, "legend": legend},
        "strokeDash": {"field": field, "type": "nominal", "scale": dashes, "legend": legend},
    }
