"""Trying what may be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from detector.core.errors import UserError

Result = TypeVar("Result")


def attempt(work: Callable[[], Result]) -> tuple[Result | None, str]:
    """The result and "", or None and the message of the error for the user; any other exception passes."""
    try:
        return work(), ""
    except UserError as error:
        return None, str(error)
