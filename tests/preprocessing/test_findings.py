"""Kinds of findings, their counts, the CSV file and the console lines."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from detector.preprocessing.findings import (
    FINDING_COLUMNS,
    Finding,
    FindingKind,
    FindingLog,
    Severity,
    describe_counts,
    summarize_counts,
)


@pytest.fixture
def log() -> FindingLog:
    """Two findings of one kind, one of each other severity, and 1,200 unlisted notes."""
    log = FindingLog()
    log.listed += [
        Finding(FindingKind.BOX_CLIPPED, "a.jsonl:1", "1.jpg", 2, "bolt [0, 0, 9, 9]"),
        Finding(FindingKind.EMPTY_BOX, "a.jsonl:3", "3.jpg", 10),
        Finding(FindingKind.EMPTY_BOX, "a.jsonl:3", "3.jpg", 9),
        Finding(FindingKind.LOW_TRUST, "a.jsonl:2", "2.jpg", 1),
        Finding(FindingKind.EMPTY_FILE, "a.jsonl:4", "4, the last.jpg"),
    ]
    log.unlisted[FindingKind.IGNORED_KEYPOINTS] += 1200
    return log


def test_keys_are_plain_and_texts_are_unique() -> None:
    for kind in FindingKind:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.key)
        assert isinstance(kind.severity, Severity)
    assert len({kind.text for kind in FindingKind}) == len(FindingKind)
    assert len(FindingKind.__members__) == len(FindingKind), "no kind is an alias of another"


def test_only_dropped_images_and_boxes_are_errors(log: FindingLog) -> None:
    assert [severity for severity in Severity if severity.is_error] == [Severity.DROPPED_IMAGE, Severity.DROPPED_BOX]
    assert [finding.kind.key for finding in log.errors()] == ["empty_box", "empty_box", "empty_file"]


def test_an_empty_log(tmp_path: Path) -> None:
    assert FindingLog().counts() == {}
    assert describe_counts({}) == []
    assert summarize_counts({}) == "none"
    FindingLog().write_csv(tmp_path / "findings.csv")
    assert (tmp_path / "findings.csv").read_text() == "severity,kind,where,image,box,details\n"


def test_counts_are_ordered_by_severity_and_include_unlisted_findings(log: FindingLog) -> None:
    counts = log.counts()
    assert counts == {
        "dropped_image": {"empty_file": 1},
        "dropped_box": {"empty_box": 2},
        "excluded_box": {"low_trust": 1},
        "repaired": {"box_clipped": 1},
        "note": {"ignored_keypoints": 1200},
    }
    assert list(counts) == [severity.key for severity in Severity]


def test_the_csv_file_can_be_filtered_by_severity_and_kind(log: FindingLog, tmp_path: Path) -> None:
    log.write_csv(tmp_path / "findings.csv")
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(FINDING_COLUMNS),
        ["dropped_image", "empty_file", "a.jsonl:4", "4, the last.jpg", "", ""],
        ["dropped_box", "empty_box", "a.jsonl:3", "3.jpg", "9", ""],
        ["dropped_box", "empty_box", "a.jsonl:3", "3.jpg", "10", ""],
        ["excluded_box", "low_trust", "a.jsonl:2", "2.jpg", "1", ""],
        ["repaired", "box_clipped", "a.jsonl:1", "1.jpg", "2", "bolt [0, 0, 9, 9]"],
    ]


def test_cells_hold_no_formula_and_no_control_character(tmp_path: Path) -> None:
    log = FindingLog(listed=[Finding(FindingKind.EMPTY_FILE, "=a:1", "\x1b[2J.jpg", None, "-x\ny")])
    log.write_csv(tmp_path / "findings.csv")
    lines = (tmp_path / "findings.csv").read_text().split("\n")
    assert lines[1:] == [r"dropped_image,empty_file,'=a:1,\x1b[2J.jpg,,'-x\x0ay", ""]


def test_console_lines_give_totals_keys_and_texts(log: FindingLog) -> None:
    lines = describe_counts(log.counts())
    assert lines[2].split(": ") == ["  boxes dropped", "2"]
    assert lines[3].split(maxsplit=2) == ["2", "empty_box", FindingKind.EMPTY_BOX.text]
    assert lines[-1].split(maxsplit=2) == ["1,200", "ignored_keypoints", FindingKind.IGNORED_KEYPOINTS.text]
    assert summarize_counts(log.counts()).startswith("1 empty_file, 2 empty_box, ")


def test_keys_are_plain_words() -> None:
    """They are keys of JSON files and cells of CSV files, and parts of `file:key` in sweeps."""
    keys = [item.key for item in (*Severity, *FindingKind)]
    assert [key for key in keys if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", key)] == []
