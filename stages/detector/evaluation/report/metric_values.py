"""The metric values that the page shows, and how numbers are formatted."""

from __future__ import annotations

from typing import Any, NamedTuple

import jinja2

from detector.evaluation.metric_names import HEADLINE_METRICS, METRICS, interval_names

MISSING = "—"


class MetricValue(NamedTuple):
    """A metric's value and the bounds of its 95% confidence interval; None where it cannot be computed."""

    name: str
    title: str
    meaning: str
    value: Any
    low: float | None
    high: float | None


def list_headline_metrics(metrics: dict[str, Any]) -> list[MetricValue]:
    """The headline metrics of metrics/evaluate.json; those of states only where it has them."""
    return [
        _read_metric(metrics, name) for name in HEADLINE_METRICS if name in metrics or not METRICS[name].needs_states
    ]


def list_other_metrics(metrics: dict[str, Any]) -> list[MetricValue]:
    """All other metrics of metrics/evaluate.json."""
    bounds = {bound for name in metrics for bound in interval_names(name)}
    return [
        _read_metric(metrics, name)
        for name, value in metrics.items()
        if name not in bounds.union(HEADLINE_METRICS) and not isinstance(value, dict)
    ]


def _read_metric(metrics: dict[str, Any], name: str) -> MetricValue:
    low, high = interval_names(name)
    known = METRICS.get(name)
    title, meaning = (known.title, known.meaning) if known else (name, "")
    if known and known.better == "lower":
        meaning += "; lower is better"
    return MetricValue(name, title, meaning, metrics.get(name), metrics.get(low), metrics.get(high))


def format_number(value: Any, digits: int = 3) -> str:
    """A number for the page; a dash for None and for what is undefined."""
    if value is None or isinstance(value, jinja2.Undefined):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:.{digits}f}"
