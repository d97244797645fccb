"""Run the pipeline from scratch and check that it reproduces the committed results. CI runs this on a schedule.

    python tools/reproduce.py          # all steps
    python tools/reproduce.py fetch    # pull the raw images from DVC's remote
    python tools/reproduce.py run      # run all stages; needs no secret, and in CI refuses to have one
    python tools/reproduce.py publish  # compare, and open or close an issue

Needs a clean checkout and leaves the new results in it. The results are reproduced if every file is byte-identical or,
as on another CPU or GPU, if the committed AP, AP50, AP75 and F1 are within the new 95% confidence intervals. If not, an
issue is opened or updated; once they are reproduced again, it is closed.

Exit code: 0 reproduced, 1 not reproduced (or an error that you can fix), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ci_comment
import ci_pipeline
from ci_commit import RESULTS
from ci_job import CIJob, read_job
from ci_steps import Progress, parse_steps, read_progress, run_stages, write_progress
from comparison_inputs import METRICS_FILE
from detector.core.errors import UserError, run_command
from detector.evaluation.metric_names import COMPARED_METRICS, interval_names
from dvc_commands import list_outdated_stages
from git_commands import git
from revisions import read_git_file

PROGRESS = Path("logs/reproduce.json")
MARKER = "<!-- reproducing: this issue is kept up to date -->"
TITLE = "The committed results are not reproducible"


def main() -> None:
    steps = parse_steps(__doc__ or "")
    head = git("rev-parse", "HEAD")
    for step in steps:
        if step == "fetch":
            fetch(head)
        elif step == "run":
            run(head)
        else:
            sys.exit(publish(read_job(os.environ, ""), head))


def fetch(head: str) -> None:
    """The step `fetch`. Raises UserError."""
    if list_changed_results():
        results = ", ".join(RESULTS)
        raise UserError(f"there are uncommitted changes in {results}: commit or `git checkout` them first")
    progress = Progress(head)
    try:
        with ci_pipeline.configure_remote():
            outdated = list_outdated_stages()
            if outdated:
                stages = ", ".join(outdated)
                raise UserError(f"dvc.lock is outdated (stages: {stages}): the last retraining was not committed")
            ci_pipeline.pull_dataset()
    except UserError as error:
        progress = progress._replace(error=str(error))
        raise
    finally:
        write_progress(PROGRESS, progress)


def run(head: str) -> None:
    """The step `run`. Raises UserError."""
    progress = read_progress(PROGRESS, head)
    if not progress.error:
        run_stages(PROGRESS, progress, ci_pipeline.rerun_from_scratch)


def publish(job: CIJob, head: str) -> int:
    """The step `publish`; returns the exit code. Raises UserError."""
    progress = read_progress(PROGRESS, head)
    try:
        progress.check_done()
    except UserError as error:
        report_failure(job, f"The pipeline failed:\n\n```\n{error}\n```")
        raise
    changed, outside = list_changed_results(), list_metrics_outside_intervals()
    if outside:
        report_failure(job, render_differences(changed, outside))
        return 1
    if changed:
        print(f"Reproduced: {len(changed)} files differ, but the committed metrics are within the new intervals.")
    else:
        print("Reproduced: all files are byte-identical.")
    if job.forge is not None and job.forge.close_issue(MARKER):
        print("Closed the open issue.")
    return 0


def list_changed_results() -> list[str]:
    """The results that differ from the checked-out commit."""
    options = ("-c", "status.relativePaths=true", "status", "--short", "--untracked-files=all")
    return [line[3:] for line in git(*options, "--", *RESULTS).splitlines()]


def list_metrics_outside_intervals() -> list[str]:
    """One Markdown row per metric whose committed value is outside the new interval or missing."""
    old = parse_metrics(read_git_file("HEAD", METRICS_FILE))
    new = ci_comment.read_details(None, ci_comment.EVALUATE).get("metrics", {})
    return [
        f"| {name} | {ci_comment.format_interval(old, name)} | {ci_comment.format_interval(new, name)} |"
        for name in COMPARED_METRICS
        if not is_within_interval(old, new, name)
    ]


def parse_metrics(text: str | None) -> dict[str, Any]:
    """The content of a metrics file; empty if it is missing or not a JSON object."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def is_within_interval(old: dict[str, Any], new: dict[str, Any], name: str) -> bool:
    """Whether the old value is within the new one's interval; without an interval, whether both are equal."""
    low, high = (new.get(bound) for bound in interval_names(name))
    value = old.get(name)
    if low is None or high is None or value is None:
        return bool(new.get(name) == value)
    return bool(low <= value <= high)


def render_differences(files: list[str], rows: list[str]) -> str:
    """The issue's text: the metrics' table rows and the files that differ."""
    listed = [f"- `{file}`" for file in files[:20]]
    if len(files) > 20:
        listed.append(f"- and {len(files) - 20} more")
    return "\n".join(
        ["| metric | committed | now |", "| --- | --- | --- |", *rows, "", "Files that differ:", "", *listed]
    )


def report_failure(job: CIJob, text: str) -> None:
    """Write the text to the console and to the forge's issue."""
    commit = git("rev-parse", "HEAD")
    text = "\n\n".join(filter(None, [f"Commit {commit}:", text, ci_comment.render_links(job)]))
    print(f"\n{TITLE}\n\n{text}\n")
    if job.forge is not None:
        job.forge.update_issue(MARKER, TITLE, text)


if __name__ == "__main__":
    run_command(main)
