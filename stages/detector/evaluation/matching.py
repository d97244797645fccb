"""Which detection found which object, by COCO's rules, as columns that can be counted, weighted and drawn."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

IOUS = 10  # 0.50, 0.55, ... 0.95
SIZES = ("all", "small", "medium", "large")  # COCO's ranges of an object's area, bounded by 32 x 32 and 96 x 96 pixels
AT_ONCE = 250  # images


class Matches(NamedTuple):
    """All detections that COCO judges, best score first, for objects of any size.

    scores float [D]; images, categories int [D]: columns' places in image_ids [N] and category_ids [C].
    hits bool [10, D]: it found an object at that IoU; ignored bool [10, D]: it lies on a crowd and is neither
    right nor wrong. detections int [D]: its place in the list of predictions. partners int [D]: id of the
    annotation that it found at IoU 0.5, or 0. truths int [N, C]: objects to find.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    detections: NDArray[np.int64]
    partners: NDArray[np.int64]
    truths: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]

    def at_half(self) -> Matches:
        """Those that count at IoU 0.5: the others lie on a crowd."""
        return self.chosen(~self.ignored[0])

    def of_images(self, mask: NDArray[np.bool_]) -> Matches:
        """As if there were only the images [N] in the mask."""
        place = np.cumsum(mask) - 1
        part = self.chosen(mask[self.images])
        return part._replace(images=place[part.images], truths=self.truths[mask], image_ids=self.image_ids[mask])

    def ranks(self) -> NDArray[np.int64]:
        """Of each detection among those of its class in its image: 0 is the best [D]."""
        keys = self.images * self.truths.shape[1] + self.categories
        order = np.argsort(keys, kind="stable")  # within a key the best score still comes first
        together = keys[order]
        ranks = np.empty_like(keys)
        ranks[order] = np.arange(len(keys)) - np.searchsorted(together, together)
        return ranks

    def chosen(self, mask: NDArray[np.bool_]) -> Matches:
        """A part of the detections; the objects to find stay."""
        return self._replace(
            scores=self.scores[mask], images=self.images[mask], categories=self.categories[mask],
            hits=self.hits[:, mask], ignored=self.ignored[:, mask],
            detections=self.detections[mask], partners=self.partners[mask],
        )  # fmt: skip


def matches_of(evaluation: COCOeval, size: str = "all", kept: Set[int] | None = None) -> Matches:
    """The columns of an evaluation of boxes; equal scores stay in COCO's order.

    size: of SIZES; as COCO does it, objects of another size are neither to be found nor wrong to find.
    kept: ids of annotations; the others are treated likewise.
    """
    area = list(evaluation.params.area_rng[SIZES.index(size)])
    image_ids = np.array(sorted(evaluation.params.img_ids), np.int64)
    category_ids = np.array(sorted(evaluation.params.cat_ids), np.int64)
    truths = np.zeros((len(image_ids), len(category_ids)), np.int64)
    row_of = {int(id_): row for row, id_ in enumerate(image_ids)}
    column_of = {int(id_): column for column, id_ in enumerate(category_ids)}
    scores: list[float] = []
    detections: list[int] = []
    places: list[tuple[int, int, int]] = []  # image, category, how many
    hits, ignored = [np.zeros((IOUS, 0), bool)], [np.zeros((IOUS, 0), bool)]
    partners = [np.zeros((IOUS, 0), np.int64)]
    for entry in _entries(evaluation, image_ids, area):
        row, column = row_of[entry["image_id"]], column_of[entry["category_id"]]
        truths[row, column] = _to_find(entry, kept)
        if entry["dtIds"]:
            places.append((row, column, len(entry["dtIds"])))
            scores += entry["dtScores"]
            detections += entry["dtIds"]
            partners.append(np.array(entry["dtMatches"], np.int64))
            hits.append(np.array(entry["dtMatched"], bool))
            ignored.append(np.array(entry["dtIgnore"], bool))
    rows, columns, counts = np.array(places, np.int64).reshape(-1, 3).T
    order = np.argsort(-np.array(scores, float), kind="stable")
    found, passed_over = np.concatenate(hits, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    partner = np.concatenate(partners, axis=1)[:, order]
    if kept is not None:
        passed_over |= found & ~np.isin(partner, np.array(sorted(kept), np.int64))
    return Matches(
        scores=np.array(scores, float)[order],
        images=np.repeat(rows, counts)[order],
        categories=np.repeat(columns, counts)[order],
        hits=found,
        ignored=passed_over,
        detections=np.array(detections, np.int64)[order] - 1,
        partners=partner[0],
        truths=truths,
        image_ids=image_ids,
        category_ids=category_ids,
    )


def _to_find(entry: dict[str, Any], kept: Set[int] | None) -> int:
    """How many objects of an image and class COCO asks for."""
    pairs = zip(entry["gtIds"], entry["gtIgnore"], strict=True)
    return sum(1 for id_, ignore in pairs if not ignore and (kept is None or id_ in kept))


def _entries(evaluation: COCOeval, image_ids: NDArray[np.int64], area: list[float]) -> Iterator[dict[str, Any]]:
    """What was matched in each image and class, for objects of a range of areas in square pixels.

    hotcoco hands it out as Python lists, a hundred times the size of the columns: so some images at a time, and
    not for the other ranges too.
    """
    for start in range(0, len(image_ids), AT_ONCE):
        part = COCOeval(evaluation.coco_gt, evaluation.coco_dt, "bbox")
        part.params = evaluation.params
        part.params.area_rng, part.params.area_rng_lbl = [area], ["all"]
        part.params.img_ids = image_ids[start : start + AT_ONCE].tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            part.evaluate()
        yield from (entry for entry in part.eval_imgs if entry is not None)
