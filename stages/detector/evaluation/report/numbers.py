"""How numbers are shown."""

from __future__ import annotations

from typing import Any, NamedTuple

import jinja2

NONE = "—"

# The large numbers: key of metrics/evaluate.json, title, what it says.
HEADLINES = (
    ("AP", "AP", "mean over IoU 0.50 to 0.95, as COCO does it"),
    ("AP50", "AP50", "at IoU 0.5"),
    ("AP75", "AP75", "at IoU 0.75"),
    ("precision", "Precision", "of what is found, the share that is right"),
    ("recall", "Recall", "of what is there, the share that is found"),
    ("F1", "F1", "of both, at the threshold"),
    ("state_macro_F1", "State F1", "mean over the states, given the boxes"),
    ("joint_AP", "Joint AP", "class, place and state must be right"),
    ("hallucination", "Hallucination", "share of absent objects that were “found”; lower is better"),
)
ONLY_WITH_STATES = {"state_macro_F1", "joint_AP", "hallucination"}


class Headline(NamedTuple):
    """A number with the ends of its 95% interval, 0..1; None where it cannot be computed."""

    key: str
    title: str
    says: str
    value: Any
    low: float | None
    high: float | None


def headlines(numbers: dict[str, Any]) -> list[Headline]:
    """The large numbers; those of states only where there are any."""
    return [
        Headline(key, title, says, numbers.get(key), numbers.get(f"{key}_low"), numbers.get(f"{key}_high"))
        for key, title, says in HEADLINES
        if key in numbers or key not in ONLY_WITH_STATES
    ]


def share(value: Any, digits: int = 3) -> str:
    """A number as people read it; a dash for None and for what is not there."""
    if value is None or isinstance(value, jinja2.Undefined):
        return NONE
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:.{digits}f}"
