"""The report's charts as Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from detector.evaluation.report.chart_parts import (
    CHART_COLORS,
    MAX_SERIES,
    build_spec,
    encode_series,
    subsample,
    tooltip_number,
    unit_axis,
)
from detector.evaluation.report.score_charts import (
    build_calibration_charts,
    build_confidence_chart,
    build_precision_recall_chart,
)

ROW_HEIGHT = 20  # pixels per row of an interval chart
MAX_INTERVALS = 60  # rows of an interval chart
MIN_TIDE_AXIS = 0.1  # AP50: so that a bar of a thousandth does not look like a serious loss
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
    "Loss": {"train/loss": "train", "val/loss": "val"},
    "AP on val": {"val/AP": "AP", "val/AP50": "AP50"},
    "Learning rate": {"lr": "learning rate"},
}
COMPONENTS = "Components of the training loss"  # a chart of all other series of train


class TrainingCurve(NamedTuple):
    """A series of the training log: its name, such as val/AP, and its values from epoch 1 on; None: not finite."""

    name: str
    values: Sequence[float | None]


def build_charts(details: dict[str, Any], curves: Sequence[TrainingCurve]) -> dict[str, dict[str, Any]]:
    """Charts by the id of their HTML element; only those with data."""
    charts = {"pr-chart": build_precision_recall_chart(), "confidence-chart": build_confidence_chart()}
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


def build_training_charts(curves: Sequence[TrainingCurve]) -> dict[str, dict[str, Any]]:
    """Those of TRAINING_CHARTS and the chart of the loss's components, where they have data."""
    values = {curve.name: curve.values for curve in curves}
    components = [name for name in values if name.startswith("train/") and name != "train/loss"][:MAX_SERIES]
    all_charts = {**TRAINING_CHARTS, COMPONENTS: {name: name.removeprefix("train/") for name in components}}
    charts = {}
    for number, (title, series) in enumerate(all_charts.items(), 1):
        rows = [
            {"epoch": epoch, "series": label, "value": value}
            for name, label in series.items()
            for epoch, value in enumerate(values.get(name, ()), 1)
        ]
        if rows:
            charts[f"training-chart-{number}"] = build_spec(
                title=title,
                height=200,
                data={"values": rows},
                mark={"type": "line", "point": len(rows) < 100, "tooltip": True},
                encoding={
                    "x": {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"tickMinStep": 1}},
                    "y": {"field": "value", "type": "quantitative", "title": None},
                    **encode_series("series", list(dict.fromkeys(str(row["series"]) for row in rows))),
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
        tooltip_number("AP", "AP", ".3f"),
        tooltip_number("low", "95% CI from", ".3f"),
        tooltip_number("high", "95% CI to", ".3f"),
        tooltip_number("objects", "objects"),
        {"field": "note", "type": "nominal"},
    ]
    hollow = {"test": "datum.note == 'little data'", "value": "var(--page)"}
    line = {
        "mark": {"type": "rule", "strokeWidth": 2, "color": CHART_COLORS[0]},
        "encoding": {"x": unit_axis("low", title), "x2": {"field": "high"}},
    }
    dot = {
        "mark": {"type": "point", "size": 60, "opacity": 1, "color": CHART_COLORS[0]},
        "encoding": {"x": unit_axis("AP", title), "fill": {"condition": hollow, "value": CHART_COLORS[0]}},
    }
    return {
        element: build_spec(
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
    highest = max([MIN_TIDE_AXIS, *(1.2 * row["lost"] for row in rows)])  # room for the longest bar's label
    x = {"field": "lost", "type": "quantitative", "title": "AP50 lost", "scale": {"domain": [0, round(highest, 3)]}}
    y = {"field": "error", "type": "nominal", "title": None, "sort": list(TIDE_ERRORS.values())}
    label = {"field": "lost", "type": "quantitative", "format": ".4f"}
    tooltip = [
        {"field": "error", "title": "error type"},
        {"field": "lost", "title": "AP50 lost"},
        {"field": "count", "title": "errors"},
    ]
    return {
        "tide-chart": build_spec(
            height=28 * len(rows),
            data={"values": rows},
            encoding={"x": x, "y": y, "tooltip": tooltip},
            layer=[
                {"mark": {"type": "bar", "color": CHART_COLORS[3]}},
                {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"text": label}},
            ],
        )
    }


def build_state_chart(
    element: str, curves: dict[str, Any] | None, x_title: str, y_title: str
) -> dict[str, dict[str, Any]]:
    """One curve per state, of the MAX_SERIES lowest where there are more; curves: points (x, y) by state."""
    known = {state: [point for point in points or [] if None not in point] for state, points in (curves or {}).items()}
    known = {state: points for state, points in known.items() if points}
    lowest = sorted(known, key=lambda state: sum(y for _, y in known[state]) / len(known[state]))[:MAX_SERIES]
    rows = [
        {"state": state, "x": round(x, 4), "y": round(y, 4)}
        for state, points in known.items()
        if state in lowest
        for x, y in subsample(points)
    ]
    if not rows:
        return {}
    caption = {"title": f"{y_title.capitalize()} by {x_title}: the {MAX_SERIES} lowest of {len(known):,} states"}
    encoding = {
        "x": unit_axis("x", x_title),
        "y": unit_axis("y", y_title),
        "order": {"field": "index", "type": "quantitative"},
        **encode_series("state", list(dict.fromkeys(str(row["state"]) for row in rows))),
    }
    values = [{**row, "index": index} for index, row in enumerate(rows)]
    return {
        element: build_spec(
            **(caption if len(lowest) < len(known) else {}),
            data={"values": values},
            mark={"type": "line", "tooltip": True},
            encoding=encoding,
        )
    }
