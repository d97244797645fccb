"""Reader for the YOLO layout: data.yaml, images, and one text file of labels per image.

    data.yaml                names: [wheel, …] or {0: wheel, …}; train, val or valid, test: image sources
    images/train/1.jpg …     labels/train/1.txt …       or
    train/images/1.jpg …     train/labels/1.txt …       (Roboflow)

    class cx cy w h          one box per line, as fractions of the image size

Image sources: a folder (searched recursively, also through links to folders; hidden files and folders are left out),
a .txt file that lists images, or a list of these. They are relative to `path`, which is relative to data.yaml; a `path`
that does not exist is replaced by the folder of data.yaml. `../train/images` is also tried without `../`, since some
exports are off by one level.
An image in several of train, val and test is counted. A line of labels that cannot be read is dropped and counted.
Labels of an image: the last folder `images` in its path becomes `labels`; without a file, it has no boxes.
Polygons (class x1 y1 x2 y2 x3 y3 …) are read as their bounding boxes and counted; with `kpt_shape` in
data.yaml, keypoints after the box are ignored and counted.
Source: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from detector.core.errors import UserError
from detector.core.images import IMAGE_SUFFIXES
from detector.core.path_lists import MAX_PATH_LENGTH
from detector.core.yaml_files import parse_yaml
from detector.preprocessing.dataset_folder import find_files
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, check_mapping, parse_number, read_string
from detector.preprocessing.formats.files import (
    find_image,
    is_dir,
    is_file,
    make_dataset_relative,
    read_text_file,
    spell_path,
)
from detector.preprocessing.raw_annotations import RawBox, RawImage

MAX_CONFIG_BYTES = 1 << 20
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # key of data.yaml → split


def read_yolo(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of train, then val, then test, each sorted by path (lists keep their order)."""
    config = _read_config(folder, log)
    classes = _parse_classes(config)
    keypoint_values = _count_keypoint_values(config)
    listed: dict[str, list[str]] = {}  # image -> its splits
    for key, image in _find_images(folder, config, log):
        splits = listed.setdefault(image, [])
        if _SPLITS[key] in splits:
            log.drop_image(Finding(FindingKind.DUPLICATE_ENTRY, f"data.yaml: {key}", image), boxes=0)
        else:
            splits.append(_SPLITS[key])
    others = set(log.annotation_files)  # data.yaml and the lists
    owners: dict[str, str] = {}  # label file -> its first image
    for image, splits in listed.items():
        label_path = _find_labels(folder, image)
        where = make_dataset_relative(folder, label_path)
        boxes = []
        if is_file(label_path) and str(label_path) not in others:
            lines = enumerate(read_text_file(folder, label_path, log).split("\n"), start=1)
            rows = [(f"{where}:{number}", line) for number, line in lines if line.strip()]
            boxes = list(_parse_boxes(rows, classes, keypoint_values, log))
            if owners.setdefault(where, image) != image:
                log.listed.append(Finding(FindingKind.SHARED_LABEL_FILE, where, image, details=owners[where]))
        else:
            log.unlisted[FindingKind.MISSING_LABEL_FILE] += 1
        yield RawImage(image, where, tuple(boxes), normalized=True, split="+".join(splits))


def _read_config(folder: Path, log: FindingLog) -> dict[str, Any]:
    path = folder / "data.yaml"
    if not path.exists():
        raise UserError(f"{folder}: data.yaml is missing, expected one with the keys names, train and val")
    try:  # reads scalars as text, so that a class called `no` or `1` keeps its name
        content = parse_yaml(read_text_file(folder, path, log, MAX_CONFIG_BYTES), scalars_as_text=True)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"data.yaml:{line}: invalid YAML: {str(error.problem)[:200]}") from error
    except yaml.YAMLError as error:
        raise UserError(f"data.yaml: invalid YAML: {str(error)[:200]}") from error
    if not any(key in check_mapping("data.yaml", content) for key in _SPLITS):
        raise build_mismatch_error("data.yaml", list(content), "the keys names, train and val")
    return check_mapping("data.yaml", content)


def _parse_classes(config: Mapping[str, Any]) -> dict[int, str]:
    names = config.get("names")
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise build_mismatch_error("data.yaml: names", names, "the class names as a list or as {0: name, …}")
    classes: dict[int, str] = {}
    for key in names:
        id_, name = _parse_class_id("data.yaml: names", key), read_string("data.yaml: names", names, key)
        if id_ in classes:
            raise build_mismatch_error(f"data.yaml: names: {key}", name, f"one name per id; {id_} is {classes[id_]!r}")
        if name in classes.values():
            raise build_mismatch_error(f"data.yaml: names: {key}", name, "each class once")
        classes[id_] = name
    return classes


def _count_keypoint_values(config: Mapping[str, Any]) -> int:
    """How many numbers follow each box in a keypoint dataset; 0 in other datasets."""
    if "kpt_shape" not in config:
        return 0
    shape = config["kpt_shape"]
    texts = shape if isinstance(shape, list) and all(isinstance(value, str) for value in shape) else []
    match = re.fullmatch(r"(\d{1,4}),([23])", ",".join(texts))
    if not match:
        raise build_mismatch_error("data.yaml: kpt_shape", shape, "[number of keypoints, 2 or 3]")
    return int(match[1]) * int(match[2])


