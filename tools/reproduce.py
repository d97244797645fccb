"""Run everything anew and say whether the committed results come out again. CI calls this on a schedule.

    python tools/reproduce.py

Needs a clean checkout, and leaves the new results in it. They reproduce when every file is the same to the byte, or,
as on another CPU or GPU, when AP, AP50, AP75 and F1 lie within the committed 95% intervals. When they do not, one issue
is opened or brought up to date; when they do again, it is closed; otherwise nobody hears of it.

Exit code: 0 they reproduce, 1 they do not (or something you can mend).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ci_comment
import ci_pipeline
from ci_job import Job, job_of
from ci_landing import RESULTS
from detector.comparison.comparison import METRICS
from detector.core.errors import UserError, run_command
from git_commands import git

MARKER = "<!-- reproducing: this issue is kept up to date -->"
TITLE = "The committed results do not reproduce"


def main() -> None:
    job = job_of(os.environ, "")
    if changes():
        raise UserError(f"there are changes in {', '.join(RESULTS)}: this compares with what is committed; commit or "
                        "`git checkout` them first")  # fmt: skip
    try:
        with ci_pipeline.remote_settings():
            stale = ci_pipeline.would_run()
            if not stale:
                ci_pipeline.rerun()
    except UserError as error:
        report(job, f"The pipeline broke off:\n\n```\n{error}\n```")
        raise
    if stale:
        report(
            job,
            "dvc.lock is older than what is committed with it: `dvc repro` would begin with "
            f"{', '.join(stale)}. The retraining that should have brought it up to date did not land.",
        )
        sys.exit(1)
    differing, outside = changes(), metrics_outside()
    if outside:
        report(job, differences(differing, outside))
        sys.exit(1)
    print("Every file is the same to the byte." if not differing else
          f"{len(differing)} files differ, and the metrics lie within the committed intervals.")  # fmt: skip
    if job.forge is not None and job.forge.settle(MARKER):
        print("The open issue is closed.")


def changes() -> list[str]:
    """The results that differ from the commit that is checked out."""
    lines = git("status", "--porcelain", "--untracked-files=all", "--", *RESULTS).splitlines()
    return [line[3:] for line in lines]


def metrics_outside() -> list[str]:
    """A Markdown row for each metric that does not lie within its committed interval, or is no longer there."""
    old, new = ci_comment.metrics_at("HEAD", ci_comment.EVALUATE), ci_comment.metrics_at(None, ci_comment.EVALUATE)
    return [
        f"| {name} | {ci_comment.with_interval(old, name)} | {ci_comment.with_interval(new, name)} |"
        for name in METRICS
        if not within(old, new, name)
    ]


def within(old: dict[str, Any], new: dict[str, Any], name: str) -> bool:
    """Whether the new number lies in the old one's interval; without an interval, whether it is the same."""
    low, high, now = old.get(f"{name}_low"), old.get(f"{name}_high"), new.get(name)
    if low is None or high is None or now is None:
        return bool(old.get(name) == now)
    return bool(low <= now <= high)


def differences(files: list[str], rows: list[str]) -> str:
    """What the issue says of other results."""
    listed = "\n".join(f"- `{file}`" for file in files[:20])
    more = f"\n- and {len(files) - 20} more" if len(files) > 20 else ""
    return "\n".join(
        ["| | committed | now |", "| --- | --- | --- |", *rows, "", "Files that differ:", "", listed + more]
    )


def report(job: Job, text: str) -> None:
    """To the console, and to the forge as one issue."""
    commit = git("rev-parse", "HEAD")
    text = "\n\n".join(filter(None, [f"In {commit}:", text, ci_comment.links(job)]))
    print(f"\n{TITLE}\n\n{text}\n")
    if job.forge is not None:
        job.forge.report(MARKER, TITLE, text)


if __name__ == "__main__":
    run_command(main)
