"""Retrain after a push, judge the result, tell about it, and commit it. CI calls this; a person may too.

    python tools/retrain.py

On GitHub or GitLab the environment says what was pushed; elsewhere it is the branch that is checked out. The steps:
run what changed (`dvc repro --pull --allow-missing`), push DVC's cache, ask the gate (tools/gate.py), and if it
agrees push one commit with dvc.lock, split.lock, metrics/ and plots/ to the same branch. On a pull request one comment
is written or brought up to date. The text is in logs/retrain.md too. docs/ci.md has the whole story.

Nothing is done on a commit of its own, nor for a pull request from a fork; and nothing is brought in over a newer
commit that changes data, code or parameters: the run of that commit does it.

Exit code: 0 landed or nothing to do, 1 the gate said no (or something you can mend).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ci_comment
import ci_pipeline
from ci_job import Job, git_login, job_of
from ci_landing import Checkout, NewerInputs, address_of, is_own
from detector.core.errors import UserError, run_command
from gate import Verdict, judge
from git_commands import git, git_or_none

TEXT = Path("logs/retrain.md")
MARKER = "<!-- retraining: this comment is kept up to date -->"
STATUS = "retraining"


def main() -> None:
    head = git("rev-parse", "HEAD")
    job = job_of(os.environ, git("branch", "--show-current"))
    reason = reason_to_rest(job, head)
    if reason:
        print(reason)
        return
    address = address_of("origin")
    checkout = Checkout(address, job.branch, head, git_login(job.login, address), job.push_options)
    try:
        passed = run(job, checkout)
    except NewerInputs as newer:
        print(f"Left to the run of the newer commit: {newer}.")
        return
    except UserError as error:
        tell(job, ci_comment.failure(job, str(error)), head, passed=False)
        raise
    sys.exit(0 if passed else 1)


def reason_to_rest(job: Job, head: str) -> str:
    """Why there is nothing to do, "" when there is. Raises UserError when the result could go nowhere."""
    if job.fork:
        return "A pull request from a fork gets no secrets and cannot be retrained: push its branch to this repository."
    if is_own(head):
        return f"{head[:10]} is what retraining committed: nothing to do."
    if git("status", "--porcelain", "--untracked-files=no"):
        raise UserError(
            "there are changes that are not committed, so that the result would be of no commit: commit them"
        )
    if not job.branch:
        raise UserError("no branch is checked out, so that the result could go nowhere: `git switch BRANCH` first")
    return ""


def run(job: Job, checkout: Checkout) -> bool:
    """All steps; whether the gate agreed. Raises NewerInputs when another run's result is the one that counts."""
    checkout.check_newer()
    base = base_of(job, checkout)
    with ci_pipeline.remote_settings():
        ci_pipeline.retrain()
        verdict = judge(base)
    stages = ci_pipeline.changed_stages()
    landed = checkout.land(message(job, verdict)) if verdict.passed else None
    if landed is None:
        checkout.check_newer()  # a newer run's comment is not to be overwritten
    text = ci_comment.result(job, base, verdict, stages, landed, checkout.start)
    tell(job, text, landed or checkout.start, verdict.passed)
    return verdict.passed


def base_of(job: Job, checkout: Checkout) -> str:
    """What the result is compared with: the branch that a request goes to, or what was there before the push."""
    if job.base.startswith("origin/"):
        checkout.fetch(job.base.removeprefix("origin/"))
        return job.base
    # What a forced push threw away is not here.
    known = job.base and git_or_none("cat-file", "-e", f"{job.base}^{{commit}}") is not None
    return git("rev-parse", "--short", job.base if known else "HEAD")


def message(job: Job, verdict: Verdict) -> str:
    """Of the commit. A request's says nothing of CI: a squash would carry it along and silence the run on main."""
    checks = "\n".join(f"{check.name}: {check.found}" for check in verdict.checks)
    return f"Retrain{'' if job.request else ' [skip ci]'}\n\n{checks}"


def tell(job: Job, text: str, commit: str, passed: bool) -> None:
    """To the console, a file, and the forge."""
    print(f"\n{text}\n")
    TEXT.parent.mkdir(exist_ok=True)
    TEXT.write_text(text + "\n", encoding="utf-8")
    if job.summary is not None:
        with job.summary.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    if job.forge is None:
        return
    if job.request is not None:
        job.forge.comment(job.request, MARKER, text)
    job.forge.status(commit, STATUS, passed, job.page)


if __name__ == "__main__":
    run_command(main)
