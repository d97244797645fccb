"""The ground truth of a split in columns, without a dictionary per image or object."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCO
from numpy.typing import NDArray

from detector.core.boxes import xywh_to_xyxy
from detector.engine.annotations import Annotations
from detector.engine.dataset import LabelNames, read_label_names

# Those that are no `ImageField`.
IMAGE_KEYS = frozenset(("id", "file_name", "width", "height", "content", "converted_from"))


class ImageField(NamedTuple):
    """A further value of the images, such as their group. codes int32 [N]: indices into the sorted names, -1: none."""

    codes: NDArray[np.int32]
    names: list[str]


class ImageColumns(NamedTuple):
    """Images [N] in the order of their ids.

    ids int64; files str: paths; contents str: hashes, "" if unknown; sizes int32 [N, 2] (height, width) in pixels;
    sources: files in the raw dataset of those that were converted, by id; fields: further values by key.
    """

    ids: NDArray[np.int64]
    files: NDArray[np.str_]
    contents: NDArray[np.str_]
    sizes: NDArray[np.int32]
    sources: Mapping[int, str]
    fields: Mapping[str, ImageField]

    def select(self, index: NDArray[Any] | slice) -> ImageColumns:
        """The images in a boolean mask [N], at these positions or in a slice."""
        fields = {key: field._replace(codes=field.codes[index]) for key, field in self.fields.items()}
        return self._replace(
            ids=self.ids[index],
            files=self.files[index],
            contents=self.contents[index],
            sizes=self.sizes[index],
            fields=fields,
        )


class ObjectColumns(NamedTuple):
    """Annotated objects [A], crowds included, in the order of their images.

    ids int64; images int32: indices of the images; categories, states int32: ids, from 1, 0 for an unknown state;
    crowds bool; boxes_xywh float64 [A, 4] in image pixels; areas float64 in square pixels, as annotated.
    """

    ids: NDArray[np.int64]
    images: NDArray[np.int32]
    categories: NDArray[np.int32]
    states: NDArray[np.int32]
    crowds: NDArray[np.bool_]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]

    def select(self, index: NDArray[Any] | slice) -> ObjectColumns:
        """The objects in a boolean mask [A], at these positions or in a slice."""
        return ObjectColumns._make(column[index] for column in self)

    def find(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The positions [*] of objects with these ids, all of which must exist."""
        order = np.argsort(self.ids, kind="stable")
        positions: NDArray[np.int64] = order[np.searchsorted(self.ids, ids, sorter=order)]
        return positions


class GroundTruth(NamedTuple):
    """A split as coco-convert writes it: what the classes and states are called, its images and objects."""

    names: LabelNames
    images: ImageColumns
    objects: ObjectColumns

    @property
    def present(self) -> NDArray[np.bool_]:
        """Mask [A] of the objects to be detected, crowds included: those that are not in an absent state."""
        absent = [state for state, present in enumerate(self.names.present, 1) if not present]
        return ~np.isin(self.objects.states, absent)

    def keep_present(self) -> GroundTruth:
        """Without the objects in an absent state, which are not to be detected."""
        present = self.present
        return self if present.all() else self._replace(objects=self.objects.select(present))

    def select_images(self, mask: NDArray[np.bool_]) -> GroundTruth:
        """Only the images in the mask [N], with their objects."""
        objects = self.objects.select(mask[self.objects.images])
        places = (np.cumsum(mask) - 1).astype(np.int32)
        return self._replace(images=self.images.select(mask), objects=objects._replace(images=places[objects.images]))

    def pack_annotations(self) -> Annotations:
        """The images and the objects that are no crowd, in the same order, as a detector's data."""
        images, objects = self.images, self.objects
        if objects.crowds.any():
            objects = objects.select(~objects.crowds)
        return Annotations(
            images.files,
            images.contents,
            images.sizes,
            images.ids,
            xywh_to_xyxy(objects.boxes_xywh).astype(np.float32),
            objects.categories.astype(np.int64),
            objects.states.astype(np.int64),
            np.searchsorted(objects.images, np.arange(len(images.ids) + 1)),
        )

    def build_coco(self) -> COCO:
        """What `evaluate_boxes` takes, with all objects; several times as large as this."""
        objects = self.objects
        return COCO.from_arrays(
            [{"id": image_id} for image_id in self.images.ids.tolist()],
            [{"id": number, "name": name} for number, name in enumerate(self.names.classes, 1)],
            self.images.ids[objects.images],
            objects.categories.astype(np.int64),
            objects.boxes_xywh,
            ids=objects.ids,
            area=objects.areas,
            iscrowd=objects.crowds.astype(np.int64),
        )


