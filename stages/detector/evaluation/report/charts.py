"""The charts as Vega-Lite specifications. Colours are the page's own, so that they follow dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LIGHT_PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8a00", "#777777"]
MOST_POINTS = 200  # of a curve
ROW = 20  # pixels of a line in a chart of intervals
ERRORS = ("class", "location", "both", "duplicate", "background", "missed")
# Title of a chart of the training, and the series in it: name in the log, name in the chart.
TRAINING = {
    "Loss": {"train/epoch_avg_loss": "train", "val/loss": "val"},
    "AP on val": {"val/AP": "AP", "val/AP50": "AP50"},
    "Learning rate": {"train/learning_rate": "learning rate"},
}


class Curve(NamedTuple):
    """A series of the training's log: its name, such as val/AP, and its values by epoch from 1."""

    name: str
    values: Sequence[float]


def all_charts(details: dict[str, Any], curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """By the id of the element that a chart stands in; only what there are numbers for."""
    charts = {"pr-chart": precision_recall()}
    charts |= learning(curves)
    charts |= intervals("class-chart", details.get("classes") or [], "class")
    slices = [{**row, "name": f"{row['by']}: {row['slice']}"} for row in details.get("slices") or []]
    charts |= intervals("slice-chart", slices, "name")
    charts |= tide(details.get("tide"))
    charts |= calibration(details.get("calibration"))
    states = details.get("states") or {}
    charts |= state_curves("roc-chart", states.get("roc"), "share of the others called so", "recall")
    charts |= state_curves("state-pr-chart", states.get("precision_recall"), "recall", "precision")
    return charts


def _spec(**content: Any) -> dict[str, Any]:
    return {"width": "container", "height": 240, "autosize": {"type": "fit-x", "contains": "padding"}, **content}


def _share(field: str, title: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1]}, **more}


def precision_recall() -> dict[str, Any]:
    """Its data, `curve` and `here`, come from the page's code."""
    encoding = {"x": _share("recall", "recall"), "y": _share("precision", "precision")}
    tooltip = [{"field": name, "type": "quantitative", "format": ".4f"} for name in ("score", "precision", "recall")]
    return _spec(
        height=300,
        layer=[
            {"data": {"name": "curve"}, "encoding": {**encoding, "order": {"field": "recall", "type": "quantitative"}},
             "mark": {"type": "line", "color": LIGHT_PALETTE[0]}},
            {"data": {"name": "curve"}, "encoding": {**encoding, "tooltip": tooltip},
             "mark": {"type": "point", "opacity": 0, "size": 60}},
            {"data": {"name": "here"}, "encoding": {**encoding, "tooltip": tooltip},
             "mark": {"type": "point", "color": LIGHT_PALETTE[3], "filled": True, "size": 160, "opacity": 1}},
        ],
    )  # fmt: skip


def learning(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """A chart for each of TRAINING."""
    of_name = {curve.name: curve.values for curve in curves}
    charts = {}
    for number, (title, series) in enumerate(TRAINING.items(), 1):
        rows = [
            {"epoch": epoch, "series": label, "value": value}
            for name, label in series.items()
            for epoch, value in enumerate(of_name.get(name, ()), 1)
        ]
        if rows:
            charts[f"learning-chart-{number}"] = _spec(
                title=title,
                height=200,
                data={"values": rows},
                mark={"type": "line", "point": len(rows) < 100, "tooltip": True},
                encoding={
                    "x": {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"tickMinStep": 1}},
                    "y": {"field": "value", "type": "quantitative", "title": None},
                    **_by("series", list(dict.fromkeys(str(row["series"]) for row in rows))),
                },
            )
    return charts


