"""What a training tells the sweep that started it, while it runs; without a sweep, nothing.

The file lies outside of everything that DVC knows, and nothing of it comes back: results do not depend on it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

REPORT = "SWEEP_REPORT"  # the environment variable that names the file


def report(values: dict[str, Any]) -> None:
    """Add one JSON object as a line to the file that a sweep reads along."""
    path = os.environ.get(REPORT)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:  # the sweep cannot judge this training early, which is no reason to end it
        print(f"warning: the sweep is not told how this training goes ({error})", flush=True)
