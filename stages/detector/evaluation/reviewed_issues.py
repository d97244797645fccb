"""Suspected label errors that a person has decided on, which are not listed again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.evaluation.label_issues import LabelIssue
from detector.manifest.decisions import SAME_OBJECT_IOU, Decision, corrected_xyxy


def drop_reviewed(issues: Sequence[LabelIssue], decisions: Sequence[Decision]) -> list[LabelIssue]:
    """The issues without a decision on that kind, in that image, at about that place.

    That a label was accepted says nothing about one of another class at the same place.
    """
    by_image: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        by_image.setdefault((decision.kind, decision.content or decision.file), []).append(decision)
    return [
        issue
        for issue in issues
        if not any(
            _is_near(issue, decision) and (issue.label == decision.label or not _is_accepted_label(decision))
            for image in (issue.content, issue.file, issue.source)
            for decision in by_image.get((issue.kind, image), [])
        )
    ]


def _is_accepted_label(decision: Decision) -> bool:
    return decision.decision == "accept" and decision.kind != "missing_box"


def _is_near(issue: LabelIssue, decision: Decision) -> bool:
    box_xyxy = xywh_to_xyxy(np.array([issue.bbox]))
    decided_xyxy = np.array([decision.xyxy, corrected_xyxy(decision)])
    return bool((pairwise_iou_xyxy(box_xyxy, decided_xyxy) >= SAME_OBJECT_IOU).any())
