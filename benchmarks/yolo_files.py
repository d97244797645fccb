"""The pipeline's COCO files as the folder that YOLO programs read, and their detections as COCO results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detector.engine.detections import Prediction


def write_yolo(truth: dict[str, dict[str, Any]], root: Path, folder: Path) -> None:
    """data.yaml, links to the images by their id, and a label file each.

    truth: the COCO dictionary of each split; its file names lie below `root`.
    """
    for split, coco in truth.items():
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        lines: dict[int, list[str]] = {image["id"]: [] for image in coco["images"]}
        sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
        for annotation in coco["annotations"]:
            width, height = sizes[annotation["image_id"]]
            left, top, box_width, box_height = annotation["bbox"]
            numbers = (
                (left + box_width / 2) / width, (top + box_height / 2) / height, box_width / width, box_height / height
            )  # fmt: skip
            line = " ".join([str(annotation["category_id"] - 1), *(f"{value:.6f}" for value in numbers)])
            lines[annotation["image_id"]].append(line)
        for image in coco["images"]:
            source = (root / image["file_name"]).resolve()
            (images / f"{image['id']}{source.suffix}").symlink_to(source)
            (labels / f"{image['id']}.txt").write_text("\n".join(lines[image["id"]]) + "\n", encoding="utf-8")
    names = [category["name"] for category in truth["train"]["categories"]]
    facts = {"path": str(folder), **{split: f"images/{split}" for split in truth}, "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(json.dumps(facts), encoding="utf-8")  # JSON is YAML


def predictions_of(found: list[dict[str, Any]]) -> list[Prediction]:
    """What a YOLO program wrote, whose image ids are the names of the links, with the states that it lacks."""
    return [
        Prediction(
            image_id=int(one["image_id"]), category_id=one["category_id"], bbox=one["bbox"], score=one["score"],
            state=0, state_score=0.0,
        )
        for one in found
    ]  # fmt: skip
