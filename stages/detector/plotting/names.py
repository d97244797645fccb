"""Names in plots and pictures."""

from __future__ import annotations

import re

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # a chart with one aborts its process


def shorten_name(name: str, length: int = 32) -> str:
    """The name on one line, its middle left out if it is longer than `length`: class names may have any length."""
    name = _NOT_XML.sub("\ufffd", " ".join(name.split()))
    return name if len(name) <= length else f"{name[: length // 2]}…{name[len(name) - (length - 1) // 2 :]}"
