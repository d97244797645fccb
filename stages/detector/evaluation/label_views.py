"""Which detection is most about which label, whatever their classes, and how sure the detector is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import Boxes, area_xyxy, pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Prediction

FOUND = 0.5  # IoU from which a detection is about an object
TOUCHING = 0.1  # IoU from which it may be about a badly drawn one of its class
SUREST = 0.9  # share of the right detections of a class, by score, up to the sure ones


class View(NamedTuple):
    """One image: its labels without crowds [A], and its detections that lie on no crowd [D].

    labels int [A], found int [D]: category ids; iou [A, D] of labels and detections; twins [A, A] of labels;
    sure [D]: 0..1, the score as a share of what the surest right detections of that class have;
    pairs: place of a label -> place of the one detection that is most about it.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    predictions: list[Prediction]
    labels: NDArray[np.int64]
    found: NDArray[np.int64]
    iou: NDArray[np.float64]
    twins: NDArray[np.float64]
    sure: NDArray[np.float64]
    pairs: dict[int, int]

    def finds(self, row: int) -> bool:
        """Whether the detection paired with a label is of its class and in its place."""
        column = self.pairs.get(row)
        return column is not None and self.labels[row] == self.found[column] and bool(self.iou[row, column] >= FOUND)


def views_of(coco: dict[str, Any], predictions: Sequence[Prediction]) -> list[View]:
    """The images of a COCO dictionary in its order, with `predictions` of them."""
    labelled: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    detected: dict[int, list[Prediction]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        labelled[annotation["image_id"]].append(annotation)
    for prediction in predictions:
        detected[prediction["image_id"]].append(prediction)
    views = [_view(image, labelled[image["id"]], detected[image["id"]]) for image in coco["images"]]
    scales = _sure_from(views)
    return [_paired(view, scales) for view in views]


def _view(image: dict[str, Any], labelled: list[dict[str, Any]], detected: list[Prediction]) -> View:
    annotations = [annotation for annotation in labelled if not annotation["iscrowd"]]
    crowds = _boxes_xyxy([annotation for annotation in labelled if annotation["iscrowd"]])
    covered = [bool((shares >= FOUND).any()) for shares in _share_covered(_boxes_xyxy(detected), crowds)]
    predictions = [prediction for prediction, out in zip(detected, covered, strict=True) if not out]
    boxes_xyxy = _boxes_xyxy(annotations)
    return View(
        image=image,
        annotations=annotations,
        predictions=predictions,
        labels=np.array([annotation["category_id"] for annotation in annotations], np.int64),
        found=np.array([prediction["category_id"] for prediction in predictions], np.int64),
        iou=pairwise_iou_xyxy(boxes_xyxy, _boxes_xyxy(predictions)),
        twins=pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy),
        sure=np.array([prediction["score"] for prediction in predictions], float),
        pairs={},
    )


def _boxes_xyxy(things: Sequence[Any]) -> Boxes:
    return xywh_to_xyxy(np.array([thing["bbox"] for thing in things], float).reshape(-1, 4))


def _share_covered(boxes_xyxy: Boxes, crowds_xyxy: Boxes) -> NDArray[np.float64]:
    """Share of each box that lies in each crowd: [D, 4] and [K, 4] -> [D, K]."""
    left_top = np.maximum(boxes_xyxy[:, None, :2], crowds_xyxy[None, :, :2])
    right_bottom = np.minimum(boxes_xyxy[:, None, 2:], crowds_xyxy[None, :, 2:])
    both = np.prod(np.clip(right_bottom - left_top, 0, None), axis=-1)  # [D, K]
    area = area_xyxy(boxes_xyxy)[:, None]
    return np.divide(both, area, out=np.zeros_like(both), where=area > 0)


def _sure_from(views: list[View]) -> dict[int, float]:
    """By class: the score of its surest right detections, each object's best one taken."""
    best: dict[int, list[float]] = {}
    for view in views:
        right = (view.iou >= FOUND) & (view.labels[:, None] == view.found)  # [A, D]
        for row in np.flatnonzero(right.any(axis=1)):
            best.setdefault(int(view.labels[row]), []).append(float(view.sure[right[row]].max()))
    return {name: float(np.quantile(scores, SUREST)) for name, scores in best.items()}


def _paired(view: View, scales: dict[int, float]) -> View:
    scale = np.array([scales.get(int(name), 1.0) for name in view.found])
    sure = np.minimum(1.0, view.sure / np.maximum(scale, 1e-9))
    least = np.where(view.labels[:, None] == view.found, TOUCHING, FOUND)
    rows, columns = np.nonzero(view.iou >= least)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(-(view.iou * sure)[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return view._replace(sure=sure, pairs=pairs)
