"""How far our models are from their references: the differences that the tests record, as one Markdown table.

python -m benchmarks.reference_equality        (two minutes; the tests' networks have random weights)
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

from benchmarks.table import format_head, format_row
from detector.core.errors import UserError, run_command
from detector.models import MODELS

ROOT = Path(__file__).parents[1]
TESTS = ("tests/models/test_reference_outputs.py", "tests/models/test_query_detector.py")
CHOSEN = "reference or is_loaded or skipped or equal_torchvisions or normalization"
COLUMNS = ("tensors", "features", "boxes", "scores", "losses", "normalization")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.xml"
        options = ("-o", "junit_family=xunit1", "--junitxml", str(path), "-m", "", "-k", CHOSEN)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS, *options], cwd=ROOT, check=False, stdout=sys.stderr
        )
        if done.returncode:
            raise UserError("the tests above have failed")
        figures = read_figures(path)
    print(format_head(("model", *COLUMNS)))
    for name in MODELS:
        print(format_row((f"`{name}`", *(figures[name].get(column, "") for column in COLUMNS))))


def read_figures(path: Path) -> dict[str, dict[str, str]]:
    """The recorded properties of each model, from pytest's report."""
    figures: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(path).iter("testcase"):
        if found := re.search(r"\[(\w+?)(?:-load_\w+-\w+)?\]$", case.get("name", "")):
            for entry in case.iter("property"):
                figures[found[1]][entry.get("name", "")] = entry.get("value", "")
    return figures


if __name__ == "__main__":
    run_command(main)
