"""What the charts have in common. Colors such as var(--soft) are the page's, for dark and light mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CHART_COLORS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8a00", "#777777"]
DASH_PATTERNS = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 2], [6, 2, 1, 2]]
MAX_SERIES = len(CHART_COLORS)  # more cannot be told apart
MAX_POINTS = 200  # per curve


def build_spec(**content: Any) -> dict[str, Any]:
    """A chart as wide as its place in the page."""
    return {"width": "container", "height": 240, "autosize": {"type": "fit-x", "contains": "padding"}, **content}


def unit_axis(field: str, title: str, **more: Any) -> dict[str, Any]:
    """An axis from 0 to 1."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1]}, **more}


def tooltip_number(field: str, title: str, format: str | None = None) -> dict[str, Any]:
    """A line of a tooltip."""
    tooltip = {"field": field, "type": "quantitative", "title": title}
    return tooltip if format is None else {**tooltip, "format": format}


def encode_series(field: str, names: list[str]) -> dict[str, Any]:
    """One color and one dash pattern per name, of which there are at most MAX_SERIES."""
    scale = {"domain": names, "range": CHART_COLORS}
    dashes = {"domain": names, "range": DASH_PATTERNS}
    legend = {"orient": "bottom", "title": None} if len(names) > 1 else None
    return {
        "color": {"field": field, "type": "nominal", "scale": scale, "legend": legend},
        "strokeDash": {"field": field, "type": "nominal", "scale": dashes, "legend": legend},
    }


def subsample(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most MAX_POINTS evenly spaced points, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return list(points)
    return [points[index] for index in np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]
