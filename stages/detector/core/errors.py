"""The exception for user errors, and how a command reports it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """An error that the user can fix: the message says where it is, what was found and expected, and what to do."""


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; report a user error as one message on stderr, without a traceback, and exit with 1.

    A user error is a `UserError` or a missing file that an earlier stage should have written.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f"\nerror: {error}")
    except FileNotFoundError as error:
        sys.exit(f"\nerror: {error.filename} is missing; `dvc repro` runs the stages in order")
