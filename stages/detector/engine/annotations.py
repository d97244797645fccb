"""The images and boxes of a split in arrays."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Annotations(NamedTuple):
    """A COCO file packed into arrays, which forked workers share without copying.

    paths [N]; contents [N]: hashes of the images, "" if unknown; sizes int32 [N, 2] (height, width); image_ids int64
    [N]; boxes_xyxy float32 [A, 4] in image pixels; labels and states int64 [A]; starts int64 [N + 1]: image i has boxes
    starts[i]:starts[i+1].
    """

    paths: NDArray[np.str_]
    contents: NDArray[np.str_]
    sizes: NDArray[np.int32]
    image_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    states: NDArray[np.int64]
    starts: NDArray[np.int64]


class AnnotationPacker:
    """Packs the entries of a COCO dictionary one by one, in any order, without keeping them.

    state_counts: objects by the id of their state, crowds included.
    """

    def __init__(self) -> None:
        self.state_counts: Counter[int] = Counter()
        self._paths: list[str] = []
        self._contents: list[str] = []
        self._sizes, self._image_ids = array("i"), array("q")
        self._boxes_xyxy = array("f")
        self._owners, self._labels, self._states = array("q"), array("q"), array("q")

    def add_image(self, image: dict[str, Any]) -> None:
        """Add an entry of `images`."""
        self._paths.append(image["file_name"])
        self._contents.append(image.get("content", ""))
        self._sizes.extend((image["height"], image["width"]))
        self._image_ids.append(image["id"])

    def add_object(self, annotation: dict[str, Any]) -> None:
        """Add an entry of `annotations`."""
        state = annotation["state"]
        self.state_counts[state] += 1
        if annotation["iscrowd"]:
            return
        left, top, width, height = annotation["bbox"]
        self._boxes_xyxy.extend((left, top, left + width, top + height))
        self._owners.append(annotation["image_id"])
        self._labels.append(annotation["category_id"])
        self._states.append(state)

    def pack(self) -> Annotations:
        """The arrays, objects in the order of their images. Raises KeyError for an object of an unknown image."""
        rows = self._find_rows()
        # Objects of coco-convert are in order: their arrays are used as they are, without a copy.
        order = slice(None) if (rows[1:] >= rows[:-1]).all() else np.argsort(rows, kind="stable")
        return Annotations(
            np.array(self._paths, np.str_),
            np.array(self._contents, np.str_),
            np.array(self._sizes, np.int32).reshape(-1, 2),
            np.array(self._image_ids, np.int64),
            np.frombuffer(self._boxes_xyxy, np.float32).reshape(-1, 4)[order],
            np.frombuffer(self._labels, np.int64)[order],
            np.frombuffer(self._states, np.int64)[order],
            np.searchsorted(rows[order], np.arange(len(self._paths) + 1)),
        )

    def _find_rows(self) -> NDArray[np.int64]:
        row_of = {image_id: row for row, image_id in enumerate(self._image_ids)}
        return np.fromiter((row_of[owner] for owner in self._owners), np.int64, len(self._owners))