class GroundTruthPacker:
    """Packs the entries of a COCO dictionary one by one, in any order, without keeping them."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._contents: list[str] = []
        self._image_ids, self._sizes = array("q"), array("i")
        self._sources: dict[int, str] = {}
        self._fields: dict[str, dict[int, str]] = {}  # by the number of the image
        self._texts: dict[str, str] = {}
        self._ids, self._owners = array("q"), array("q")
        self._categories, self._states, self._crowds = array("i"), array("i"), array("b")
        self._boxes_xywh, self._areas = array("d"), array("d")

    def add_image(self, image: dict[str, Any]) -> None:
        """Add an entry of `images`."""
        for key in image.keys() - IMAGE_KEYS:
            value = image[key]
            if value is not None and not isinstance(value, (list, dict)):
                text = str(value)
                self._fields.setdefault(key, {})[len(self._files)] = self._texts.setdefault(text, text)
        if "converted_from" in image:
            self._sources[image["id"]] = image["converted_from"]
        self._files.append(image["file_name"])
        self._contents.append(image.get("content", ""))
        self._sizes.extend((image["height"], image["width"]))
        self._image_ids.append(image["id"])

    def add_object(self, annotation: dict[str, Any]) -> None:
        """Add an entry of `annotations`."""
        left, top, width, height = annotation["bbox"]
        self._boxes_xywh.extend((left, top, width, height))
        self._areas.append(annotation["area"])
        self._ids.append(annotation["id"])
        self._owners.append(annotation["image_id"])
        self._categories.append(annotation["category_id"])
        self._states.append(annotation["state"])
        self._crowds.append(bool(annotation["iscrowd"]))

    def pack(self) -> tuple[ImageColumns, ObjectColumns]:
        """The columns; the packer must not be used afterwards. Raises KeyError for an object of an unknown image."""
        images = self._pack_images()
        owners = np.frombuffer(self._owners, np.int64)
        rows = np.searchsorted(images.ids, owners).astype(np.int32)
        known = np.append(images.ids, -1)[rows] == owners
        if not known.all():
            raise KeyError(int(owners[~known][0]))
        objects = ObjectColumns(
            np.frombuffer(self._ids, np.int64),
            rows,
            np.frombuffer(self._categories, np.int32),
            np.frombuffer(self._states, np.int32),
            np.frombuffer(self._crowds, np.bool_),
            np.frombuffer(self._boxes_xywh, np.float64).reshape(-1, 4),
            np.frombuffer(self._areas, np.float64),
        )
        # Objects of coco-convert are in order: their arrays are used as they are, without a copy.
        in_order = (rows[1:] >= rows[:-1]).all()
        return images, objects if in_order else objects.select(np.argsort(rows, kind="stable"))

    def _pack_images(self) -> ImageColumns:
        fields = {key: _pack_field(values, len(self._files)) for key, values in sorted(self._fields.items())}
        self._fields, self._texts = {}, {}
        files, self._files = np.array(self._files, np.str_), []
        contents, self._contents = np.array(self._contents, np.str_), []
        ids = np.frombuffer(self._image_ids, np.int64)
        sizes = np.frombuffer(self._sizes, np.int32).reshape(-1, 2)
        images = ImageColumns(ids, files, contents, sizes, self._sources, fields)
        if (ids[1:] >= ids[:-1]).all():
            return images
        return images.select(np.argsort(ids, kind="stable"))


def _pack_field(values: dict[int, str], images: int) -> ImageField:
    names = sorted(set(values.values()))
    codes = {name: code for code, name in enumerate(names)}
    column = np.full(images, -1, np.int32)
    column[list(values)] = [codes[value] for value in values.values()]
    return ImageField(column, names)


def pack_ground_truth(coco: dict[str, Any]) -> GroundTruth:
    """A COCO dictionary as coco-convert writes it, in columns."""
    packer = GroundTruthPacker()
    for image in coco["images"]:
        packer.add_image(image)
    for annotation in coco["annotations"]:
        packer.add_object(annotation)
    return GroundTruth(read_label_names(coco), *packer.pack())
