"""COCO results, as tests write them, packed into columns and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotcoco import COCOeval

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import pack_rows
from detector.evaluation.label_issues import LabelIssue, find_label_issues
from detector.evaluation.matched_split import MatchedSplit, match_split
from detector.evaluation.matching import Matches, collect_matches, find_overlaps


def match_rows(truth: dict[str, Any], rows: Sequence[Any]) -> Matches:
    return collect_matches(find_overlaps(truth, pack_rows(rows)))


def split_rows(coco: dict[str, Any], rows: Sequence[Any]) -> MatchedSplit:
    return match_split(coco, pack_rows(rows))


def find_row_issues(
    split: str, coco: dict[str, Any], rows: Sequence[Any], probabilities: Any, temperature: float = 1.0
) -> tuple[list[LabelIssue], dict[str, str]]:
    return find_label_issues(split, coco, pack_rows(rows), probabilities, temperature)


def evaluate_rows(truth: dict[str, Any], rows: Sequence[Any]) -> COCOeval:
    """By hotcoco, which shares no code with `detector.evaluation`."""
    return evaluate_boxes(truth, pack_rows(rows))
