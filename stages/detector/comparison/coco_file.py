"""COCO files that users pass: checked as a whole before anything is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from detector.core.errors import UserError
from detector.core.json_files import read_json
from detector.core.params import Section, validate_values
from detector.core.path_lists import find_path_problem
from detector.engine.model_values import Name, check_unique

MAX_BYTES = 2 << 30

Id = Annotated[int, Field(ge=0, lt=2**63)]
Pixels = Annotated[int, Field(ge=1, le=1_000_000)]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]  # neither infinite nor NaN
Length = Annotated[float, Field(gt=0, le=1e6)]


class _Entry(Section):
    model_config = ConfigDict(extra="ignore")  # such as `content`, `license`


def _check_line(name: str) -> str:
    """The same name. Raises ValueError for one that stands on no single line, as those of preprocess do."""
    if problem := find_path_problem(name):
        raise ValueError(problem)
    return name


class _Image(_Entry):
    id: Id
    file_name: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_line)]
    width: Pixels
    height: Pixels


class _Annotation(_Entry):
    """bbox: [left, top, width, height] in pixels. state: 0 if unknown."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Coordinate, Coordinate, Length, Length]
    area: Annotated[float, Field(ge=0, le=1e12)]
    iscrowd: Literal[0, 1]
    state: Id


class _Category(_Entry):
    id: Annotated[int, Field(ge=1, lt=2**31)]
    name: Annotated[Name, AfterValidator(_check_line)]


class _State(_Category):
    present: bool


class _CocoFile(_Entry):
    images: Annotated[list[_Image], Field(min_length=1)]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1)]
    states: list[_State]


def read_coco_file(path: Path) -> dict[str, Any]:
    """The COCO dictionary in a file as coco-convert writes it.

    Raises UserError naming file and key: for a key or value that is missing or of another kind, for an id or name that
    stands twice, for an id that names nothing, and for a box outside its image.
    """
    values: dict[str, Any] = read_json(path, MAX_BYTES)
    file = validate_values(path, values, _CocoFile)
    for key, entries in (("images", file.images), ("annotations", file.annotations),
                         ("categories", file.categories), ("states", file.states)):  # fmt: skip
        _check_unique(path, f"{key}.id", (str(entry.id) for entry in entries))
    _check_unique(path, "images.file_name", (image.file_name for image in file.images))
    _check_unique(path, "categories.name", (category.name for category in file.categories))
    _check_unique(path, "states.name", (state.name for state in file.states))
    known = {
        "image_id": {image.id for image in file.images},
        "category_id": {category.id for category in file.categories},
        "state": {0, *(state.id for state in file.states)},
    }
    for number, annotation in enumerate(file.annotations):
        for key, ids in known.items():
            if (found := getattr(annotation, key)) not in ids:
                raise UserError(f"{path}: `annotations.{number}.{key}` is {found}, which is no id in this file")
    images = {image.id: image for image in file.images}
    for number, annotation in enumerate(file.annotations):
        image, (left, top, width, height) = images[annotation.image_id], annotation.bbox
        if not (left < image.width and top < image.height and left + width > 0 and top + height > 0):
            place = f"its image {image.file_name}, which has {image.width}x{image.height} pixels"
            raise UserError(f"{path}: `annotations.{number}.bbox` is {list(annotation.bbox)}, outside {place}")
    return values


def _check_unique(path: Path, key: str, values: Iterable[str]) -> None:
    try:
        check_unique(list(values))
    except ValueError as error:
        raise UserError(f"{path}: `{key}`: {error}") from None
