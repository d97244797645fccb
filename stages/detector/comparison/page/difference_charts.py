"""The charts of a comparison: intervals of differences, and curves of both sides that the page's script fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector.comparison.comparison import MetricDifference
from detector.evaluation.report.chart_parts import CHART_COLORS, build_spec, tooltip_number, unit_axis

SIDES = ["A", "B"]
ROW_HEIGHT = 22  # pixels per row of an interval chart
MAX_ROWS = 60  # of an interval chart
MIN_RANGE = 0.05  # half of the narrowest axis of differences, so that noise does not look like a change
SCORE_TOOLTIP = [{"field": "side", "type": "nominal"}] + [
    tooltip_number(name, name, ".4f") for name in ("score", "precision", "recall", "F1")
]


def build_comparison_charts(
    metrics: Sequence[MetricDifference], classes: Sequence[MetricDifference]
) -> dict[str, dict[str, Any]]:
    """Charts by the id of their HTML element."""
    largest = sorted(classes, key=lambda row: -abs(row.change or 0))[:MAX_ROWS]
    charts = {
        "pr-chart": build_curve_chart("recall", "precision", "recall", "precision"),
        "f1-chart": build_curve_chart("score", "F1", "confidence", "F1"),
        "precision-chart": build_curve_chart("score", "precision", "confidence", "precision"),
        "recall-chart": build_curve_chart("score", "recall", "confidence", "recall"),
    }
    charts |= build_difference_chart("metric-chart", metrics)
    charts |= build_difference_chart("class-chart", sorted(largest, key=lambda row: -(row.change or 0)))
    if len(classes) > MAX_ROWS:
        charts["class-chart"]["title"] = f"B − A in AP: the {MAX_ROWS} largest differences of {len(classes):,} classes"
    return charts


def build_curve_chart(x: str, y: str, x_title: str, y_title: str) -> dict[str, Any]:
    """One curve per side, and its threshold; the page's script sets its data, `curve` and `threshold`."""
    scale = {"domain": SIDES, "range": CHART_COLORS[:2]}
    color = {"field": "side", "type": "nominal", "scale": scale, "legend": {"orient": "bottom", "title": None}}
    dashes = {"field": "side", "type": "nominal", "scale": {"domain": SIDES, "range": [[1, 0], [6, 3]]},
              "legend": {"orient": "bottom", "title": None}}  # fmt: skip
    encoding = {"x": unit_axis(x, x_title), "y": unit_axis(y, y_title), "color": color}
    line = {**encoding, "strokeDash": dashes, "order": {"field": x, "type": "quantitative"}}
    return build_spec(
        layer=[
            {"data": {"name": "curve"}, "mark": {"type": "line"}, "encoding": line},
            {"data": {"name": "curve"}, "mark": {"type": "point", "opacity": 0, "size": 60, "aria": False},
             "encoding": {**encoding, "tooltip": SCORE_TOOLTIP}},
            {"data": {"name": "threshold"}, "mark": {"type": "point", "filled": True, "size": 130, "opacity": 1},
             "encoding": {**encoding, "tooltip": SCORE_TOOLTIP}},
        ]
    )  # fmt: skip


def build_difference_chart(element: str, rows: Sequence[MetricDifference]) -> dict[str, dict[str, Any]]:
    """B - A as a dot and its 95% interval as a line, filled where it is significant, around a line at zero."""
    values = [
        {"name": row.name, "change": row.change, "low": row.low, "high": row.high, "a": row.a, "b": row.b,
         "verdict": row.verdict}
        for row in rows
        if row.change is not None
    ]  # fmt: skip
    if not values:
        return {}
    ends = [abs(number) for row in rows for number in (row.change, row.low, row.high) if number is not None]
    reach = round(1.05 * max([MIN_RANGE, *ends]), 3)
    domain = {"domain": [-reach, reach], "nice": False}
    x = {"field": "change", "type": "quantitative", "title": "B − A with 95% interval", "scale": domain}
    tooltip = [
        {"field": "name", "type": "nominal"},
        *(tooltip_number(name, title, ".3f") for name, title in (("a", "A"), ("b", "B"))),
        *(tooltip_number(name, title, "+.3f") for name, title in
          (("change", "difference"), ("low", "95% interval from"), ("high", "to"))),
        {"field": "verdict", "type": "nominal"},
    ]  # fmt: skip
    colors = {"domain": ["better", "worse", "not significant", "undefined"],
              "range": [CHART_COLORS[2], CHART_COLORS[3], CHART_COLORS[7], CHART_COLORS[7]]}  # fmt: skip
    color = {"field": "verdict", "type": "nominal", "scale": colors, "legend": None}
    y = {"field": "name", "type": "nominal", "title": None, "sort": [row["name"] for row in values]}
    return {
        element: build_spec(
            height=ROW_HEIGHT * len(values) + 10,
            data={"values": values},
            layer=[
                {"mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [5, 4], "aria": False},
                 "encoding": {"x": {"datum": 0, "type": "quantitative", "scale": domain}}},
                {"mark": {"type": "rule", "strokeWidth": 2},
                 "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": color,
                              "tooltip": tooltip}},
                {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                 "encoding": {"y": y, "x": x, "color": color, "tooltip": tooltip}},
            ],
        )
    }  # fmt: skip
