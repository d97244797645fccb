"""Reader for the YOLO layout: data.yaml, images, and one text file of labels per image.

    data.yaml                names: [wheel, …] or {0: wheel, …}; train, val or valid, test: image sources
    images/train/1.jpg …     labels/train/1.txt …       or
    train/images/1.jpg …     train/labels/1.txt …       (Roboflow)

    class cx cy w h          one box per line, as fractions of the image size

Image sources: a folder (searched recursively), a .txt file that lists images, or a list of these. They are
relative to `path`, which is relative to data.yaml; a `path` that does not exist is replaced by the folder of
data.yaml. `../train/images` is also tried without `../`, since some exports are off by one level.
Labels of an image: the last folder `images` in its path becomes `labels`; without a file, it has no boxes.
Polygons (class x1 y1 x2 y2 x3 y3 …) are read as their bounding boxes and counted; with `kpt_shape` in
data.yaml, keypoints after the box are ignored and counted.
Source: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from detector.core.errors import UserError
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, check_mapping, parse_number, read_string
from detector.preprocessing.formats.files import IMAGE_SUFFIXES, is_dir, is_file, make_dataset_relative, read_text_file
from detector.preprocessing.raw_annotations import RawBox, RawImage

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # key of data.yaml → split


def read_yolo(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of train, then val, then test, each sorted by path (lists keep their order)."""
    config = _read_config(folder)
    classes = _parse_classes(config)
    keypoint_values = _count_keypoint_values(config)
    seen: dict[str, str] = {}
    for key, path in _find_images(folder, config, log):
        image = make_dataset_relative(folder, path)
        if image in seen:
            raise build_mismatch_error(f"data.yaml: {key}", image, f"each image once; {seen[image]} already lists it")
        seen[image] = key
        label_path = _build_label_path(folder, image)
        where = make_dataset_relative(folder, label_path)
        boxes = []
        if is_file(label_path):
            for number, line in enumerate(read_text_file(folder, label_path).split("\n"), start=1):
                if line.strip():
                    boxes.append(_parse_box(f"{where}:{number}", line, classes, keypoint_values, log))
        else:
            log.unlisted[FindingKind.MISSING_LABEL_FILE] += 1
        yield RawImage(image, where, tuple(boxes), normalized=True, split=_SPLITS[key])


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "data.yaml"
    if not path.exists():
        raise UserError(f"{folder}: data.yaml is missing, expected one with the keys names, train and val")
    try:  # reads scalars as text, so that a class called `no` or `1` keeps its name
        content = yaml.load(read_text_file(folder, path), Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"data.yaml:{line}: invalid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"data.yaml: invalid YAML: {error}") from error
    if not any(key in check_mapping("data.yaml", content) for key in _SPLITS):
        raise build_mismatch_error("data.yaml", list(content), "the keys names, train and val")
    return check_mapping("data.yaml", content)


def _parse_classes(config: Mapping[str, Any]) -> dict[int, str]:
    names = config.get("names")
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise build_mismatch_error("data.yaml: names", names, "the class names as a list or as {0: name, …}")
    return {_parse_class_id("data.yaml: names", id_): read_string("data.yaml: names", names, id_) for id_ in names}


def _count_keypoint_values(config: Mapping[str, Any]) -> int:
    """How many numbers follow each box in a keypoint dataset; 0 in other datasets."""
    if "kpt_shape" not in config:
        return 0
    match = re.fullmatch(r"\['(\d{1,4})', '([23])'\]", str(config["kpt_shape"]))
    if not match:
        raise build_mismatch_error("data.yaml: kpt_shape", config["kpt_shape"], "[number of keypoints, 2 or 3]")
    return int(match[1]) * int(match[2])


def _find_images(folder: Path, config: Mapping[str, Any], log: FindingLog) -> Iterator[tuple[str, Path]]:
    """Yield (key of data.yaml, image)."""
    root = folder / str(config.get("path", ""))
    root = root if is_dir(root) else folder
    for key in _SPLITS:
        entries = config.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if entry in ("null", "~"):
                continue
            if not isinstance(entry, str):
                raise build_mismatch_error(f"data.yaml: {key}", entry, "a folder, a .txt list, or a list of these")
            place = _find_place(folder, root, entry)
            if place is not None:
                yield from ((key, path) for path in _list_images(folder, root, place))
            elif key == "test":  # exports always name test/images, even if they have none
                log.listed.append(Finding(FindingKind.MISSING_TEST_IMAGES, f"data.yaml: {key}", details=entry))
            else:
                raise build_mismatch_error(f"data.yaml: {key}", entry, f"a folder or .txt list in {root} or {folder}")


def _find_place(folder: Path, root: Path, entry: str) -> Path | None:
    inside = entry
    while inside.startswith("../"):
        inside = inside[len("../") :]
    places = [base / name for base in (root, folder) for name in (entry, inside)]
    return next((place for place in places if is_dir(place) or is_file(place)), None)


def _list_images(folder: Path, root: Path, place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        return
    if place.suffix != ".txt":
        raise build_mismatch_error(make_dataset_relative(folder, place), place.name, "a folder or a .txt list")
    for number, line in enumerate(read_text_file(folder, place).split("\n"), start=1):
        if name := line.strip():
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                raise build_mismatch_error(f"{make_dataset_relative(folder, place)}:{number}", name, "an image file")
            yield next((base / name for base in (place.parent, root) if is_file(base / name)), root / name)


def _build_label_path(folder: Path, image: str) -> Path:
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    images = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if images:
        parts[images[-1]] = "labels"
    return folder.joinpath(*parts)


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
