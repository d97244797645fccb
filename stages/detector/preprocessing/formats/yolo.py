"""Reader for the YOLO layout: class names, images, and one text file of labels per image.

    data.yaml                names: [wheel, …] or {0: wheel, …}; train, val or valid, test: image sources
    images/train/1.jpg …     labels/train/1.txt …       or
    train/images/1.jpg …     train/labels/1.txt …       (Roboflow)

    obj.data, obj.names      train, valid and names of darknet, and what CVAT exports as YOLO 1.1
    obj_train_data/1.jpg …   obj_train_data/1.txt …     labels beside the images

    classes.txt              a name per line (LabelImg, Label Studio); images/ with labels/, or all in one folder
    train.txt, val.txt       optional lists of images

    class cx cy w h          one box per line, as fractions of the image size

Instead of data.yaml, the only YAML file with `names`, such as dataset.yaml, is read. Image sources: a folder (searched
recursively, also through links to folders; hidden files and folders are left out), a .txt file that lists images, or a
list of these. They are relative to `path`, which is relative to data.yaml; a `path` that does not exist is replaced by
the folder of data.yaml. `../train/images` is also tried without `../`, since some exports are off by one level, and of
an absolute path that does not exist, the end that names the split. Without sources, every image of the folder counts.
An image in several of train, val and test is counted. A line of labels that cannot be read is dropped and counted.
Labels of an image: the last folder `images` in its path becomes `labels`, or they lie beside it; without a file, it has
no boxes. Polygons (class x1 y1 x2 y2 x3 y3 …) are read as their bounding boxes and counted; with `kpt_shape` in
data.yaml, keypoints after the box are ignored and counted.
Sources: https://docs.ultralytics.com/datasets/detect/, https://github.com/AlexeyAB/darknet
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.core.images import IMAGE_SUFFIXES
from detector.core.path_lists import MAX_PATH_LENGTH
from detector.preprocessing.dataset_folder import find_files
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, parse_number
from detector.preprocessing.formats.files import (
    find_image,
    infer_folder_split,
    is_file,
    make_dataset_relative,
    read_text_file,
    spell_path,
)
from detector.preprocessing.formats.image_lookup import Located, locate_paths
from detector.preprocessing.formats.yolo_sources import (
    SPLIT_KEYS,
    YoloSources,
    find_place,
    parse_class_id,
    read_sources,
)
from detector.preprocessing.raw_annotations import RawBox, RawImage


def read_yolo(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of train, then val, then test, each sorted by path (lists keep their order)."""
    sources = read_sources(folder, log)
    found = list(_find_images(folder, sources, log))
    located = locate_paths(folder, {image: where for _, image, where in found}, log)
    listed: dict[Located, list[str]] = {}  # image -> its splits
    for split, image, where in found:
        splits = listed.setdefault(located.get(image, Located(image)), [])
        if split is not None and split in splits:
            log.drop_image(Finding(FindingKind.DUPLICATE_ENTRY, where, image), boxes=0)
        elif split is not None:
            splits.append(split)
    others = set(log.annotation_files)  # data.yaml and the lists
    owners: dict[str, str] = {}  # label file -> its first image
    for (image, ambiguity), splits in listed.items():
        label_path = _find_labels(folder, image)
        where = make_dataset_relative(folder, label_path)
        boxes = []
        if ambiguity:
            pass
        elif is_file(label_path) and str(label_path) not in others:
            lines = enumerate(read_text_file(folder, label_path, log).split("\n"), start=1)
            rows = [(f"{where}:{number}", line) for number, line in lines if line.strip()]
            boxes = list(_parse_boxes(rows, sources, log))
            if owners.setdefault(where, image) != image:
                log.listed.append(Finding(FindingKind.SHARED_LABEL_FILE, where, image, details=owners[where]))
        else:
            log.unlisted[FindingKind.MISSING_LABEL_FILE] += 1
        split = "+".join(splits) or None
        yield RawImage(image, where, tuple(boxes), normalized=True, split=split, ambiguity=ambiguity)


def _find_images(folder: Path, sources: YoloSources, log: FindingLog) -> Iterator[tuple[str | None, str, str]]:
    """Yield (split, image, place in the annotations)."""
    if not sources.entries:
        for path in find_files(folder, IMAGE_SUFFIXES):
            image = make_dataset_relative(folder, path)
            yield infer_folder_split(image), image, sources.name
    for key, entry in sources.entries:
        where = f"{sources.name}: {key}"
        place = find_place(folder, sources.root, key, entry)
        if place is not None:
            if place.is_dir() and folder.resolve().is_relative_to(place.resolve()) and not place.samefile(folder):
                raise build_mismatch_error(where, entry, f"a folder that does not contain {folder}")
            for image in _list_images(folder, sources.root, place, log):
                yield SPLIT_KEYS[key], image, where
        elif key == "test":  # exports always name test/images, even if they have none
            log.listed.append(Finding(FindingKind.MISSING_TEST_IMAGES, where, details=entry))
        else:
            raise build_mismatch_error(where, entry, f"a folder or .txt list in {sources.root} or {folder}")


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
    beside = f"{os.path.splitext(image)[0]}.txt"  # noqa: PTH122  with_suffix raises without a name
    parts = beside.split("/")
    images = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if images:
        parts[images[-1]] = "labels"
    path = "/".join(parts)
    spelled = [name for place in dict.fromkeys((path, beside)) for name in spell_path(place)]
    names = [name for text in spelled for name in (text, text.removesuffix(".txt") + ".TXT")]
    return next((folder / name for name in names if is_file(folder / name)), folder / path)


def _parse_boxes(rows: list[tuple[str, str]], sources: YoloSources, log: FindingLog) -> Iterator[RawBox]:
    """rows: (place, line)."""
    for number, (where, line) in enumerate(rows, start=1):
        try:
            yield _parse_box(where, line, sources, log)
        except UserError as error:
            log.drop_box(where, number, error)


def _parse_box(where: str, line: str, sources: YoloSources, log: FindingLog) -> RawBox:
    classes, keypoint_values = sources.classes, sources.keypoint_values
    first, *rest = line.split()
    class_id = parse_class_id(where, first)
    if class_id not in classes:
        raise build_mismatch_error(f"{where}: class", class_id, f"an id of a class in {sources.name}")
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


def _cxcywh_to_xyxy(values: list[float]) -> tuple[float, float, float, float]:
    cx, cy, w, h = values
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _polygon_to_xyxy(values: list[float]) -> tuple[float, float, float, float]:
    if any(map(math.isnan, values)):  # min and max would hide NaN
        return math.nan, math.nan, math.nan, math.nan
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])
