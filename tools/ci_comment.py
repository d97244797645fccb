"""The comments that CI posts, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ci_job import CIJob
from comparison_table import escape_cell, format_number, render_comparison
from detector.core.errors import UserError
from detector.evaluation.metric_names import COMMENT_METRICS, interval_names
from gate import GateResult, render_gate
from revisions import open_files

EVALUATE, SPLIT, PREPROCESS = (f"metrics/{stage}/details.json" for stage in ("evaluate", "split", "preprocess"))
PLOTS = Path("plots/evaluate")
REPORT = Path("plots/report.html")


def render_result(
    job: CIJob, gate_result: GateResult, *, base: str, stages: list[str], committed: str | None, start: str
) -> str:
    """The comment after a completed run.

    base: the revision that the result is compared with. stages: those with a new result. committed: the commit with
    the result, None if there is none. start: the commit that the run started from.
    """
    parts = [
        f"## Retraining: {describe_outcome(gate_result, committed)}",
        f"Stages with new results: {', '.join(stages)}" if stages else "Nothing changed: dvc.lock was up to date.",
        render_gate(gate_result),
        render_metrics(base),
        render_data(base),
        render_plots(job, committed or start) if gate_result.passed else "",
        render_links(job),
    ]
    if gate_result.comparison is not None:
        comparison = render_comparison(gate_result.comparison)
        parts.append(f"<details><summary>Comparison per class and image</summary>\n\n{comparison}\n\n</details>")
    return "\n\n".join(filter(None, parts))


def describe_outcome(gate_result: GateResult, committed: str | None) -> str:
    """The outcome in a few words."""
    if not gate_result.passed:
        return "gate failed"
    return f"gate passed, {'nothing to commit' if committed is None else f'committed as {committed[:10]}'}"


def render_failure(job: CIJob, message: str) -> str:
    """The comment after a run that ended with an error."""
    parts = ["## Retraining failed with an error", f"```\n{message.strip()}\n```", render_links(job)]
    return "\n\n".join(filter(None, parts))


def render_metrics(base: str) -> str:
    """The metrics of both sides with 95% confidence intervals, each on its own test images."""
    old, new = (read_details(side, EVALUATE).get("metrics", {}) for side in (base, None))
    names = [name for name in COMMENT_METRICS if name in old or name in new]
    if not names:
        return ""
    rows = [f"| {name} | {format_interval(old, name)} | {format_interval(new, name)} |" for name in names]
    return "\n".join([f"| test metric (95% CI) | `{base}` | this run |", "| --- | --- | --- |", *rows])


def render_data(base: str) -> str:
    """The number of images and boxes, now and in the revision `base`."""
    sides = [(read_details(side, SPLIT), read_details(side, PREPROCESS)) for side in (base, None)]
    counts = []
    for split, preprocess in sides:
        images = split.get("images")
        if not isinstance(images, dict) or not isinstance(preprocess.get("boxes"), int):
            return ""
        by_split = ", ".join(f"{count:,} {name}" for name, count in images.items())
        counts.append(f"{sum(images.values()):,} images ({by_split}), {preprocess['boxes']:,} boxes")
    before, now = counts
    return f"Data: {now}" + (f"; before: {before}." if before != now else " (unchanged).")


def render_plots(job: CIJob, commit: str) -> str:
    """The plots that are tracked by git, as of a commit."""
    plots = sorted(PLOTS.glob("*.png"))
    if not job.files_url or not plots:
        return ""
    images = "\n".join(f"![{path.stem}]({job.files_url}/{commit}/{path.as_posix()})" for path in plots)
    return f"<details><summary>Plots</summary>\n\n{images}\n\n</details>"


def render_links(job: CIJob) -> str:
    """A link to the run."""
    if not job.run_url:
        return ""
    report = f" ({REPORT} is in its artifacts)" if REPORT.exists() else ""
    return f"[This run]({job.run_url}){report}."


def read_details(revision: str | None, path: str) -> dict[str, Any]:
    """A stage's details in a revision (None: the workspace); empty if it has none, or not a JSON object.

    Those of a revision come from DVC's cache or remote, like its predictions.
    """
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    try:
        if revision is None:
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = open_files(revision).read_text(path, encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError, UserError, DvcException, DataIndexError):
        return {}
    return content if isinstance(content, dict) else {}


def format_interval(metrics: dict[str, Any], name: str) -> str:
    """A metric with its 95% confidence interval, such as `0.768 (0.741 to 0.793)`, for a table cell."""
    low, high = (metrics.get(bound) for bound in interval_names(name))
    interval = "" if low is None or high is None else f" ({format_number(low)} to {format_number(high)})"
    return escape_cell(format_number(metrics.get(name)) + interval)
