"""The one exception for a user's mistake, and how a command shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: the message says where, what was found, what was expected, what to do."""


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; show a `UserError` as one message on stderr and exit with 1, without a traceback."""
    try:
        main()
    except UserError as error:
        sys.exit(f"\nerror: {error}")
