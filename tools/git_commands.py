"""Runs git commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from detector.core.errors import UserError


def git(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a git command without the trailing newline. Raises UserError with git's message if it fails.

    environment: additional environment variables.
    """
    result = _run_git(arguments, environment)
    if result.returncode:
        raise UserError(f"`git {arguments[0]}` failed: {result.stderr.strip()}")
    return result.stdout.removesuffix("\n")


def git_or_none(*arguments: str) -> str | None:
    """As `git`, but None if the command fails."""
    result = _run_git(arguments, None)
    return None if result.returncode else result.stdout.removesuffix("\n")


def _run_git(arguments: tuple[str, ...], environment: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
