"""Small valid datasets of every format, held as documents and pictures until they are written."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from detector.core.tar_shards import HEADER_BYTES, INDEX_LINE, build_member_name
from tests.fuzz.encoding import encode_document
from tests.fuzz.values import picture

FORMATS = ("jsonl", "parts", "coco", "voc", "yolo", "archive")
VARIANTS = 4  # layouts of each format
COUNT = 6  # images of a dataset
_SUFFIXES = (".png", ".jpg", ".png", ".bmp", ".png", ".webp")


@dataclass
class FuzzImage:
    """An image of a valid dataset: its file, size in pixels, and boxes as (class, xyxy in pixels, state)."""

    name: str
    data: bytes
    size: tuple[int, int]
    boxes: list[tuple[str, tuple[int, int, int, int], str | None]]
    split: str


@dataclass
class FuzzDataset:
    """A dataset that mutations change.

    documents: content of the annotation files by path, written by `encode_document`: a list per line (.jsonl, .txt),
    a value (.json, .yaml) or an element (.xml). owners: the images that a document's records are about.
    files: all files by path, once `serialize` has been called. specials: called with the folder after all files are
    written. touched: names of the images that a mutation may have changed; None: any of them.
    """

    format: str
    images: list[FuzzImage]
    documents: dict[str, Any] = field(default_factory=dict)
    files: dict[bytes, bytes] = field(default_factory=dict)
    specials: list[Callable[[Path], None]] = field(default_factory=list)
    touched: set[str] | None = field(default_factory=set)
    story: list[str] = field(default_factory=list)
    json_options: dict[str, Any] = field(default_factory=dict)

    def touch(self, name: str | None) -> None:
        """Note that the image `name` may have changed; None: any image."""
        if name is None or self.touched is None:
            self.touched = None
        else:
            self.touched.add(name)

    def serialize(self) -> None:
        """Turn documents and images into files."""
        for path, document in self.documents.items():
            self.files[path.encode()] = encode_document(path, document, **self.json_options)


def build_dataset(format_: str, variant: int) -> FuzzDataset:
    """The valid dataset of this format; variant: 0 to VARIANTS - 1."""
    return _BUILDERS[format_](variant)


def _make_images(variant: int, folders: list[str], *, states: bool = True) -> list[FuzzImage]:
    """COUNT images; the first four are in the first folder and of train, the last two in the last folder and of val."""
    images = []
    for number in range(COUNT):
        width, height = 28 + 4 * number, 48 - 4 * number
        suffix = _SUFFIXES[number]
        data = picture(number + 10 * variant, width, height, suffix, "L" if number == variant == 2 else "RGB")
        state = ("intact", "absent", None)[number % 3] if states else None
        boxes = [
            ("bolt", (1, 2, width // 2 - 1, height - 3), state),
            ("nut", (width // 2 + 1, 1, width - 2, height - 4), None),
        ]
        folder = folders[0] if number < 4 else folders[-1]
        name = f"{folder}{'fotó ' if number == 1 else ''}{number}{suffix}"
        images.append(
            FuzzImage(name, data, (width, height), boxes[: 1 if number == 3 else 2], "train" if number < 4 else "val")
        )
    return images


def _start(format_: str, images: list[FuzzImage]) -> FuzzDataset:
    return FuzzDataset(format_, images, files={image.name.encode(): image.data for image in images})


def _build_line(image: FuzzImage) -> dict[str, Any]:
    names = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")
    (width, height), boxes = image.size, []
    for label, xyxy, state in image.boxes:
        values = [value / side for value, side in zip(xyxy, (width, height) * 2, strict=True)]
        more = {"state": state, "trust": 0.9} if state else {}
        boxes.append({"annotation_label": label, **dict(zip(names, values, strict=True)), **more})
    return {"image_path": image.name, "bounding_box_annotations": boxes, "split": image.split}


def _build_jsonl(variant: int) -> FuzzDataset:
    images = _make_images(variant, [("data/", "", "images/a b/", "data/")[variant]])
    dataset = _start("jsonl", images)
    lines = [_build_line(image) for image in images]
    if variant == 3:
        for number, line in enumerate(lines):
            line["classification_annotations"] = [{"annotation_label": f"sequence_{number}--frame_1"}]
    dataset.documents["dataset.jsonl" if variant != 1 else "labels.jsonl"] = lines
    return dataset


def _build_archive(variant: int) -> FuzzDataset:
    images = _make_images(variant, ["data/"])
    dataset = FuzzDataset("archive", images)
    for shard, members in enumerate((images[:4], images[4:]) if variant % 2 else (images,)):
        buffer, index, stem = io.BytesIO(), "", f"shard-{shard:05}"
        lines = []
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, image in enumerate(members):
                info = tarfile.TarInfo(build_member_name(shard, number, PurePosixPath(image.name).suffix))
                info.size = len(image.data)
                index += INDEX_LINE.format(tar.offset + HEADER_BYTES, len(image.data))
                tar.addfile(info, io.BytesIO(image.data))
                line = _build_line(image) | {"source": image.name}
                image.name = f"{stem}.tar/{info.name}"
                lines.append(line | {"image_path": image.name})
        dataset.files |= {f"{stem}.tar".encode(): buffer.getvalue(), f"{stem}.idx".encode(): index.encode()}
        dataset.documents[f"{stem}.jsonl"] = lines
    return dataset


def _build_parts(variant: int) -> FuzzDataset:
    places = (
        [("train_annotations.json", "train/"), ("val_annotations.json", "val/")], [("annotations/all.json", "images/")],
        [("parts.json", "")], [("annotations/train.json", "train/"), ("annotations/val.json", "images/")],
    )[variant]  # fmt: skip
    images = _make_images(variant, [folder for _, folder in places])
    dataset = _start("parts", images)
    for path, folder in places:
        dataset.documents[path] = {
            PurePosixPath(image.name).name: {
                "image": {"channels": 3, "width": image.size[0], "height": image.size[1]},
                "parts": {label: _build_part(label, xyxy, state) for label, xyxy, state in image.boxes},
            }
            for image in images
            if PurePosixPath(image.name).parent == PurePosixPath(folder)
        }
    return dataset


def _build_part(label: str, xyxy: tuple[int, int, int, int], state: str | None) -> dict[str, Any]:
    left, top, right, bottom = xyxy
    box = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {"part_name": label, "object_state": state, "trust": 0.9, "absolute_bounding_box": box}


def _build_coco(variant: int) -> FuzzDataset:
    places = (
        [("annotations/instances_train2017.json", "train2017/"), ("annotations/instances_val2017.json", "val2017/")],
        [("annotations.json", "images/")],
        [("train/_annotations.coco.json", "train/"), ("valid/_annotations.coco.json", "valid/")],
        [("annotations/instances_default.json", "images/default/")],
    )[variant]  # fmt: skip
    images = _make_images(variant, [folder for _, folder in places])
    dataset = _start("coco", images)
    for path, folder in places:
        members = [image for image in images if PurePosixPath(image.name).parent == PurePosixPath(folder)]
        rows: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for id_, image in enumerate(members, start=1):
            name = PurePosixPath(image.name).name
            rows.append({"id": id_, "file_name": name, "width": image.size[0], "height": image.size[1]})
            for label, (left, top, right, bottom), state in image.boxes:
                bbox = [left, top, right - left, bottom - top]
                annotation = {"id": len(annotations) + 1, "image_id": id_, "category_id": 1 + (label == "nut")}
                annotations.append(
                    {**annotation, "bbox": bbox, "iscrowd": 0, "state": state, "area": bbox[2] * bbox[3]}
                )
        categories = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut", "supercategory": "x"}]
        dataset.documents[path] = {"images": rows, "annotations": annotations, "categories": categories}
    return dataset


def _build_voc(variant: int) -> FuzzDataset:
    images = _make_images(variant, ["JPEGImages/"])
    dataset = _start("voc", images)
    for image in images:
        path = PurePosixPath(image.name)
        root = ElementTree.Element("annotation")
        _add(root, filename=path.name, folder="VOC2012")
        _add(_add(root, size=None), width=image.size[0], height=image.size[1], depth=3)
        for label, xyxy, state in image.boxes:
            item = _add(root, object=None)
            _add(item, name=label, difficult=0)
            _add(_add(item, bndbox=None), **dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True)))
            if state:
                _add(item, state=state, trust=0.9)
        dataset.documents[f"Annotations/{path.stem}.xml"] = root
    if variant % 2:
        for split in ("train", "val"):
            stems = [PurePosixPath(image.name).stem for image in images if image.split == split]
            dataset.documents[f"ImageSets/Main/{split}.txt"] = stems
    return dataset


def _add(parent: ElementTree.Element, **children: Any) -> ElementTree.Element:
    """Add children with their text; returns the last one."""
    for tag, text in children.items():
        child = ElementTree.SubElement(parent, tag)
        child.text = None if text is None else str(text)
    return child


def _build_yolo(variant: int) -> FuzzDataset:
    roboflow = variant == 1
    folders = ["train/images/", "valid/images/"] if roboflow else ["images/train/", "images/val/"]
    images = _make_images(variant, folders, states=False)
    dataset = _start("yolo", images)
    for image in images:
        (width, height), lines = image.size, []
        for label, (left, top, right, bottom), _ in image.boxes:
            cx, cy, w, h = (
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            )
            lines.append(f"{int(label == 'nut')} {cx} {cy} {w} {h}")
        path = image.name.replace("images/", "labels/")
        dataset.documents[str(PurePosixPath(path).with_suffix(".txt"))] = lines
    sources = {"train": folders[0].rstrip("/"), "val": folders[1].rstrip("/")}
    if variant == 3:
        for split in ("train", "val"):
            dataset.documents[f"{split}.txt"] = [f"./{image.name}" for image in images if image.split == split]
            sources[split] = f"{split}.txt"
    names: Any = ["bolt", "nut"] if variant % 2 else {0: "bolt", 1: "nut"}
    dataset.documents["data.yaml"] = {"path": ".", **sources, "names": names, "nc": 2}
    return dataset


_BUILDERS: dict[str, Callable[[int], FuzzDataset]] = {
    "jsonl": _build_jsonl, "parts": _build_parts, "coco": _build_coco, "voc": _build_voc, "yolo": _build_yolo,
    "archive": _build_archive,
}  # fmt: skip
