"""Raw annotations as a dataset reader yields them, before they are checked against the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from detector.preprocessing.findings import FindingLog


@dataclass(frozen=True, slots=True)
class RawBox:
    """One annotated box as the file gives it.

    xyxy: left, top, right, bottom in pixels, or as fractions of the width and height when the image's
    `normalized` is true. Values may be invalid (NaN, outside the image); preprocess handles them.
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
    normalized: whether boxes are fractions of the image size instead of pixels.
    sequence: name of the sequence (video, burst) that the image belongs to.
    split: `train`, `val` or `test` if the dataset has predefined splits; with + between them if it lists the image
    in several.
    size: (width, height) in pixels of the annotated image, if the annotations give it.
    ambiguity: the files that `path` may mean, if it is not clear which one; such an image is dropped.
    """

    path: str
    where: str
    boxes: tuple[RawBox, ...]
    normalized: bool = False
    sequence: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None
    ambiguity: str = ""


# A reader takes the absolute path of the dataset folder and the log for what it leaves out.
Reader = Callable[[Path, FindingLog], Iterator[RawImage]]
