"""Retrain after a push, check the result with the gate, report it, and commit it. CI runs this; a person can too.

    python tools/retrain.py          # all steps
    python tools/retrain.py fetch    # pull what the outdated stages need from DVC's remote
    python tools/retrain.py run      # run them; needs no secret, and in CI refuses to have one
    python tools/retrain.py publish  # run the gate (tools/gate.py), push and commit the result if it passed, report

On GitHub and GitLab the environment describes the push; elsewhere the checked-out branch is used. The commit holds
dvc.lock, split.lock, metrics/ and plots/ and goes to the same branch. On a pull request, one comment is created or
updated. The same text is written to logs/retrain.md. See docs/ci.md.

Nothing runs for pull requests from forks. Nothing is committed on top of a newer commit that changes data, code or
parameters: that commit has its own run.

Exit code: 0 committed or nothing to do, 1 the gate failed (or an error that you can fix), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ci_comment
import ci_pipeline
from ci_commit import Checkout, NewerInputs, read_remote_url
from ci_job import CIJob, git_auth_environment, read_job
from ci_steps import Progress, parse_steps, read_progress, run_stages, write_progress
from detector.core.errors import UserError, run_command
from detector.core.output_files import write_text
from gate import GateResult, evaluate_gate
from git_commands import git, git_or_none

COMMENT_FILE = Path("logs/retrain.md")
PROGRESS = Path("logs/retrain.json")
MARKER = "<!-- retraining: this comment is kept up to date -->"
STATUS = "retraining"


def main() -> None:
    steps = parse_steps(__doc__ or "")
    head = git("rev-parse", "HEAD")
    job = read_job(os.environ, git("branch", "--show-current"))
    url = read_remote_url("origin")
    checkout = Checkout(url, job.branch, head, git_auth_environment(job.credentials, url), job.push_options)
    for step in steps:
        if step == "fetch":
            fetch(job, checkout)
        elif step == "run":
            run(checkout)
        else:
            sys.exit(publish(job, checkout))


def fetch(job: CIJob, checkout: Checkout) -> None:
    """The step `fetch`. Raises UserError."""
    progress = Progress(checkout.start)
    try:
        skip = find_skip_reason(job)
        if not skip:
            checkout.check_for_newer_inputs()
            with ci_pipeline.configure_remote():
                ci_pipeline.fetch_inputs()
        progress = progress._replace(skip=skip)
    except NewerInputs as error:
        progress = progress._replace(skip=describe_newer(error))
    except UserError as error:
        progress = progress._replace(error=str(error))
        raise
    finally:
        write_progress(PROGRESS, progress)
    if progress.skip:
        print(progress.skip)


def find_skip_reason(job: CIJob) -> str:
    """Why there is nothing to do, "" if there is something. Raises UserError if the result could not be committed."""
    if job.from_fork:
        return "Skipped: a pull request from a fork gets no secrets. To retrain it, push its branch to this repository."
    if git("status", "--porcelain", "--untracked-files=no", "--", "."):
        raise UserError("there are uncommitted changes, so the result would not belong to any commit: commit them")
    if not job.branch:
        raise UserError("no branch is checked out to commit the result to: run `git switch BRANCH` first")
    return ""


def run(checkout: Checkout) -> None:
    """The step `run`. Raises UserError."""
    progress = read_progress(PROGRESS, checkout.start)
    if not (progress.skip or progress.error):
        run_stages(PROGRESS, progress, ci_pipeline.run_outdated)


def publish(job: CIJob, checkout: Checkout) -> int:
    """The step `publish`; returns the exit code. Raises UserError."""
    progress = read_progress(PROGRESS, checkout.start)
    if progress.skip:
        return 0
    try:
        progress.check_done()
        return 0 if publish_result(job, checkout) else 1
    except NewerInputs as error:
        print(describe_newer(error))
        return 0
    except UserError as error:
        report(job, ci_comment.render_failure(job, str(error)), checkout.start, passed=False)
        raise


def describe_newer(error: NewerInputs) -> str:
    """Why the run ends without a result."""
    return f"Skipped, because the newer commit has its own run: {error}."


def publish_result(job: CIJob, checkout: Checkout) -> bool:
    """Check, push, commit and report; returns whether the gate passed. Raises NewerInputs and UserError."""
    checkout.check_for_newer_inputs()
    base = resolve_base(job, checkout)
    with ci_pipeline.configure_remote():
        gate_result = evaluate_gate(base)
        if gate_result.passed:
            ci_pipeline.push_outputs()  # before the commit, so that all that dvc.lock names is available
    stages = ci_pipeline.list_changed_stages()
    committed = checkout.commit_and_push(format_commit_message(job, gate_result)) if gate_result.passed else None
    if committed is None:
        checkout.check_for_newer_inputs()  # do not overwrite a newer run's comment
    text = ci_comment.render_result(
        job, gate_result, base=base, stages=stages, committed=committed, start=checkout.start
    )
    report(job, text, committed or checkout.start, gate_result.passed)
    return gate_result.passed


def resolve_base(job: CIJob, checkout: Checkout) -> str:
    """The revision to compare with: a pull request's target branch, or the commit before the push."""
    if job.base.startswith("origin/"):
        checkout.fetch(job.base.removeprefix("origin/"))
        return job.base
    # After a force push, the previous commit is not in this clone.
    known = job.base and git_or_none("cat-file", "-e", f"{job.base}^{{commit}}") is not None
    return git("rev-parse", "--short", job.base if known else "HEAD")


def format_commit_message(job: CIJob, gate_result: GateResult) -> str:
    """The commit message. On a pull request without [skip ci], which a squash would carry to main."""
    checks = "\n".join(f"{check.name}: {check.result}" for check in gate_result.checks)
    return f"Retrain{'' if job.pull_request else ' [skip ci]'}\n\n{checks}"


def report(job: CIJob, text: str, commit: str, passed: bool) -> None:
    """Write the text to the console, a file and the forge."""
    print(f"\n{text}\n")
    write_text(COMMENT_FILE, text + "\n")
    if job.summary_file is not None:
        with job.summary_file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    if job.forge is None:
        return
    if job.pull_request is not None:
        job.forge.update_comment(job.pull_request, MARKER, text)
    job.forge.set_status(commit, STATUS, passed, job.run_url)


if __name__ == "__main__":
    run_command(main)
