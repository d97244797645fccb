"""Asking git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from detector.core.errors import UserError


def git(*arguments: str, extra: Mapping[str, str] | None = None) -> str:
    """What git printed, without the last line feed; extra: environment variables. Raises UserError with git's words."""
    done = _done(arguments, extra)
    if done.returncode:
        raise UserError(f"`git {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout.removesuffix("\n")


def git_or_none(*arguments: str) -> str | None:
    """The same; None when git says no."""
    done = _done(arguments, None)
    return None if done.returncode else done.stdout.removesuffix("\n")


def _done(arguments: tuple[str, ...], extra: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], env=os.environ | (extra or {}), capture_output=True, text=True, check=False
    )
