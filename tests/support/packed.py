"""COCO dictionaries and results, as tests write them, packed into columns and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotcoco import COCOeval

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import GroundTruth, pack_ground_truth
from detector.evaluation.label_issues import LabelIssue, find_label_issues
from detector.evaluation.matched_split import MatchedSplit, match_split
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.overlaps import find_overlaps


def pack_labels(coco: dict[str, Any]) -> GroundTruth:
    """A COCO dictionary in which keys that do not matter to a test may be missing."""
    image = {"file_name": "", "width": 1, "height": 1}
    annotation = {"area": 1, "iscrowd": 0, "state": 0, "category_id": 1}
    whole: dict[str, Any] = {"categories": [], "states": []} | coco
    whole["images"] = [image | one for one in coco.get("images", [])]
    whole["annotations"] = [{"id": number} | annotation | one for number, one in enumerate(coco["annotations"], 1)]
    return pack_ground_truth(whole)


def match_rows(truth: dict[str, Any], rows: Sequence[Any]) -> Matches:
    return collect_matches(find_overlaps(pack_labels(truth), pack_rows(rows)))


def split_rows(coco: dict[str, Any], rows: Sequence[Any]) -> MatchedSplit:
    return match_split(pack_ground_truth(coco), pack_rows(rows))


def find_row_issues(
    split: str, coco: dict[str, Any], rows: Sequence[Any], probabilities: Any, temperature: float = 1.0
) -> tuple[list[LabelIssue], dict[str, str]]:
    return find_label_issues(split, pack_ground_truth(coco), pack_rows(rows), probabilities, temperature)


def evaluate_rows(truth: dict[str, Any], rows: Sequence[Any]) -> COCOeval:
    """By hotcoco, which shares no code with `detector.evaluation`."""
    return evaluate_boxes(truth, pack_rows(rows))
