"""The one exception for a user's mistake, and how a command shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: the message says where, what was found, what was expected, what to do."""


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; show a user's mistake as one message on stderr and exit with 1, without a traceback.

    That is a `UserError`, or a file that an earlier stage should have made.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f"\nerror: {error}")
    except FileNotFoundError as error:
        sys.exit(f"\nerror: {error.filename} is missing; `dvc repro` runs the stages in their order")
