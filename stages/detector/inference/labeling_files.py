"""Write detections for labeling tools, to be corrected there: CVAT and Label Studio.

Both take images by a name relative to a folder, and attributes and controls that were set up before: the files for that
are written too. `score` is calibrated, `state_score` is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from detector.core.errors import UserError
from detector.core.output_files import write_text
from detector.engine.detections import Prediction
from detector.inference.dataset_file import save_frame
from detector.inference.decoding import DecodedImage
from detector.inference.inputs import Input, name_input
from detector.inference.line_writer import DocumentWriter, ListWriter, build_write_error
from detector.plotting.palette import palette_color
from detector.runners.model_metadata import ModelMetadata

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files on its own disk


def check_cvat_inputs(inputs: list[Input]) -> None:
    """Raise UserError for inputs that one task in CVAT cannot have: its frames are those of one video, or images."""
    images = sum(one.kind == "image" for one in inputs)
    if 0 < images < len(inputs) or len(inputs) - images > 1:
        raise UserError(
            f"--format cvat takes images, or one video: a task in CVAT has one; got {images:,} images and "
            f"{len(inputs) - images:,} videos; process each video with a command and an --out folder of its own"
        )


class CvatFile:
    """cvat.xml, CVAT's own format for images (version 1.1), and cvat_labels.json, the labels of a task for it.

    State and score are attributes of a box. The frames of a video have CVAT's names.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.metadata, self.root, self.count = metadata, root, 0
        _write(folder / "cvat_labels.json", json.dumps(self._build_labels(), indent=2, ensure_ascii=False) + "\n")
        start = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{self._build_meta()}\n'
        self.document = DocumentWriter(folder / "cvat.xml", start)

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        frame = decoded.frame
        number, name = self.count, name_input(decoded.path, self.root)
        if frame is not None:
            number, name = frame.number - 1, f"frame_{frame.number - 1:06d}"
        self.count += 1
        size = {"width": str(decoded.width), "height": str(decoded.height)}
        image = ET.Element("image", {"id": str(number), "name": name} | size)
        for prediction in reversed(predictions):  # the last one is drawn on top
            self._append_box(image, prediction)
        self.document.write(ET.tostring(image, encoding="unicode") + "\n")

    def _append_box(self, image: ET.Element, prediction: Prediction) -> None:
        left, top, width, height = prediction["bbox"]
        corners = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
        box = ET.SubElement(image, "box", {"label": self.metadata.classes[prediction["category_id"] - 1]})
        box.attrib |= {"source": "auto", "occluded": "0", "z_order": "0"}
        box.attrib |= {key: f"{value:.2f}" for key, value in corners.items()}
        values = {"score": f"{prediction['score']:.5f}"}
        if prediction["state"]:
            state = self.metadata.states[prediction["state"] - 1]
            values |= {"state": state, "state_score": f"{prediction['state_score']:.5f}"}
        for key, value in values.items():
            ET.SubElement(box, "attribute", {"name": key}).text = value

    def _build_labels(self) -> list[dict[str, Any]]:
        """The labels in CVAT's JSON for the constructor of a task."""
        attributes: list[dict[str, Any]] = []
        if self.metadata.states:
            states = {"default_value": self.metadata.states[0], "values": self.metadata.states}
            attributes.append({"name": "state", "mutable": False, "input_type": "select"} | states)
        for name in ("score", *(["state_score"] if self.metadata.states else [])):
            attributes.append({"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": []})
        return [
            {"name": name, "color": palette_color(number), "type": "rectangle", "attributes": attributes}
            for number, name in enumerate(self.metadata.classes)
        ]

    def _build_meta(self) -> str:
        meta = ET.Element("meta")
        labels = ET.SubElement(ET.SubElement(meta, "task"), "labels")
        for given in self._build_labels():
            label = ET.SubElement(labels, "label")
            ET.SubElement(label, "name").text = given["name"]
            attributes = ET.SubElement(label, "attributes")
            for one in given["attributes"]:
                attribute = ET.SubElement(attributes, "attribute")
                values = one | {"mutable": "False", "values": "\n".join(one["values"])}
                for key, value in values.items():
                    ET.SubElement(attribute, key).text = value
        return ET.tostring(meta, encoding="unicode")

    def close(self) -> None:
        self.document.finish("</annotations>\n")


class LabelStudioFile:
    """label_studio.json, tasks with predictions, and label_studio.xml, the labeling interface for it.

    Images are files on Label Studio's own disk, named relative to the parent of their folder, since Label Studio serves
    only what is in a folder below its document root. Frames of a video are saved in frames/.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.folder, self.metadata, self.root = folder, metadata, root
        _write(folder / "label_studio.xml", self._build_interface())
        self.tasks = ListWriter(folder / "label_studio.json", "[")

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        if decoded.frame is None:
            base, name = self.root, name_input(decoded.path, self.root)
        else:
            base, name = self.folder.resolve(), save_frame(decoded, self.folder, self.root)
        scores = [prediction["score"] for prediction in predictions]
        found = {
            "model_version": self.metadata.model,
            "score": round(sum(scores) / len(scores), 5) if scores else 0.0,
            "result": [part for number, one in enumerate(predictions, 1) for part in self._build(decoded, one, number)],
        }
        image = LOCAL_FILES + quote(f"{base.name}/{name}" if base.name else name)
        self.tasks.write([{"data": {"image": image}, "predictions": [found]}])

    def _build(self, decoded: DecodedImage, prediction: Prediction, number: int) -> list[dict[str, Any]]:
        """One region: its rectangle and, with the same id, its state."""
        left, top, width, height = prediction["bbox"]
        place = {
            "x": round(100 * left / decoded.width, 6),  # percent
            "y": round(100 * top / decoded.height, 6),
            "width": round(100 * width / decoded.width, 6),
            "height": round(100 * height / decoded.height, 6),
            "rotation": 0,
        }
        region = {
            "id": f"{prediction['image_id']}_{number}",
            "to_name": "image",
            "original_width": decoded.width,
            "original_height": decoded.height,
            "image_rotation": 0,
        }
        label = self.metadata.classes[prediction["category_id"] - 1]
        parts = [
            region
            | {"from_name": "label", "type": "rectanglelabels", "score": prediction["score"]}
            | {"value": place | {"rectanglelabels": [label]}}
        ]
        if prediction["state"]:
            state = self.metadata.states[prediction["state"] - 1]
            parts.append(
                region
                | {"from_name": "state", "type": "choices", "score": prediction["state_score"]}
                | {"value": place | {"choices": [state]}}
            )
        return parts

    def _build_interface(self) -> str:
        view = ET.Element("View")
        ET.SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
        labels = ET.SubElement(view, "RectangleLabels", {"name": "label", "toName": "image"})
        for number, name in enumerate(self.metadata.classes):
            ET.SubElement(labels, "Label", {"value": name, "background": palette_color(number)})
        if self.metadata.states:
            options = {"choice": "single", "perRegion": "true"}
            states = ET.SubElement(view, "Choices", {"name": "state", "toName": "image"} | options)
            for name in self.metadata.states:
                ET.SubElement(states, "Choice", {"value": name})
        ET.indent(view)
        return ET.tostring(view, encoding="unicode") + "\n"

    def close(self) -> None:
        self.tasks.finish("]\n")


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise build_write_error(path, error) from None
