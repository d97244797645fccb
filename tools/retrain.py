"""Retrain after a push, check the result with the gate, report it, and commit it. CI runs this; a person can too.

    python tools/retrain.py

On GitHub and GitLab the environment describes the push; elsewhere the checked-out branch is used. Steps: run what has
changed (`dvc repro --pull --allow-missing`), push DVC's cache, run the gate (tools/gate.py), and if it passes, push one
commit with dvc.lock, split.lock, metrics/ and plots/ to the same branch. On a pull request, one comment is created or
updated. The same text is written to logs/retrain.md. See docs/ci.md.

Nothing runs on retraining's own commits, nor for pull requests from forks. Nothing is committed on top of a newer
commit that changes data, code or parameters: that commit has its own run.

Exit code: 0 committed or nothing to do, 1 the gate failed (or an error that you can fix).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import ci_comment
import ci_pipeline
from ci_commit import Checkout, NewerInputs, is_retraining_commit, read_remote_url
from ci_job import CIJob, git_auth_environment, read_job
from detector.core.errors import UserError, run_command
from gate import GateResult, evaluate_gate
from git_commands import git, git_or_none

COMMENT_FILE = Path("logs/retrain.md")
MARKER = "<!-- retraining: this comment is kept up to date -->"
STATUS = "retraining"


def main() -> None:
    head = git("rev-parse", "HEAD")
    job = read_job(os.environ, git("branch", "--show-current"))
    reason = find_skip_reason(job, head)
    if reason:
        print(reason)
        return
    url = read_remote_url("origin")
    checkout = Checkout(url, job.branch, head, git_auth_environment(job.credentials, url), job.push_options)
    try:
        passed = run_retraining(job, checkout)
    except NewerInputs as error:
        print(f"Skipped, because the newer commit has its own run: {error}.")
        return
    except UserError as error:
        publish(job, ci_comment.render_failure(job, str(error)), head, passed=False)
        raise
    sys.exit(0 if passed else 1)


def find_skip_reason(job: CIJob, head: str) -> str:
    """Why there is nothing to do, "" if there is something. Raises UserError if the result could not be committed."""
    if job.from_fork:
        return "Skipped: a pull request from a fork gets no secrets. To retrain it, push its branch to this repository."
    if is_retraining_commit(head):
        return f"Nothing to do: {head[:10]} is retraining's own commit."
    if git("status", "--porcelain", "--untracked-files=no"):
        raise UserError("there are uncommitted changes, so the result would not belong to any commit: commit them")
    if not job.branch:
        raise UserError("no branch is checked out to commit the result to: run `git switch BRANCH` first")
    return ""


def run_retraining(job: CIJob, checkout: Checkout) -> bool:
    """Run all steps; returns whether the gate passed. Raises NewerInputs if a newer commit changes the inputs."""
    checkout.check_for_newer_inputs()
    base = resolve_base(job, checkout)
    with ci_pipeline.configure_remote():
        ci_pipeline.retrain()
        gate_result = evaluate_gate(base)
    stages = ci_pipeline.list_changed_stages()
    committed = checkout.commit_and_push(format_commit_message(job, gate_result)) if gate_result.passed else None
    if committed is None:
        checkout.check_for_newer_inputs()  # do not overwrite a newer run's comment
    text = ci_comment.render_result(
        job, gate_result, base=base, stages=stages, committed=committed, start=checkout.start
    )
    publish(job, text, committed or checkout.start, gate_result.passed)
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


def publish(job: CIJob, text: str, commit: str, passed: bool) -> None:
    """Write the text to the console, a file and the forge."""
    print(f"\n{text}\n")
    COMMENT_FILE.parent.mkdir(exist_ok=True)
    COMMENT_FILE.write_text(text + "\n", encoding="utf-8")
    if job.summary_file is not None:
        with job.summary_file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    if job.forge is None:
        return
    if job.pull_request is not None:
        job.forge.update_comment(job.pull_request, MARKER, text)
    job.forge.set_status(commit, STATUS, passed, job.run_url)


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()  # `--help` starts nothing
    run_command(main)
