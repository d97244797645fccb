"""What a job says to people, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ci_job import Job
from comparison_table import name as safe
from comparison_table import number, table
from gate import Verdict
from gate import table as gate_table
from git_commands import git_or_none

NUMBERS = ("AP", "AP50", "AP75", "F1", "precision", "recall", "state_macro_F1", "joint_AP", "calibration_error")
EVALUATE, SPLIT, PREPROCESS = "metrics/evaluate.json", "metrics/split.json", "metrics/preprocess.json"
PICTURES = Path("plots/evaluate")
REPORT = Path("plots/report.html")


def result(job: Job, base: str, verdict: Verdict, stages: list[str], landed: str | None, start: str) -> str:
    """The comment after a run that came to its end. landed: the commit with the result, None when there is none."""
    parts = [
        f"## Retrained: {headline(verdict, landed)}",
        "Other results than in this commit: " + ", ".join(stages)
        if stages
        else "Nothing changed: dvc.lock was up to date.",
        gate_table(verdict),
        numbers(base),
        data(base),
        pictures(job, landed or start) if verdict.passed else "",
        links(job),
    ]
    if verdict.comparison is not None:
        parts.append(f"<details><summary>By class and image</summary>\n\n{table(verdict.comparison)}\n\n</details>")
    return "\n\n".join(filter(None, parts))


def headline(verdict: Verdict, landed: str | None) -> str:
    """The outcome in a few words."""
    if not verdict.passed:
        return "it may not land"
    return "passed, as committed" if landed is None else f"passed, committed as {landed[:10]}"


def failure(job: Job, message: str) -> str:
    """The comment after a run that broke off."""
    return "\n\n".join(filter(None, ["## Retrained: it broke off", f"```\n{message.strip()}\n```", links(job)]))


def numbers(base: str) -> str:
    """The metrics of both sides, each on its own test images, with the 95% intervals."""
    old, new = metrics_at(base, EVALUATE), metrics_at(None, EVALUATE)
    rows = [f"| {name} | {with_interval(old, name)} | {with_interval(new, name)} |"
            for name in NUMBERS if name in old or name in new]  # fmt: skip
    return (
        "\n".join([f"| on test, with 95% intervals | `{base}` | here |", "| --- | --- | --- |", *rows]) if rows else ""
    )


def data(base: str) -> str:
    """How many images and boxes there were, and are."""
    sides = [(metrics_at(place, SPLIT), metrics_at(place, PREPROCESS)) for place in (base, None)]
    told = []
    for split, preprocess in sides:
        images = split.get("images")
        if not isinstance(images, dict) or not isinstance(preprocess.get("boxes"), int):
            return ""
        dealt = ", ".join(f"{count:,} {name}" for name, count in images.items())
        told.append(f"{sum(images.values()):,} images ({dealt}), {preprocess['boxes']:,} boxes")
    return f"Data: {told[1]}" + (f"; before: {told[0]}." if told[0] != told[1] else ", as before.")


def pictures(job: Job, commit: str) -> str:
    """The plots that git holds, as they are in a commit."""
    found = sorted(PICTURES.glob("*.png"))
    if not job.files or not found:
        return ""
    shown = "\n".join(f"![{path.stem}]({job.files}/{commit}/{path.as_posix()})" for path in found)
    return f"<details><summary>Plots</summary>\n\n{shown}\n\n</details>"


def links(job: Job) -> str:
    """Where the report is."""
    if not job.page:
        return ""
    report = f"; {REPORT} is among its artifacts" if REPORT.exists() else ""
    return f"[This run]({job.page}){report}."


def metrics_at(revision: str | None, path: str) -> dict[str, Any]:
    """A metrics file of a revision, None: of the workspace; empty when it has none that can be read."""
    if revision is None:
        text = Path(path).read_text(encoding="utf-8") if Path(path).exists() else None
    else:
        text = git_or_none("show", f"{revision}:{path}")
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def with_interval(metrics: dict[str, Any], name: str) -> str:
    """`0.768 (0.741 to 0.793)`."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    span = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return safe(number(metrics.get(name)) + span)
