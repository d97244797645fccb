"""Progress reports to the sweep that started a training; without a sweep, nothing is written.

The file is outside everything that DVC tracks and is never read here: results do not depend on it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

REPORT_VARIABLE = "SWEEP_REPORT"  # environment variable with the path of the file


def report_progress(values: dict[str, Any]) -> None:
    """Append a JSON object as a line to the file that the sweep reads."""
    path = os.environ.get(REPORT_VARIABLE)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:  # pruning needs the reports, the training does not
        print(f"warning: could not report progress to the sweep ({error})", flush=True)