def intervals(element: str, rows: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """AP as a dot and its 95% interval as a line, the best first."""
    known = [
        {"name": row[name], "AP": row["AP"], "low": row.get("AP_low"), "high": row.get("AP_high"),
         "objects": row.get("objects"), "note": "little data" if row.get("little_data") else "enough data"}
        for row in sorted(rows, key=lambda row: -(row.get("AP") or 0)) if row.get("AP") is not None
    ]  # fmt: skip
    if not known:
        return {}
    y = {"field": "name", "type": "nominal", "title": None, "sort": [row["name"] for row in known]}
    tooltip = [{"field": field, "type": "quantitative", "format": ".3f"} for field in ("AP", "low", "high")]
    tooltip = [{"field": "name", "type": "nominal"}, *tooltip, {"field": "objects", "type": "quantitative"},
               {"field": "note", "type": "nominal"}]  # fmt: skip
    return {
        element: _spec(
            height=ROW * len(known),
            data={"values": known},
            encoding={"y": y, "tooltip": tooltip},
            layer=[
                {"mark": {"type": "rule", "strokeWidth": 2, "color": LIGHT_PALETTE[0]},
                 "encoding": {"x": _share("low", "AP, with its 95% interval"), "x2": {"field": "high"}}},
                {"mark": {"type": "point", "size": 60, "opacity": 1, "color": LIGHT_PALETTE[0]},
                 "encoding": {"x": _share("AP", "AP, with its 95% interval"), "fill": {"condition": {
                     "test": "datum.note == 'little data'", "value": "var(--page)"}, "value": LIGHT_PALETTE[0]}}},
            ],
        )
    }  # fmt: skip


def tide(numbers: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """What each kind of mistake costs."""
    counts = (numbers or {}).get("counts") or {}
    rows = [{"kind": kind, "cost": numbers[kind], "count": counts.get(kind)}
            for kind in ERRORS if numbers and numbers.get(kind) is not None]  # fmt: skip
    if not rows:
        return {}
    x = {"field": "cost", "type": "quantitative", "title": "AP50 that is lost by it"}
    y = {"field": "kind", "type": "nominal", "title": None, "sort": list(ERRORS)}
    label = {"field": "cost", "type": "quantitative", "format": ".4f"}
    return {
        "tide-chart": _spec(
            height=28 * len(rows),
            data={"values": rows},
            encoding={"x": x, "y": y, "tooltip": [{"field": field} for field in ("kind", "cost", "count")]},
            layer=[
                {"mark": {"type": "bar", "color": LIGHT_PALETTE[3]}},
                {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"text": label}},
            ],
        )
    }


def calibration(numbers: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """How often detections are right, by their score; and how many there are."""
    bins = [one for one in (numbers or {}).get("bins") or [] if one.get("count")]
    if not bins:
        return {}
    ends = {"x": _share("low", "score", bin="binned"), "x2": {"field": "high"}}
    right = "share that is right"
    tooltip = [{"field": field, "type": "quantitative"} for field in ("low", "high", "confidence", "accuracy", "count")]
    reliability = [
        {"mark": {"type": "bar", "color": LIGHT_PALETTE[5]},
         "encoding": {**ends, "y": _share("accuracy", right), "tooltip": tooltip}},
        {"data": {"values": [{"a": 0, "b": 0}, {"a": 1, "b": 1}]}, "mark": {"type": "line", "strokeDash": [5, 4],
                                                                           "color": "var(--soft)"},
         "encoding": {"x": _share("a", "score"), "y": _share("b", right)}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": LIGHT_PALETTE[3]},
         "encoding": {"x": _share("confidence", "score"), "y": _share("accuracy", right),
                      "tooltip": tooltip}},
    ]  # fmt: skip
    y = {"field": "count", "type": "quantitative", "title": "detections"}
    return {
        "calibration-chart": _spec(data={"values": bins}, layer=reliability, height=260),
        "score-chart": _spec(
            data={"values": bins}, height=120,
            mark={"type": "bar", "color": LIGHT_PALETTE[7]}, encoding={**ends, "y": y, "tooltip": tooltip},
        ),
    }  # fmt: skip


def state_curves(element: str, curves: dict[str, Any] | None, first: str, second: str) -> dict[str, dict[str, Any]]:
    """A curve for each state."""
    rows = [
        {"state": state, "x": round(x, 4), "y": round(y, 4)}
        for state, points in (curves or {}).items()
        for x, y in thinned([point for point in points or [] if None not in point])
    ]
    if not rows:
        return {}
    order = {"field": "index", "type": "quantitative"}
    return {
        element: _spec(
            data={"values": [{**row, "index": index} for index, row in enumerate(rows)]},
            mark={"type": "line", "tooltip": True},
            encoding={"x": _share("x", first), "y": _share("y", second), "order": order,
                      **_by("state", list(dict.fromkeys(str(row["state"]) for row in rows)))},
        )
    }  # fmt: skip


def thinned(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most MOST_POINTS, the ends among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    return [points[place] for place in np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]


def _by(field: str, names: list[str]) -> dict[str, Any]:
    """A colour and a dash pattern for each name."""
    scale = {"domain": names, "range": LIGHT_PALETTE}
    dashes = {"domain": names, "range": [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 2], [6, 2, 1, 2]]}
    legend = {"orient": "bottom", "title": None} if len(names) > 1 else None
    return {
        "color": {"field": field, "type": "nominal", "scale": scale, "legend": legend},
        "strokeDash": {"field": field, "type": "nominal", "scale": dashes, "legend": legend},
    }
