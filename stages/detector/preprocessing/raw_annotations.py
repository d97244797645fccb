"""What a dataset reader yields: one raw image with its boxes, before anything is checked against the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RawBox:
    """One annotated box as the file gives it.

    `xyxy` is (left, top, right, bottom), in pixels or, when the image's `normalized` is true, as
    shares of the width and height. Values may be absurd (NaN, outside): preprocess judges them.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    state: str | None = None
    trust: float | None = None
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image of the raw dataset.

    path: the image file; relative to the dataset folder, or absolute.
    where: the place in the annotations for messages, for example `dataset.jsonl:12`.
    normalized: whether the boxes are shares of the image's size instead of pixels.
    sequence: name of the sequence (video, burst) that the image belongs to.
    split: `train`, `val` or `test` where the dataset brings its own lists.
    size: (width, height) in pixels that the boxes were drawn on, where the annotations say it.
    """

    path: str
    where: str
    boxes: tuple[RawBox, ...]
    normalized: bool = False
    sequence: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None


# A reader takes the absolute path of the dataset folder and a counter in which it notes what it leaves out, by reason.
Reader = Callable[[Path, "Counter[str]"], Iterator[RawImage]]
