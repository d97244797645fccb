"""What the steps of a CI job tell each other. Each is a process of its own, because only some may have the secrets."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ci_pipeline import LOCAL_CONFIG
from detector.core.errors import UserError
from detector.core.output_files import write_text

SECRETS = ("GITHUB_TOKEN", "GITLAB_TOKEN", "DVC_CONFIG_LOCAL")  # environment variables
STEPS = ("fetch", "run", "publish")


class Progress(NamedTuple):
    """Of a job on `commit`. done: whether the stages have run.

    skip: why there is nothing to do, or "". error: why a step failed, or "".
    """

    commit: str
    done: bool = False
    skip: str = ""
    error: str = ""

    def check_done(self) -> None:
        """Raise UserError if a step before `publish` failed."""
        if not self.done:
            raise UserError(self.error or "a step before this one was stopped; its output says why")


def in_ci() -> bool:
    """Whether this is a job on GitHub or GitLab, which both set CI."""
    return os.environ.get("CI") == "true"


def parse_steps(description: str) -> tuple[str, ...]:
    """The steps to run, from the command line; in CI exactly one. argparse exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", metavar="STEP", nargs="?", choices=STEPS, help=f"{', '.join(STEPS)}; default: all")
    step = parser.parse_args().step
    if step is None and in_ci():
        parser.error("in CI, name one step: the stages must not run in a process that has secrets")
    return STEPS if step is None else (step,)


def write_progress(path: Path, progress: Progress) -> None:
    """Write the progress for the next step."""
    write_text(path, json.dumps(progress._asdict()) + "\n")


def read_progress(path: Path, commit: str) -> Progress:
    """The progress of the job on `commit`. Raises UserError if no step of such a job has run here."""
    try:
        progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} cannot be read: run the step `fetch` first") from None
    if progress.commit != commit:
        raise UserError(f"{path} is about commit {progress.commit[:10]}: run the step `fetch` on {commit[:10]} first")
    return progress


def run_stages(path: Path, progress: Progress, run: Callable[[], object]) -> None:
    """The step `run`: call `run` without secrets and write the progress. Raises UserError."""
    check_no_secrets()
    try:
        run()
        progress = progress._replace(done=True)
    except UserError as error:
        progress = progress._replace(error=str(error))
        raise
    finally:
        write_progress(path, progress)


def check_no_secrets() -> None:
    """Raise UserError if this process, and so a stage that it runs, has a secret in CI."""
    if not in_ci():
        return
    found = [name for name in SECRETS if os.environ.get(name)] + [str(LOCAL_CONFIG)] * LOCAL_CONFIG.exists()
    if found:
        raise UserError(f"the step `run` must not have {', '.join(found)}: give secrets to the other steps only")
