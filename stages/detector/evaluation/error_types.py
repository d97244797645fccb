"""What each detection stands on, and so what kind of mistake it is, at any threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Prediction
from detector.evaluation.matching import Matches

# Of a detection; the order is that of `Pairs.kinds`. An object that no detection stands on is MISSED.
KINDS = ("right", "state", "class", "location", "duplicate", "absent", "background")
RIGHT, STATE, CLASS, LOCATION, DUPLICATE, ABSENT, BACKGROUND = range(len(KINDS))
MISSED = "missed"
STANDS_ON = 0.5  # IoU from which a detection stands on an object
TOUCHES = 0.1  # and from which it is a badly placed box of an object of its class; TIDE's threshold


class Objects(NamedTuple):
    """The annotated objects without crowds, absent ones too.

    ids int [A]: of the annotations. images, categories int [A]: places in the lists of images and classes.
    states int [A]: ids, 0 if unknown. boxes_xywh float [A, 4]: image pixels. absent bool [A]: not there to be
    found. scores float [A]: of the detection that stands on it, -1 without one.
    """

    ids: NDArray[np.int64]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    states: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    absent: NDArray[np.bool_]
    scores: NDArray[np.float64]


class Pairs(NamedTuple):
    """The detections that count at IoU 0.5, best score first, and the objects that they stand on.

    A detection stands on the free object of any class that it overlaps most, from IoU 0.5; better scores choose
    first. So a threshold changes nothing but which detections are looked at. `hits`, in contrast, are COCO's: each
    class by itself.

    scores float [D]; images, categories, states int [D] and boxes_xywh float [D, 4] as in Objects. hits bool [D].
    partners int [D]: place in `objects`, or -1. kinds int [D]: place in KINDS.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    states: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    hits: NDArray[np.bool_]
    partners: NDArray[np.int64]
    kinds: NDArray[np.int64]
    objects: Objects

    def found(self, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which detections count [D] at a threshold for each class [C]."""
        return self.scores >= thresholds[self.categories]

    def missed(self, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which objects [A] are there and have no detection on them at a threshold for each class [C]."""
        found = np.zeros(len(self.objects.ids), bool)
        chosen = self.partners[self.found(thresholds)]
        found[chosen[chosen >= 0]] = True
        return ~found & ~self.objects.absent


def pair(coco: dict[str, Any], predictions: list[Prediction], matches: Matches) -> Pairs:
    """Pair `predictions` with the objects of a COCO dictionary, absent ones included; matches: of the present ones."""
    objects = objects_of(coco, matches)
    counted = matches.at_half()
    rows = [predictions[place] for place in counted.detections]
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    states = np.array([row["state"] for row in rows], np.int64)
    partners = np.full(len(rows), -1, np.int64)
    kinds = np.full(len(rows), BACKGROUND, np.int64)
    # As hotcoco's confusion matrix: of equal scores the first class chooses first.
    order = np.lexsort((counted.categories, -counted.scores))
    found_in = _by_image(counted.images[order], len(matches.image_ids))
    truth_in = _by_image(objects.images, len(matches.image_ids))
    for found, there in zip(found_in, truth_in, strict=True):
        chosen = order[found]
        if not len(chosen) or not len(there):
            continue
        overlaps = pairwise_iou_xyxy(xywh_to_xyxy(boxes_xywh[chosen]), xywh_to_xyxy(objects.boxes_xywh[there]))
        same = counted.categories[chosen, None] == objects.categories[there]
        absent = objects.absent[there]
        on = _greedy(np.where(absent, 0.0, overlaps))
        partners[chosen] = np.where(on >= 0, there[on], -1)
        kinds[chosen] = _kinds(on, np.where(absent, 0.0, overlaps), same, np.where(absent, overlaps, 0.0))
        paired = chosen[(on >= 0) & (kinds[chosen] == RIGHT)]
        true, told = objects.states[partners[paired]], states[paired]
        kinds[paired[(true > 0) & (told > 0) & (true != told)]] = STATE
    on_object = np.flatnonzero(partners >= 0)
    objects.scores[partners[on_object]] = counted.scores[on_object]
    return Pairs(counted.scores, counted.images, counted.categories, states, boxes_xywh, counted.hits[0], partners,
                 kinds, objects)  # fmt: skip


def objects_of(coco: dict[str, Any], matches: Matches) -> Objects:
    """The annotations as columns; crowds are nothing to be found."""
    row_of = {int(id_): row for row, id_ in enumerate(matches.image_ids)}
    column_of = {int(id_): column for column, id_ in enumerate(matches.category_ids)}
    gone = {state["id"] for state in coco.get("states", []) if not state["present"]}
    single = [annotation for annotation in coco["annotations"] if not annotation["iscrowd"]]
    states = [annotation.get("state", 0) for annotation in single]
    return Objects(
        ids=np.array([annotation["id"] for annotation in single], np.int64),
        images=np.array([row_of[annotation["image_id"]] for annotation in single], np.int64),
        categories=np.array([column_of[annotation["category_id"]] for annotation in single], np.int64),
        states=np.array(states, np.int64),
        boxes_xywh=np.array([annotation["bbox"] for annotation in single], np.float64).reshape(-1, 4),
        absent=np.array([state in gone for state in states], bool),
        scores=np.full(len(single), -1.0),
    )


def confusions(pairs: Pairs, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts [C + 1, C + 1]: what was there in rows, what was found in columns, background last."""
    classes = len(thresholds)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    found = pairs.found(thresholds)
    there = np.where(pairs.partners >= 0, np.append(pairs.objects.categories, classes)[pairs.partners], classes)
    np.add.at(matrix, (there[found], pairs.categories[found]), 1)
    matrix[:classes, classes] = np.bincount(pairs.objects.categories[pairs.missed(thresholds)], minlength=classes)
    return matrix


def _by_image(images: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """The places [*] of each image's rows, in their order."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, count)))


def _greedy(overlaps: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row of [N, M], best score first, the free column that overlaps most from STANDS_ON, or -1."""
    free = overlaps.copy()
    chosen = np.full(len(free), -1, np.int64)
    for row in np.flatnonzero(overlaps.max(axis=1) >= STANDS_ON):
        column = int(free[row].argmax())
        if free[row, column] >= STANDS_ON:
            chosen[row] = column
            free[:, column] = 0
    return chosen


def _kinds(
    on: NDArray[np.int64], overlaps: NDArray[np.float64], same: NDArray[np.bool_], on_absent: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The kind [N] of each detection, states aside; overlaps [N, M] with present, on_absent with absent objects."""
    of_class = np.where(same, overlaps, 0.0).max(axis=1)
    right = same[np.arange(len(on)), on] & (on >= 0)
    cases = [right, on >= 0, overlaps.max(axis=1) >= STANDS_ON, np.where(same, on_absent, 0).max(axis=1) >= STANDS_ON,
             of_class >= TOUCHES]  # fmt: skip
    return np.select(cases, [RIGHT, CLASS, DUPLICATE, ABSENT, LOCATION], BACKGROUND)
