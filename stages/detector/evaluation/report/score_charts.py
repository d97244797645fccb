"""The charts that depend on scores: curves that the page's scripts fill, and calibration."""

from __future__ import annotations

from typing import Any

from detector.evaluation.report.chart_parts import CHART_COLORS, build_spec, encode_series, tooltip_number, unit_axis

SCORE_TOOLTIP = [tooltip_number(name, name, ".4f") for name in ("score", "precision", "recall", "F1")]


def build_precision_recall_chart() -> dict[str, Any]:
    """The page's scripts set its data, `curve` and `threshold`."""
    encoding = {"x": unit_axis("recall", "recall"), "y": unit_axis("precision", "precision")}
    return build_spec(
        height=300,
        layer=[
            {"data": {"name": "curve"}, "encoding": {**encoding, "order": {"field": "recall", "type": "quantitative"}},
             "mark": {"type": "line", "color": CHART_COLORS[0]}},
            {"data": {"name": "curve"}, "encoding": {**encoding, "tooltip": SCORE_TOOLTIP},
             "mark": {"type": "point", "opacity": 0, "size": 60, "aria": False}},
            {"data": {"name": "threshold"}, "encoding": {**encoding, "tooltip": SCORE_TOOLTIP},
             "mark": {"type": "point", "color": CHART_COLORS[3], "filled": True, "size": 160, "opacity": 1}},
        ],
    )  # fmt: skip


def build_confidence_chart() -> dict[str, Any]:
    """Precision, recall and F1 by score; the page's scripts set its data, `curve` and `threshold`."""
    names = ["precision", "recall", "F1"]
    x = unit_axis("score", "confidence (calibrated score)")
    encoding = {"x": x, "y": unit_axis("value", "precision, recall, F1")}
    return build_spec(
        height=300,
        layer=[
            {"data": {"name": "curve"}, "mark": {"type": "line"},
             "encoding": {**encoding, **encode_series("metric", names)}},
            {"data": {"name": "curve"}, "transform": [{"filter": "datum.metric == 'F1'"}],
             "mark": {"type": "point", "opacity": 0, "size": 60, "aria": False},
             "encoding": {**encoding, "tooltip": SCORE_TOOLTIP}},
            {"data": {"name": "threshold"}, "mark": {"type": "rule", "color": "var(--soft)", "strokeDash": [5, 4]},
             "encoding": {"x": x, "tooltip": [tooltip_number("score", "threshold", ".4f")]}},
        ],
    )  # fmt: skip


def build_calibration_charts(calibration: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The reliability diagram, and the histogram of the scores."""
    bins = [row for row in (calibration or {}).get("calibrated_bins") or [] if row.get("count")]
    if not bins:
        return {}
    score_bin = {"x": unit_axis("low", "score", bin="binned"), "x2": {"field": "high"}}
    precision = unit_axis("accuracy", "precision")
    tooltip = [
        tooltip_number("low", "score from"),
        tooltip_number("high", "score to"),
        tooltip_number("confidence", "mean score", ".3f"),
        tooltip_number("accuracy", "precision", ".3f"),
        tooltip_number("count", "detections"),
    ]
    bars = {
        "mark": {"type": "bar", "color": CHART_COLORS[5]},
        "encoding": {**score_bin, "y": precision, "tooltip": tooltip},
    }
    diagonal = {
        "data": {"values": [{"score": 0, "precision": 0}, {"score": 1, "precision": 1}]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": "var(--soft)"},
        "encoding": {"x": unit_axis("score", "score"), "y": unit_axis("precision", "precision")},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": CHART_COLORS[3]},
        "encoding": {"x": unit_axis("confidence", "score"), "y": precision, "tooltip": tooltip},
    }
    count = {"field": "count", "type": "quantitative", "title": "detections"}
    histogram = build_spec(
        data={"values": bins},
        height=120,
        mark={"type": "bar", "color": CHART_COLORS[7]},
        encoding={**score_bin, "y": count, "tooltip": tooltip},
    )
    reliability = build_spec(data={"values": bins}, layer=[bars, diagonal, dots], height=260)
    return {"calibration-chart": reliability, "score-chart": histogram}
