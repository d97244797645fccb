"""metrics/evaluate/label_issues.csv: the suspected label errors as a table.

A line with a `decision` appended is a line of data/decisions.csv.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from detector.core.output_files import replace_file
from detector.core.text_output import format_cell
from detector.evaluation.label_issues import LabelIssue

COLUMNS = (
    "split",
    "file",
    "kind",
    "score",
    "class",
    "state",
    "left",
    "top",
    "width",
    "height",
    "annotation",
    "suggestion",
    "reason",
    "content",
)


def format_issue_rows(issues: Iterable[LabelIssue]) -> list[dict[str, str]]:
    """By COLUMNS, in the order given; an annotation of 0 is left empty."""
    rows = []
    for issue in issues:
        left, top, width, height = (f"{value:.12g}" for value in issue.bbox)
        rows.append(
            {
                "split": issue.split,
                "file": issue.file,
                "kind": issue.kind,
                "score": f"{issue.score:.5f}",
                "class": issue.label,
                "state": issue.state,
                "left": left,
                "top": top,
                "width": width,
                "height": height,
                "annotation": str(issue.annotation) if issue.annotation else "",
                "suggestion": issue.suggestion,
                "reason": issue.reason,
                "content": issue.content,
            }
        )
    return rows


def write_issue_table(path: Path, issues: Iterable[LabelIssue]) -> None:
    """A CSV file with COLUMNS, one issue per line."""
    with replace_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        rows = format_issue_rows(issues)
        writer.writerows({name: format_cell(value) for name, value in row.items()} for row in rows)
