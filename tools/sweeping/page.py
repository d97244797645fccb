"""The report as one HTML file, pictures included."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeping.results import Outcome


def write_page(path: Path, outcome: Outcome, judged: dict[str, Any], pictures: dict[str, Path]) -> None:
    """report.html; `pictures`: title -> PNG."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["number"] = number
    encoded = {title: base64.b64encode(file.read_bytes()).decode() for title, file in pictures.items()}
    text = environment.get_template("page.html").render(
        name=outcome.plan.sweep.name, summary=summary(outcome), best=outcome.best, test=judged["test"],
        lines=lines(outcome, judged), pictures=encoded, rows=outcome.rows,
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")


def number(value: Any) -> str:
    """Four digits of a float, nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(outcome: Outcome) -> str:
    """What ran."""
    counts = ", ".join(f"{count} {what}" for what, count in outcome.counts.items() if count)
    minutes = sum(row["seconds"] or 0 for row in outcome.rows) / 60
    return f"{counts}; {minutes:.1f} minutes of trials, on commit {outcome.commit[:10]}."


def lines(outcome: Outcome, judged: dict[str, Any]) -> list[str]:
    """What the best trial reached, a line each."""
    found = []
    default = judged["default"] or {}
    for objective, value in zip(outcome.plan.objectives, outcome.best.values, strict=True):
        beside = f", with the default {default[objective.key]:.4f}" if objective.key in default else ""
        found.append(f"{objective.file}:{objective.key} is {value:.4f}{beside}")
    interval = judged["interval"]
    if interval["low"] is not None:
        found.append(
            f"{interval['of']}: {interval['value']:.4f}, 95% interval {interval['low']:.4f} to {interval['high']:.4f}"
        )
    if len(outcome.best.user_attrs["by_seed"]) > 1:
        seeds = ", ".join(f"{values[0]:.4f}" for values in outcome.best.user_attrs["by_seed"])
        found.append(f"by seed: {seeds}")
    if outcome.importances.shares:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in outcome.importances.shares.items())
        found.append(f"differences in {outcome.importances.of_what} come from: {shares}")
    return found
