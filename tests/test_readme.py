"""The README's parameter table says what params.yaml says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def parameter_rows(params: str) -> list[str]:
    """A Markdown row for each key of params.yaml: key, value, comment."""
    rows, section = [], ""
    for line in params.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section = heading[1]
        elif key := re.fullmatch(r"  (\w+): (.+?)(?:\s+# (.*))?", line):
            comment = (key[3] or "").replace("|", "\\|")
            rows.append(f"| `{section}.{key[1]}` | `{key[2]}` | {comment} |")
    return rows


def test_every_parameter_stands_in_the_table_with_its_value_and_comment() -> None:
    rows = parameter_rows((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert len(rows) > 30
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [row for row in rows if row not in readme]
    assert not missing, "put these rows into the README:\n" + "\n".join(missing)


def test_every_file_that_the_readme_names_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made_by_the_pipeline = ("data/", "models/", "metrics/", "plots/")
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", readme):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:stages|tools|tests|benchmarks)/[\w/.]+)`", readme):
        assert (ROOT / path).exists() or path.startswith(made_by_the_pipeline), path
