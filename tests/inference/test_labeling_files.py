"""Files for CVAT and Label Studio: what their documentation asks for, and every detection unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from detector.core.errors import UserError
from detector.engine.detections import Prediction
from detector.inference.inputs import Input
from detector.inference.labeling_files import CvatFile, LabelStudioFile, check_cvat_inputs
from detector.inference.video import Frame
from detector.runners.model_metadata import ModelMetadata
from tests.support.written_results import METADATA, PREDICTIONS, decoded_image, write_results

WITHOUT_STATES = METADATA.model_copy(update={"states": []})
EACH_METADATA = pytest.mark.parametrize("metadata", [METADATA, WITHOUT_STATES])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The output folder, beside the folder with the images."""
    (tmp_path / "out").mkdir()
    (tmp_path / "photos ü").mkdir()
    return tmp_path / "out"


def images_of(folder: Path) -> Path:
    return folder.parent / "photos ü"


def read_cvat(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "cvat.xml").getroot()


def read_cvat_box(box: ElementTree.Element, metadata: ModelMetadata) -> Prediction:
    """A box as the detection that it was."""
    left, top, right, bottom = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    values = {str(one.get("name")): one.text or "" for one in box.iter("attribute")}
    return {
        "image_id": 1,
        "category_id": metadata.classes.index(box.attrib["label"]) + 1,
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        "score": float(values["score"]),
        "state": metadata.states.index(values["state"]) + 1 if "state" in values else 0,
        "state_score": float(values.get("state_score", 0)),
    }


@EACH_METADATA
def test_cvat_holds_every_detection(folder: Path, metadata: ModelMetadata) -> None:
    write_results(CvatFile(folder, metadata, images_of(folder)), images_of(folder), metadata)
    root = read_cvat(folder)
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    first, second = root.iter("image")
    assert first.attrib == {"id": "0", "name": "a.jpg", "width": "200", "height": "100"}
    assert (second.attrib["id"], list(second)) == ("1", [])
    boxes = [read_cvat_box(box, metadata) for box in first.iter("box")]
    expected = PREDICTIONS if metadata.states else [{**one, "state": 0, "state_score": 0.0} for one in PREDICTIONS]
    assert boxes[::-1] == expected, "the last box is on top in CVAT"


@EACH_METADATA
def test_the_labels_for_cvat_have_the_attributes_of_its_boxes(folder: Path, metadata: ModelMetadata) -> None:
    write_results(CvatFile(folder, metadata, images_of(folder)), images_of(folder), metadata)
    labels = json.loads((folder / "cvat_labels.json").read_text("utf-8"))
    assert [label["name"] for label in labels] == ["bolt", "rot, ü"]
    attributes = {one["name"]: one for one in labels[0]["attributes"]}
    root = read_cvat(folder)
    assert {str(one.get("name")) for one in root.iter("attribute") if "name" in one.attrib} == attributes.keys()
    assert attributes.get("state", {}).get("values", []) == metadata.states
    in_meta = [label.findtext("name") for label in root.iter("label")]
    assert in_meta == ["bolt", "rot, ü"]
    assert {str(one.findtext("name")) for one in root.iter("attribute") if "name" not in one.attrib} == set(attributes)


def test_frames_of_a_video_have_the_names_of_cvat(folder: Path) -> None:
    file = CvatFile(folder, METADATA, images_of(folder))
    file.add(decoded_image(images_of(folder) / "clip.mp4", Frame(12, 0.44, 25.0)), PREDICTIONS)
    file.close()
    (image,) = read_cvat(folder).iter("image")
    assert (image.attrib["id"], image.attrib["name"]) == ("11", "frame_000011")


@pytest.mark.parametrize("kinds", [["video", "video"], ["image", "video"], ["video", "image", "image"]])
def test_inputs_that_a_task_in_cvat_cannot_have(kinds: list[Literal["image", "video"]]) -> None:
    inputs = [Input(Path(str(number)), kind) for number, kind in enumerate(kinds)]
    message = rf"takes images, or one video.*; got {kinds.count('image')} images and {kinds.count('video')} videos"
    with pytest.raises(UserError, match=message):
        check_cvat_inputs(inputs)
    check_cvat_inputs([one for one in inputs if one.kind == "image"])
    check_cvat_inputs([one for one in inputs if one.kind == "video"][:1])


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = json.loads((folder / "label_studio.json").read_text("utf-8"))
    return tasks


@EACH_METADATA
def test_label_studio_holds_every_detection(folder: Path, metadata: ModelMetadata) -> None:
    write_results(LabelStudioFile(folder, metadata, images_of(folder)), images_of(folder), metadata)
    first, second = read_tasks(folder)
    (predicted,) = first["predictions"]
    assert (predicted["model_version"], predicted["score"]) == ("m", 0.7)
    rectangles = [part for part in predicted["result"] if part["type"] == "rectanglelabels"]
    found = [(part["value"]["rectanglelabels"], part["score"]) for part in rectangles]
    assert found == [(["rot, ü"], 0.9), (["bolt"], 0.5)]
    percent = [[part["value"][key] for key in ("x", "y", "width", "height")] for part in rectangles]
    assert percent == [[5.0, 20.0, 15.25, 40.25], [0.0, 0.0, 100.0, 100.0]]
    assert [(part["original_width"], part["original_height"]) for part in rectangles] == [(200, 100)] * 2
    states = {part["id"]: part for part in predicted["result"] if part["type"] == "choices"}
    found_states = [
        (states[part["id"]]["value"]["choices"], states[part["id"]]["score"]) for part in rectangles if states
    ]
    assert found_states == ([(["damaged"], 0.7), (["intact"], 1.0)] if metadata.states else [])
    assert second["predictions"][0]["result"] == []


def test_label_studio_finds_images_below_the_parent_of_their_folder(folder: Path) -> None:
    write_results(LabelStudioFile(folder, METADATA, images_of(folder)), images_of(folder))
    address = urlsplit(read_tasks(folder)[0]["data"]["image"])
    assert address.path == "/data/local-files/"
    assert folder.parent / parse_qs(address.query)["d"][0] == images_of(folder) / "a.jpg"


def test_label_studio_finds_frames_below_the_parent_of_the_output(folder: Path) -> None:
    file = LabelStudioFile(folder, METADATA, images_of(folder))
    file.add(decoded_image(images_of(folder) / "clip.mp4", Frame(12, 0.44, 25.0)), PREDICTIONS)
    file.close()
    (named,) = parse_qs(urlsplit(read_tasks(folder)[0]["data"]["image"]).query)["d"]
    assert (folder.parent / named).is_file()
    assert named == "out/frames/clip.mp4/000012.jpg"


@EACH_METADATA
def test_the_interface_for_label_studio_has_the_controls_of_its_results(folder: Path, metadata: ModelMetadata) -> None:
    write_results(LabelStudioFile(folder, metadata, images_of(folder)), images_of(folder), metadata)
    view = ElementTree.parse(folder / "label_studio.xml").getroot()
    controls = {one.attrib["name"]: one for one in view if "toName" in one.attrib}
    used = {(part["from_name"], part["to_name"]) for part in read_tasks(folder)[0]["predictions"][0]["result"]}
    assert used == {(name, one.attrib["toName"]) for name, one in controls.items()}
    assert [one.attrib["value"] for one in controls["label"]] == metadata.classes
    if metadata.states:
        assert [one.attrib["value"] for one in controls["state"]] == metadata.states
        assert controls["state"].attrib["perRegion"] == "true"
