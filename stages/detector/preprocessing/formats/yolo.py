"""Reader of YOLO's layout: data.yaml, images, and one text file of labels an image.

    data.yaml                names: [wheel, …] or {0: wheel, …}; train, val or valid, test: where images lie
    images/train/1.jpg …     labels/train/1.txt …       or
    train/images/1.jpg …     train/labels/1.txt …       (Roboflow's exports)

    class cx cy w h          one box a line, as shares of the image's size

Where images lie: a folder (searched with its subfolders), a .txt file that lists images, or a list of
these. They are relative to `path`, itself relative to data.yaml; a `path` that does not exist counts as
data.yaml's own folder, and `../train/images` is also tried without `../`, since exports are written so.
The labels of an image: the last folder `images` of its path becomes `labels`; no file means no boxes.
Polygons (class x1 y1 x2 y2 x3 y3 …) are read as their bounding boxes and counted; with `kpt_shape` in
data.yaml, keypoints after the box are kept out and counted.
Source: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from detector.core.errors import UserError
from detector.preprocessing.formats.fields import as_mapping, mismatch, parse_number, text
from detector.preprocessing.formats.files import IMAGE_SUFFIXES, dataset_path, is_dir, is_file, read_text
from detector.preprocessing.raw_annotations import RawBox, RawImage

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # key of data.yaml → split


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images of train, then val, then test, each sorted by path (lists: in their order)."""
    config = _config(folder)
    classes = _classes(config)
    keypoint_values = _keypoint_values(config)
    seen: dict[str, str] = {}
    for key, path in _images(folder, config, notes):
        image = dataset_path(folder, path)
        if image in seen:
            raise mismatch(f"data.yaml: {key}", image, f"each image once; it is also under {seen[image]}")
        seen[image] = key
        label_path = _label_path(folder, image)
        where = dataset_path(folder, label_path)
        boxes = []
        if is_file(label_path):
            for number, line in enumerate(read_text(folder, label_path).split("\n"), start=1):
                if line.strip():
                    boxes.append(_box(f"{where}:{number}", line, classes, keypoint_values, notes))
        else:
            notes["images without a label file"] += 1
        yield RawImage(image, where, tuple(boxes), normalized=True, split=_SPLITS[key])


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "data.yaml"
    if not path.exists():
        raise UserError(f"{folder}: data.yaml is missing, expected one with names, train and val")
    try:  # every scalar as text: a class called `no` or `1` keeps its name
        content = yaml.load(read_text(folder, path), Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"data.yaml:{line}: no valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"data.yaml: no valid YAML: {error}") from error
    if not any(key in as_mapping("data.yaml", content) for key in _SPLITS):
        raise mismatch("data.yaml", list(content), "the keys names, train and val")
    return as_mapping("data.yaml", content)


def _classes(config: Mapping[str, Any]) -> dict[int, str]:
    names = config.get("names")
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise mismatch("data.yaml: names", names, "the names of the classes, as a list or as {0: name, …}")
    return {_class_id("data.yaml: names", id_): text("data.yaml: names", names, id_) for id_ in names}


def _keypoint_values(config: Mapping[str, Any]) -> int:
    """How many numbers follow each box in a data set of keypoints; otherwise 0."""
    if "kpt_shape" not in config:
        return 0
    match = re.fullmatch(r"\['(\d{1,4})', '([23])'\]", str(config["kpt_shape"]))
    if not match:
        raise mismatch("data.yaml: kpt_shape", config["kpt_shape"], "[number of keypoints, 2 or 3]")
    return int(match[1]) * int(match[2])


def _images(folder: Path, config: Mapping[str, Any], notes: Counter[str]) -> Iterator[tuple[str, Path]]:
    """Yield (key of data.yaml, image)."""
    root = folder / str(config.get("path", ""))
    root = root if is_dir(root) else folder
    for key in _SPLITS:
        entries = config.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if entry in ("null", "~"):
                continue
            if not isinstance(entry, str):
                raise mismatch(f"data.yaml: {key}", entry, "a folder, a .txt list, or a list of these")
            place = _place(folder, root, entry)
            if place is not None:
                yield from ((key, path) for path in _images_of(folder, root, place))
            elif key == "test":  # exports name test/images whether they have it or not
                notes["test images of data.yaml missing"] += 1
            else:
                raise mismatch(f"data.yaml: {key}", entry, f"a folder or .txt list in {root} or {folder}")


def _place(folder: Path, root: Path, entry: str) -> Path | None:
    inside = entry
    while inside.startswith("../"):
        inside = inside[len("../") :]
    places = [base / name for base in (root, folder) for name in (entry, inside)]
    return next((place for place in places if is_dir(place) or is_file(place)), None)


def _images_of(folder: Path, root: Path, place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        return
    if place.suffix != ".txt":
        raise mismatch(dataset_path(folder, place), place.name, "a folder or a .txt list")
    for number, line in enumerate(read_text(folder, place).split("\n"), start=1):
        if name := line.strip():
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                raise mismatch(f"{dataset_path(folder, place)}:{number}", name, "an image file")
            yield next((base / name for base in (place.parent, root) if is_file(base / name)), root / name)


def _label_path(folder: Path, image: str) -> Path:
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    images = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if images:
        parts[images[-1]] = "labels"
    return folder.joinpath(*parts)


def _box(where: str, line: str, classes: dict[int, str], keypoint_values: int, notes: Counter[str]) -> RawBox:
    first, *rest = line.split()
    class_id = _class_id(where, first)
    if class_id not in classes:
        raise mismatch(f"{where}: class", class_id, "an id of data.yaml's names")
    values = [parse_number(where, value) for value in rest]
    if keypoint_values and len(values) == 4 + keypoint_values:
        notes["keypoints kept out"] += 1
        values = values[:4]
    if len(values) == 4:
        return RawBox(classes[class_id], _xyxy_of_cxcywh(values))
    if keypoint_values or len(values) < 6 or len(values) % 2:
        pose = f", or {5 + keypoint_values} by data.yaml's kpt_shape" if keypoint_values else ""
        raise mismatch(f"{where} with {1 + len(values)} fields", line.strip(), f"5: class cx cy w h{pose}")
    notes["polygons read as their boxes"] += 1
    return RawBox(classes[class_id], _xyxy_of_polygon(values))


def _class_id(where: str, source: str) -> int:
    value = parse_number(where, source)  # some tools write 0.0
    if not value.is_integer():
        raise mismatch(where, source, "a class id, an integer")
    return int(value)


def _xyxy_of_cxcywh(values: list[float]) -> tuple[float, float, float, float]:
    cx, cy, w, h = values
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _xyxy_of_polygon(values: list[float]) -> tuple[float, float, float, float]:
    if any(map(math.isnan, values)):  # min and max would hide it
        return math.nan, math.nan, math.nan, math.nan
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