def _find_images(folder: Path, config: Mapping[str, Any], log: FindingLog) -> Iterator[tuple[str, str]]:
    """Yield (key of data.yaml, image)."""
    given = config.get("path") or ""
    if not isinstance(given, str):
        raise build_mismatch_error("data.yaml: path", given, "a folder")
    root = next((folder / name for name in spell_path(given) if is_dir(folder / name)), folder)
    for key in _SPLITS:
        entries = config.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if entry in ("null", "~"):
                continue
            if not isinstance(entry, str):
                raise build_mismatch_error(f"data.yaml: {key}", entry, "a folder, a .txt list, or a list of these")
            place = _find_place(folder, root, entry)
            if place is not None:
                if place.is_dir() and folder.resolve().is_relative_to(place.resolve()) and not place.samefile(folder):
                    raise build_mismatch_error(f"data.yaml: {key}", entry, f"a folder that does not contain {folder}")
                yield from ((key, image) for image in _list_images(folder, root, place, log))
            elif key == "test":  # exports always name test/images, even if they have none
                log.listed.append(Finding(FindingKind.MISSING_TEST_IMAGES, f"data.yaml: {key}", details=entry))
            else:
                raise build_mismatch_error(f"data.yaml: {key}", entry, f"a folder or .txt list in {root} or {folder}")


def _find_place(folder: Path, root: Path, entry: str) -> Path | None:
    inside = entry.replace("\\", "/")
    while inside.startswith("../"):
        inside = inside[len("../") :]
    names = [spelled for name in (entry, inside) for spelled in spell_path(name)]
    places = [base / name for base in (root, folder) for name in names]
    return next((place for place in places if is_dir(place) or is_file(place)), None)


def _list_images(folder: Path, root: Path, place: Path, log: FindingLog) -> Iterator[str]:
    if place.is_dir():
        yield from (make_dataset_relative(folder, path) for path in find_files(place, IMAGE_SUFFIXES))
        return
    if place.suffix.lower() != ".txt":
        raise build_mismatch_error(make_dataset_relative(folder, place), place.name, "a folder or a .txt list")
    for line in read_text_file(folder, place, log).split("\n"):
        if name := line.strip()[: MAX_PATH_LENGTH + 1]:  # longer ones are reported as unusable
            yield find_image(folder, name, [place.parent, root])


def _find_labels(folder: Path, image: str) -> Path:
    """The label file of an image, or where it should be."""
    parts = f"{os.path.splitext(image)[0]}.txt".split("/")  # noqa: PTH122  with_suffix raises without a name
    images = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if images:
        parts[images[-1]] = "labels"
    path = "/".join(parts)
    spelled = [name for text in spell_path(path) for name in (text, text.removesuffix(".txt") + ".TXT")]
    return next((folder / name for name in spelled if is_file(folder / name)), folder / path)


def _parse_boxes(
    rows: list[tuple[str, str]], classes: dict[int, str], keypoint_values: int, log: FindingLog
) -> Iterator[RawBox]:
    """rows: (place, line)."""
    for number, (where, line) in enumerate(rows, start=1):
        try:
            yield _parse_box(where, line, classes, keypoint_values, log)
        except UserError as error:
            log.drop_box(where, number, error)


def _parse_box(where: str, line: str, classes: dict[int, str], keypoint_values: int, log: FindingLog) -> RawBox:
    first, *rest = line.split()
    class_id = _parse_class_id(where, first)
    if class_id not in classes:
        raise build_mismatch_error(f"{where}: class", class_id, "an id in `names` of data.yaml")
    values = [parse_number(where, value) for value in rest]
    if keypoint_values and len(values) == 4 + keypoint_values:
        log.unlisted[FindingKind.IGNORED_KEYPOINTS] += 1
        values = values[:4]
    if len(values) == 4:
        return RawBox(classes[class_id], _cxcywh_to_xyxy(values))
    if keypoint_values or len(values) < 6 or len(values) % 2:
        pose = f", or {5 + keypoint_values} according to kpt_shape of data.yaml" if keypoint_values else ""
        raise build_mismatch_error(f"{where} with {1 + len(values)} fields", line.strip(), f"5: class cx cy w h{pose}")
    log.unlisted[FindingKind.POLYGON_AS_BOX] += 1
    return RawBox(classes[class_id], _polygon_to_xyxy(values))


def _parse_class_id(where: str, source: str) -> int:
    value = parse_number(where, source)  # some tools write 0.0
    if not value.is_integer():
        raise build_mismatch_error(where, source, "an integer class id")
    return int(value)


def _cxcywh_to_xyxy(values: list[float]) -> tuple[float, float, float, float]:
    cx, cy, w, h = values
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _polygon_to_xyxy(values: list[float]) -> tuple[float, float, float, float]:
    if any(map(math.isnan, values)):  # min and max would hide NaN
        return math.nan, math.nan, math.nan, math.nan
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
